"""Text that the model writes at each validation: the quickest look at what it has learned."""

from __future__ import annotations

from collections.abc import Callable

from tempra.train.callbacks import Callback, RunView
from tempra.train.evaluation import Evaluation


class SampleText(Callback):
    """Records a sample after each validation; `write` gets the step, which seeds it."""

    def __init__(self, write: Callable[[int], str]) -> None:
        self._write = write
        self.last = ""

    def on_validation_end(self, run: RunView, evaluation: Evaluation) -> None:
        """Write and record a sample."""
        self.last = self._write(run.state.step)
        run.record({"kind": "sample", "step": run.state.step, "text": self.last})
