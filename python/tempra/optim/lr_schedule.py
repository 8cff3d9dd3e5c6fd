"""Learning-rate schedules as pure functions of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class LearningRateSchedule(str, Enum):
    """How the learning rate moves after the warm-up."""

    COSINE = "cosine"
    LINEAR = "linear"
    CONSTANT = "constant"


@dataclass(frozen=True)
class LearningRate:
    """A schedule with every number filled in; call it with the number of finished updates.

    Warm-up: step s of the first `warmup_steps` runs at peak * (s + 1) / (warmup_steps + 1), so the
    first update
    already moves and the first step after the warm-up runs at the peak. From there the rate falls
    to `minimum`,
    which it reaches at `decay_steps` (counted from step 0) and keeps from then on. `constant` stays
    at the peak.
    """

    peak: float
    minimum: float
    warmup_steps: int
    decay_steps: int
    kind: LearningRateSchedule = LearningRateSchedule.COSINE

    def __call__(self, step: int) -> float:
        """Return the learning rate of the update that follows `step` finished ones."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / (self.warmup_steps + 1)
        if self.kind is LearningRateSchedule.CONSTANT:
            return self.peak
        if step >= self.decay_steps:
            return self.minimum
        progress = (step - self.warmup_steps) / (self.decay_steps - self.warmup_steps)
        if self.kind is LearningRateSchedule.LINEAR:
            fallen = progress
        else:
            fallen = 0.5 * (1.0 - math.cos(math.pi * progress))
        return self.peak - fallen * (self.peak - self.minimum)
