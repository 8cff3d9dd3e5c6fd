"""Full training steps beside PyTorch, interleaved: A B C A B C ..., one process each.

python benchmarks/training_step.py --configs ref-nano ref-gpt2 --dtypes f32 bf16
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness import append_rows, print_table, spread
from machine import identity
from matrix_peak import measured_peak
from reference_configs import REFERENCE_CONFIGS

HERE = Path(__file__).resolve().parent
# A round is dropped on both sides when a process got less than this share of its threads: the
# machine was busy with something else.
LEAST_CPU_SHARE = 0.90


class Worker:
    """A training process that runs steps on request."""

    def __init__(self, library: str, config: str, dtype: str, threads: int) -> None:
        self.library = library
        arguments = ["--library", library, "--config", config, "--dtype", dtype]
        arguments += ["--threads", str(threads)]
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "training_worker.py"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def run(self, steps: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"steps": steps}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def finish(self) -> int:
        assert self._process.stdin is not None
        self._process.stdin.close()
        peak = int(self._read()["peak_bytes"])
        self._process.wait()
        return peak

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.library}: the worker ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def measure(config: str, dtype: str, libraries: list[str], threads: int, budget: float) -> list:
    """Return a row per library; `budget` seconds for all of them together, start-up apart."""
    reference = REFERENCE_CONFIGS[config]
    transformer = reference.transformer(dtype)
    tokens = reference.batch * transformer.context
    workers = [Worker(library, config, dtype, threads) for library in libraries]
    first = {worker.library: worker.run(2)["seconds"] for worker in workers}  # warm-up, compiling
    slowest = max(seconds[-1] for seconds in first.values())
    steps = max(1, min(20, int(1.0 / slowest)))
    samples: dict[str, list[float]] = {library: [] for library in libraries}
    shares: dict[str, list[float]] = {library: [] for library in libraries}
    dropped = 0
    started = time.perf_counter()
    while time.perf_counter() - started < budget or not samples[libraries[0]]:
        answers = {worker.library: worker.run(steps) for worker in workers}
        share = {
            library: answer["cpu_seconds"] / sum(answer["seconds"]) / threads
            for library, answer in answers.items()
        }
        # One thread may have nothing to do; what matters is that the fuller side was not starved.
        if max(share.values()) < LEAST_CPU_SHARE and dropped < 20:
            dropped += 1
            continue
        for library, answer in answers.items():
            samples[library].append(statistics.median(answer["seconds"]))
            shares[library].append(share[library])
    rows = []
    for worker in workers:
        library = worker.library
        seconds = statistics.median(samples[library])
        rows.append(
            {
                "case": f"train/{config}/{dtype}",
                "library": library,
                "tokens_per_second": tokens / seconds,
                "seconds": seconds,
                "spread": spread(samples[library]),
                "samples": len(samples[library]),
                "dropped": dropped,
                "cpu_share": statistics.median(shares[library]),
                "flops": transformer.flops_per_token() * tokens / seconds,
                "peak_bytes": worker.finish(),
                "parameter_bytes": 16 * transformer.parameter_count(),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", nargs="+", default=list(REFERENCE_CONFIGS))
    parser.add_argument("--dtypes", nargs="+", default=["f32", "bf16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="per case, all libraries")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    libraries = ["tempra"]
    if importlib.util.find_spec("torch") is not None:
        libraries += ["torch-eager"] + ([] if options.no_compile else ["torch-compile"])
    peaks = {dtype: measured_peak(dtype, options.threads) for dtype in options.dtypes}
    rows = []
    for config in options.configs:
        for dtype in options.dtypes:
            for row in measure(config, dtype, libraries, options.threads, options.seconds):
                row["peak_share"] = row["flops"] / peaks[dtype]
                rows.append({**row, **identity(options.threads)})
            best = max((r["tokens_per_second"] for r in rows[-len(libraries) + 1 :]), default=0.0)
            rows[-len(libraries)]["ratio"] = (
                rows[-len(libraries)]["tokens_per_second"] / best if len(libraries) > 1 else None
            )
    print_table(
        rows,
        {
            "case": "case",
            "library": "library",
            "tokens_per_second": "tokens/s",
            "ratio": "x best peer",
            "peak_share": "of peak",
            "spread": "spread",
            "cpu_share": "cpu/wall",
            "peak_bytes": "peak MB",
        },
    )
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
