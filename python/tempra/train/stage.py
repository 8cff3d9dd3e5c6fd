"""Stages of a run: one model and one optimizer state go through them, one after the other.

A stage brings data, length, learning rate and measurements. Where a run stands is three integers in
`TrainState`: the stage, and the step and batch of the run with which it began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from tempra._core import CheckpointError
from tempra.train.evaluation import Evaluation
from tempra.train.protocols import BatchSource
from tempra.train.train_state import StagePosition, TrainState
from tempra.train.trainer_settings import Evaluator, TrainerSettings


@dataclass(frozen=True)
class Stage:
    """A part of a run; steps, learning rate and batches are counted from its own beginning."""

    source: BatchSource
    settings: TrainerSettings
    evaluator: Evaluator | None = None
    name: str | None = None
    flops_per_token: int | None = None
    reset_optimizer: bool = False
    # Written to metrics.jsonl when the stage begins.
    record: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class MixedSource(Protocol):
    """A batch source of several named ones."""

    names: Sequence[str]

    def epochs_by_source(self, batches: int) -> Sequence[float]:
        """Return how often each has been read after that many batches."""
        ...


class StagedRun:
    """The stages of a run together with the state that goes through them."""

    def __init__(self, stages: Sequence[Stage], state: TrainState) -> None:
        self.stages, self.state = tuple(stages), state
        first = self._first_step(state.stage.number)
        if state.stage.first_step != first:
            raise CheckpointError(
                f"resume: stage {state.stage.number + 1} began at step {state.stage.first_step}, "
                f"but the stages before it now have {first} steps; only a stage that has not ended "
                "can become longer or shorter"
            )
        steps = self.current.settings.steps
        if len(self.stages) > 1 and self.stage_step > steps:
            raise CheckpointError(
                f"resume: stage {self.current.name} has had {self.stage_step} steps, but is to "
                f"have {steps}; resume an earlier checkpoint by naming its folder"
            )
        state.check_data(self.current.source)

    @property
    def current(self) -> Stage:
        """The stage that the next step belongs to, or the last one."""
        return self.stages[self.state.stage.number]

    @property
    def steps(self) -> int:
        """Updates of all stages."""
        return sum(stage.settings.steps for stage in self.stages)

    @property
    def is_last(self) -> bool:
        """Whether no stage follows."""
        return self.state.stage.number + 1 == len(self.stages)

    @property
    def stage_step(self) -> int:
        """Finished updates of this stage."""
        return self.state.step - self.state.stage.first_step

    @property
    def has_ended(self) -> bool:
        """Whether this stage has had all of its updates."""
        return self.stage_step >= self.current.settings.steps

    @property
    def first_batch(self) -> int:
        """The next batch, counted from the beginning of the stage."""
        return self.state.cursors["train"] - self.state.stage.first_batch

    @property
    def learning_rate(self) -> float:
        """That of the next update."""
        return self.current.settings.learning_rate(self.stage_step)

    def epochs(self) -> float:
        """How often the data of this stage has been read."""
        return self.current.source.epochs(self.first_batch)

    def complete(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Add the stage to the records of steps, and to the last how often its data was read."""
        for record in records:
            record |= self._name()
        last, source = records[-1], self.current.source
        last["epoch"] = round(self.epochs(), 4)
        if isinstance(source, MixedSource) and source.names:
            read = zip(source.names, source.epochs_by_source(self.first_batch), strict=True)
            last["source_epochs"] = {name: round(epochs, 4) for name, epochs in read}
        return records

    def validation_record(self, evaluation: Evaluation) -> dict[str, Any]:
        """Return what metrics.jsonl keeps of a measurement."""
        record: dict[str, Any] = {
            "kind": "validation",
            "step": self.state.step,
            "loss": evaluation.loss,
            "tokens": evaluation.tokens,
            "best_loss": self.state.best.loss,
            **self._name(),
        }
        if evaluation.by_source:
            record["source_losses"] = {k: each.loss for k, each in evaluation.by_source.items()}
        return record

    def advance(self) -> None:
        """Enter the next stage."""
        state = self.state
        state.stage = StagePosition(state.stage.number + 1, state.step, state.cursors["train"])
        state.epoch, state.data_fingerprint = 0, {}
        state.best.evaluations_since = 0
        state.check_data(self.current.source)
        if self.current.reset_optimizer:
            for optimizer in state.optimizers.values():
                optimizer.reset()

    def _name(self) -> dict[str, str]:
        return {} if self.current.name is None else {"stage": self.current.name}

    def _first_step(self, number: int) -> int:
        if number >= len(self.stages):
            raise CheckpointError(
                f"resume: the checkpoint is of stage {number + 1}, the run has {len(self.stages)}"
            )
        return sum(stage.settings.steps for stage in self.stages[:number])
