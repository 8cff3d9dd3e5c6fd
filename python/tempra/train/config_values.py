"""The kinds of values that configuration fields hold."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


# Files carry lists where the model has tuples, and plain words where it has enumerations.
Names = Annotated[tuple[str, ...], Field(strict=False), BeforeValidator(_one_or_many)]
Pair = Annotated[tuple[float, float], Field(strict=False)]
Count = Annotated[int, Field(ge=1, le=2**40)]
CountOrZero = Annotated[int, Field(ge=0, le=2**40)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
