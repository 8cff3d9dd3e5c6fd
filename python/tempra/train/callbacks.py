"""Callbacks observe a run and may ask it to stop; they never change what is computed."""

from __future__ import annotations

import queue
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tempra.train.evaluation import Evaluation
from tempra.train.train_state import TrainState


@dataclass
class RunView:
    """What callbacks see of a run."""

    state: TrainState
    steps: int
    run_folder: Path | None = None
    stop_reason: str | None = None
    stage: str | None = None  # the name of the stage, in a run that has stages
    # Adds a record to metrics.jsonl and shows it to the other callbacks.
    record: Callable[[Mapping[str, Any]], None] = lambda record: None

    def request_stop(self, reason: str) -> None:
        """Ask the run to end after this step, with a saved checkpoint."""
        if self.stop_reason is None:
            self.stop_reason = reason


class Callback:
    """All hooks, doing nothing. `on_log` brings the records of steps whose numbers were read."""

    def on_train_begin(self, run: RunView) -> None:
        """Run before the first step, also of a resumed run."""

    def on_train_end(self, run: RunView) -> None:
        """Run after the last step, also when the run fails."""

    def on_stage_begin(self, run: RunView) -> None:
        """Run before the first step of a stage, also where a resumed run enters it."""

    def on_epoch_begin(self, run: RunView) -> None:
        """Run before the first step of an epoch."""

    def on_epoch_end(self, run: RunView) -> None:
        """Run after the last step of an epoch."""

    def on_batch_begin(self, run: RunView) -> None:
        """Run before a step."""

    def on_batch_end(self, run: RunView) -> None:
        """Run after a step, whose numbers have not been read yet."""

    def on_log(self, run: RunView, records: Sequence[Mapping[str, Any]]) -> None:
        """Run at each log point with one record per step, or with one of a validation."""

    def on_validation_begin(self, run: RunView) -> None:
        """Run before a validation."""

    def on_validation_end(self, run: RunView, evaluation: Evaluation) -> None:
        """Run after a validation."""

    def on_checkpoint(self, run: RunView, folder: Path) -> None:
        """Run after a checkpoint was written, or handed to the background writer."""


class EarlyStopping(Callback):
    """Stops after `patience` validations in a row that were no better than the best.

    In a run of several stages only one, the last, may end early: say which by its number.
    """

    def __init__(self, patience: int, *, stage: int = 0) -> None:
        if patience < 1:
            raise ValueError(f"early stopping: patience is {patience}, needs at least 1")
        self.patience, self.stage = patience, stage

    def on_validation_end(self, run: RunView, evaluation: Evaluation) -> None:
        """Ask for the stop."""
        best = run.state.best
        if run.state.stage.number == self.stage and best.evaluations_since >= self.patience:
            run.request_stop(
                f"no better validation loss than {best.loss:.4f} (step {best.step}) "
                f"in {best.evaluations_since} validations"
            )


class TrackerBackend(Protocol):
    """A service that takes numbers: TensorBoard, Weights & Biases, MLflow or one's own."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Send one record."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...


class Tracker(Callback):
    """Hands records to a backend on a thread of its own: it can neither stall nor kill a run.

    The queue is bounded; what a slow backend cannot take is dropped and counted. The first failure
    of the backend is warned of, and the rest of the run goes untracked.
    """

    def __init__(
        self, backend: TrackerBackend, *, capacity: int = 10_000, close_seconds: float = 5
    ):
        self.dropped = 0
        self.failure: Exception | None = None
        self._backend = backend
        self._close_seconds = close_seconds
        self._queue: queue.Queue[Mapping[str, Any] | None] = queue.Queue(capacity)
        self._thread: threading.Thread | None = None

    def on_train_begin(self, run: RunView) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._send, name="tempra-tracker", daemon=True)
        self._thread.start()

    def on_log(self, run: RunView, records: Sequence[Mapping[str, Any]]) -> None:
        """Queue the records, without waiting."""
        for record in records:
            self._offer(dict(record))

    def on_train_end(self, run: RunView) -> None:
        """Give the backend a few seconds for what is left."""
        self._offer(None)
        if self._thread is not None:
            self._thread.join(self._close_seconds)

    def _offer(self, record: Mapping[str, Any] | None) -> None:
        if self.failure is not None:
            return
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def _send(self) -> None:
        try:
            while (record := self._queue.get()) is not None:
                self._backend.log(record)
            self._backend.close()
        except Exception as error:
            self.failure = error
            name = type(self._backend).__name__
            warnings.warn(f"tracker {name} failed and is switched off: {error}", stacklevel=1)


class CallbackList(Callback):
    """Calls every callback in order; only a `Tracker` is shielded from its own errors."""

    def __init__(self, callbacks: Sequence[Callback] = ()) -> None:
        self.callbacks = tuple(callbacks)

    def on_train_begin(self, run: RunView) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_train_begin(run)

    def on_train_end(self, run: RunView) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_train_end(run)

    def on_stage_begin(self, run: RunView) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_stage_begin(run)

    def on_epoch_begin(self, run: RunView) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_epoch_begin(run)

    def on_epoch_end(self, run: RunView) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_epoch_end(run)

    def on_batch_begin(self, run: RunView) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_batch_begin(run)

    def on_batch_end(self, run: RunView) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_batch_end(run)

    def on_log(self, run: RunView, records: Sequence[Mapping[str, Any]]) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_log(run, records)

    def on_validation_begin(self, run: RunView) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_validation_begin(run)

    def on_validation_end(self, run: RunView, evaluation: Evaluation) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_validation_end(run, evaluation)

    def on_checkpoint(self, run: RunView, folder: Path) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_checkpoint(run, folder)
