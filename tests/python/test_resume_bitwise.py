"""A resumed run continues as if it had never stopped, to the last bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stop_at import StopAt
from tempra.checkpoint import load_checkpoint
from tiny_model import TinySource, make_state, weights
from tiny_run import trace, train_tiny


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    train_tiny(folder, 30)
    return folder


@pytest.mark.parametrize("stop", [1, 4, 5, 7, 10, 13, 29])
def test_trace_and_weights_after_a_stop_anywhere(
    tmp_path: Path, uninterrupted: Path, stop: int
) -> None:
    """Also in mid-epoch (3.5 steps long), between log points, and where a validation is due."""
    train_tiny(tmp_path, 30, callbacks=[StopAt(stop)])
    assert load_checkpoint(tmp_path).step == stop
    result = train_tiny(tmp_path, 30)
    assert trace(tmp_path) == trace(uninterrupted)
    for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
        path = f"checkpoints/step-00000030/{name}"
        assert (tmp_path / path).read_bytes() == (uninterrupted / path).read_bytes(), name
    assert result.report.tokens == 30 * 48


def test_resume_at_an_earlier_step_sets_later_ones_aside(
    tmp_path: Path, uninterrupted: Path
) -> None:
    train_tiny(tmp_path, 30, checkpoint_interval=6, keep_best=False)
    checkpoints = tmp_path / "checkpoints"
    assert {path.name for path in checkpoints.glob("step-*")} == {
        "step-00000018",
        "step-00000024",
        "step-00000030",
    }
    train_tiny(tmp_path, 24, from_checkpoint=checkpoints / "step-00000018", keep_best=False)
    names = {path.name for path in checkpoints.glob("step-*")}
    assert {"step-00000024.set-aside-1", "step-00000030.set-aside-1"} < names
    records = trace(tmp_path)
    assert records == [record for record in trace(uninterrupted) if record[1] <= 24] + [
        record for record in records if record[0] == "validation" and record[1] == 24
    ]
    assert (checkpoints / "latest").read_text() == "step-00000024\n"


def test_extending_a_finished_run_continues_it(tmp_path: Path, uninterrupted: Path) -> None:
    train_tiny(tmp_path, 20)
    train_tiny(tmp_path, 30)
    assert trace(tmp_path) == trace(uninterrupted)


def test_data_is_read_on_from_the_cursor(tmp_path: Path) -> None:
    train_tiny(tmp_path, 6)
    state, source = make_state(seed=3), TinySource(seed=4, batches_per_epoch=7)
    state.restore(load_checkpoint(tmp_path))
    assert state.cursors == {"train": 12}
    assert state.epoch == 1
    state.check_data(source)


def test_damaged_newest_checkpoint_costs_only_its_steps(
    tmp_path: Path, uninterrupted: Path
) -> None:
    train_tiny(tmp_path, 10)
    state = tmp_path / "checkpoints/step-00000010/state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"tokens": 1}))
    assert "state.json" in load_checkpoint(tmp_path).notes[0]
    train_tiny(tmp_path, 30)
    assert trace(tmp_path) == trace(uninterrupted)


def test_two_runs_from_the_same_start_are_equal() -> None:
    assert weights(make_state(seed=3)) == weights(make_state(seed=3))
