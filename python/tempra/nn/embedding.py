"""Tables of vectors."""

from __future__ import annotations

from tempra import _core
from tempra._core import DType, Tensor
from tempra.nn.module import Module, Parameter


class Embedding(Module):
    """Rows of weight [entries, width] by index: [...] integers -> [..., width]."""

    def __init__(self, entries: int, width: int) -> None:
        self.weight = Parameter(_core.zeros((entries, width)))

    def forward(self, indices: Tensor, dtype: DType = DType.f32) -> Tensor:
        """Look up rows, in the dtype to compute in (f32 or bf16)."""
        return _core.embedding(self.weight, indices, dtype=dtype)
