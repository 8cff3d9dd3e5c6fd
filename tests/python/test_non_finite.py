"""Infinite and undefined numbers: skipped, counted, and reported with where they came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tempra._core import Tensor, no_grad
from tempra.checkpoint import load_checkpoint
from tempra.train.callbacks import Callback, RunView
from tempra.train.errors import TrainError
from tempra.train.metrics import read_metrics
from tempra.train.non_finite import find_origin
from tempra.train.run_folder import RunFolder
from tempra.train.train_state import TrainState
from tempra.train.trainer import Trainer
from tempra.train.trainer_settings import TrainerSettings
from tiny_model import TinyModel, TinySource, make_state, weights


class PoisonedSource(TinySource):
    """Marks some batches; the poisoned model's loss of those is not a number."""

    def __init__(self, bad: set[int]) -> None:
        super().__init__()
        self.bad = bad

    def batch(self, index: int) -> Any:
        batch = super().batch(index)
        if index in self.bad:
            batch.tokens[0] = 10
            batch.labels[:] = 10
        else:
            batch.tokens[batch.tokens == 10] = 9
        return batch


def poison(state: TrainState, name: str = "embedding") -> None:
    """Make one row of a parameter so large that products with it overflow."""
    with no_grad():
        dict(state.model.named_parameters())[name].numpy()[10] = 3e38


def make_trainer(state: TrainState, source: TinySource, **options: Any) -> Trainer:
    settings = TrainerSettings(
        40, lambda step: 0.01, log_interval=1, checkpoint_interval=5, non_finite_limit=3
    )
    return Trainer(state, source, settings, **options)


def test_one_bad_batch_is_skipped_and_counted(tmp_path: Path) -> None:
    state = make_state()
    poison(state)
    with RunFolder(tmp_path) as run:
        result = make_trainer(state, PoisonedSource({7, 12, 13}), run_folder=run).fit()
    assert result.report.status == "finished"
    assert result.report.skipped_updates == 3
    records = list(read_metrics(tmp_path / "metrics.jsonl"))
    assert [record["step"] for record in records if isinstance(record["loss"], str)] == [8, 13, 14]
    assert records[-1]["skipped"] == 3
    assert state.optimizers["adamw"].step_count == 37


def test_skipped_update_changes_no_weight() -> None:
    state = make_state()
    poison(state)
    before = weights(state)
    settings = TrainerSettings(1, lambda step: 0.01)
    Trainer(state, PoisonedSource({0}), settings).fit()
    assert weights(state) == before


def test_run_stops_with_step_batch_layer_and_replay(tmp_path: Path) -> None:
    state = make_state()
    poison(state)
    source = PoisonedSource(set(range(11, 40)))
    with RunFolder(tmp_path) as run, pytest.raises(TrainError) as caught:
        make_trainer(state, source, run_folder=run).fit()
    message = str(caught.value)
    assert "step 14: 3 updates in a row" in message
    assert "first at step 12" in message
    assert "batch 13 of epoch 2" in message
    assert "the loss" in message
    assert f"tempra train resume --checkpoint {tmp_path}" in message
    assert "\n" not in message
    assert load_checkpoint(tmp_path).step == 10
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")][-1] == 14


def test_replay_of_the_resumed_run_meets_the_same_numbers(tmp_path: Path) -> None:
    messages = []
    for attempt in range(2):
        state = make_state()
        poison(state)
        checkpoint = load_checkpoint(tmp_path) if attempt else None
        if checkpoint is not None:
            state.restore(checkpoint)
        source = PoisonedSource(set(range(11, 40)))
        with (
            RunFolder(tmp_path, resume_from=checkpoint) as run,
            pytest.raises(TrainError) as caught,
        ):
            make_trainer(state, source, run_folder=run).fit()
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


class BreakParameter(Callback):
    """Writes a NaN into a parameter."""

    def on_batch_end(self, run: RunView) -> None:
        if run.state.step == 5:
            dict(run.state.model.named_parameters())["head"].numpy()[0, 0] = np.nan


def test_broken_parameter_is_named() -> None:
    with pytest.raises(TrainError, match="first not finite: parameter head"):
        make_trainer(make_state(), TinySource(), callbacks=[BreakParameter()]).fit()


class Layer:
    """A layer by the interface that modules have."""

    def __init__(self, output: Tensor) -> None:
        self.output = output

    def forward(self) -> Tensor:
        return self.output


class LayeredModel(TinyModel):
    """Runs two layers besides, of which the inner one is broken."""

    def __init__(self) -> None:
        super().__init__()
        from tempra import _core

        self.good = Layer(_core.from_numpy(np.ones(2, np.float32)))
        self.bad = Layer(_core.from_numpy(np.array([1.0, np.inf], np.float32)))

    def named_modules(self) -> list[tuple[str, Layer]]:
        return [("good", self.good), ("blocks.1.bad", self.bad)]

    def loss(self, batch: Any) -> Tensor:
        self.good.forward()
        self.bad.forward()
        return super().loss(batch)


def test_layer_with_the_first_bad_output_is_named() -> None:
    state = make_state()
    model = LayeredModel()
    model.parameters = dict(state.model.named_parameters())
    state.objective.model = model
    origin = find_origin(
        state.objective,
        state.optimizers["adamw"],
        [TinySource().batch(0)],
        generator=state.generator,
        first_batch=17,
    )
    assert origin is not None
    assert origin.batch == 17
    assert origin.what == "output of layer blocks.1.bad"
    assert "forward" not in vars(model.bad)  # the watch is gone
