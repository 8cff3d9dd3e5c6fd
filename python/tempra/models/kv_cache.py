"""Keys and values of the tokens a model has read, so that each new token costs one pass."""

from __future__ import annotations

from tempra import _core
from tempra._core import ShapeError, Tensor
from tempra.models.transformer_config import TransformerConfig


class LayerCache:
    """Keys and values of one layer: [capacity, kv_heads, head_dim] each, filled from the front."""

    def __init__(self, capacity: int, kv_heads: int, head_dim: int, dtype: _core.DType) -> None:
        self._keys = _core.empty((capacity, kv_heads, head_dim), dtype)
        self._values = _core.empty((capacity, kv_heads, head_dim), dtype)
        self.length = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add [tokens, kv_heads, head_dim] of each; return views of all so far."""
        count, capacity = keys.shape[0], self._keys.shape[0]
        if self.length + count > capacity:
            raise ShapeError(
                f"cache: {self.length} tokens held and {count} to add exceed the {capacity} of the "
                "context"
            )
        self._keys.narrow(0, self.length, count).copy_(keys)
        self._values.narrow(0, self.length, count).copy_(values)
        self.length += count
        return self._keys.narrow(0, 0, self.length), self._values.narrow(0, 0, self.length)


class KeyValueCache:
    """The caches of all layers for one sequence; to be used inside no_grad()."""

    def __init__(self, config: TransformerConfig, capacity: int | None = None) -> None:
        size = config.context if capacity is None else capacity
        dtype = _core.DType(config.dtype)
        self.capacity = size
        self.layers = [
            LayerCache(size, config.kv_heads, config.head_dim, dtype) for _ in range(config.layers)
        ]

    @property
    def length(self) -> int:
        """Tokens held."""
        return self.layers[0].length

    def clear(self) -> None:
        """Forget all tokens; the memory is kept."""
        for layer in self.layers:
            layer.length = 0
