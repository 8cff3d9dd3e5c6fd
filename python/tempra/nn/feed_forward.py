"""The part of a transformer block that works on each token alone."""

from __future__ import annotations

from tempra import _core
from tempra._core import Tensor
from tempra.nn.linear import Linear, LinearGroup
from tempra.nn.module import Module


class GeluFeedForward(Module):
    """down(gelu_tanh(up(x))), as in GPT-2."""

    def __init__(self, width: int, hidden: int, *, bias: bool = True) -> None:
        self.up = Linear(width, hidden, bias=bias)
        self.down = Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor, *, residual: Tensor | None = None) -> Tensor:
        """Transform x [..., width]; `residual` is added to the result."""
        return self.down(self.up(x, activation="gelu_tanh"), residual=residual)


class SwigluFeedForward(Module):
    """down(silu(gate(x)) * up(x)) (Shazeer 2020), as in LLaMA."""

    def __init__(self, width: int, hidden: int) -> None:
        self.gate_up = LinearGroup(width, {"gate": hidden, "up": hidden}, bias=False)
        self.down = Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, *, residual: Tensor | None = None) -> Tensor:
        """Transform x [..., width]; `residual` is added to the result."""
        return self.down(_core.swiglu_packed(self.gate_up(x)), residual=residual)
