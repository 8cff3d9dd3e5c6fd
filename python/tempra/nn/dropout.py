"""Random zeroing of values while training."""

from __future__ import annotations

from tempra import _core
from tempra._core import ConfigError, Tensor
from tempra.nn.module import Module


class Dropout(Module):
    """Zeroes values with `probability` and scales the rest up, in training mode only."""

    def __init__(self, probability: float) -> None:
        if not 0.0 <= probability < 1.0:
            raise ConfigError(f"Dropout: probability {probability} given; needs [0, 1)")
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Return x with values dropped."""
        if not self.training or self.probability == 0.0:
            return x
        return _core.dropout(x, self.probability)
