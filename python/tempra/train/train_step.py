"""One step: micro-batches, one update per optimizer, nothing that waits for the device.

The gradients of the micro-batches' loss *sums* add up, and the optimizer divides by the number of
valid tokens in all of them: the mean over tokens, however they are spread over micro-batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tempra._core import Generator, Tensor
from tempra.train.errors import TrainError
from tempra.train.objective import Loss, Objective, PhasedObjective
from tempra.train.protocols import Optimizer

if TYPE_CHECKING:
    from tempra.data import Batch


@dataclass(frozen=True)
class StepResult:
    """What a step produced, not yet read: `loss()` is what waits."""

    learning_rate: float
    totals: Sequence[Tensor]
    terms: int
    tokens: int

    def loss(self) -> float | None:
        """Mean loss over the valid tokens of the step; None where there were none."""
        if self.terms == 0:
            return None
        return sum(float(total.item()) for total in self.totals) / self.terms


def train_step(
    objective: Objective | PhasedObjective,
    optimizers: Mapping[str, Optimizer],
    batches: Sequence[Batch],
    *,
    learning_rate: float,
    max_gradient_norm: float,
    generator: Generator,
    first_batch: int,
) -> StepResult:
    """Run one step over `batches`, whose first has the index `first_batch` in the run.

    That index numbers the randomness too: a batch computed again draws the same dropout.
    """
    losses: list[Loss] = []
    if isinstance(objective, PhasedObjective):
        update = _Update(optimizers, learning_rate, max_gradient_norm)
        for offset, batch in enumerate(batches):
            generator.set_step(first_batch + offset)
            losses.append(objective.step(batch, update))
    else:
        optimizer = only_optimizer(optimizers)
        optimizer.zero_gradients()
        scale, unit = loss_scale(optimizer, int(batches[0].tokens.size))
        for offset, batch in enumerate(batches):
            generator.set_step(first_batch + offset)
            losses.append(backward(objective, batch, scale))
        terms = sum(loss.terms for loss in losses)
        if terms > 0:  # else there is nothing to learn, and decay alone is no update
            optimizer.step(
                learning_rate=learning_rate,
                gradient_scale=unit / terms,
                max_gradient_norm=max_gradient_norm,
            )
    return StepResult(
        learning_rate=learning_rate,
        totals=[loss.total for loss in losses],
        terms=sum(loss.terms for loss in losses),
        tokens=count_tokens(batches),
    )


def count_tokens(batches: Sequence[Batch]) -> int:
    """Return how many tokens the batches have, padding left out."""
    return sum(int(batch.tokens.size) - batch.padding for batch in batches)


def loss_scale(optimizer: Optimizer, terms: int) -> tuple[Tensor | None, float]:
    """Return what a loss *sum* of that many terms is multiplied by, and what takes a part out.

    Where losses are scaled for fp16, the scale is meant for their mean: it is divided by a power of
    two near `terms`, by which the optimizer then has to multiply again. Else None and 1.
    """
    scale = optimizer.loss_scale
    if scale is None:
        return None, 1.0
    unit = float(1 << max(terms - 1, 0).bit_length())
    return scale * (1.0 / unit), unit


def backward(objective: Objective, batch: Batch, scale: Tensor | None = None) -> Loss:
    """Add the gradient of a batch's loss sum times `scale`; the tape is gone afterwards."""
    loss = objective.loss(batch)
    if loss.terms > 0:
        loss.total.backward(scale)
    return Loss(loss.total.detach(), loss.terms)


class _Update:
    """The `update` that a phased objective calls once per phase."""

    def __init__(
        self, optimizers: Mapping[str, Optimizer], learning_rate: float, max_gradient_norm: float
    ) -> None:
        self._optimizers = optimizers
        self._learning_rate = learning_rate
        self._max_gradient_norm = max_gradient_norm

    def __call__(self, name: str, loss: Loss) -> None:
        if name not in self._optimizers:
            known = ", ".join(sorted(self._optimizers))
            raise TrainError(f"objective: update of {name!r}, but the optimizers are {known}")
        if loss.terms == 0:
            return
        optimizer = self._optimizers[name]
        # Other phases may have left gradients in this optimizer's arena: they are not its own.
        optimizer.zero_gradients()
        scale, unit = loss_scale(optimizer, loss.terms)
        loss.total.backward(scale)
        optimizer.step(
            learning_rate=self._learning_rate,
            gradient_scale=unit / loss.terms,
            max_gradient_norm=self._max_gradient_norm,
        )


def only_optimizer(optimizers: Mapping[str, Optimizer]) -> Optimizer:
    """Return the one optimizer that a loss without phases needs; else TrainError."""
    if len(optimizers) != 1:
        raise TrainError(
            f"objective: a loss without phases needs one optimizer, there are {len(optimizers)}"
        )
    return next(iter(optimizers.values()))
