"""First derivatives: against central differences in f64, in f32 and bf16 against f64, and the rule
stated in operations (create_graph) against the kernels."""

from contextlib import nullcontext

import numpy as np
import pytest

import tempra
from gradient_check import check_gradients, flatten, pull_back
from op_case import OpCase, to_array
from op_cases import DIFFERENTIABLE, identifiers, with_dtypes
from tempra import Tensor
from tolerances import assert_close, gradient_tolerance

IN_F64 = [case for case in DIFFERENTIABLE if "f64" in case.dtypes]


@pytest.mark.parametrize("case", IN_F64, ids=identifiers(IN_F64))
def test_gradients_equal_central_differences(case: OpCase) -> None:
    check_gradients(case.differentiable_outputs, case.arrays(), full=not case.large)


FUSED = [case for case in IN_F64 if case.fused]


@pytest.mark.parametrize("case", FUSED, ids=identifiers(FUSED))
def test_composed_gradients_equal_fused(case: OpCase) -> None:
    arrays = case.arrays()
    size = sum(to_array(output).size for output in case.run(case.tensors(arrays, "f64")))
    weights = np.random.default_rng(1).standard_normal(size)
    fused = pull_back(case.differentiable_outputs, arrays, weights, create_graph=False)
    with tempra.composed():
        composed = pull_back(case.differentiable_outputs, arrays, weights, create_graph=False)
    terms = case.gradient_terms or case.terms
    assert_close(composed, fused, 8 * gradient_tolerance("f64", terms), "composed gradient")


@pytest.mark.parametrize("case", IN_F64, ids=identifiers(IN_F64))
def test_graph_rule_equals_kernel(case: OpCase) -> None:
    arrays = case.arrays()
    with tempra.composed() if case.fused else nullcontext():
        size = sum(
            to_array(output).size
            for output in case.differentiable_outputs(
                case.tensors(arrays, "f64", requires_grad=True)
            )
        )
        weights = np.random.default_rng(2).standard_normal(size)
        kernel = pull_back(case.differentiable_outputs, arrays, weights, create_graph=False)
        rule = pull_back(case.differentiable_outputs, arrays, weights, create_graph=True)
    terms = case.gradient_terms or case.terms
    assert_close(rule, kernel, 8 * gradient_tolerance("f64", terms) * case.slack, "rule")


def gradients_in(case: OpCase, arrays: list[np.ndarray], dtype: str) -> list[Tensor]:
    """Gradients of a random projection, whose weights are whole numbers of few bits."""
    inputs = case.tensors(arrays, dtype, requires_grad=True)
    outputs = case.differentiable_outputs(inputs)
    random = np.random.default_rng(3)
    seeds = [
        tempra.tensor(random.integers(-4, 5, output.shape).astype(np.float64)).to(output.dtype)
        for output in outputs
    ]
    return tempra.grad(outputs, inputs, seeds)


PRECISIONS = [
    (case, dtype)
    for case, dtype in with_dtypes(DIFFERENTIABLE, ("f32", "bf16"))
    if not case.slack_reason.startswith("x + 1000")
]


@pytest.mark.parametrize(
    ("case", "dtype"), PRECISIONS, ids=[f"{case.id}-{dtype}" for case, dtype in PRECISIONS]
)
def test_gradients_in_low_precision(case: OpCase, dtype: str) -> None:
    """Against f64 from the same rounded inputs; parameters' gradients stay f32."""
    arrays = case.rounded(case.arrays(), dtype)
    low = gradients_in(case, arrays, dtype)
    exact = gradients_in(case, arrays, "f64")
    tolerance = gradient_tolerance(dtype, case.gradient_terms or case.terms)
    for i, gradient in enumerate(low):
        assert gradient.dtype.name == case.dtype_of(i, dtype)
        assert_close(to_array(gradient), to_array(exact[i]), tolerance, f"gradient {i}")


@pytest.mark.parametrize("case", IN_F64, ids=identifiers(IN_F64))
def test_backward_twice_doubles_the_leaf_gradients(case: OpCase) -> None:
    """A kernel that overwrites instead of adding, or adds twice, shows here."""
    inputs = case.tensors(case.arrays(), "f64", requires_grad=True)
    expected = flatten([to_array(g) for g in gradients_of_sum(case, inputs)])
    for _ in range(2):
        total_of(case.differentiable_outputs(inputs)).backward()
    doubled = flatten([to_array(leaf.grad) for leaf in inputs])
    assert_close(doubled, 2 * expected, 1e-12, "accumulated gradient")


def total_of(outputs: list[Tensor]) -> Tensor:
    """A weighted sum of all elements."""
    total = tempra.zeros((), "f64")
    for output in outputs:
        count = output.numel()
        weights = tempra.arange(1, count + 1, 1, "f64").reshape(*output.shape) * (1 / (count + 1))
        total = total + (output * weights).sum()
    return total


def gradients_of_sum(case: OpCase, inputs: list[Tensor]) -> list[Tensor]:
    return tempra.grad(total_of(case.differentiable_outputs(inputs)), inputs)
