"""Has a key kernel become slower? Instructions of one call each, counted by callgrind, beside the
baseline in kernel_instructions.json. Needs valgrind and a build with TEMPRA_BUILD_BENCHMARKS.

python benchmarks/kernel_instructions.py             # 1 where a kernel needs more than before
python benchmarks/kernel_instructions.py --update    # after a change that is meant

Counts do not depend on what else the machine does. They see work that was added, not slower memory
access; AVX2, as valgrind knows no AVX-512, whose kernels are the same sources with wider vectors.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PROGRAM = HERE.parent / "build" / "release" / "benchmarks" / "cpp" / "kernel_instructions"
BASELINE = HERE / "kernel_instructions.json"
# The same compiler gives the same instructions; what is left are the C library's copies and
# allocations, which choose their ways by the processor: under 1 % of any case.
TOLERANCE = 0.03
# Another compiler unrolls and vectorises otherwise; only what is plainly slower is told apart.
TOLERANCE_OTHER_COMPILER = 0.20


def count(program: Path, cases: list[str]) -> tuple[str, dict[str, int]]:
    """Return the compiler, and the instructions of each case."""
    with tempfile.TemporaryDirectory(prefix="tempra-callgrind-") as folder:
        command = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no"]
        command += [f"--callgrind-out-file={folder}/out", str(program), *cases]
        # Nothing of the caller's environment may decide what runs, or where it lies in memory.
        environment = {"PATH": os.environ["PATH"], "TEMPRA_ISA": "avx2"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{program.name} under valgrind: {done.stderr.strip()[-500:]}")
        counts = {}
        for dump in Path(folder).glob("out.*"):
            text = dump.read_text()
            name = re.search(r"^desc: Trigger: Client Request: (.+)$", text, re.MULTILINE)
            total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
            if name and total:
                counts[name[1]] = int(total[1])
    return done.stdout.split("\n")[0], dict(sorted(counts.items()))


def judge(
    baseline: dict[str, Any], compiler: str, counts: dict[str, int]
) -> tuple[list[str], list[str]]:
    """Return what is wrong, and what else a reader should know."""
    same = compiler == baseline["compiler"]
    tolerance = TOLERANCE if same else TOLERANCE_OTHER_COMPILER
    before: dict[str, int] = baseline["instructions"]
    wrong, notes = [], []
    if not same:
        notes.append(
            f"the baseline is of {baseline['compiler']}, this is {compiler}: "
            f"{100 * tolerance:.0f} % are allowed instead of {100 * TOLERANCE:.0f} %"
        )
    for name in sorted(before.keys() | counts.keys()):
        if name not in counts:
            wrong.append(f"{name}: in the baseline, but was not run")
        elif name not in before:
            wrong.append(f"{name}: not in the baseline")
        else:
            ratio = counts[name] / before[name]
            line = f"{name}: {counts[name]:,} instructions, was {before[name]:,} ({ratio - 1:+.1%})"
            if ratio > 1 + tolerance:
                wrong.append(line)
            elif ratio < 1 - tolerance:
                notes.append(f"{line}; keep it by --update")
    return wrong, notes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help="only these, printed and not judged")
    parser.add_argument("--program", type=Path, default=PROGRAM)
    parser.add_argument("--update", action="store_true", help="write the counts as the baseline")
    options = parser.parse_args()
    compiler, counts = count(options.program, options.cases)
    if options.cases:
        print("\n".join(f"{name}: {number:,}" for name, number in counts.items()))
        return 0
    if options.update:
        text = json.dumps({"compiler": compiler, "isa": "avx2", "instructions": counts}, indent=2)
        BASELINE.write_text(text + "\n")
        print(f"{len(counts)} counts of {compiler} in {BASELINE}")
        return 0
    wrong, notes = judge(json.loads(BASELINE.read_text()), compiler, counts)
    for line in notes:
        print(f"note: {line}")
    for line in wrong:
        print(f"SLOWER OR MISSING: {line}")
    if wrong:
        print("if this is meant: python benchmarks/kernel_instructions.py --update, and say why")
    else:
        print(f"{len(counts)} kernels need no more instructions than the baseline allows")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
