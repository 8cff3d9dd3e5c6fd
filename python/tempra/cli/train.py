"""`tempra train`: start a run, continue one, look at one, or see what one would take."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from tempra.train.config import LlmTrainingConfig
    from tempra.train.report import TrainingResult
    from tempra.train.resume import Resumption

INTERRUPTED = 3

app = App(name="train", help="Train a language model from text, or continue a run.")

Overrides = Annotated[
    str,
    Parameter(
        help="Settings as section.field=value, such as train.steps=500 or data.train=book.txt."
    ),
]


@app.command
def run(
    *overrides: Overrides,
    config: Annotated[
        Path | None, Parameter(help="A .yaml or .json file of settings. Default: the quickstart.")
    ] = None,
) -> int:
    """Train a new model.

    Without settings this is the quickstart: a small model learns from the Python source files that
    came with this machine's Python, in about two minutes, and then writes some code of its own.
    """
    from tempra.train.language_model import load_run_config
    from tempra.train.resume import Resumption, with_recorded_schedule
    from tempra.train.run_folder import choose_run_folder

    settings = with_recorded_schedule(load_run_config(config, overrides))
    folder = choose_run_folder(settings.checkpoint.dir)
    return _train(Resumption(folder, settings, None))


@app.command
def resume(
    *overrides: Overrides,
    checkpoint: Annotated[
        Path, Parameter(help="Folder of the run, or of one of its checkpoints (step-...).")
    ],
) -> int:
    """Continue a run that was stopped, killed or is to be extended.

    Everything comes from the checkpoint. train.steps=N extends the run; other settings that decide
    the numbers cannot change.
    """
    from tempra.train.resume import prepare_resume

    resumption = prepare_resume(checkpoint, overrides)
    at = resumption.checkpoint
    if at is not None and at.step >= resumption.config.train.steps:
        print(
            f"{checkpoint} is finished at step {at.step}; to train on, say how far: "
            f"tempra train resume --checkpoint {checkpoint} train.steps={2 * at.step}"
        )
        return 0
    return _train(resumption)


@app.command
def plan(
    *overrides: Overrides,
    config: Annotated[
        Path | None, Parameter(help="A .yaml or .json file of settings. Default: the quickstart.")
    ] = None,
) -> int:
    """Show parameters, arithmetic and memory of a run without running it."""
    from tempra.train.language_model import load_run_config
    from tempra.train.plan import describe_plan

    for line in describe_plan(load_run_config(config, overrides)):
        print(line)
    return 0


@app.command
def info(
    directory: Annotated[
        Path | None, Parameter(help="Folder of a run. Default: this machine and what it can do.")
    ] = None,
    /,
) -> int:
    """Show how far a run is and what it has saved, or what this machine offers."""
    from tempra.train.run_info import describe_machine, describe_run

    for line in describe_machine() if directory is None else describe_run(directory):
        print(line)
    return 0


def _train(resumption: Resumption) -> int:
    from tempra.train.console import ConsoleProgress, describe_folder
    from tempra.train.language_model import LanguageModelRun
    from tempra.train.shutdown import ShutdownSignals

    console = ConsoleProgress(sys.stdout)
    folder = describe_folder(resumption.folder)
    again = f"tempra train resume --checkpoint {folder}"

    def stop_at_once() -> None:
        # Written past Python's buffers: the main thread may hold their locks.
        os.write(2, f"stopped at once; continue with: {again}\n".encode())
        os._exit(INTERRUPTED)

    signals = ShutdownSignals(
        on_first=lambda: console.line(
            "finishing the step and saving; the same signal again stops at once"
        ),
        on_second=stop_at_once,
    )
    with signals:
        session = LanguageModelRun(resumption, signals=signals, callbacks=[console])
        result = session.train(announce=console.line)
    return _conclude(result, again, console, resumption.config)


def _conclude(
    result: TrainingResult, again: str, console: object, config: LlmTrainingConfig
) -> int:
    report = result.report
    if report.status == "interrupted":
        print(
            f"interrupted by {report.reason} at step {report.step}; saved. Continue with: {again}"
        )
        return INTERRUPTED
    return 0
