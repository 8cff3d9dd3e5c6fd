"""The order in which samples are read: a keyed bijection of (seed, epoch), with no index array."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tempra import _core

_MASK = (1 << 64) - 1


class SampleOrder:
    """The permutation of `count` samples in one epoch.

    ConfigError unless `count` is 1 to 2**62, ShapeError for an index that is not 0 to count - 1.
    """

    def __init__(self, count: int, seed: int, epoch: int) -> None:
        self.count = count
        self._key = (count, seed & _MASK, epoch & _MASK)
        self([])  # raises for a count that cannot be

    def __call__(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Return the samples at these positions of the epoch."""
        return self._map(indices, inverse=False)

    def inverse(self, samples: ArrayLike) -> NDArray[np.int64]:
        """Return the positions at which these samples are read."""
        return self._map(samples, inverse=True)

    def _map(self, indices: ArrayLike, *, inverse: bool) -> NDArray[np.int64]:
        given = np.asarray(indices, dtype=np.int64)
        result = _core.sample_order(given.ravel(), *self._key, inverse)
        return np.asarray(result, dtype=np.int64).reshape(given.shape)
