"""TrainState to a checkpoint and back, and everything that must be refused on the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tempra import _core
from tempra._core import CheckpointError
from tempra.checkpoint import load_checkpoint, save_checkpoint
from tempra.train.callbacks import Callback
from tempra.train.moving_average import ExponentialMovingAverage
from tempra.train.train_state import StagePosition, TrainState, load_weights_into
from tempra.train.trainer import Trainer
from tempra.train.trainer_settings import TrainerSettings
from tiny_model import TinyModel, TinySource, make_state, weights


def trained(steps: int, state: TrainState | None = None, **options: Any) -> TrainState:
    state = state or make_state()
    Trainer(state, TinySource(), TrainerSettings(steps, lambda step: 0.05), **options).fit()
    return state


class Counter(Callback):
    """A callback with state."""

    def __init__(self) -> None:
        self.count = 0

    def on_batch_end(self, run: Any) -> None:
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


def test_everything_comes_back(tmp_path: Path) -> None:
    counter, state = Counter(), make_state()
    state.average = ExponentialMovingAverage(state.model, 0.9)
    trained(7, state, callbacks=[counter])
    state.generator.set_step(41)
    state.best.loss, state.best.step = 0.1 + 0.2, 5
    folder = save_checkpoint(tmp_path, state.to_checkpoint("config: here\n", {"tok.json": b"1"}))

    other = make_state(seed=9)
    other.average = ExponentialMovingAverage(other.model, 0.9)
    restored_counter = Counter()
    other.callbacks = (restored_counter,)
    assert weights(other) != weights(state)
    loaded = load_checkpoint(folder)
    other.restore(loaded)

    assert weights(other) == weights(state)
    assert (other.step, other.epoch, other.tokens) == (7, 1, 7 * 24)
    assert other.cursors == {"train": 7}
    assert other.best == state.best
    assert other.generator.state() == state.generator.state()
    assert restored_counter.count == 7
    assert loaded.run_config == "config: here\n"
    assert loaded.tokenizer_files == {"tok.json": b"1"}
    for name, average in state.average.averages.items():
        np.testing.assert_array_equal(average.numpy(), other.average.averages[name].numpy())
    assert other.to_checkpoint().state == state.to_checkpoint().state


def test_moving_average_follows_the_weights() -> None:
    state = make_state()
    state.average = ExponentialMovingAverage(state.model, 0.75)
    start = dict(state.model.named_parameters())["head"].detach().numpy().copy()
    trained(1, state)
    end = dict(state.model.named_parameters())["head"].detach().numpy()
    np.testing.assert_allclose(
        state.average.averages["head"].numpy(), 0.75 * start + 0.25 * end, rtol=1e-6
    )


def test_weights_are_saved_under_their_published_names(tmp_path: Path) -> None:
    loaded = load_checkpoint(save_checkpoint(tmp_path, trained(1).to_checkpoint()))
    assert set(loaded.model) == {"model.embedding", "model.head"}
    assert loaded.model_config == {"model_type": "tiny"}


def test_weights_that_do_not_fit_are_all_listed() -> None:
    wrong = {
        "head": _core.from_numpy(np.zeros((2, 2), np.float32)),
        "other": _core.from_numpy(np.zeros(1, np.float32)),
    }
    with pytest.raises(CheckpointError) as caught:
        load_weights_into(TinyModel(), wrong)
    message = str(caught.value)
    assert "embedding is missing" in message
    assert "other is not in the model" in message
    assert "head has shape (2, 2), the model needs (11, 6)" in message


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 2},
        {"step": 3},
        {"tokens": -1},
        {"tokens": "many"},
        {"cursors": {}},
        {"generator": None},
        {"best": {"los": 1}},
        {"optimizers": {}},
        {"optimizers": {"adam": {}}},
        {"stateful": None},
    ],
    ids=str,
)
def test_state_that_does_not_fit_is_one_clear_error(damage: dict[str, Any]) -> None:
    checkpoint = trained(2).to_checkpoint()
    checkpoint.state = {**checkpoint.state, **damage}
    with pytest.raises(CheckpointError):
        make_state().restore(checkpoint)


@pytest.mark.parametrize("key", ["step", "tokens", "generator", "optimizers", "cursors", "best"])
def test_missing_state_is_one_clear_error(key: str) -> None:
    checkpoint = trained(2).to_checkpoint()
    checkpoint.state = {name: value for name, value in checkpoint.state.items() if name != key}
    with pytest.raises(CheckpointError, match=key):
        make_state().restore(checkpoint)


def test_missing_optimizer_tensor_is_named() -> None:
    checkpoint = trained(2).to_checkpoint()
    del checkpoint.optimizer["adamw.first_moment.head"]
    with pytest.raises(CheckpointError, match=r"first_moment\.head"):
        make_state().restore(checkpoint)


def test_other_data_is_refused_with_what_changed() -> None:
    state = trained(2)
    with pytest.raises(CheckpointError, match="rows was 3 and is 4 now"):
        state.check_data(TinySource(rows=4))


def test_a_checkpoint_from_before_there_were_stages_is_in_the_first() -> None:
    state = make_state(seed=3)
    state.step, state.cursors = 5, {"train": 7}
    checkpoint = state.to_checkpoint()
    del checkpoint.state["stage"], checkpoint.state["best"]["stage"]
    other = make_state(seed=4)
    other.restore(checkpoint)
    assert other.stage == StagePosition(0, 0, 0)
    assert other.best.stage == 0
    assert other.cursors == {"train": 7}
