"""Keys and values of the tokens a model has read, so that each new token costs one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tempra import _core
from tempra._core import Tensor

if TYPE_CHECKING:
    from tempra.models.transformer import Transformer


class KeyValueCache:
    """One sequence that a model reads, with the keys and values of all its blocks.

    Made for the parameters the model has now: they are shared, so that training them shows, but a
    model whose matrices are moved afterwards (`place_matrices`) needs a new cache. What it reads is
    not recorded for autograd, and there is no dropout.
    """

    def __init__(self, model: Transformer, capacity: int | None = None) -> None:
        size = model.config.context if capacity is None else capacity
        blocks, ends = model.decoder_blocks(), model.decoder_ends()
        self._decoder = _core.Decoder(blocks, size, model.dtype, ends)

    def run(self, x: Tensor) -> Tensor:
        """Run all blocks over further tokens [tokens, width], which the cache then holds.

        Raises ShapeError when there is no room for them.
        """
        return self._decoder.run(x)

    def next_logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Read further tokens; return the logits [vocabulary] after the last, in f32.

        Raises ShapeError when there is no room for them or one is outside the vocabulary.
        """
        logits: NDArray[np.float32] = self._decoder.next_logits(tokens).cpu().numpy()
        return logits

    @property
    def capacity(self) -> int:
        """Tokens there is room for."""
        return self._decoder.capacity

    @property
    def length(self) -> int:
        """Tokens held."""
        return self._decoder.length

    def clear(self) -> None:
        """Forget all tokens; the memory is kept."""
        self._decoder.clear()
