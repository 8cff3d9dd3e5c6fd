"""The error of a training run that cannot go on."""

from __future__ import annotations

from tempra._core import TempraError


class TrainError(TempraError):
    """A run that had to stop: names the step, the cause and what to do."""
