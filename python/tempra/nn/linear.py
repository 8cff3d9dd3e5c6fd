"""Affine maps."""

from __future__ import annotations

from tempra import _core
from tempra._core import Tensor
from tempra.nn.module import Module, Parameter


class Linear(Module):
    """activation(x @ weight.T + bias) + residual: [..., inputs] -> [..., outputs].

    weight [outputs, inputs], bias [outputs] or None; zeros until initialised.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        self.weight = Parameter(_core.zeros((outputs, inputs)))
        self.bias = Parameter(_core.zeros((outputs,))) if bias else None

    def forward(
        self, x: Tensor, *, activation: str = "none", residual: Tensor | None = None
    ) -> Tensor:
        """Map x; `residual` is added after the activation."""
        return _core.linear(x, self.weight, self.bias, activation=activation, residual=residual)


class LinearGroup(Module):
    """Several maps of one input, side by side: [..., inputs] -> [..., sum of outputs].

    Each map has parameters of its own, `<name>_weight` and `<name>_bias`. All weights are defined
    before all biases, so that each kind lies side by side in an arena and one product serves all.
    """

    def __init__(self, inputs: int, outputs: dict[str, int], *, bias: bool = True) -> None:
        self._names = list(outputs)
        self._has_bias = bias
        for name, size in outputs.items():
            setattr(self, f"{name}_weight", Parameter(_core.zeros((size, inputs))))
        if bias:
            for name, size in outputs.items():
                setattr(self, f"{name}_bias", Parameter(_core.zeros((size,))))

    @property
    def weights(self) -> list[Parameter]:
        """The matrices, in order."""
        return [getattr(self, f"{name}_weight") for name in self._names]

    @property
    def biases(self) -> list[Parameter]:
        """The biases, in order; none where the maps have none."""
        return [getattr(self, f"{name}_bias") for name in self._names] if self._has_bias else []

    def forward(self, x: Tensor) -> Tensor:
        """Map x by every member of the group."""
        return _core.linear_group(x, self.weights, self.biases)
