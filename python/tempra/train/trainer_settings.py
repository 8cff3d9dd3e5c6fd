"""The numbers of a training loop, and what it needs to validate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tempra.train.evaluation import Evaluation


@dataclass(frozen=True)
class TrainerSettings:
    """How long, how much per step, and when to do what; an interval of 0 means never.

    `learning_rate` is a function of the finished updates, in a stage of those of the stage.
    """

    steps: int
    learning_rate: Callable[[int], float]
    batches_per_step: int = 1
    max_gradient_norm: float = 1.0  # 0: gradients are not clipped
    log_interval: int = 10
    evaluation_interval: int = 0
    checkpoint_interval: int = 250
    keep_best: bool = True
    asynchronous_checkpoints: bool = False
    non_finite_limit: int = 10
    cuda_graph: bool = False  # of all stages or none: see `CapturedStep`


class Evaluator(Protocol):
    """Measures the model; returns None when `interrupted` became true on the way."""

    def __call__(self, interrupted: Callable[[], bool]) -> Evaluation | None:
        """Run one validation."""
        ...
