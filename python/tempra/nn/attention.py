"""Self-attention over packed sequences, with grouped-query heads."""

from __future__ import annotations

from collections.abc import Iterator

from tempra import _core
from tempra._core import Tensor
from tempra.nn.linear import Linear, LinearGroup
from tempra.nn.module import Module
from tempra.nn.rotary import RotaryTables


class SelfAttention(Module):
    """Causal attention of packed tokens [tokens, width] within their sequences.

    Heads have width / heads numbers; each key/value head serves heads / kv_heads query heads.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int,
        *,
        bias: bool = False,
        dropout: float = 0.0,
        rotary: RotaryTables | None = None,
    ) -> None:
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, width // heads
        self.dropout = dropout
        kv_width = kv_heads * self.head_dim
        self.qkv = LinearGroup(width, {"q": width, "k": kv_width, "v": kv_width}, bias=bias)
        self.output = Linear(width, width, bias=bias)
        # Shared by all layers, so not part of this module.
        self._rotary = (rotary,)

    @property
    def rotary(self) -> RotaryTables | None:
        """The angles that positions are rotated by, if they are."""
        return self._rotary[0]

    def tensors(self) -> Iterator[Tensor]:
        """Yield the tensors of this module and of the angles it shares with other layers."""
        yield from super().tensors()
        if self.rotary is not None:
            yield from self.rotary.tensors()

    def forward(
        self,
        x: Tensor,
        offsets: Tensor,
        positions: Tensor,
        *,
        longest: int = 0,
        even: bool = False,
        residual: Tensor | None = None,
    ) -> Tensor:
        """Attend; `residual` is added to the result.

        On a CUDA device `longest` is the longest sequence: offsets are not read back from there.
        `even`: all sequences are that long.
        """
        qkv = self.qkv(x)
        if self.rotary is not None:
            qkv = self.rotary.packed(qkv, positions, self.heads, self.kv_heads)
        mixed = _core.attention_qkv(
            qkv,
            offsets,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            dropout_probability=self.dropout if self.training else 0.0,
            longest=longest,
            even=even,
        )
        return self.output(mixed, residual=residual)
