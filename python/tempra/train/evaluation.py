"""Validation loss: the sum over tokens divided by their number, over some batches or all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tempra._core import Tensor, no_grad
from tempra.train.objective import Objective

if TYPE_CHECKING:
    from tempra.data import Batch


@dataclass(frozen=True)
class Evaluation:
    """Result of one validation."""

    loss: float
    tokens: int
    batches: int
    # Where several sources are measured, each by its name.
    by_source: Mapping[str, Evaluation] = field(default_factory=dict)

    @property
    def perplexity(self) -> float:
        """exp(loss), infinite where that overflows."""
        return math.exp(self.loss) if self.loss < 709.0 else math.inf


def evaluate(
    objective: Objective,
    batches: Iterable[Batch],
    *,
    interrupted: Callable[[], bool] = lambda: False,
) -> Evaluation | None:
    """Return the mean loss per valid token over `batches`; None when interrupted on the way.

    Sums are added in double precision in the order of the batches, and read at the end: a device
    is not waited for between batches.
    """
    model = objective.model
    model.train(False)
    totals: list[Tensor] = []
    terms = 0
    try:
        with no_grad():
            for batch in batches:
                if interrupted():
                    return None
                loss = objective.loss(batch)
                totals.append(loss.total)
                terms += loss.terms
    finally:
        model.train(True)
    total = 0.0
    for each in totals:
        total += float(each.item())
    return Evaluation(total / terms if terms else math.nan, terms, len(totals))
