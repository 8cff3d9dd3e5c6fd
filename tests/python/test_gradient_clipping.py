"""Norm and clipping of gradients that do not live in an arena."""

import math

import numpy as np
import pytest

import tempra
from tempra import ConfigError, Tensor
from tempra.optim import clip_grad_norm_, clip_grad_value_, gradient_norm


def parameters() -> list[Tensor]:
    """f32, bf16, f64, transposed, and one without a gradient."""
    random = np.random.default_rng(0)
    made = []
    for dtype, shape in (("f32", (40, 50)), ("bf16", (7,)), ("f64", (3, 3))):
        parameter = tempra.zeros(shape, dtype).requires_grad_(True)
        parameter.grad = tempra.tensor(random.standard_normal(shape)).to(dtype)
        made.append(parameter)
    turned = tempra.zeros((4, 6)).requires_grad_(True)
    turned.grad = tempra.tensor(random.standard_normal((6, 4)), "f32").transpose(0, 1)
    return [*made, turned, tempra.zeros(3).requires_grad_(True)]


def expected_norm(entries: list[Tensor]) -> float:
    gradients = [p.grad.to("f64").numpy().copy() for p in entries if p.grad is not None]
    return math.sqrt(sum((g**2).sum() for g in gradients))


def test_norm_over_all_gradients() -> None:
    entries = parameters()
    assert gradient_norm(entries) == pytest.approx(expected_norm(entries), rel=1e-6)
    assert gradient_norm([]) == 0


def test_clip_by_norm_scales_all_alike() -> None:
    entries = parameters()
    before = [p.grad.to("f64").numpy().copy() for p in entries if p.grad is not None]
    norm = clip_grad_norm_(entries, 2.0)
    assert norm == pytest.approx(math.sqrt(sum((g**2).sum() for g in before)), rel=1e-6)
    assert gradient_norm(entries) == pytest.approx(2.0, rel=1e-3)
    np.testing.assert_allclose(entries[0].grad.numpy(), before[0] * (2.0 / norm), rtol=1e-6)


def test_clip_by_norm_leaves_small_gradients_alone() -> None:
    entries = parameters()
    before = entries[0].grad.numpy().copy()
    clip_grad_norm_(entries, 1e6)
    np.testing.assert_array_equal(entries[0].grad.numpy(), before)


def test_a_gradient_that_is_not_finite_is_reported_and_left() -> None:
    entries = parameters()
    with tempra.no_grad():
        entries[0].grad[0, 0].fill_(float("nan"))
    before = entries[3].grad.numpy().copy()
    assert math.isnan(clip_grad_norm_(entries, 1.0))
    np.testing.assert_array_equal(entries[3].grad.numpy(), before)


def test_clip_by_value() -> None:
    entries = parameters()
    before = [p.grad.to("f64").numpy().copy() for p in entries if p.grad is not None]
    clip_grad_value_(entries, 0.5)
    for parameter, gradient in zip(entries[:4], before, strict=True):
        np.testing.assert_array_equal(
            parameter.grad.to("f64").numpy(), np.clip(gradient, -0.5, 0.5)
        )


@pytest.mark.parametrize("call", [clip_grad_norm_, clip_grad_value_])
def test_limits_must_be_above_zero(call) -> None:
    with pytest.raises(ConfigError, match="-1"):
        call(parameters(), -1.0)
