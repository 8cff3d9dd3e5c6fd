"""The same values however the inputs lie in memory, and gradients that reach them there.

Empty inputs, single rows and odd tails are lines of the table itself.
"""

from collections.abc import Callable

import numpy as np
import pytest

import tempra
from op_case import OpCase, to_array
from op_cases import CASES, with_dtypes
from tempra import Tensor
from tolerances import assert_close, gradient_tolerance, value_tolerance


def transposed(tensor: Tensor) -> Tensor:
    """The last two dimensions stored the other way round."""
    if tensor.ndim < 2:
        return tensor
    return tensor.transpose(-1, -2).contiguous().detach().transpose(-1, -2)


def every_second(tensor: Tensor) -> Tensor:
    """Elements with gaps of NaN between them, from the middle of a larger buffer."""
    if tensor.ndim < 1:
        return tensor
    *leading, last = tensor.shape
    buffer = tempra.full((*leading, 2 * last + 3), float("nan"), tensor.dtype)
    view = buffer[..., 1 : 2 * last + 1 : 2]
    view.copy_(tensor)
    return view


def padded_rows(tensor: Tensor) -> Tensor:
    """Unit column stride, rows further apart than they are long."""
    if tensor.ndim < 2:
        return tensor
    *leading, last = tensor.shape
    buffer = tempra.full((*leading, last + 3), float("nan"), tensor.dtype)
    view = buffer[..., 2 : last + 2]
    view.copy_(tensor)
    return view


def broadcast(tensor: Tensor) -> Tensor:
    """Every row the first one, by a stride of zero."""
    if tensor.ndim < 2 or tensor.shape[0] == 0:
        return tensor
    return tensor[0:1].expand(*tensor.shape)


LAYOUTS: list[Callable[[Tensor], Tensor]] = [transposed, every_second, padded_rows, broadcast]
SMALL = [case for case in CASES if case.inputs and not case.large]
RUNS = [
    (layout, case, dtype)
    for layout in LAYOUTS
    for case, dtype in with_dtypes(SMALL, ("f32", "bf16", "f64"))
    if any(len(entry.shape) >= (1 if layout is every_second else 2) for entry in case.inputs)
]


def run(
    case: OpCase, tensors: list[Tensor], constants: list[Tensor] | None = None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Values, and gradients of their sum with respect to leaves of the given strides."""
    leaves = [tensor.requires_grad_(case.differentiable) for tensor in tensors]
    outputs = case.run(leaves, constants)
    values = [to_array(output) * 1.0 for output in outputs]
    followed = [output for output in outputs if output.requires_grad]
    if not followed:
        return values, []
    random = np.random.default_rng(6)
    seeds = [tempra.tensor(random.integers(-4, 5, o.shape) * 1.0).to(o.dtype) for o in followed]
    strided = [every_second(seed) for seed in seeds]
    return values, [to_array(g) for g in tempra.grad(followed, leaves, strided)]


@pytest.mark.parametrize(
    ("layout", "case", "dtype"),
    RUNS,
    ids=[f"{layout.__name__}-{case.id}-{dtype}" for layout, case, dtype in RUNS],
)
def test_layout(layout: Callable[[Tensor], Tensor], case: OpCase, dtype: str) -> None:
    laid_out = [layout(tensor).detach() for tensor in case.tensors(case.arrays(), dtype)]
    plain = [tempra.tensor(tensor) for tensor in laid_out]
    assert all(tensor.is_contiguous for tensor in plain)
    values, gradients = run(case, laid_out)
    expected_values, expected_gradients = run(case, plain)
    for value, expected in zip(values, expected_values, strict=True):
        tolerance = 2 * value_tolerance(dtype, case.terms) * case.slack
        assert_close(value, expected, tolerance, "value")
    for i, (gradient, expected) in enumerate(zip(gradients, expected_gradients, strict=True)):
        tolerance = 2 * gradient_tolerance(dtype, case.gradient_terms or case.terms) * case.slack
        assert_close(gradient, expected, tolerance, f"gradient {i}")


WITH_CONSTANTS = [case for case in SMALL if any(c.ndim and c.dtype != bool for c in case.constants)]


@pytest.mark.parametrize("case", WITH_CONSTANTS, ids=[case.id for case in WITH_CONSTANTS])
def test_strided_indices(case: OpCase) -> None:
    """Labels, positions, offsets and indices with gaps of large numbers between them."""

    def spread(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or tensor.dtype == tempra.bool_:
            return tensor
        buffer = tempra.full((*tensor.shape[:-1], 2 * tensor.shape[-1]), 1 << 20, tensor.dtype)
        view = buffer[..., ::2]
        view.copy_(tensor)
        return view

    arrays = case.arrays()
    plain = case.constant_tensors()
    values, gradients = run(case, case.tensors(arrays, "f32"), [spread(c) for c in plain])
    expected_values, expected_gradients = run(case, case.tensors(arrays, "f32"), plain)
    for result, expected in zip(
        [*values, *gradients], [*expected_values, *expected_gradients], strict=True
    ):
        np.testing.assert_array_equal(result, expected)


def test_layouts_are_what_they_say() -> None:
    tensor = tempra.arange(12, dtype="f32").reshape(3, 4)
    for layout in (transposed, every_second, padded_rows):
        assert not layout(tensor).is_contiguous
        np.testing.assert_array_equal(layout(tensor).numpy(), tensor.numpy())
    assert broadcast(tensor).strides[0] == 0
