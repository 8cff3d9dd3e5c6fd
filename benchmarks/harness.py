"""What every benchmark shares: sampling, tables, JSON lines."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tempra.benchmark.samples import spread


def interleave(
    candidates: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 2.0,
    least_samples: int = 5,
    least_seconds: float = 0.2,
    before: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, list[float]]:
    """Time the candidates in turn, after a warm-up of each, until all are steady or time is up.

    Samples of under `least_seconds` together are not called steady: five products of half a
    millisecond fit into the time in which another process, or the host of a virtual machine, keeps
    one processor, and then agree on half of the rate.
    `before`: what to do, untimed, before each run of a candidate.
    """
    prepare = before or {}
    for name, run in candidates.items():
        prepare.get(name, _nothing)()
        run()
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    started = time.perf_counter()
    while True:
        for name, run in candidates.items():
            prepare.get(name, _nothing)()
            start = time.perf_counter()
            run()
            samples[name].append(time.perf_counter() - start)
        counts = len(next(iter(samples.values())))
        steady = all(spread(times) < 0.01 for times in samples.values())
        passed = time.perf_counter() - started
        if counts >= least_samples and (passed > seconds or (steady and passed > least_seconds)):
            return samples


def _nothing() -> None:
    pass


def print_table(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Print rows with aligned columns; keys ending in share, spread are percentages, bytes MB."""
    lines = [list(columns.values())]
    for row in rows:
        lines.append([_text(key, row.get(key)) for key in columns])
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        cells = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _text(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key.endswith(("share", "spread")):
        return f"{100 * value:.1f} %"
    if key.endswith("bytes"):
        return f"{value / 2**20:,.0f}"
    if isinstance(value, float):
        return f"{value:.2f}" if value < 100 else f"{value:,.0f}"
    return str(value)


def add_dtypes_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--dtypes``, those that are measured: both unless told."""
    both = ["f32", "bf16"]
    parser.add_argument("--dtypes", nargs="+", choices=both, default=both)


def append_rows(path: Path | None, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows as JSON lines with the time of day, or do nothing without a path."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with path.open("a") as file:
        for row in rows:
            file.write(json.dumps({"time": stamp, **row}) + "\n")
