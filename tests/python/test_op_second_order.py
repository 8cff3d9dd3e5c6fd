"""Second and third derivatives, in f64 against central differences of the derivative below."""

from contextlib import nullcontext

import numpy as np
import pytest

import tempra
from gradient_check import check_gradients
from op_case import OpCase, to_array
from op_cases import DIFFERENTIABLE, identifiers
from tempra import Tensor, ops

SMOOTH = [case for case in DIFFERENTIABLE if "f64" in case.dtypes and not case.large]


def derivative(function, order: int):
    """The function's gradient of a fixed projection, as a function of the same inputs."""

    def differentiated(inputs: list[Tensor]) -> list[Tensor]:
        outputs = function(inputs)
        total = tempra.zeros((), "f64")
        random = np.random.default_rng(order)
        for output in outputs:
            weights = tempra.tensor(random.uniform(0.5, 1.5, output.shape), "f64")
            total = total + (output * weights).sum()
        if not total.requires_grad:
            return []
        gradients = tempra.grad(total, inputs, create_graph=True, allow_unused=True)
        return [gradient for gradient in gradients if gradient is not None]

    return differentiated


def recorded(outputs: list[Tensor]) -> list[Tensor]:
    return [output for output in outputs if output.requires_grad]


@pytest.mark.parametrize("case", SMOOTH, ids=identifiers(SMOOTH))
def test_second_derivatives(case: OpCase) -> None:
    first = derivative(case.differentiable_outputs, 1)
    with tempra.composed() if case.fused else nullcontext():
        # A linear operation's gradient does not depend on the input any more.
        if recorded(first(case.tensors(case.arrays(), "f64", requires_grad=True))):
            check_gradients(lambda inputs: recorded(first(inputs)), case.arrays(), full=False)


THIRD = [
    case
    for case in SMOOTH
    if (case.op, case.label)
    in {
        ("exp", "three"),
        ("tanh", "three"),
        ("gelu", "three"),
        ("sigmoid", "three"),
        ("power", "same"),
        ("divide", "row"),
        ("softmax", "last"),
        ("log_softmax", "middle"),
        ("layer_norm", "three"),
        ("rms_norm", "three"),
        ("prod", "last"),
        ("cross_entropy", "z-loss"),
        ("attention", "causal"),
        ("swiglu", "three"),
        ("linear_cross_entropy", "smoothing"),
    }
]


@pytest.mark.parametrize("case", THIRD, ids=identifiers(THIRD))
def test_third_derivatives(case: OpCase) -> None:
    second = derivative(derivative(case.differentiable_outputs, 1), 2)
    with tempra.composed() if case.fused else nullcontext():
        check_gradients(lambda inputs: recorded(second(inputs)), case.arrays(), full=False)


def test_third_derivative_cases_exist() -> None:
    assert len(THIRD) == 15


FUSED = [case for case in SMOOTH if case.fused and 0 not in case.inputs[0].shape]


@pytest.mark.parametrize("case", FUSED, ids=identifiers(FUSED))
def test_fused_operation_names_composed(case: OpCase) -> None:
    """Outside composed() a fused operation says what to do instead."""
    inputs = case.tensors(case.arrays(), "f64", requires_grad=True)
    outputs = case.differentiable_outputs(inputs)
    with pytest.raises(tempra.TempraError, match=r"composed\(\)"):
        tempra.grad(outputs, inputs, [ops.zeros_like(o) for o in outputs], create_graph=True)


def test_gradient_penalty_of_a_small_network() -> None:
    """What the derivatives are for: a loss of the gradient, differentiated for the weights."""
    random = np.random.default_rng(5)
    arrays = [random.standard_normal(shape) for shape in ((3, 4), (5, 4), (5,), (1, 5))]

    def penalty(inputs: list[Tensor]) -> list[Tensor]:
        x, first, bias, second = inputs
        out = ops.tanh(x @ first.transpose(0, 1) + bias) @ second.transpose(0, 1)
        (gradient,) = tempra.grad(out.sum(), [x], create_graph=True)
        norms = ops.sqrt(ops.square(gradient).sum(1))
        return [ops.square(norms - 1.0).mean()]

    assert to_array(penalty([tempra.tensor(a).requires_grad_(True) for a in arrays])[0]) > 0
    check_gradients(penalty, arrays)
