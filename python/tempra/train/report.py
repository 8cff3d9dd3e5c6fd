"""What a run came to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tempra.train.protocols import TrainableModel
from tempra.train.train_state import TrainState

Status = Literal["finished", "stopped", "interrupted"]


@dataclass(frozen=True)
class TrainingReport:
    """Numbers of a run: `stopped` by a callback, `interrupted` by a signal and resumable."""

    status: Status
    reason: str
    step: int
    tokens: int
    loss: float | None
    validation_loss: float | None
    best_loss: float | None
    best_step: int | None
    skipped_updates: int
    seconds: float
    run_folder: Path | None


@dataclass(frozen=True)
class TrainingResult:
    """A report together with the trained model and the state it ended in."""

    report: TrainingReport
    model: TrainableModel
    state: TrainState
    sample: str | None = None


def summarise(
    state: TrainState,
    *,
    status: Status,
    reason: str,
    loss: float | None,
    validation_loss: float | None,
    seconds: float,
    run_folder: Path | None,
) -> TrainingReport:
    """Return the report of a state at its end."""
    return TrainingReport(
        status=status,
        reason=reason,
        step=state.step,
        tokens=state.tokens,
        loss=loss,
        validation_loss=validation_loss,
        best_loss=state.best.loss,
        best_step=state.best.step,
        skipped_updates=sum(each.skipped_total for each in state.optimizers.values()),
        seconds=seconds,
        run_folder=run_folder,
    )
