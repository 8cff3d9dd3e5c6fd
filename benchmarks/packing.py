"""Packing a million documents into rows, beside TRL where it is installed.

python benchmarks/packing.py

Lengths are clip(lognormal(5.0, 0.9), 1, 2048), rows have 2,048 tokens. Every case runs in a process
of its own, in turns; ours on one processor, TRL on all there are. `plan` says which documents share
a row; `plan, rows in memory` also moves every token into rows that are all kept, as TRL does, with
labels, positions and sequence lengths, which TRL leaves to others; `plan, batches` moves them into
batches of 64 rows in buffers used again, as training reads them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import append_rows, print_table
from tempra.benchmark.machine import identity
from tempra.benchmark.samples import spread

CAPACITY = 2048
CASES = [
    "plan best_fit",
    "plan streaming",
    "plan concat",
    "plan none",
    "plan best_fit, rows in memory",
    "plan best_fit, batches",
    "trl bfd",
]

Result = dict[str, Any]


def reference_lengths(count: int) -> NDArray[np.int64]:
    """Return the lengths that packing numbers are quoted for."""
    random = np.random.default_rng(0)
    return np.clip(random.lognormal(5.0, 0.9, count), 1, CAPACITY).astype(np.int64)


def measure(case: str, count: int, repeats: int) -> Result:
    """Run one case in this process; rate in sequences a second, fill, and peak bytes on top."""
    lengths = reference_lengths(count)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.random.default_rng(1).integers(0, 50_000, int(bounds[-1]), dtype=np.uint32)
    prepare = _trl(tokens, bounds) if case == "trl bfd" else _ours(case, lengths, tokens, bounds)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, processor = [], []
    for repeat in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        rows = prepare(repeat)
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return {
        "seconds": min(seconds),
        "processor_seconds": min(processor),
        "fill": float(lengths.sum()) / (rows * CAPACITY),
        "peak_bytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024,
    }


def _ours(
    case: str, lengths: NDArray[np.int64], tokens: NDArray[np.uint32], bounds: NDArray[np.int64]
) -> Callable[[int], int]:
    from tempra import _core
    from tempra.data import SequencePacker

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    _core.set_num_threads(1)
    stream = _core.TokenStream([("memory", tokens, bounds.astype(np.uint64), None, False)], 50_000)

    def plan(epoch: int) -> int:
        packer = SequencePacker(CAPACITY, case.removeprefix("plan "))  # type: ignore[arg-type]
        return packer.plan(lengths, epoch=epoch).rows

    def rows_in_memory(epoch: int) -> int:
        made = SequencePacker(CAPACITY).plan(lengths, epoch=epoch)
        moved = _core.pack_rows(stream, made, 0, made.rows, 0)
        assert moved[0].size == made.rows * CAPACITY
        return made.rows

    def batches(epoch: int) -> int:
        source = _core.RowSource.packed(stream, CAPACITY, seed=epoch)
        reader = _core.BatchReader(source, 64)
        rows = round(1 / source.epochs(1))
        moved = sum(reader.read(index)[0].size for index in range(rows // 64))
        assert moved > 0.99 * tokens.size
        return rows

    if case.endswith("rows in memory"):
        return rows_in_memory
    return batches if case.endswith("batches") else plan


def _trl(tokens: NDArray[np.uint32], bounds: NDArray[np.int64]) -> Callable[[int], int]:
    import datasets
    import pyarrow as pa
    from trl.data_utils import pack_dataset

    datasets.disable_progress_bars()
    lists = pa.LargeListArray.from_arrays(pa.array(bounds), pa.array(tokens))
    table = datasets.Dataset(pa.table({"input_ids": lists}))

    def run(_: int) -> int:
        # One call for all documents at once fills rows best.
        options = {"batch_size": len(table), "keep_in_memory": True}
        return len(pack_dataset(table, CAPACITY, strategy="bfd", map_kwargs=options))

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", choices=CASES, default=None, help="one case, in this process")
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    if options.case is not None:
        repeats = 1 if options.case == "trl bfd" else 3
        print(json.dumps(measure(options.case, options.sequences, repeats)))
        return
    cases = list(CASES)
    if importlib.util.find_spec("trl") is None:
        print("trl is not installed: left out")
        cases.remove("trl bfd")
    results: dict[str, list[Result]] = {case: [] for case in cases}
    for _ in range(options.rounds):
        for case in cases:
            command = [sys.executable, __file__, "--case", case]
            command += ["--sequences", str(options.sequences)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            results[case].append(json.loads(done.stdout.splitlines()[-1]))
    rows = []
    for case, found in results.items():
        seconds = [result["seconds"] for result in found]
        rows.append(
            {
                "case": f"packing/{case}",
                "unit": "M sequences/s",
                "rate": options.sequences / statistics.median(seconds) / 1e6,
                "spread": spread(seconds),
                # Of all threads together; what a machine without other work would take at most.
                "processor_rate": options.sequences
                / statistics.median(result["processor_seconds"] for result in found)
                / 1e6,
                "fill": 100 * found[0]["fill"],
                "peak_bytes": max(result["peak_bytes"] for result in found),
                **identity(1),
            }
        )
    columns = {"case": "case", "unit": "unit", "rate": "rate", "spread": "spread"}
    columns["processor_rate"] = "by processor time"
    print_table(rows, {**columns, "fill": "fill %", "peak_bytes": "peak MB"})
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
