"""The order in which samples are read: a keyed bijection of (seed, epoch), without an index array.

A balanced Feistel network permutes the smallest even number of bits that holds `count`; results at
or above `count` are sent through again until they fall below it (cycle walking), which keeps the
map a bijection of 0 .. count-1. Every result is a function of (seed, epoch, index) alone, so any
number of workers agree on it and any position can be asked for directly. The arithmetic is part of
the checkpoint format: changing it changes what a resumed run reads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Step = Callable[[NDArray[np.uint64]], NDArray[np.uint64]]

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


class SampleOrder:
    """The permutation of `count` samples in one epoch."""

    def __init__(self, count: int, seed: int, epoch: int) -> None:
        if not 0 < count <= 1 << 62:
            raise ValueError(f"sample order: got {count} samples, needs 1 to 2**62")
        self.count = count
        half = max(_SMALLEST_HALF, ((count - 1).bit_length() + 1) // 2)
        self._half = np.uint64(half)
        self._half_mask = np.uint64((1 << half) - 1)
        self._output_shift = np.uint64(64 - half)
        key = mix(mix(seed & _MASK) ^ mix(epoch & _MASK ^ 0x5DEECE66D))
        self._keys = [np.uint64(mix(key ^ round_number)) for round_number in range(_ROUNDS)]

    def __call__(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Return the samples at these positions of the epoch."""
        return self._walk(indices, self._encrypt)

    def inverse(self, samples: ArrayLike) -> NDArray[np.int64]:
        """Return the positions at which these samples are read."""
        return self._walk(samples, self._decrypt)

    def _walk(self, indices: ArrayLike, step: _Step) -> NDArray[np.int64]:
        given = np.asarray(indices, dtype=np.int64)
        if given.size and (int(given.min()) < 0 or int(given.max()) >= self.count):
            raise ValueError(
                f"sample order: indices {int(given.min())} to {int(given.max())} are not all "
                f"within 0 to {self.count - 1}"
            )
        values = step(given.astype(np.uint64).ravel())
        outside = np.flatnonzero(values >= self.count)
        while outside.size:
            values[outside] = step(values[outside])
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

    def _decrypt(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values >> self._half, values & self._half_mask
        for key in reversed(self._keys):
            left, right = right ^ self._round(left, key), left
        joined: NDArray[np.uint64] = (left << self._half) | right
        return joined
