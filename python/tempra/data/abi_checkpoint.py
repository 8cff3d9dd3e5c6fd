"""Checkpoints of the ABI program: flat arrays of weights, and Adam's moments where it kept them."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tempra import _core

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class AbiCheckpoint:
    """What an ABIC file (weights) or an ABLC file (weights and moments) holds."""

    format: str
    step: int
    timestamp: int
    weights: Floats
    epoch: int | None = None
    tokens_processed: int | None = None
    first_moments: Floats | None = None
    second_moments: Floats | None = None


def read_abi_checkpoint(path: str | os.PathLike[str]) -> AbiCheckpoint:
    """Read an ABIC or ABLC file; raises `FormatError` where it is damaged."""
    return AbiCheckpoint(**_core.read_abi_checkpoint(path))
