"""The training loop: step, log, validate, save. It knows no model and no stage by name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tempra.train.callbacks import Callback, CallbackList, RunView
from tempra.train.captured_step import CapturedStep
from tempra.train.errors import TrainError
from tempra.train.evaluation import Evaluation
from tempra.train.non_finite import stop_if_not_finite
from tempra.train.protocols import BatchSource
from tempra.train.report import Status, TrainingResult, summarise
from tempra.train.run_folder import RunFolder
from tempra.train.shutdown import ShutdownSignals
from tempra.train.stage import Stage, StagedRun
from tempra.train.step_log import StepLog
from tempra.train.train_state import TrainState
from tempra.train.train_step import train_step
from tempra.train.trainer_settings import Evaluator, TrainerSettings


class Trainer:
    """Trains a `TrainState` on a `BatchSource`; without a run folder, nothing is written.

    A run of several `Stage`s, each with its own source, settings and evaluator, is given as a
    sequence of these instead.
    """

    def __init__(
        self,
        state: TrainState,
        source: BatchSource | Sequence[Stage],
        settings: TrainerSettings | None = None,
        *,
        evaluator: Evaluator | None = None,
        run_folder: RunFolder | None = None,
        callbacks: Sequence[Callback] = (),
        signals: ShutdownSignals | None = None,
        flops_per_token: int | None = None,
    ) -> None:
        state.callbacks = tuple(callbacks)
        if isinstance(source, Sequence):
            stages = source
        elif settings is None:
            raise TrainError("trainer: a batch source is given without settings")
        else:
            stages = [Stage(source, settings, evaluator, flops_per_token=flops_per_token)]
        self.state, self.run = state, StagedRun(stages, state)
        self.run_folder = run_folder
        self.callbacks = CallbackList(callbacks)
        self.signals = signals or ShutdownSignals()
        self.view = RunView(state, self.run.steps, run_folder.path if run_folder else None)
        self.view.record = lambda record: self._record([record])
        self.log = StepLog(state.optimizers)
        self._graphs = CapturedStep() if self.settings.cuda_graph else None
        self._saved_step = run_folder.resumed_step if run_folder else None
        self._in_stage = False
        # An epoch that a resumed run enters in the middle has begun before.
        self._in_epoch = self.run.epochs() % 1 != 0
        self._last_loss: float | None = None
        self._last_evaluation: Evaluation | None = None

    @property
    def source(self) -> BatchSource:
        """The batches of this stage."""
        return self.run.current.source

    @property
    def settings(self) -> TrainerSettings:
        """The numbers of this stage."""
        return self.run.current.settings

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
                if self._due(self.settings.checkpoint_interval) or self.run.has_ended:
                    self._save()
            self._read_log()
            self._save()
            if self.run_folder is not None:
                self.run_folder.store.finish()
        finally:
            self.callbacks.on_train_end(self.view)
        return self._result(status, time.monotonic() - began)

    def _enter_stage(self) -> None:
        if self.run.has_ended:
            self._read_log()
            self.run.advance()
            self._in_epoch = False
            self._release_graphs()
        elif self._in_stage:
            return
        stage = self.run.current
        self._in_stage, self.view.stage = True, stage.name
        self.log.flops_per_token = stage.flops_per_token
        if stage.record and self.run.stage_step == 0:
            self._record([{"kind": "stage", "step": self.state.step + 1, **stage.record}])
        self.callbacks.on_stage_begin(self.view)

    def _step(self) -> None:
        self._enter_stage()
        state, settings, source = self.state, self.settings, self.source
        first, count = self.run.first_batch, settings.batches_per_step
        if not self._in_epoch:
            self._in_epoch = True
            self.callbacks.on_epoch_begin(self.view)
        self.callbacks.on_batch_begin(self.view)
        run_step = self._graphs or train_step
        result = run_step(
            state.objective,
            state.optimizers,
            [source.batch(index) for index in range(first, first + count)],
            learning_rate=self.run.learning_rate,
            max_gradient_norm=settings.max_gradient_norm,
            generator=state.generator,
            first_batch=state.cursors["train"],
        )
        if state.average is not None:
            state.average.update()
        state.step += 1
        state.tokens += result.tokens
        state.cursors["train"] += count
        self.log.add(state.step, state.tokens, result)
        self.callbacks.on_batch_end(self.view)
        epoch = int(self.run.epochs())
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
        return "finished" if self.run.is_last and self.run.has_ended else None

    def _read_log(self) -> None:
        records = self.log.read()
        if not records:
            return
        self._last_loss = records[-1]["loss"]
        self._record(self.run.complete(records))
        stop_if_not_finite(
            self.run, self.settings, self.view.run_folder, before_replay=self._release_graphs
        )

    def _release_graphs(self) -> None:
        if self._graphs is not None:
            self._graphs.release()

    def _record(self, records: Sequence[Mapping[str, Any]]) -> None:
        if self.run_folder is not None:
            for record in records:
                self.run_folder.metrics.write(record)
        self.callbacks.on_log(self.view, records)

    def _validate_if_due(self) -> None:
        state, evaluator = self.state, self.run.current.evaluator
        due = self._due(self.settings.evaluation_interval) or self.run.has_ended
        if evaluator is None or not due or state.evaluated_step == state.step or not state.step:
            return
        self._read_log()
        paused = self.log.pause()
        self.callbacks.on_validation_begin(self.view)
        evaluation = evaluator(lambda: self.signals.requested is not None)
        if evaluation is not None:
            self._take_evaluation(evaluation)
        self.log.resume(paused)

    def _take_evaluation(self, evaluation: Evaluation) -> None:
        state = self.state
        state.evaluated_step = state.step
        self._last_evaluation = evaluation
        improved = state.best.improve(evaluation.loss, state.step, state.stage.number)
        self._record([self.run.validation_record(evaluation)])
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

    def _result(self, status: Status, seconds: float) -> TrainingResult:
        reasons = {
            "finished": f"step {self.state.step} of {self.run.steps}",
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
