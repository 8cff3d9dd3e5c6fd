"""A panel of lines over a logarithmic axis, drawn with `tempra.benchmark.svg`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tempra.benchmark.svg import Drawing


@dataclass(frozen=True)
class Series:
    """A line: points in the units of the axes; dashed where it is not a measurement."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass
class Panel:
    """One pair of axes within a drawing: x by powers of two, y from nought, linear."""

    drawing: Drawing
    left: float
    top: float
    width: float
    height: float
    xs: Sequence[float]
    y_most: float
    y_step: float
    title: str
    x_label: str
    x_text: Callable[[float], str] = field(default=lambda value: f"{value:,.0f}")
    y_text: Callable[[float], str] = field(default=lambda value: f"{value:,.0f}")

    def x(self, value: float) -> float:
        """Return where a value of the horizontal axis lies."""
        first, last = math.log2(self.xs[0]), math.log2(self.xs[-1])
        return self.left + self.width * (math.log2(value) - first) / max(last - first, 1e-9)

    def y(self, value: float) -> float:
        """Return where a value of the vertical axis lies; what is too large leaves at the top."""
        return self.top + self.height * (1 - value / self.y_most)

    def axes(self) -> None:
        """Draw grid, labels and title."""
        self.drawing.text(self.left, self.top - 14, self.title, bold=True, size=13)
        for i in range(round(self.y_most / self.y_step) + 1):
            value = i * self.y_step
            y = self.y(value)
            self.drawing.line([(self.left, y), (self.left + self.width, y)], "grid")
            label = self.y_text(value)
            self.drawing.text(self.left - 8, y + 4, label, colour="quiet", size=11, anchor="end")
        bottom = self.top + self.height
        for value in self.xs:
            x = self.x(value)
            self.drawing.line([(x, bottom), (x, bottom + 4)], "quiet")
            label = self.x_text(value)
            self.drawing.text(x, bottom + 18, label, colour="quiet", size=11, anchor="middle")
        middle = self.left + self.width / 2
        self.drawing.text(middle, bottom + 38, self.x_label, colour="quiet", anchor="middle")

    def line(self, series: Series) -> None:
        """Draw a line up to where it leaves the panel, and dots where something was measured."""
        inside = [point for point in series.points if point[1] <= self.y_most]
        path = [(self.x(x), self.y(y)) for x, y in inside]
        beyond = series.points[len(inside) :]
        if beyond and inside:  # up to the edge
            (x0, y0), (x1, y1) = path[-1], (self.x(beyond[0][0]), self.y(beyond[0][1]))
            part = (self.top - y0) / (y1 - y0)
            path.append((x0 + part * (x1 - x0), self.top))
        self.drawing.line(path, series.colour, width=2, dashed=series.dashed)
        if not series.dashed:
            for x, y in path[: len(inside)]:
                self.drawing.dot(x, y, series.colour)


def legend(drawing: Drawing, x: float, y: float, series: Sequence[Series], width: float) -> None:
    """Name the lines side by side, `width` pixels each."""
    for entry in series:
        drawing.line([(x, y - 4), (x + 24, y - 4)], entry.colour, width=2, dashed=entry.dashed)
        if not entry.dashed:
            drawing.dot(x + 12, y - 4, entry.colour)
        drawing.text(x + 32, y, entry.name)
        x += width
