"""metrics.jsonl: exact numbers, and truncation on resume."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import pytest

from tempra.train.console import ConsoleProgress
from tempra.train.errors import TrainError
from tempra.train.metrics import MetricsWriter, read_metrics


def write(path: Path, steps: range) -> None:
    writer = MetricsWriter(path)
    for step in steps:
        writer.write({"kind": "step", "step": step, "loss": 1.0 / (step + 3)})
    writer.close()


def test_numbers_come_back_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 2.0**-40]
    writer = MetricsWriter(path)
    for step, value in enumerate(values):
        writer.write({"step": step, "loss": value})
    writer.close()
    read = [record["loss"] for record in read_metrics(path)]
    assert [value.hex() for value in read] == [value.hex() for value in values]


def test_undefined_numbers_stay_valid_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path)
    writer.write({"step": 1, "loss": math.nan, "norm": -math.inf, "none": None})
    writer.close()

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    record = json.loads(path.read_text(), parse_constant=refuse)
    assert record == {"step": 1, "loss": "nan", "norm": "-inf", "none": None}


def test_resume_cuts_later_records(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 11))
    writer = MetricsWriter(path, resume_step=4)
    writer.write({"step": 5, "loss": 0.0})
    writer.close()
    assert [record["step"] for record in read_metrics(path)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("torn", [b'{"step": 11, "lo', b"\x00\x00\x00", b'{"step": 11}', b"[]\n"])
def test_torn_last_line_is_cut(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 11))
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert [record["step"] for record in read_metrics(path)] == list(range(1, 11))
    MetricsWriter(path, resume_step=10).close()
    assert path.read_bytes() == whole


def test_without_resume_nothing_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 4))
    write(path, range(4, 6))
    assert [record["step"] for record in read_metrics(path)] == [1, 2, 3, 4, 5]


def test_full_disk_is_one_clear_error() -> None:
    writer = MetricsWriter("/dev/full")
    with pytest.raises(TrainError, match=r"/dev/full cannot be written: No space left on device"):
        writer.write({"step": 1})


def test_unwritable_path_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="cannot be written"):
        MetricsWriter(tmp_path / "absent" / "metrics.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_once_and_closing_is_quiet() -> None:
    metrics = MetricsWriter("/dev/full")
    with pytest.raises(TrainError, match=r"/dev/full cannot be written: No space left.*intact"):
        metrics.write({"step": 1})
    metrics.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_console_that_cannot_be_written_to_stops_no_run() -> None:
    stream = open("/dev/full", "w")  # noqa: SIM115
    ConsoleProgress(stream).line("a line")
    with contextlib.suppress(OSError):
        stream.close()
