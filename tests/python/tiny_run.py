"""Trains the tiny model in a folder, from its newest checkpoint if there is one.

As a script: `tiny_run.py FOLDER STEPS`; it prints the number of each finished step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tempra.checkpoint import load_checkpoint
from tempra.train.callbacks import Callback, RunView
from tempra.train.evaluation import Evaluation, evaluate
from tempra.train.metrics import read_metrics
from tempra.train.report import TrainingResult
from tempra.train.run_folder import RunFolder
from tempra.train.shutdown import ShutdownSignals
from tempra.train.trainer import Trainer
from tempra.train.trainer_settings import TrainerSettings
from tiny_model import TinySource, make_state


class PrintSteps(Callback):
    """Prints the number of each finished step."""

    def on_batch_end(self, run: RunView) -> None:
        print(run.state.step, flush=True)


def train_tiny(
    folder: Path,
    steps: int,
    *,
    from_checkpoint: Path | None = None,
    callbacks: Sequence[Callback] = (),
    signals: ShutdownSignals | None = None,
    **changes: Any,
) -> TrainingResult:
    """Start or continue the run in `folder`; the schedule and the data never depend on `steps`."""
    state, source = make_state(seed=3), TinySource(seed=4, batches_per_epoch=7)
    checkpoint = None
    if from_checkpoint is not None or any(folder.glob("checkpoints/step-*")):
        checkpoint = load_checkpoint(from_checkpoint or folder)
        state.callbacks = tuple(callbacks)
        state.restore(checkpoint)

    def validate(interrupted: Callable[[], bool]) -> Evaluation | None:
        batches = (source.batch(1_000_000 + index) for index in range(2))
        return evaluate(state.objective, batches, interrupted=interrupted)

    settings = TrainerSettings(
        steps=steps,
        learning_rate=lambda step: 0.05 / (1 + step / 50),
        **{
            "batches_per_step": 2,
            "log_interval": 3,
            "evaluation_interval": 5,
            "checkpoint_interval": 4,
            **changes,
        },
    )
    with RunFolder(folder, resume_from=checkpoint, keep_last=3) as run:
        return Trainer(
            state,
            source,
            settings,
            evaluator=validate,
            run_folder=run,
            callbacks=callbacks,
            signals=signals,
        ).fit()


def trace(folder: Path) -> list[tuple[Any, ...]]:
    """The numbers of each record that training decides, exactly."""
    return [
        (record["kind"], record["step"], record["loss"].hex(), record["tokens"])
        for record in read_metrics(folder / "metrics.jsonl")
    ]


if __name__ == "__main__":
    with ShutdownSignals() as stop:
        print("ready", flush=True)
        outcome = train_tiny(
            Path(sys.argv[1]), int(sys.argv[2]), callbacks=[PrintSteps()], signals=stop
        )
    print(outcome.report.status, flush=True)
    sys.exit(3 if outcome.report.status == "interrupted" else 0)
