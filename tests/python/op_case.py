"""What one line of the op table says, and how the suites run it.

A case names an operation, draws its inputs in f64 from a seed made of its own name, and holds the
same computation three times: by tempra, by NumPy in f64 and, where there is one, by PyTorch.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tempra
from tempra import Tensor


@dataclass(frozen=True)
class Input:
    """A floating-point input: its shape and where its values lie."""

    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 2.0
    distinct: bool = False  # no two values close to each other: extremes and orders have no ties
    away_from: tuple[float, ...] = ()  # kinks: no value within 0.05 of these
    parameter: bool = False  # stays f32 where the case runs in bf16
    deviation: float | None = None  # normally distributed around 0 instead of uniform
    layouts: bool = True  # may be given with other strides

    def draw(self, random: np.random.Generator) -> np.ndarray:
        count = int(np.prod(self.shape))
        if self.deviation is not None:
            values = self.deviation * random.standard_normal(count)
        elif self.distinct:
            values = random.permutation(np.linspace(self.low, self.high, count))
        else:
            values = random.uniform(self.low, self.high, count)
        for kink in self.away_from:
            near = np.abs(values - kink) < 0.05
            values[near] = kink + np.where(values[near] < kink, -0.05, 0.05)
        return values.reshape(self.shape)


@dataclass(frozen=True)
class OpCase:
    """One operation with inputs; `call`, `reference` and `torch` take inputs, then constants."""

    op: str
    label: str
    call: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: tuple[Input, ...]
    constants: tuple[np.ndarray, ...] = ()  # integer and bool arguments, given as tensors
    torch: Callable[..., Any] | None = None
    differentiable: bool = True
    fused: bool = False  # second derivatives only inside tempra.composed()
    exact: bool = False  # the result is the f64 result rounded once
    terms: int = 1  # how many rounded terms add up in an element: the tolerance follows
    gradient_terms: int | None = None  # the same for gradients
    dtypes: tuple[str, ...] = ("f32", "bf16", "f64")
    large: bool = False  # enough work for several threads; gradients by random projection
    slack: float = 1.0  # times the table's tolerance; other than 1 only with a reason
    slack_reason: str = ""

    def __post_init__(self) -> None:
        assert self.slack == 1.0 or self.slack_reason, f"{self.id}: slack without a reason"

    @property
    def id(self) -> str:
        return f"{self.op}-{self.label}"

    def arrays(self, draw: int = 0) -> list[np.ndarray]:
        """The inputs in f64; other numbers for each draw."""
        random = np.random.default_rng(zlib.crc32(self.id.encode()) + draw)
        return [entry.draw(random) for entry in self.inputs]

    def dtype_of(self, index: int, dtype: str) -> str:
        return "f32" if dtype == "bf16" and self.inputs[index].parameter else dtype

    def tensors(
        self, arrays: list[np.ndarray], dtype: str, *, requires_grad: bool = False
    ) -> list[Tensor]:
        """The inputs as leaves of the case's dtypes."""
        made = [tempra.tensor(a, self.dtype_of(i, dtype)) for i, a in enumerate(arrays)]
        if requires_grad and self.differentiable:
            for tensor in made:
                tensor.requires_grad_(True)
        return made

    def rounded(self, arrays: list[np.ndarray], dtype: str) -> list[np.ndarray]:
        """The inputs as the dtype holds them, again in f64."""
        return [to_array(tensor) for tensor in self.tensors(arrays, dtype)]

    def constant_tensors(self) -> list[Tensor]:
        return [tempra.tensor(constant) for constant in self.constants]

    def run(self, tensors: list[Tensor], constants: list[Tensor] | None = None) -> list[Tensor]:
        """All results of the operation."""
        constants = self.constant_tensors() if constants is None else constants
        return as_list(self.call(*tensors, *constants))

    def expected(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        return [np.asarray(value) for value in as_list(self.reference(*arrays, *self.constants))]

    def differentiable_outputs(self, tensors: list[Tensor]) -> list[Tensor]:
        return [output for output in self.run(tensors) if output.requires_grad]


def as_list(results: Any) -> list[Any]:
    return list(results) if isinstance(results, (tuple, list)) else [results]


FLOATS = ("f16", "bf16", "f32", "f64")


def is_float(tensor: Tensor) -> bool:
    return tensor.dtype.name in FLOATS


def to_array(tensor: Tensor) -> np.ndarray:
    """Values as f64, or as they are for integers and bools; a copy."""
    tensor = tensor.detach()
    return np.array((tensor.to("f64") if is_float(tensor) else tensor).numpy())


@dataclass(frozen=True)
class ErrorCase:
    """A call that must raise `error` with a message that holds every one of `words`."""

    op: str
    label: str
    call: Callable[[], Any]
    error: type[Exception]
    words: tuple[str, ...] = field(default=())

    @property
    def id(self) -> str:
        return f"{self.op}-{self.label}"
