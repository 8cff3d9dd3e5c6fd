"""Training speed as bars: each library's share of the limit, the tokens per second beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tempra.benchmark.report import CaseRows, library_name
from tempra.benchmark.svg import Drawing, text_width

BAR, GAP, GROUP_GAP = 18, 4, 26
WIDTH, LEFT, RIGHT, TOP = 760, 130, 90, 96
COLOUR_OF = {"tempra": "first", "torch-eager": "second", "torch-compile": "third"}


def training_chart(groups: Sequence[CaseRows], machine: Mapping[str, Any]) -> str:
    """Return an SVG of the cases, one group of bars each; 100 % is the measured matrix peak."""
    bars = sum(len(group.rows) for group in groups)
    bottom = TOP + bars * (BAR + GAP) + max(len(groups) - 1, 0) * GROUP_GAP
    title = "Training speed beside the limit of this machine"
    drawing = Drawing(WIDTH, bottom + 66, title, _in_words(groups))
    drawing.text(20, 30, title, size=17, bold=True)
    drawing.text(20, 50, _machine_line(machine), colour="quiet")
    _legend(drawing, groups)
    span = WIDTH - LEFT - RIGHT
    for percent in range(0, 101, 20):
        x = LEFT + span * percent / 100
        drawing.line([(x, TOP - 6), (x, bottom + 2)], "grid")
        drawing.text(x, bottom + 20, f"{percent} %", colour="quiet", size=11, anchor="middle")
    label = "tokens per second as a share of what the measured matrix peak allows"
    drawing.text(LEFT + span / 2, bottom + 44, label, colour="quiet", anchor="middle")
    y = float(TOP)
    for group in groups:
        y = _group(drawing, group, y, span) + GROUP_GAP
    limit = LEFT + span
    drawing.line([(limit, TOP - 6), (limit, bottom + 2)], "limit", width=1.5, dashed=True)
    return drawing.to_svg()


def _group(drawing: Drawing, group: CaseRows, y: float, span: float) -> float:
    height = len(group.rows) * (BAR + GAP) - GAP
    middle = y + height / 2
    drawing.text(LEFT - 12, middle + 1, group.config, anchor="end", bold=True)
    drawing.text(LEFT - 12, middle + 16, group.dtype_name, colour="quiet", size=11, anchor="end")
    drawing.text(WIDTH - RIGHT + 8, middle + 4, f"{group.limit:,.0f}", colour="limit", size=11)
    for row in group.rows:
        length = span * min(row["peak_share"], 1.0)
        ours = row["library"] == "tempra"
        drawing.rectangle(LEFT, y, length, BAR, COLOUR_OF[row["library"]], radius=2)
        value = f"{row['tokens_per_second']:,.0f}"
        if ours and row.get("ratio"):
            value += f"  ({row['ratio']:.2f}x PyTorch)"
        # Beside its bar, or within it where there is no room left before the limit.
        within = length + 8 + text_width(value) > span
        x, anchor = (LEFT + length - 8, "end") if within else (LEFT + length + 8, "start")
        colour = "paper" if within and ours else "ink"
        drawing.text(x, y + BAR - 5, value, colour=colour, anchor=anchor, bold=ours)
        y += BAR + GAP
    return y - GAP


def _legend(drawing: Drawing, groups: Sequence[CaseRows]) -> None:
    present = {row["library"] for group in groups for row in group.rows}
    x = 20.0
    for library, colour in COLOUR_OF.items():
        if library in present:
            drawing.rectangle(x, 64, 12, 12, colour, radius=2)
            drawing.text(x + 18, 74, library_name(library))
            x += 18 + text_width(library_name(library)) + 22
    drawing.line([(x, 70), (x + 22, 70)], "limit", width=1.5, dashed=True)
    drawing.text(x + 28, 74, "limit, tokens/s at the right")


def _machine_line(machine: Mapping[str, Any]) -> str:
    threads = machine["threads"]
    return (
        f"{machine['processor']}, {threads} thread{'s' if threads > 1 else ''}, {machine['isa']}, "
        f"tempra {machine['tempra']}; full steps: forward, backward, clipping, AdamW"
    )


def _in_words(groups: Sequence[CaseRows]) -> str:
    return "; ".join(
        f"{group.config} {group.dtype_name}: "
        + ", ".join(
            f"{library_name(row['library'])} {row['tokens_per_second']:,.0f} tokens/s"
            for row in group.rows
        )
        + f", limit {group.limit:,.0f}"
        for group in groups
    )
