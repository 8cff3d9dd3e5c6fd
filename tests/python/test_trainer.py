"""The trainer's sequence of steps, logs, validations, checkpoints and stops."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tempra import _core
from tempra.checkpoint import load_checkpoint
from tempra.train.callbacks import Callback, EarlyStopping, RunView, Tracker
from tempra.train.errors import TrainError
from tempra.train.evaluation import Evaluation, evaluate
from tempra.train.metrics import read_metrics
from tempra.train.objective import Loss
from tempra.train.run_folder import RunFolder
from tempra.train.train_state import TrainState
from tempra.train.train_step import train_step
from tempra.train.trainer import Trainer
from tempra.train.trainer_settings import TrainerSettings
from tiny_model import TinySource, make_state, weights


def settings(steps: int, **changes: Any) -> TrainerSettings:
    return TrainerSettings(
        **{"steps": steps, "learning_rate": lambda step: 0.05, "log_interval": 3, **changes}
    )


def validate_on(state: TrainState, source: TinySource, count: int = 2) -> Any:
    def run(interrupted: Callable[[], bool]) -> Evaluation | None:
        batches = (source.batch(1_000_000 + index) for index in range(count))
        return evaluate(state.objective, batches, interrupted=interrupted)

    return run


def test_loss_falls_and_every_step_is_recorded(tmp_path: Path) -> None:
    state = make_state()
    with RunFolder(tmp_path / "run") as run:
        result = Trainer(state, TinySource(), settings(100), run_folder=run).fit()
    records = list(read_metrics(tmp_path / "run" / "metrics.jsonl"))
    assert [record["step"] for record in records] == list(range(1, 101))
    assert records[0]["loss"] > 2.2
    assert records[-1]["loss"] < 1.2
    assert all("gradient_norm" in record for record in records if record["step"] % 3 == 0)
    assert result.report.status == "finished"
    assert result.report.step == 100
    assert result.report.loss == records[-1]["loss"]
    assert result.report.tokens == records[-1]["tokens"] == 100 * 24


def test_micro_batches_give_the_gradient_of_the_whole() -> None:
    """Normalised by valid tokens of all micro-batches, whose numbers differ."""
    source, parts, whole = TinySource(), make_state(), make_state()
    batches = [source.batch(index) for index in range(4)]
    assert len({batch.valid_tokens for batch in batches}) > 1
    joined = type(batches[0])(
        np.concatenate([batch.tokens for batch in batches]),
        np.concatenate([batch.labels for batch in batches]),
        sum(batch.valid_tokens for batch in batches),
    )
    losses = []
    for state, given in ((parts, batches), (whole, [joined])):
        result = train_step(
            state.objective,
            state.optimizers,
            given,
            learning_rate=0.01,
            max_gradient_norm=0.0,
            generator=state.generator,
            first_batch=0,
        )
        losses.append((result.loss(), state.optimizers["adamw"].gradient_norm))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, parameter in parts.model.named_parameters():
        other = dict(whole.model.named_parameters())[name]
        np.testing.assert_allclose(
            parameter.detach().numpy(), other.detach().numpy(), rtol=1e-4, atol=1e-6
        )


def test_step_without_valid_tokens_changes_nothing() -> None:
    state, source = make_state(), TinySource()
    batch = source.batch(0)
    batch.labels[:] = -100
    empty = type(batch)(batch.tokens, batch.labels, 0)
    before = weights(state)
    result = train_step(
        state.objective,
        state.optimizers,
        [empty],
        learning_rate=0.1,
        max_gradient_norm=1.0,
        generator=state.generator,
        first_batch=0,
    )
    assert result.loss() is None
    assert weights(state) == before


class Recorder(Callback):
    """Notes each hook with the step it is called at."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_train_begin(self, run: RunView) -> None:
        self.calls.append(f"train_begin {run.state.step}")

    def on_train_end(self, run: RunView) -> None:
        self.calls.append(f"train_end {run.state.step}")

    def on_epoch_begin(self, run: RunView) -> None:
        self.calls.append(f"epoch_begin {run.state.step}")

    def on_epoch_end(self, run: RunView) -> None:
        self.calls.append(f"epoch_end {run.state.step}")

    def on_batch_begin(self, run: RunView) -> None:
        self.calls.append(f"batch_begin {run.state.step}")

    def on_batch_end(self, run: RunView) -> None:
        self.calls.append(f"batch_end {run.state.step}")

    def on_validation_begin(self, run: RunView) -> None:
        self.calls.append(f"validation_begin {run.state.step}")

    def on_validation_end(self, run: RunView, evaluation: Evaluation) -> None:
        self.calls.append(f"validation_end {run.state.step}")

    def on_checkpoint(self, run: RunView, folder: Path) -> None:
        self.calls.append(f"checkpoint {run.state.step} {folder.name}")


def test_hooks_are_called_in_order(tmp_path: Path) -> None:
    state, source, recorder = make_state(), TinySource(batches_per_epoch=2), Recorder()
    with RunFolder(tmp_path) as run:
        Trainer(
            state,
            source,
            settings(3, evaluation_interval=2, checkpoint_interval=3, keep_best=False),
            evaluator=validate_on(state, source),
            run_folder=run,
            callbacks=[recorder],
        ).fit()
    assert recorder.calls == [
        "train_begin 0",
        "checkpoint 0 step-00000000",
        "epoch_begin 0",
        "batch_begin 0",
        "batch_end 1",
        "batch_begin 1",
        "batch_end 2",
        "epoch_end 2",
        "validation_begin 2",
        "validation_end 2",
        "epoch_begin 2",
        "batch_begin 2",
        "batch_end 3",
        "validation_begin 3",
        "validation_end 3",
        "checkpoint 3 step-00000003",
        "train_end 3",
    ]
    assert state.epoch == 1
    assert state.cursors == {"train": 3}


def test_epochs_with_steps_that_straddle_them(tmp_path: Path) -> None:
    state, recorder = make_state(), Recorder()
    source = TinySource(batches_per_epoch=5)
    Trainer(state, source, settings(5, batches_per_step=3), callbacks=[recorder]).fit()
    epochs = [call for call in recorder.calls if call.startswith("epoch")]
    assert epochs == [
        "epoch_begin 0",
        "epoch_end 2",
        "epoch_begin 2",
        "epoch_end 4",
        "epoch_begin 4",
        "epoch_end 5",
    ]
    assert source.served == list(range(15))
    assert state.epoch == 3


def test_best_checkpoint_is_kept_by_validation_loss(tmp_path: Path) -> None:
    state, source = make_state(), TinySource()
    losses = iter([3.0, 2.0, 2.5, 2.1, 2.2, 2.3])
    with RunFolder(tmp_path, keep_last=1) as run:
        Trainer(
            state,
            source,
            settings(6, evaluation_interval=1, checkpoint_interval=1),
            evaluator=lambda interrupted: Evaluation(next(losses), 10, 1),
            run_folder=run,
        ).fit()
        assert run.store.steps() == [2, 6]
        assert run.store.best() == 2
        assert run.store.latest() == 6
    best = load_checkpoint(tmp_path).state["best"]
    assert best == {"loss": 2.0, "step": 2, "evaluations_since": 4, "stage": 0}


def test_early_stopping(tmp_path: Path) -> None:
    state, source = make_state(), TinySource()
    losses = iter([3.0, 2.0, 2.5, 2.1, 2.2, 2.3])
    with RunFolder(tmp_path) as run:
        result = Trainer(
            state,
            source,
            settings(100, evaluation_interval=2),
            evaluator=lambda interrupted: Evaluation(next(losses), 10, 1),
            run_folder=run,
            callbacks=[EarlyStopping(patience=3)],
        ).fit()
    assert result.report.status == "stopped"
    assert result.report.step == 10
    assert "2.0000 (step 4)" in result.report.reason
    assert load_checkpoint(tmp_path).step == 10


class Backend:
    """A tracker backend that fails, or is slow."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.records: list[Mapping[str, Any]] = []
        self.closed = False

    def log(self, record: Mapping[str, Any]) -> None:
        if self.error is not None:
            raise self.error
        self.records.append(record)

    def close(self) -> None:
        self.closed = True


def test_tracker_receives_every_record() -> None:
    backend = Backend()
    Trainer(make_state(), TinySource(), settings(7), callbacks=[Tracker(backend)]).fit()
    assert [record["step"] for record in backend.records] == list(range(1, 8))
    assert backend.closed


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_failing_tracker_cannot_end_a_run() -> None:
    tracker = Tracker(Backend(RuntimeError("service is down")))
    state = make_state()
    result = Trainer(state, TinySource(), settings(20), callbacks=[tracker]).fit()
    assert result.report.status == "finished"
    assert str(tracker.failure) == "service is down"


def test_full_tracker_queue_drops_instead_of_waiting() -> None:
    tracker = Tracker(Backend(), capacity=2)
    run = RunView(make_state(), 1)
    tracker.on_log(run, [{"step": step} for step in range(5)])  # no thread takes any
    assert tracker.dropped == 3


class TwoPhases:
    """Updates the embedding on even and the head on odd calls, each by its own optimizer."""

    def __init__(self, state: TrainState) -> None:
        self.inner = state.objective
        self.model = state.model
        self.names: Sequence[str] = ()

    def step(self, batch: Any, update: Any) -> Loss:
        for name in self.names:
            loss = self.inner.loss(batch)
            update(name, loss)
        return Loss(loss.total.detach(), loss.terms)


def test_phased_objective_makes_its_own_updates() -> None:
    state = make_state()
    phased = TwoPhases(state)
    phased.names = ["adamw", "adamw"]
    state.objective = phased
    Trainer(state, TinySource(), settings(5)).fit()
    assert state.optimizers["adamw"].step_count == 10
    phased.names = ["adam"]
    with pytest.raises(TrainError, match="'adam', but the optimizers are adamw"):
        Trainer(state, TinySource(), settings(6)).fit()


def test_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with RunFolder(tmp_path), pytest.raises(TrainError, match="in use by another process"):
        RunFolder(tmp_path).__enter__()
    with RunFolder(tmp_path) as run:  # nothing was saved yet, so nothing can be lost
        Trainer(make_state(), TinySource(), settings(1), run_folder=run).fit()
    with pytest.raises(TrainError, match="already holds a run"), RunFolder(tmp_path):
        pass


def test_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainError, match="cannot be written"), RunFolder(tmp_path / "file" / "run"):
        pass


def test_failing_save_ends_the_run_with_the_last_checkpoint_intact(tmp_path: Path) -> None:
    class FullDisk(Callback):
        def on_batch_end(self, run: RunView) -> None:
            if run.state.step == 3:
                _core.set_write_fault(4, errno.ENOSPC)

    state = make_state()
    try:
        with (
            RunFolder(tmp_path) as run,
            pytest.raises(_core.CheckpointError, match=r"step-00000004.*No space left"),
        ):
            Trainer(
                state,
                TinySource(),
                settings(9, checkpoint_interval=2),
                run_folder=run,
                callbacks=[FullDisk()],
            ).fit()
    finally:
        _core.clear_write_fault()
    assert load_checkpoint(tmp_path).step == 2


def test_asynchronous_checkpoints_hold_the_step_they_are_named_for(tmp_path: Path) -> None:
    for name, asynchronous in (("now", False), ("later", True)):
        with RunFolder(tmp_path / name, keep_last=9) as run:
            Trainer(
                make_state(),
                TinySource(),
                settings(6, checkpoint_interval=2, asynchronous_checkpoints=asynchronous),
                run_folder=run,
            ).fit()
    for step in (2, 4, 6):
        for file in ("model.safetensors", "optimizer.safetensors", "state.json"):
            path = f"checkpoints/step-{step:08d}/{file}"
            assert (tmp_path / "now" / path).read_bytes() == (
                tmp_path / "later" / path
            ).read_bytes()
