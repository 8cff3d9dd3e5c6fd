"""Drawings as SVG text: shapes, labels, and colours for light and dark pages.

The drawing brings its own background, so that it can be read wherever it is put. Text widths are
estimated, because no font is at hand here.
"""

from __future__ import annotations

from html import escape

# Class name: (light, dark). Series differ in lightness too, for print and colour-blind eyes.
COLOURS: dict[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#16191d"),
    "ink": ("#1f2328", "#e6e9ec"),
    "quiet": ("#59636e", "#9da7b1"),
    "grid": ("#dfe3e8", "#2f353c"),
    "first": ("#0b6bcb", "#58a6ff"),
    "second": ("#b8bfc7", "#6e7781"),
    "third": ("#7d8590", "#aab2bb"),
    "fourth": ("#c2571a", "#f0883e"),
    "limit": ("#b3261e", "#ff7b72"),
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def text_width(text: str, size: float = 12) -> float:
    """Return about how wide a text is, in pixels; rather too much than too little."""
    return 0.58 * size * len(text)


class Drawing:
    """An SVG picture under construction; coordinates in pixels, y downwards."""

    def __init__(self, width: float, height: float, title: str, description: str) -> None:
        self.width, self.height = width, height
        self._title, self._description = title, description
        self._parts: list[str] = []

    def rectangle(
        self, x: float, y: float, width: float, height: float, colour: str, *, radius: float = 0
    ) -> None:
        """Add a filled rectangle; `colour` names an entry of COLOURS."""
        corner = f' rx="{radius:g}"' if radius else ""
        self._parts.append(
            f'<rect class="{colour}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" '
            f'height="{height:.1f}"{corner}/>'
        )

    def line(
        self,
        points: list[tuple[float, float]],
        colour: str,
        *,
        width: float = 1,
        dashed: bool = False,
    ) -> None:
        """Add a line through the points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<polyline class="line {colour}" points="{path}" stroke-width="{width:g}"{dashes}/>'
        )

    def dot(self, x: float, y: float, colour: str, *, radius: float = 3.5) -> None:
        """Add a filled circle."""
        self._parts.append(f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        colour: str = "ink",
        size: float = 12,
        anchor: str = "start",
        bold: bool = False,
        turned: bool = False,
    ) -> None:
        """Add a label whose baseline is at y; `anchor` is start, middle or end."""
        weight = ' font-weight="600"' if bold else ""
        turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
        self._parts.append(
            f'<text class="{colour}" x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" '
            f'text-anchor="{anchor}"{weight}{turn}>{escape(text)}</text>'
        )

    def to_svg(self) -> str:
        """Return the picture as the text of an SVG file."""
        light = "".join(_rules(name, pair[0]) for name, pair in COLOURS.items())
        dark = "".join(_rules(name, pair[1]) for name, pair in COLOURS.items())
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" '
            f'width="{self.width:g}" height="{self.height:g}" role="img" '
            f'font-family="{FONT}">\n'
            f"<title>{escape(self._title)}</title>\n<desc>{escape(self._description)}</desc>\n"
            f"<style>{light}.line{{fill:none;stroke-linejoin:round}}"
            f"@media (prefers-color-scheme:dark){{{dark}.line{{fill:none}}}}</style>\n"
        )
        paper = f'<rect class="paper" width="{self.width:g}" height="{self.height:g}" rx="6"/>'
        return head + "\n".join([paper, *self._parts]) + "\n</svg>\n"


def _rules(name: str, value: str) -> str:
    return f".{name}{{fill:{value}}}.line.{name}{{fill:none;stroke:{value}}}"
