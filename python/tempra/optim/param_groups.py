"""Which parameters decay: matrices do, vectors (biases, norm weights) do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tempra._core import ConfigError, Tensor


def decay_groups(
    named_parameters: Sequence[tuple[str, Tensor]], weight_decay: float
) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the options of both groups and the group of each parameter."""
    groups = [{"weight_decay": weight_decay}, {"weight_decay": 0.0}]
    return groups, [_group_of(name, parameter) for name, parameter in named_parameters]


def _group_of(name: str, parameter: Tensor) -> int:
    if len(parameter.shape) >= 2:
        return 0
    if len(parameter.shape) == 1:
        return 1
    raise ConfigError(f"optimizer: parameter {name} is a scalar, and no group takes scalars")
