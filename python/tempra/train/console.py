"""Progress of a run for people: a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tempra.train.callbacks import Callback, RunView
from tempra.train.evaluation import Evaluation


class ConsoleProgress(Callback):
    """Writes to one stream; on a terminal the numbers of the last log point sit beside the bar."""

    def __init__(self, stream: TextIO, *, plain: bool | None = None) -> None:
        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._plain = not self._console.is_terminal if plain is None else plain
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._rate = 0.0
        self._written = 0.0

    def line(self, text: str) -> None:
        """Write one line, above the bar where there is one."""
        console = self._progress.console if self._progress is not None else self._console
        try:
            console.print(text, markup=False)
        except BrokenPipeError:
            raise
        except OSError:
            # As with a log on a full disk: the run goes on, metrics.jsonl has the numbers.
            pass

    def on_train_begin(self, run: RunView) -> None:
        """Start the bar."""
        if self._plain:
            return
        self._progress = Progress(
            TextColumn("{task.fields[stage]}step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=30),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=self._console,
            refresh_per_second=5,
        )
        self._task = self._progress.add_task(
            "", total=run.steps, completed=run.state.step, stage=_stage_of(run)
        )
        self._progress.start()

    def on_stage_begin(self, run: RunView) -> None:
        """Name the stage, in runs that have any."""
        if run.stage is not None:
            self.line(f"stage {run.stage} from step {run.state.step + 1}")
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, stage=_stage_of(run))

    def on_batch_end(self, run: RunView) -> None:
        """Move the bar."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=run.state.step)

    def on_log(self, run: RunView, records: Sequence[Mapping[str, Any]]) -> None:
        """Show the last step's numbers."""
        record = records[-1]
        # The sample of the last step is the run's result, shown when all else is done.
        if record["kind"] == "sample" and record["step"] < run.steps:
            self.line(f"--- sample at step {record['step']}\n{record['text']}\n---")
        if record["kind"] != "step":
            return
        text = describe_step(record)
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=text)
        elif self._is_time(record["step"], run.steps):
            read = record.get("source_epochs", {})
            text += "".join(f"  {name} {epochs:.2f} epochs" for name, epochs in read.items())
            self.line(f"{_stage_of(run)}step {record['step']}/{run.steps}  {text}")

    def on_validation_end(self, run: RunView, evaluation: Evaluation) -> None:
        """Write the validation loss, and whether it is the best so far."""
        best = run.state.best
        mark = " (best so far)" if best.step == run.state.step else f" (best {best.loss:.4f})"
        parts = "".join(f", {name} {part.loss:.4f}" for name, part in evaluation.by_source.items())
        self.line(
            f"{_stage_of(run)}step {run.state.step}/{run.steps}  validation loss "
            f"{evaluation.loss:.4f}, perplexity {evaluation.perplexity:.4g}{mark}{parts}"
        )

    def on_train_end(self, run: RunView) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _is_time(self, step: int, steps: int) -> bool:
        # A log file of a long run needs no line every few milliseconds.
        now = time.monotonic()
        if now - self._written < 1.0 and step < steps:
            return False
        self._written = now
        return True


def _stage_of(run: RunView) -> str:
    return "" if run.stage is None else f"{run.stage}  "


def describe_step(record: Mapping[str, Any]) -> str:
    """Return the numbers of a step in words."""
    loss = record["loss"]
    parts = ["no trained tokens" if loss is None else f"loss {loss:.4f}"]
    parts.append(f"lr {record['learning_rate']:.3g}")
    if "gradient_norm" in record:
        parts.append(f"norm {record['gradient_norm']:.3g}")
    if "tokens_per_second" in record:
        parts.append(f"{record['tokens_per_second']:,.0f} tokens/s")
    if record.get("skipped"):
        parts.append(f"{record['skipped']} skipped")
    return "  ".join(parts)


def describe_folder(folder: Path) -> str:
    """Return a path as people type it: relative where that is shorter."""
    try:
        return str(folder.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(folder)
