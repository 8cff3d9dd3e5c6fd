"""Angles of the rotary position embedding."""

from __future__ import annotations

import numpy as np

from tempra import _core
from tempra._core import Tensor
from tempra.nn.module import Module


class RotaryTables(Module):
    """cos and sin of position * theta^(-2i / head_dim), [positions, head_dim / 2] each, f32.

    Pairs are (i, i + head_dim / 2), as in the published LLaMA weights (Su et al. 2021).
    """

    def __init__(self, head_dim: int, positions: int, theta: float = 10000.0) -> None:
        exponents = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
        angles = np.outer(np.arange(positions, dtype=np.float64), theta**-exponents)
        self.cosines = _core.from_numpy(np.cos(angles).astype(np.float32))
        self.sines = _core.from_numpy(np.sin(angles).astype(np.float32))

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Rotate x [tokens, heads, head_dim] by the angles of positions [tokens]."""
        return _core.rotary(x, positions, self.cosines, self.sines)

    def packed(self, qkv: Tensor, positions: Tensor, heads: int, kv_heads: int) -> Tensor:
        """Rotate queries and keys of [tokens, (heads + 2 kv_heads) head_dim], as they lie."""
        return _core.rotary_qkv(
            qkv,
            positions,
            self.cosines,
            self.sines,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=2 * self.cosines.shape[1],
        )
