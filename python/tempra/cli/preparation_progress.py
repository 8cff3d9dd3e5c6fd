"""Progress of text preparation: a bar on a terminal, a line per phase elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class PreparationProgress:
    """Shows the phases of `tempra.data.prepare.prepare`; pass the object as its `progress`.

    Writes to stderr, so that a command's own output stays clean.
    """

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._phase = ""

    def __enter__(self) -> PreparationProgress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

            self._bar = Progress(
                "{task.description}",
                BarColumn(),
                DownloadColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Hear that `done` of `total` bytes of the text have passed through `phase`."""
        begins = phase != self._phase
        self._phase = phase
        if self._bar is None:
            if begins:
                print(f"{phase}: {total / 1e6:.1f} MB of text", file=sys.stderr, flush=True)
            return
        if begins or self._task is None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(phase, total=total)
        self._bar.update(self._task, completed=done, total=total)
