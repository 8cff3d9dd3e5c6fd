"""How speed and memory follow the number of threads and the length of sequences; draws the curves.

python benchmarks/scaling.py threads lengths --output benchmarks/results/zen4-2-cores.jsonl
python benchmarks/scaling.py draw --output benchmarks/results/zen4-2-cores.jsonl

Lengths: the model of ref-mid with blocks of 64 to 4096 tokens, as many rows as make 4096 tokens a
step. So memory that grows linearly with a sequence stays as it is, and only what grows faster, such
as a matrix of scores, would show. `draw` makes docs/thread-scaling.svg and docs/length-scaling.svg
from the last rows of each case in the file.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import add_dtypes_argument, append_rows, print_table
from scaling_charts import draw
from tempra.benchmark.machine import identity
from tempra.benchmark.matrix_peak import measured_peaks
from tempra.benchmark.reference_configs import REFERENCE_CONFIGS, TrainingCase
from tempra.benchmark.training_benchmark import (
    Peers,
    Row,
    case_row,
    measure_case,
    sample_in_turns,
    warm_up,
    with_limit,
)
from tempra.benchmark.worker_process import WorkerProcess
from tempra.models import TransformerConfig

DOCS = Path(__file__).resolve().parents[1] / "docs"
STEP_TOKENS = 4096


def thread_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Measure reference configurations with 1, 2, 4, ... threads, which take turns."""
    for config in options.configs:
        for dtype in options.dtypes:
            yield from threads_in_turns(config, dtype, options)


def threads_in_turns(config: str, dtype: str, options: argparse.Namespace) -> list[Row]:
    """Return a row for each number of threads."""
    reference = REFERENCE_CONFIGS[config].case(dtype)
    rows = []
    with ExitStack() as stack:
        workers = {
            str(threads): stack.enter_context(WorkerProcess("tempra", reference, threads))
            for threads in options.threads
        }
        until = time.monotonic() + 600
        steps = {name: warm_up(worker, until) for name, worker in workers.items()}
        samples = sample_in_turns(workers, steps, options.seconds, 2 * options.seconds)
        for name, worker in workers.items():
            case = replace(reference, name=f"scaling/threads/{config}/{dtype}/{name}")
            row = case_row(case, "tempra", samples[name], worker.finish())
            rows.append({**row, **identity(worker.threads)})
    append_rows(options.output, rows)
    return rows


def length_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Measure one model at many lengths of sequence, the tokens of a step the same."""
    threads = max(options.threads)
    for dtype in options.dtypes:
        peak = max(measured_peaks([dtype], threads, torch=False)[dtype].values())
        for length in options.lengths:
            sizes = REFERENCE_CONFIGS["ref-mid"].transformer(dtype).model_dump()
            model = TransformerConfig(**{**sizes, "context": length})
            rows = max(1, STEP_TOKENS // length)
            case = TrainingCase(f"scaling/length/ref-mid/{dtype}/{length}", model, rows)
            yield from measured(case, options, threads, peak)


def measured(
    case: TrainingCase, options: argparse.Namespace, threads: int, peak: float
) -> list[Row]:
    """Return a row per library, with the machine it is of."""
    libraries = Peers(torch=not options.no_torch, compiled=False).libraries()
    result = measure_case(case, libraries, threads, seconds=options.seconds)
    with_limit(result.rows, case, peak)
    for library, reason in result.failures.items():
        print(f"{case.name}: {library} left out, {reason}", flush=True)
    rows = [{**row, **identity(threads)} for row in result.rows]
    append_rows(options.output, rows)  # at once: an interruption keeps what is measured
    return rows


MEASUREMENTS: Mapping[str, Any] = {"threads": thread_rows, "lengths": length_rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="+", choices=[*MEASUREMENTS, "draw"])
    parser.add_argument("--configs", nargs="+", default=["ref-nano", "ref-mid"])
    add_dtypes_argument(parser)
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= len(os.sched_getaffinity(0))]
    parser.add_argument("--threads", type=int, nargs="+", default=counts)
    lengths = [64, 128, 256, 512, 1024, 2048, 4096]
    parser.add_argument("--lengths", type=int, nargs="+", default=lengths)
    parser.add_argument("--seconds", type=float, default=10.0, help="per case, all libraries")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    rows = [row for what in options.what if what != "draw" for row in MEASUREMENTS[what](options)]
    if rows:
        columns = {"case": "case", "library": "library", "tokens_per_second": "tokens/s"}
        columns |= {"peak_share": "of peak", "spread": "spread", "cpu_share": "cpu/wall"}
        columns |= {"samples": "samples", "dropped": "dropped", "below_least_cpu": "below"}
        print_table(rows, {**columns, "peak_bytes": "peak MB"})
    if "draw" in options.what:
        if options.output is None:
            parser.error("draw needs --output, the file of results")
        for file in draw(options.output, DOCS):
            print(file)


if __name__ == "__main__":
    main()
