"""The curves of docs/performance.md, from recorded rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from line_chart import Panel, Series, legend
from tempra.benchmark.report import DTYPE_NAMES
from tempra.benchmark.svg import Drawing

MIB = 2**20
Rows = Mapping[tuple[str, str], Mapping[str, Any]]  # by case and library, the last of each


def read_rows(path: Path) -> Rows:
    """Return the last row of each case and library."""
    rows = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if row["case"].startswith("scaling/"):
            rows[row["case"], row["library"]] = row
    return rows


def draw(results: Path, folder: Path) -> list[Path]:
    """Draw the charts that there are rows for; return their files."""
    rows = read_rows(results)
    files = []
    for name, prefix, chart in (
        ("thread-scaling.svg", "scaling/threads/", thread_chart),
        ("length-scaling.svg", "scaling/length/", length_chart),
    ):
        if any(case.startswith(prefix) for case, _ in rows):
            files.append(folder / name)
            files[-1].write_text(chart(rows), encoding="utf-8")
    return files


def points(
    rows: Rows, prefix: str, library: str, value: str = "tokens_per_second"
) -> list[tuple[int, float]]:
    """Return (last part of the case's name, value) of each case with the prefix, ascending."""
    found = [
        (int(case.rpartition("/")[2]), float(row[value]))
        for (case, of), row in rows.items()
        if of == library and case.startswith(f"{prefix}/")
    ]
    return sorted(found)


def machine_line(rows: Rows, prefix: str) -> str:
    """Return what the rows were measured on."""
    row = next(row for (case, _), row in rows.items() if case.startswith(prefix))
    return f"{row['processor']}, {row['cpus']} processors, {row['isa']}, commit {row['commit']}"


def thread_chart(rows: Rows) -> str:
    """Speed over that of one thread, beside as many times as there are threads."""
    kinds = [("ref-mid", "bf16"), ("ref-mid", "f32"), ("ref-nano", "bf16"), ("ref-nano", "f32")]
    lines = []
    for (config, dtype), colour in zip(kinds, ("first", "limit", "third", "fourth"), strict=True):
        measured = points(rows, f"scaling/threads/{config}/{dtype}", "tempra")
        speedup = [(threads, speed / measured[0][1]) for threads, speed in measured]
        lines.append(Series(f"{config} {DTYPE_NAMES[dtype]}", colour, speedup))
    counts = [threads for threads, _ in lines[0].points]
    ideal = Series("one for one", "quiet", [(n, float(n)) for n in counts], dashed=True)
    most = float(max(counts))
    title = "Training speed with more threads, as a multiple of one thread's"
    drawing = Drawing(760, 380, title, "; ".join(_spoken(line) for line in lines))
    drawing.text(20, 30, title, size=17, bold=True)
    drawing.text(20, 50, machine_line(rows, "scaling/threads"), colour="quiet")
    legend(drawing, 20, 76, [*lines, ideal], 146)
    panel = Panel(
        drawing, 60, 116, 540, 200, counts, most, most / 8, "", "threads", y_text=lambda v: f"{v:g}"
    )
    panel.axes()
    for line in (ideal, *lines):
        panel.line(line)
    _label_ends(panel, lines)
    return drawing.to_svg()


def _label_ends(panel: Panel, lines: Sequence[Series]) -> None:
    """Write each line's last value beside it, one below the other where they would overlap."""
    below = -math.inf
    for line in sorted(lines, key=lambda entry: -entry.points[-1][1]):
        y = max(panel.y(line.points[-1][1]) + 4, below + 15)
        text = f"{line.points[-1][1]:.2f}  {line.name}"
        panel.drawing.text(panel.left + panel.width + 12, y, text, colour=line.colour)
        below = y


def length_chart(rows: Rows) -> str:
    """Two panels: tokens a second beside the limit, memory beside what scores would take."""
    prefix, dtype = "scaling/length/ref-mid", "bf16"
    ours, theirs = ("tempra", "first"), ("torch-eager", "third")
    names = {"tempra": "tempra", "torch-eager": "PyTorch eager"}
    speeds = [
        Series(names[library], colour, points(rows, f"{prefix}/{dtype}", library))
        for library, colour in (ours, theirs)
    ]
    speeds = [line for line in speeds if line.points]
    limit = _limit(rows, f"{prefix}/{dtype}")
    limit_lines = [Series("limit", "limit", limit, dashed=True)] if limit else []
    lengths = [length for length, _ in speeds[0].points]
    title = "ref-mid with longer sequences, 4,096 tokens a step, bf16"
    words = "; ".join(_spoken(line) for line in [*speeds, *limit_lines])
    drawing = Drawing(860, 430, title, words)
    drawing.text(20, 30, title, size=17, bold=True)
    drawing.text(20, 50, machine_line(rows, prefix), colour="quiet")
    label = "tokens in a sequence"
    highest = max(value for line in (*limit_lines, *speeds) for _, value in line.points)
    most, step = _round_axis(highest)
    left = Panel(drawing, 70, 128, 320, 220, lengths, most, step, "tokens per second", label)
    memory = [
        Series(line.name, line.colour, _memory(rows, f"{prefix}/{dtype}", library))
        for line, (library, _) in zip(speeds, (ours, theirs), strict=False)
    ]
    base = memory[0].points[0][1]
    scores = [(length, base + _score_mib(length)) for length in lengths]
    stored = Series("tempra's least + scores of all layers, if kept", "fourth", scores, dashed=True)
    most, step = _round_axis(1.25 * max(value for line in memory for _, value in line.points))
    right = Panel(
        drawing,
        500,
        128,
        320,
        220,
        lengths,
        most,
        step,
        "peak MiB beyond 16 bytes a parameter",
        label,
    )
    for panel, lines in ((left, [*limit_lines, *speeds]), (right, [stored, *memory])):
        panel.axes()
        for line in lines:
            panel.line(line)
    legend(drawing, 20, 80, [*speeds, *limit_lines], 148)
    legend(drawing, 484, 80, [stored], 148)
    note = "Every step has as many tokens: memory that is linear in length is flat at the right."
    drawing.text(20, 418, note, colour="quiet", size=11)
    return drawing.to_svg()


def _limit(rows: Rows, prefix: str) -> list[tuple[int, float]]:
    """Return what the best matrix rate of all these rows allows: a busy moment makes it too low.

    Nothing where even the best was exceeded: then it was no limit.
    """
    flops = dict(points(rows, prefix, "tempra", "flops"))
    shares = dict(points(rows, prefix, "tempra", "peak_share"))
    peaks = {length: flops[length] / shares[length] for length in flops}
    best = max(peaks.values())
    if best < max(flops.values()):
        return []
    limits = points(rows, prefix, "tempra", "limit_tokens_per_second")
    return [(length, limit * best / peaks[length]) for length, limit in limits]


def _memory(rows: Rows, prefix: str, library: str) -> list[tuple[int, float]]:
    peaks = points(rows, prefix, library, "peak_bytes")
    state = dict(points(rows, prefix, library, "parameter_bytes"))
    return [(length, (peak - state[length]) / MIB) for length, peak in peaks]


def _score_mib(length: int) -> float:
    """Return the size of all causal scores of a step in bf16, squares, of ref-mid's 8 x 8 heads."""
    return 8 * 8 * 4096 * length * 2 / MIB


def _round_axis(value: float) -> tuple[float, float]:
    """Return an end of the axis that is not below the value, and a round step to it."""
    scale = 10.0 ** math.floor(math.log10(value))
    step = next(s * scale for s in (0.2, 0.25, 0.5, 1.0, 2.0) if value <= 6 * s * scale)
    return step * math.ceil(value / step), step


def _spoken(line: Series) -> str:
    return f"{line.name}: " + ", ".join(f"{x:g}: {y:,.2f}" for x, y in line.points)
