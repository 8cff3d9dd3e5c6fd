"""The judge of instruction counts: what it calls slower, missing, or of another compiler."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "kernel_instructions.py"
spec = importlib.util.spec_from_file_location("kernel_instructions", FILE)
assert spec is not None
assert spec.loader is not None
kernel_instructions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kernel_instructions)

BASELINE = {"compiler": "gcc 12.2", "instructions": {"a": 1000, "b": 1000}}


def judge(compiler: str = "gcc 12.2", **counts: int) -> tuple[list[str], list[str]]:
    return kernel_instructions.judge(BASELINE, compiler, counts)


def test_what_is_within_the_tolerance_passes():
    assert judge(a=1030, b=970) == ([], [])


def test_what_is_slower_fails_and_what_is_faster_is_noted():
    wrong, notes = judge(a=1031, b=900)
    assert wrong == ["a: 1,031 instructions, was 1,000 (+3.1%)"]
    assert notes == ["b: 900 instructions, was 1,000 (-10.0%); keep it by --update"]


def test_a_case_that_is_missing_or_unknown_fails():
    wrong, _ = judge(a=1000, c=1)
    assert wrong == ["b: in the baseline, but was not run", "c: not in the baseline"]


def test_another_compiler_is_named_and_given_more_room():
    wrong, notes = judge("clang 14.0", a=1190, b=1210)
    assert wrong == ["b: 1,210 instructions, was 1,000 (+21.0%)"]
    assert "the baseline is of gcc 12.2, this is clang 14.0: 20 % are allowed" in notes[0]


def test_every_case_of_the_program_is_in_the_baseline():
    source = (FILE.parent / "cpp" / "kernel_instructions.cpp").read_text()
    names = {
        piece.split('"')[1]
        for piece in source.replace("\n", " ").split("cases.")[1:]
        if piece.startswith(("kernel(", "run("))
    }
    assert len(names) > 25
    baseline = json.loads((FILE.parent / "kernel_instructions.json").read_text())["instructions"]
    without_dtypes = {name.removesuffix("/f32").removesuffix("/bf16") for name in baseline}
    assert names == without_dtypes
