"""The table that `tempra bench` prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import IO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tempra.benchmark.report import BenchmarkReport, CaseRows, library_name
from tempra.benchmark.samples import LEAST_CPU_SHARE
from tempra.benchmark.training_benchmark import Row

MIB = 2**20
COLUMNS = (
    "tokens/s",
    "x PyTorch",
    "of limit",
    "cpu/wall",
    "spread",
    "samples",
    "peak MiB",
    "beyond state",
)


def print_report(report: BenchmarkReport, file: IO[str] | None = None) -> None:
    """Print the table, what the limit is, and what to keep in mind about single rows."""
    out = sys.stdout if file is None else file
    # Into a file or a pipe no row is to be cut.
    console = Console(file=out, width=None if out.isatty() else 130, highlight=False)
    if report.cases:
        console.print(_table(report))
    for line in notes(report):
        console.print(line, markup=False)


def notes(report: BenchmarkReport) -> Iterator[str]:
    """Return what a reader must know beside the numbers."""
    machine = report.machine
    yield (
        f"{machine['processor']}, {machine['threads']} of {machine['cpus']} processors, "
        f"{machine['isa']}; full steps: forward, backward, clipping, AdamW; libraries in turns"
    )
    for dtype, rates in report.peaks.items():
        if rates:
            all_rates = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in rates.items())
            yield f"limit {dtype}: the best matrix product measured here, in GFLOP/s: {all_rates}"
    if report.cases:
        yield (
            "beyond state: peak memory minus 16 bytes a parameter (weight, gradient, two moments), "
            "and its ratio to PyTorch's least; samples: used, and dropped as the machine was busy"
        )
    for case in report.cases:
        for row in case.rows:
            if row["below_least_cpu"]:
                yield (
                    f"* {case.config} {case.dtype_name}, {library_name(row['library'])}: too few "
                    f"samples had {100 * LEAST_CPU_SHARE:.0f} % of the threads' time; "
                    f"{row['below_least_cpu']} of the {row['samples']} used had less"
                )
    for entry in report.left_out:
        yield f"left out: {entry}"
    if report.interrupted:
        done = "the cases above are complete" if report.cases else "no case was complete"
        yield f"interrupted: {done}"


def _table(report: BenchmarkReport) -> Table:
    table = Table(show_edge=False, pad_edge=False, box=SIMPLE_HEAD)
    table.add_column("model")
    table.add_column("library")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for case in report.cases:
        _add_case(table, case)
    return table


def _add_case(table: Table, case: CaseRows) -> None:
    model = f"{case.config} {case.dtype_name}"
    for row in case.rows:
        ours = row["library"] == "tempra"
        table.add_row(model, library_name(row["library"]), *_cells(row), style="bold" * ours)
        model = ""
    table.add_row("", "limit", f"{case.limit:,.0f}", "", "100 %", style="dim", end_section=True)


def _cells(row: Row) -> list[str]:
    dropped = f" (-{row['dropped']})" if row["dropped"] else ""
    mark = " *" if row["below_least_cpu"] else ""
    beyond = row["peak_bytes"] - row["parameter_bytes"]
    ratio = row.get("ratio")
    memory_ratio = row.get("memory_ratio")
    return [
        f"{row['tokens_per_second']:,.0f}",
        f"{ratio:.2f}" if ratio else "",
        f"{100 * row['peak_share']:.0f} %",
        f"{100 * row['cpu_share']:.0f} %{mark}",
        f"{100 * row['spread']:.1f} %",
        f"{row['samples']}{dropped}",
        f"{row['peak_bytes'] / MIB:,.0f}",
        f"{beyond / MIB:,.0f}" + (f" ({memory_ratio:.2f}x)" if memory_ratio else ""),
    ]
