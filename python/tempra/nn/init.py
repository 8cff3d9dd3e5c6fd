"""Starting values of parameters."""

from __future__ import annotations

from tempra import _core
from tempra._core import Tensor, no_grad


def normal_(parameter: Tensor, standard_deviation: float, generator: _core.Generator) -> None:
    """Fill with numbers of mean 0; each call takes one operation of the generator."""
    with no_grad():
        _core.normal_(parameter, 0.0, standard_deviation, generator=generator)


def constant_(parameter: Tensor, value: float) -> None:
    """Fill with one value."""
    with no_grad():
        parameter.fill_(value)
