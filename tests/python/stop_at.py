"""A run that is asked to stop at a step of the test's choice."""

from __future__ import annotations

from tempra.train.callbacks import Callback, RunView


class StopAt(Callback):
    """Asks for a stop after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_batch_end(self, run: RunView) -> None:
        if run.state.step == self.step:
            run.request_stop("test")
