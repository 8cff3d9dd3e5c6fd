"""The curves of the documentation: drawn from the recorded rows, and sound SVG."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "zen4-2-cores.jsonl"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def benchmarks_to_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in ("line_chart", "scaling_charts"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_curves_in_the_documentation_are_those_of_the_recorded_rows(tmp_path):
    if not RESULTS.exists():
        pytest.skip("a source distribution has no recorded results")
    from scaling_charts import draw

    for file in draw(RESULTS, tmp_path):
        # python benchmarks/scaling.py draw --output benchmarks/results/zen4-2-cores.jsonl
        assert file.read_text() == (ROOT / "docs" / file.name).read_text(), file.name
        assert ElementTree.fromstring(file.read_text()).tag == f"{SVG}svg"


def test_a_line_ends_at_the_edge_of_its_panel():
    from line_chart import Panel, Series
    from tempra.benchmark.svg import Drawing

    drawing = Drawing(200, 200, "title", "words")
    panel = Panel(drawing, 50, 20, 100, 100, [1, 2, 4], 10, 5, "panel", "x")
    panel.line(Series("steep", "first", [(1, 0.0), (2, 5.0), (4, 15.0)]))
    tree = ElementTree.fromstring(drawing.to_svg())
    (line,) = tree.iter(f"{SVG}polyline")
    # 10 is half of the way from 5 to 15: half of the way from x = 2 (100) to x = 4 (150).
    assert line.get("points") == "50.0,120.0 100.0,70.0 125.0,20.0"
    assert len(list(tree.iter(f"{SVG}circle"))) == 2
