"""What a person waits for before anything happens: importing, asking for help, a ten-step run.

python benchmarks/start_up.py
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import append_rows, print_table
from tempra.benchmark.machine import identity
from tempra.benchmark.samples import spread

TEN_STEPS = """
import numpy as np
from tempra.benchmark.reference_configs import REFERENCE_CONFIGS
from tempra.benchmark.tempra_trainer import TempraTrainer
trainer = TempraTrainer(REFERENCE_CONFIGS["ref-nano"].transformer("f32"), threads=2)
data = np.zeros((12, 65), dtype=np.int32)
for _ in range(10):
    trainer.step(data[:, :-1].copy(), data[:, 1:].copy())
"""
COMMANDS = {
    "import numpy": [sys.executable, "-c", "import numpy"],
    "import tempra": [sys.executable, "-c", "import tempra"],
    "tempra --help": [sys.executable, "-m", "tempra.cli.main", "--help"],
    "ten steps of ref-nano": [sys.executable, "-c", TEN_STEPS],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    samples: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as scratch:
        for run in range(options.runs + 1):
            for name, command in COMMANDS.items():
                start = time.perf_counter()
                subprocess.run(command, check=True, cwd=scratch, stdout=subprocess.DEVNULL)
                if run:  # the first fills the page cache
                    samples[name].append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    rows = [
        {
            "case": f"start/{name}",
            "milliseconds": 1e3 * statistics.median(times),
            "spread": spread(times),
            "peak_bytes": peak,  # the largest of all commands
            **identity(2),
        }
        for name, times in samples.items()
    ]
    print_table(
        rows, {"case": "case", "milliseconds": "ms", "spread": "spread", "peak_bytes": "peak MB"}
    )
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
