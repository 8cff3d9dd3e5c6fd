"""Normalisation of the last dimension."""

from __future__ import annotations

from tempra import _core
from tempra._core import Tensor
from tempra.nn.module import Module, Parameter


class LayerNorm(Module):
    """(x - mean) / sqrt(variance + epsilon) * weight + bias (Ba et al. 2016)."""

    def __init__(self, width: int, *, epsilon: float = 1e-5, bias: bool = True) -> None:
        self.epsilon = epsilon
        self.weight = Parameter(_core.ones((width,)))
        self.bias = Parameter(_core.zeros((width,))) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [..., width]."""
        return _core.layer_norm(x, self.weight, self.bias, epsilon=self.epsilon)


class RmsNorm(Module):
    """x / sqrt(mean(x^2) + epsilon) * weight (Zhang and Sennrich 2019)."""

    def __init__(self, width: int, *, epsilon: float = 1e-6) -> None:
        self.epsilon = epsilon
        self.weight = Parameter(_core.ones((width,)))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [..., width]."""
        return _core.rms_norm(x, self.weight, epsilon=self.epsilon)
