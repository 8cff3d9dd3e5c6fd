"""The sample order stated once more in NumPy, as an oracle for the native one.

`cpp/include/tempra/data/sample_order.h` says how the map is made.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROUNDS = 6
# Fewer bits than this leave a Feistel network too few distinct round functions to mix well.
_SMALLEST_HALF = 2
_MASK = (1 << 64) - 1


def mix(value: int) -> int:
    """One step of SplitMix64's output function: spreads every input bit over 64 output bits."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def mix_array(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`mix` of every element."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return result


class ReferenceSampleOrder:
    """The permutation of `count` samples in one epoch."""

    def __init__(self, count: int, seed: int, epoch: int) -> None:
        self.count = count
        half = max(_SMALLEST_HALF, ((count - 1).bit_length() + 1) // 2)
        self._half = np.uint64(half)
        self._half_mask = np.uint64((1 << half) - 1)
        self._output_shift = np.uint64(64 - half)
        key = mix(mix(seed & _MASK) ^ mix(epoch & _MASK ^ 0x5DEECE66D))
        self._keys = [np.uint64(mix(key ^ round_number)) for round_number in range(_ROUNDS)]

    def __call__(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Return the samples at these positions of the epoch."""
        given = np.asarray(indices, dtype=np.int64)
        values = self._encrypt(given.astype(np.uint64).ravel())
        outside = np.flatnonzero(values >= self.count)
        while outside.size:
            values[outside] = self._encrypt(values[outside])
            outside = outside[values[outside] >= self.count]
        return values.astype(np.int64).reshape(given.shape)

    def _round(self, half: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
        mixed: NDArray[np.uint64] = mix_array(half ^ key) >> self._output_shift
        return mixed

    def _encrypt(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values >> self._half, values & self._half_mask
        for key in self._keys:
            left, right = right, left ^ self._round(right, key)
        joined: NDArray[np.uint64] = (left << self._half) | right
        return joined
