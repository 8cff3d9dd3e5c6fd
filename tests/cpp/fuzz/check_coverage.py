"""Measure how many lines of each parser the fuzzers' corpora reach; fail below a bar.

Needs llvm-profdata and llvm-cov of the Clang that built the program.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def find_tool(name: str) -> str:
    """Path of an LLVM tool, plain or with the version suffix some distributions add."""
    clang = subprocess.run(["clang++", "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"version (\d+)", clang.stdout)
    for candidate in (name, f"{name}-{version.group(1)}" if version else name):
        if path := shutil.which(candidate):
            return path
    sys.exit(f"{name} not found: install LLVM's tools beside clang++")


def key_of(source: str) -> tuple[str, ...]:
    """Last parts of a path: compiler caches record it relative to one folder or another."""
    return Path(source).parts[-3:]


def line_coverage(program: Path, corpora: Path) -> dict[str, float]:
    """Percent of covered lines by source, named as by `key_of`."""
    with tempfile.TemporaryDirectory() as folder:
        raw, merged = Path(folder) / "raw", Path(folder) / "merged"
        environment = {**os.environ, "LLVM_PROFILE_FILE": str(raw)}
        subprocess.run([program, corpora], check=True, env=environment)
        subprocess.run([find_tool("llvm-profdata"), "merge", raw, "-o", merged], check=True)
        exported = subprocess.run(
            [find_tool("llvm-cov"), "export", "-summary-only", "-instr-profile", merged, program],
            check=True,
            capture_output=True,
        )
    files = json.loads(exported.stdout)["data"][0]["files"]
    return {key_of(entry["filename"]): entry["summary"]["lines"]["percent"] for entry in files}


def main() -> None:
    """Print one line for each parser; exit 1 when one lies below the bar."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--program", type=Path, required=True)
    arguments.add_argument("--corpora", type=Path, required=True)
    arguments.add_argument("--minimum", type=float, required=True, help="percent of lines")
    arguments.add_argument("sources", nargs="+")
    options = arguments.parse_args()
    coverage = line_coverage(options.program, options.corpora)
    failed = False
    for source in options.sources:
        percent = coverage[key_of(source)]
        failed |= percent < options.minimum
        print(f"{Path(source).name}: {percent:.1f} % of lines")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
