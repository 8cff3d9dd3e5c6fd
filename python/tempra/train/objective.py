"""What a run minimises. An objective gives a loss, or makes its own step out of several updates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tempra._core import Tensor
from tempra.train.protocols import DeferringLanguageModel, LanguageModel, TrainableModel

if TYPE_CHECKING:
    from tempra.data import Batch


@dataclass(frozen=True)
class Loss:
    """A loss as a sum and the number of terms in it, so that sums of batches can be averaged right.

    `total` is a scalar tensor that has not been waited for; `terms` counts valid tokens (or rows).
    """

    total: Tensor
    terms: int


# update(name, loss): backward, unscale, clip, step, schedule and EMA of the optimizer of that name.
Update = Callable[[str, Loss], None]


@runtime_checkable
class Objective(Protocol):
    """The loss of one batch, for a run with one optimizer."""

    @property
    def model(self) -> TrainableModel:
        """Return the model whose weights the run saves."""
        ...

    def loss(self, batch: Batch) -> Loss:
        """Return the loss summed over the batch."""
        ...


@runtime_checkable
class PhasedObjective(Protocol):
    """A step of several phases: a GAN's players, PPO's rollout and epochs, a recursive carry."""

    @property
    def model(self) -> TrainableModel:
        """Return the model whose weights the run saves."""
        ...

    def step(self, batch: Batch, update: Update) -> Loss:
        """Run all phases of one batch through `update` and return the loss to report."""
        ...


class AutoregressiveObjective:
    """Cross-entropy of each next token, summed over the tokens that are trained."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def loss(self, batch: Batch) -> Loss:
        """Return the summed loss of a batch and its number of valid tokens."""
        return Loss(self.model.loss(batch), int(batch.valid_tokens))


class DeferredAutoregressiveObjective:
    """The same, with a loss that has its value only once `backward()` has run: less memory."""

    def __init__(self, model: DeferringLanguageModel) -> None:
        self.model = model

    def loss(self, batch: Batch) -> Loss:
        """Return the summed loss of a batch and its number of valid tokens."""
        terms = int(batch.valid_tokens)
        # Without a token to learn there is no backward pass.
        return Loss(self.model.loss(batch, deferred=terms > 0), terms)
