"""Values of every operation against NumPy f64 and, where there is a counterpart, PyTorch."""

import numpy as np
import pytest

import tempra
from op_case import OpCase, as_list, is_float, to_array
from op_cases import CASES, identifiers, with_dtypes
from tempra import Tensor, ops
from tolerances import ROUNDOFF, assert_close, normalised_error, value_tolerance

VALUES = with_dtypes(CASES, ("f32", "bf16", "f64"))


def tolerance_of(case: OpCase, dtype: str, result: Tensor) -> float:
    if dtype == "bf16" and any(entry.parameter for entry in case.inputs):
        # Products read f32 parameters in bf16: their rounding counts like that of the result.
        return 2 * value_tolerance("bf16", case.terms)
    dtype = result.dtype.name
    # Correctly rounded: half a unit, relative to the element itself.
    tolerance = ROUNDOFF[dtype] if case.exact else value_tolerance(dtype, case.terms)
    return tolerance * case.slack


def check_values(case: OpCase, dtype: str) -> None:
    arrays = case.rounded(case.arrays(), dtype)
    results = case.run(case.tensors(arrays, dtype))
    expected = case.expected(arrays)
    assert len(results) == len(expected)
    for i, (result, reference) in enumerate(zip(results, expected, strict=True)):
        if is_float(result):
            assert_close(
                to_array(result), reference, tolerance_of(case, dtype, result), f"output {i}"
            )
        else:
            np.testing.assert_array_equal(result.numpy(), reference)


@pytest.mark.parametrize(
    ("case", "dtype"), VALUES, ids=[f"{case.id}-{dtype}" for case, dtype in VALUES]
)
def test_values_equal_numpy(case: OpCase, dtype: str) -> None:
    check_values(case, dtype)


COMPOSED = with_dtypes([case for case in CASES if case.fused], ("f32", "bf16", "f64"))


@pytest.mark.parametrize(
    ("case", "dtype"), COMPOSED, ids=[f"{case.id}-{dtype}" for case, dtype in COMPOSED]
)
def test_composed_values_equal_numpy(case: OpCase, dtype: str) -> None:
    with tempra.composed():
        if dtype != "bf16":
            check_values(case, dtype)
            return
        # Every primitive rounds to bf16: a few roundings more than the fused kernel's one.
        arrays = case.rounded(case.arrays(), dtype)
        for result, reference in zip(
            case.run(case.tensors(arrays, dtype)), case.expected(arrays), strict=True
        ):
            assert_close(to_array(result), reference, 8 * value_tolerance(dtype), "composed")


WITH_TORCH = [case for case in CASES if case.torch is not None]


@pytest.mark.torch
@pytest.mark.parametrize("case", WITH_TORCH, ids=identifiers(WITH_TORCH))
def test_values_and_gradients_equal_torch(case: OpCase) -> None:
    """In f64, so that both are exact to the last bits: a wrong formula shows."""
    import torch

    arrays = case.arrays()
    ours = case.tensors(arrays, "f64", requires_grad=True)
    theirs = [torch.tensor(a, requires_grad=case.differentiable) for a in arrays]
    results = case.run(ours)
    expected = as_list(case.torch(torch, *theirs, *[torch.tensor(c) for c in case.constants]))
    random = np.random.default_rng(0)
    seeds = [random.standard_normal(to_array(result).shape) for result in results]
    for result, reference in zip(results, expected, strict=True):
        assert_close(to_array(result), reference.detach().numpy(), 1e-13 * case.slack, "value")
    followed = [i for i, result in enumerate(results) if result.requires_grad]
    gradients = tempra.grad(
        [results[i] for i in followed], ours, [tempra.tensor(seeds[i], "f64") for i in followed]
    )
    torch_gradients = torch.autograd.grad(
        [expected[i] for i in followed], theirs, [torch.tensor(seeds[i]) for i in followed]
    )
    for i, (gradient, reference) in enumerate(zip(gradients, torch_gradients, strict=True)):
        assert_close(to_array(gradient), reference.numpy(), 1e-12 * case.slack, f"gradient {i}")


def test_every_operation_is_in_the_table() -> None:
    missing = sorted(set(ops.__all__) - {case.op for case in CASES})
    assert not missing, f"operations without a line in the op table: {missing}"


def test_every_line_is_an_exported_operation() -> None:
    unknown = sorted({case.op for case in CASES} - set(ops.__all__))
    assert not unknown, f"lines of operations that tempra.ops does not export: {unknown}"


def test_identifiers_are_unique() -> None:
    names = identifiers(CASES)
    assert len(names) == len(set(names))


def test_normalised_error_sees_a_wrong_element() -> None:
    expected = np.linspace(1, 2, 7)
    wrong = expected.copy()
    wrong[3] += 1e-3
    assert normalised_error(expected, expected) == 0
    assert normalised_error(wrong, expected) > 1e-4
    wrong[3] = np.nan
    assert normalised_error(wrong, expected) == np.inf
