"""Inputs that are cheap to make again are not kept for the backward pass, and nobody can tell."""

from collections.abc import Callable

import numpy as np
import pytest

import tempra
from tempra import Tensor, _core

ROWS, WIDTH, HIDDEN = 96, 64, 256


def parameter(seed: int, *shape: int) -> Tensor:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 0.1
    tensor = tempra.tensor(values)
    tensor.requires_grad = True
    return tensor


def layer(x: Tensor, kind: str) -> Tensor:
    """Return an operation's output that a following product would have to keep."""
    if kind in ("gelu_tanh", "gelu", "silu", "relu"):
        return _core.linear(x, parameter(1, HIDDEN, WIDTH), parameter(2, HIDDEN), activation=kind)
    if kind == "swiglu_packed":
        return _core.swiglu_packed(_core.linear(x, parameter(3, 2 * HIDDEN, WIDTH)))
    if kind == "swiglu":
        gate, up = (_core.linear(x, parameter(seed, HIDDEN, WIDTH)) for seed in (4, 5))
        return _core.swiglu(gate, up)
    wide = _core.linear(x, parameter(6, HIDDEN, WIDTH))
    if kind == "layer_norm":
        return _core.layer_norm(wide, parameter(7, HIDDEN), parameter(8, HIDDEN))
    return _core.rms_norm(wide, parameter(9, HIDDEN))


KINDS = ["gelu_tanh", "gelu", "silu", "relu", "swiglu_packed", "swiglu", "layer_norm", "rms_norm"]


def gradients(kind: str, dtype: str, between: Callable[[Tensor], Tensor]) -> list[bytes]:
    values = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)
    x = tempra.tensor(values, dtype)
    x.requires_grad = True
    weight = parameter(10, WIDTH, HIDDEN)
    _core.linear(between(layer(x, kind)), weight).to("f32").sum().backward()
    assert x.grad is not None
    assert weight.grad is not None
    return [np.asarray(each.to("f32").numpy()).tobytes() for each in (x.grad, weight.grad)]


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_a_kept_input(kind: str, dtype: str) -> None:
    kept = gradients(kind, dtype, lambda y: y.reshape((ROWS, HIDDEN, 1)).reshape((ROWS, HIDDEN)))
    assert gradients(kind, dtype, lambda y: y) == kept


@pytest.mark.parametrize("kind", KINDS)
def test_the_input_is_not_kept(kind: str) -> None:
    x = parameter(11, ROWS, WIDTH)
    weight = parameter(12, WIDTH, HIDDEN)
    output = layer(x, kind)
    result = _core.linear(output, weight)
    before = tempra.memory_statistics()["bytes_in_use"]
    del output
    freed = before - tempra.memory_statistics()["bytes_in_use"]
    assert freed >= ROWS * HIDDEN * 4
    del result


def test_what_was_written_in_place_before_its_use_is_kept() -> None:
    x, weight = parameter(13, ROWS, WIDTH), parameter(14, WIDTH, HIDDEN)
    output = layer(x, "gelu_tanh").detach()
    output.requires_grad = True
    with tempra.no_grad():
        output.fill_(2.0)
    _core.linear(output, weight).sum().backward()
    assert weight.grad is not None
    np.testing.assert_allclose(weight.grad.numpy(), 2.0 * ROWS)


@pytest.mark.parametrize("kind", ["gelu_tanh", "swiglu_packed"])
def test_a_branch_walked_earlier_does_not_take_the_input_away(kind: str) -> None:
    x = parameter(15, ROWS, WIDTH)
    first, second = parameter(16, WIDTH, HIDDEN), parameter(17, WIDTH, HIDDEN)
    output = layer(x, kind)
    one, other = _core.linear(output, first), _core.linear(output, second)
    one.sum().backward()  # releases what made `output`
    (gradient,) = tempra.grad([other.sum()], [second])
    np.testing.assert_array_equal(gradient.numpy(), first.grad.numpy())


GATE_UP_BYTES = 4096 * 2 * HIDDEN * 4


def packed_swiglu_gradients(keep_gate_up: bool, retain_graph: bool) -> tuple[bytes, int]:
    """Return the gradient of x, and the most bytes that the backward pass added."""
    x = parameter(21, 4096, 16)
    gate_up = _core.linear(x, parameter(22, 2 * HIDDEN, 16))
    before = gate_up.numpy().copy()
    held = gate_up if keep_gate_up else None
    total = _core.swiglu_packed(gate_up).sum()
    del gate_up
    _core.reset_peak_memory()
    started = tempra.memory_statistics()["bytes_in_use"]
    total.backward(retain_graph=retain_graph)
    added = tempra.memory_statistics()["peak_bytes_in_use"] - started
    if held is not None:
        np.testing.assert_array_equal(held.numpy(), before)
    assert x.grad is not None
    return x.grad.numpy().tobytes(), added


def test_swiglu_writes_gradients_over_gate_and_up_that_nobody_else_needs() -> None:
    alone, added = packed_swiglu_gradients(keep_gate_up=False, retain_graph=False)
    assert added < GATE_UP_BYTES
    for keep, retain in ((True, False), (False, True)):
        gradient, added = packed_swiglu_gradients(keep, retain)
        assert gradient == alone
        assert added > GATE_UP_BYTES


def test_a_parameter_written_before_the_backward_pass_is_an_error() -> None:
    x, scale, weight = (
        parameter(18, ROWS, HIDDEN),
        parameter(19, HIDDEN),
        parameter(20, WIDTH, HIDDEN),
    )
    total = _core.linear(_core.rms_norm(x, scale), weight).sum()
    with tempra.no_grad():
        scale.fill_(1.0)
    with pytest.raises(tempra.TempraError, match="written in place"):
        total.backward()
