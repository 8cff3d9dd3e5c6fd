"""`tempra train`: start a run, continue one, look at one, or see what one would take."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from tempra.train.report import TrainingResult
    from tempra.train.resume import Resumption

FINISHED, INTERRUPTED = 0, 3

app = App(name="train", help="Train a language model on text, or continue a run.")

Overrides = Annotated[
    str,
    Parameter(
        help="Settings as section.field=value, such as train.steps=500 or data.train=book.txt."
    ),
]
Config = Annotated[
    Path | None, Parameter(help="A .yaml or .json file of settings. Default: the quickstart.")
]


@app.command
def run(*overrides: Overrides, config: Config = None) -> int:
    """Train a new model.

    Without settings this is the quickstart: a small model learns from the Python source files that
    came with this machine's Python, in about two minutes, and then writes some code of its own.
    """
    from tempra.train.quickstart import load_run_config
    from tempra.train.resume import Resumption
    from tempra.train.run_folder import choose_run_folder

    settings = load_run_config(config, overrides)
    return _train(Resumption(choose_run_folder(settings.checkpoint.dir), settings, None))


@app.command
def resume(
    *overrides: Overrides,
    checkpoint: Annotated[
        Path, Parameter(help="Folder of the run, or of one of its checkpoints (step-...).")
    ],
) -> int:
    """Continue a run that was stopped, killed or is to be longer.

    Everything comes from the checkpoint. train.steps=N makes the run longer; settings that decide
    the numbers cannot change.
    """
    from tempra.train.resume import prepare_resume

    resumption = prepare_resume(checkpoint, overrides)
    at = resumption.checkpoint
    if at is not None and at.step >= resumption.config.total_steps:
        *_, last = resumption.config.stage_runs()
        stage = "" if last.name is None else f"stages.{last.name}."
        print(
            f"{checkpoint} is finished at step {at.step}; to train on, say how far: "
            f"tempra train resume --checkpoint {checkpoint} "
            f"{stage}train.steps={2 * last.config.steps}"
        )
        return FINISHED
    return _train(resumption)


@app.command
def plan(*overrides: Overrides, config: Config = None) -> int:
    """Show parameters, arithmetic and memory of a run without running it.

    The text is tokenized first where the size of the vocabulary, or train.epochs, depends on it.
    """
    from tempra.train.language_model import model_config, with_known_steps
    from tempra.train.plan import describe_cuda, describe_machine_use, describe_plan
    from tempra.train.quickstart import load_run_config
    from tempra.train.run_text import open_run_text, vocabulary_size

    settings = load_run_config(config, overrides)
    if settings.has_epochs:
        settings = with_known_steps(settings, open_run_text(settings))
    model = model_config(settings.stage_runs()[0].config, vocabulary_size(settings))
    use, sizes = describe_machine_use(settings), describe_plan(settings, model)
    for line in (*use, *describe_cuda(), *sizes):
        print(line)
    return FINISHED


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
    return FINISHED


def _train(resumption: Resumption) -> int:
    from tempra import _core
    from tempra.cli.option_names import options_named
    from tempra.cli.preparation_progress import PreparationProgress
    from tempra.train.console import ConsoleProgress, describe_folder
    from tempra.train.language_model import continue_run
    from tempra.train.run_text import open_run_text
    from tempra.train.shutdown import ShutdownSignals

    # Before text is prepared, which may take long.
    _core.check_device(resumption.config.train.device)
    console = ConsoleProgress(sys.stdout)
    folder = describe_folder(resumption.folder)
    again = f"tempra train resume --checkpoint {folder}"

    def stop_at_once() -> None:
        # Past Python's buffers, whose locks the main thread may hold.
        os.write(2, f"stopped at once; continue with: {again}\n".encode())
        os._exit(INTERRUPTED)

    # What reads examples calls its argument so.
    names = {"skip_bad_lines": "data.skip_bad_lines"}
    with options_named(names), PreparationProgress() as progress:
        open_run_text(resumption.config, checkpoint=resumption.checkpoint, progress=progress)
    signals = ShutdownSignals(
        on_first=lambda: console.line("finishing the step and saving; once more stops at once"),
        on_second=stop_at_once,
    )
    console.line(f"run         {folder}")
    with signals:
        result = continue_run(
            resumption, callbacks=[console], signals=signals, announce=console.line
        )
    _conclude(result, folder, again)
    return INTERRUPTED if result.report.status == "interrupted" else FINISHED


def _conclude(result: TrainingResult, folder: str, again: str) -> None:
    report = result.report
    if report.status == "interrupted":
        print(
            f"interrupted by {report.reason} at step {report.step}, saved; continue with: {again}"
        )
        return
    losses = "" if report.loss is None else f", loss {report.loss:.4f}"
    if report.best_loss is not None:
        losses += f", best validation loss {report.best_loss:.4f} at step {report.best_step}"
    print(f"{report.status}: {report.reason}{losses}, {report.seconds:.0f} s; saved in {folder}")
    if result.sample is not None:
        print(f"--- the model writes:\n{result.sample}\n---")
