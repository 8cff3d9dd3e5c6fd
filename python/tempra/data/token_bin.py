"""Token-bin files: nothing but token ids, little-endian u32, in order."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tempra import _core
from tempra._core import FormatError


def read_token_bin_file(path: str | os.PathLike[str]) -> NDArray[np.uint32]:
    """Return the tokens of a file as a read-only array mapped from it."""
    tokens: NDArray[np.uint32] = _core.read_token_bin(os.fspath(path), "u32")
    return tokens


def write_token_bin_file(path: str | os.PathLike[str], tokens: ArrayLike) -> None:
    """Write whole numbers from 0 to 2**32 - 1 as a token-bin file, complete or not at all."""
    given: NDArray[Any] = np.asarray(tokens)
    if given.size == 0:
        given = given.astype(np.uint32)
    if given.dtype.kind not in "iu":
        raise FormatError(f"{path}: got numbers of type {given.dtype}, needs whole numbers")
    low, high = (int(given.min()), int(given.max())) if given.size else (0, 0)
    if low < 0 or high >= 2**32:
        raise FormatError(f"{path}: got tokens from {low} to {high}, needs 0 to {2**32 - 1}")
    with _core.TokenBinWriter(os.fspath(path), "u32") as writer:
        writer.append(np.ascontiguousarray(given, dtype=np.uint32).reshape(-1))
        writer.finish()
