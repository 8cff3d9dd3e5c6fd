"""One line of the table that compares bf16 errors with PyTorch's (accuracy_cases.py).

Each holds the operation as tempra spells it (`call`) and as somebody who uses PyTorch writes
it (`torch`), which in f64 is the reference too. Inputs and parameters are bf16 numbers on both
sides; `f32-parameters` lines hand them to tempra as f32 tensors, as training does.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from op_case import Input, OpCase

ROWS, WIDTH = 64, 1024
SHAPE = (ROWS, WIDTH)


def enlarged(case: OpCase, label: str, *shapes: tuple[int, ...]) -> OpCase:
    """The line of the op table with inputs of these shapes."""
    inputs = tuple(
        replace(entry, shape=shape) for entry, shape in zip(case.inputs, shapes, strict=True)
    )
    return replace(case, label=label, inputs=inputs)


def line(
    op: str,
    label: str,
    call: Callable[..., Any],
    torch: Callable[..., Any],
    inputs: tuple[Input, ...],
    constants: tuple[np.ndarray, ...] = (),
    *,
    differentiable: bool = True,
) -> OpCase:
    return OpCase(
        op,
        label,
        call,
        lambda *_: (),  # the reference is PyTorch's in f64
        inputs,
        constants=constants,
        torch=torch,
        dtypes=("bf16",),
        differentiable=differentiable,
    )


def normal(*shape: int, deviation: float = 1.0, parameter: bool = False) -> Input:
    return Input(shape, deviation=deviation, parameter=parameter)


LABELS = np.random.default_rng(8).integers(0, WIDTH, 256)
LABELS[::9] = -100


def z_loss(t: Any, logits: Any, labels: Any) -> Any:
    squares = t.logsumexp(logits, -1)[labels >= 0] ** 2
    return t.nn.functional.cross_entropy(logits, labels) + 0.01 * squares.mean()


def f32_or_f64(x: Any) -> Any:
    """What `.float()` does to bf16, and nothing to the reference."""
    return x.float() if x.element_size() == 2 else x
