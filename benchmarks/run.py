"""Every benchmark in turn; tables to the screen, JSON lines to a file.

python benchmarks/run.py --output benchmarks/results/my-machine.jsonl
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCHMARKS = [
    "decoding",
    "start_up",
    "kernels",
    "training_step",
    "checkpoint_bandwidth",
    "packing",
    "loading",
    "data_memory",
    "data_formats",
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS)
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    status = 0
    for name in options.only:
        print(f"\n{name}", flush=True)
        command = [sys.executable, str(HERE / f"{name}.py")]
        if options.output is not None:
            command += ["--output", str(options.output.resolve())]
        status = max(status, subprocess.run(command, check=False).returncode)
    return status


if __name__ == "__main__":
    sys.exit(main())
