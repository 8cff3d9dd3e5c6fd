"""The training loop: step, log, validate, save. It knows no model by name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tempra.train.callbacks import Callback, CallbackList, RunView
from tempra.train.errors import TrainError
from tempra.train.evaluation import Evaluation
from tempra.train.non_finite import describe_non_finite
from tempra.train.protocols import BatchSource
from tempra.train.report import Status, TrainingResult, summarise
from tempra.train.run_folder import RunFolder
from tempra.train.shutdown import ShutdownSignals
from tempra.train.step_log import StepLog
from tempra.train.train_state import TrainState
from tempra.train.train_step import train_step
from tempra.train.trainer_settings import Evaluator, TrainerSettings


class Trainer:
    """Trains a `TrainState` on a `BatchSource`; without a run folder, nothing is written."""

    def __init__(
        self,
        state: TrainState,
        source: BatchSource,
        settings: TrainerSettings,
        *,
        evaluator: Evaluator | None = None,
        run_folder: RunFolder | None = None,
        callbacks: Sequence[Callback] = (),
        signals: ShutdownSignals | None = None,
        flops_per_token: int | None = None,
    ) -> None:
        state.callbacks = tuple(callbacks)
        state.check_data(source)
        self.state, self.source, self.settings = state, source, settings
        self.evaluator, self.run_folder = evaluator, run_folder
        self.callbacks = CallbackList(callbacks)
        self.signals = signals or ShutdownSignals()
        self.view = RunView(state, settings.steps, run_folder.path if run_folder else None)
        self.view.record = lambda record: self._record([record])
        self.log = StepLog(state.optimizers, flops_per_token)
        self._saved_step = run_folder.resumed_step if run_folder else None
        # An epoch that a resumed run enters in the middle has begun before.
        self._in_epoch = source.epochs(state.cursors["train"]) % 1 != 0
        self._last_loss: float | None = None
        self._last_evaluation: Evaluation | None = None

    def fit(self) -> TrainingResult:
        """Train to the last step, a requested stop or a signal, and save where it ended."""
        began = time.monotonic()
        if self.run_folder is not None:
            self.run_folder.begin()
        self.callbacks.on_train_begin(self.view)
        try:
            if self.state.step == 0:
                self._save()  # so that a run can be resumed from its first moment on
            # A run that was interrupted between a step and its validation makes up for it.
            self._validate_if_due()
            while (status := self._status()) is None:
                self._step()
                if self._due(self.settings.log_interval):
                    self._read_log()
                self._validate_if_due()
                if self._due(self.settings.checkpoint_interval):
                    self._save()
            self._read_log()
            self._save()
            if self.run_folder is not None:
                self.run_folder.store.finish()
        finally:
            self.callbacks.on_train_end(self.view)
        return self._result(status, time.monotonic() - began)

    def _step(self) -> None:
        state, settings = self.state, self.settings
        first, count = state.cursors["train"], settings.batches_per_step
        if not self._in_epoch:
            self._in_epoch = True
            self.callbacks.on_epoch_begin(self.view)
        self.callbacks.on_batch_begin(self.view)
        result = train_step(
            state.objective,
            state.optimizers,
            [self.source.batch(index) for index in range(first, first + count)],
            learning_rate=settings.learning_rate(state.step),
            max_gradient_norm=settings.max_gradient_norm,
            generator=state.generator,
            first_batch=first,
        )
        if state.average is not None:
            state.average.update()
        state.step += 1
        state.tokens += result.tokens
        state.cursors["train"] = first + count
        self.log.add(state.step, state.tokens, result)
        self.callbacks.on_batch_end(self.view)
        epoch = int(self.source.epochs(state.cursors["train"]))
        if epoch != state.epoch:
            self.callbacks.on_epoch_end(self.view)
            state.epoch, self._in_epoch = epoch, False

    def _due(self, interval: int) -> bool:
        return interval > 0 and self.state.step % interval == 0

    def _status(self) -> Status | None:
        if self.signals.requested is not None:
            return "interrupted"
        if self.view.stop_reason is not None:
            return "stopped"
        return "finished" if self.state.step >= self.settings.steps else None

    def _read_log(self) -> None:
        records = self.log.read()
        if not records:
            return
        self._last_loss = records[-1]["loss"]
        self._record(records)
        self._stop_if_not_finite()

    def _record(self, records: Sequence[Mapping[str, Any]]) -> None:
        if self.run_folder is not None:
            for record in records:
                self.run_folder.metrics.write(record)
        self.callbacks.on_log(self.view, records)

    def _validate_if_due(self) -> None:
        state = self.state
        due = self._due(self.settings.evaluation_interval) or state.step == self.settings.steps
        if (
            self.evaluator is None
            or not due
            or state.evaluated_step == state.step
            or not state.step
        ):
            return
        self._read_log()
        paused = self.log.pause()
        self.callbacks.on_validation_begin(self.view)
        evaluation = self.evaluator(lambda: self.signals.requested is not None)
        if evaluation is not None:
            self._take_evaluation(evaluation)
        self.log.resume(paused)

    def _take_evaluation(self, evaluation: Evaluation) -> None:
        state, best = self.state, self.state.best
        state.evaluated_step = state.step
        self._last_evaluation = evaluation
        improved = best.loss is None or evaluation.loss < best.loss
        best.evaluations_since = 0 if improved else best.evaluations_since + 1
        if improved:
            best.loss, best.step = evaluation.loss, state.step
        record = {"kind": "validation", "step": state.step, "loss": evaluation.loss}
        self._record([{**record, "tokens": evaluation.tokens, "best_loss": best.loss}])
        self.callbacks.on_validation_end(self.view, evaluation)
        if improved and self.settings.keep_best:
            self._save()

    def _save(self) -> None:
        state, run = self.state, self.run_folder
        if run is None or self._saved_step == state.step:
            return
        self._read_log()
        paused = self.log.pause()
        run.metrics.sync()
        folder = run.store.save(
            state.to_checkpoint(run.run_config, run.tokenizer_files),
            is_best=self.settings.keep_best and state.best.step == state.step,
            asynchronous=self.settings.asynchronous_checkpoints,
        )
        self._saved_step = state.step
        self.callbacks.on_checkpoint(self.view, folder)
        self.log.resume(paused)

    def _stop_if_not_finite(self) -> None:
        count = self.settings.batches_per_step
        for name, optimizer in self.state.optimizers.items():
            if optimizer.skipped_in_a_row >= self.settings.non_finite_limit:
                first = self.state.cursors["train"] - count
                batches = [self.source.batch(index) for index in range(first, first + count)]
                raise TrainError(
                    describe_non_finite(
                        self.state, name, batches, first, folder=self.view.run_folder
                    )
                )

    def _result(self, status: Status, seconds: float) -> TrainingResult:
        reasons = {
            "finished": f"step {self.state.step} of {self.settings.steps}",
            "stopped": self.view.stop_reason or "",
            "interrupted": self.signals.requested or "",
        }
        evaluation = self._last_evaluation
        report = summarise(
            self.state,
            status=status,
            reason=reasons[status],
            loss=self._last_loss,
            validation_loss=evaluation.loss if evaluation else None,
            seconds=seconds,
            run_folder=self.view.run_folder,
        )
        return TrainingResult(report, self.state.model, self.state)
