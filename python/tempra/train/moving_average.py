"""An exponential moving average of the weights, kept in fp32 beside them."""

from __future__ import annotations

from collections.abc import Mapping

from tempra._core import CheckpointError, Tensor, no_grad
from tempra.train.protocols import TrainableModel


class ExponentialMovingAverage:
    """average = decay * average + (1 - decay) * weights, after every update."""

    def __init__(self, model: TrainableModel, decay: float) -> None:
        if not 0.0 < decay < 1.0:
            raise ValueError(f"moving average: decay is {decay}, needs to lie between 0 and 1")
        self.decay = decay
        self._parameters = dict(model.named_parameters())
        self.averages = {
            name: parameter.detach().clone() for name, parameter in self._parameters.items()
        }

    def update(self) -> None:
        """Move the average towards the weights as they are now."""
        with no_grad():
            for name, average in self.averages.items():
                current = self._parameters[name].detach()
                average.copy_(average * self.decay + current * (1.0 - self.decay))

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the averages."""
        if set(tensors) != set(self.averages):
            raise CheckpointError("moving average: the checkpoint holds none for this model")
        with no_grad():
            for name, tensor in tensors.items():
                self.averages[name].copy_(tensor)
