"""A deferred loss is computed by its backward pass: the same numbers, less memory."""

from __future__ import annotations

import numpy as np
import pytest

import tempra
from tempra import Tensor, _core

TOKENS, WIDTH, VOCABULARY = 40, 24, 65
LABELS = np.random.default_rng(3).integers(0, VOCABULARY, TOKENS).astype(np.int32)
LABELS[::7] = -100


def leaf(seed: int, *shape: int, dtype: str = "f32") -> Tensor:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    tensor = tempra.tensor(values, dtype)
    tensor.requires_grad = True
    return tensor


def run(dtype: str, reduction: str, *, deferred: bool, scale: float = 1.0) -> dict[str, bytes]:
    """Return the bits of the loss and of every gradient."""
    x, inner = leaf(0, TOKENS, WIDTH, dtype=dtype), leaf(1, WIDTH, WIDTH)
    weight, bias = leaf(2, VOCABULARY, WIDTH), leaf(4, VOCABULARY)
    loss = _core.linear_cross_entropy(
        _core.linear(x, inner),
        weight,
        _core.from_numpy(LABELS),
        bias=bias,
        label_smoothing=0.1,
        z_loss=1e-3,
        reduction=reduction,
        deferred=deferred,
    )
    assert np.isnan(loss.item()) == deferred
    loss.backward(tempra.tensor(np.float32(scale)))
    result = {"loss": loss.numpy().tobytes()}
    for name, tensor in {"x": x, "inner": inner, "weight": weight, "bias": bias}.items():
        assert tensor.grad is not None
        result[name] = tensor.grad.to("f32").numpy().tobytes()
    return result


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_the_numbers_are_the_same(dtype: str, reduction: str) -> None:
    assert run(dtype, reduction, deferred=True) == run(dtype, reduction, deferred=False)


def test_a_gradient_of_the_loss_scales_all() -> None:
    # A power of two: no rounding tells the two ways apart.
    assert run("f32", "sum", deferred=True, scale=4.0) == run(
        "f32", "sum", deferred=False, scale=4.0
    )


def test_gradients_add_up_over_losses() -> None:
    hidden, weight = leaf(0, TOKENS, WIDTH), leaf(2, VOCABULARY, WIDTH)
    labels = _core.from_numpy(LABELS)
    gradients = []
    for _ in range(2):
        loss = _core.linear_cross_entropy(hidden, weight, labels, reduction="sum", deferred=True)
        loss.backward()
        assert weight.grad is not None
        gradients.append(weight.grad.numpy().copy())
    np.testing.assert_allclose(gradients[1], 2 * gradients[0], rtol=1e-6)


def test_without_recording_it_is_computed_at_once() -> None:
    hidden, weight = leaf(0, TOKENS, WIDTH), leaf(2, VOCABULARY, WIDTH)
    labels = _core.from_numpy(LABELS)
    expected = _core.linear_cross_entropy(hidden, weight, labels).item()
    with tempra.no_grad():
        assert _core.linear_cross_entropy(hidden, weight, labels, deferred=True).item() == expected
    with tempra.composed():
        loss = _core.linear_cross_entropy(hidden, weight, labels, deferred=True)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_grad_gives_values_and_leaves_the_leaves_alone() -> None:
    hidden, weight = leaf(0, TOKENS, WIDTH), leaf(2, VOCABULARY, WIDTH)
    labels = _core.from_numpy(LABELS)
    both = []
    for deferred in (False, True):
        loss = _core.linear_cross_entropy(hidden, weight, labels, deferred=deferred)
        found = tempra.grad([loss], [hidden, weight])
        both.append([each.numpy().tobytes() for each in found])
    assert both[0] == both[1]
    assert weight.grad is None


def test_labels_out_of_range_and_the_wrong_reduction_are_named() -> None:
    hidden, weight = leaf(0, TOKENS, WIDTH), leaf(2, VOCABULARY, WIDTH)
    wrong = _core.from_numpy(np.full(TOKENS, VOCABULARY, dtype=np.int32))
    loss = _core.linear_cross_entropy(hidden, weight, wrong, deferred=True)
    with pytest.raises(tempra.ShapeError, match=r"a label is outside \[0, 65\)"):
        loss.backward()
    with pytest.raises(tempra.ConfigError, match="a deferred loss is one number"):
        _core.linear_cross_entropy(hidden, weight, wrong, reduction="none", deferred=True)


def test_the_head_needs_no_gradient_of_its_own() -> None:
    """A weight far larger than all else: the peak grows by its gradient, or not."""
    hidden, weight = leaf(0, 8, 64), leaf(2, 50_000, 64)
    weight.grad = tempra.zeros((50_000, 64))
    labels = _core.from_numpy(np.arange(8, dtype=np.int32))
    peaks = {}
    for deferred in (False, True):
        _core.reset_peak_memory()
        before = _core.memory_statistics()["bytes_in_use"]
        _core.linear_cross_entropy(hidden, weight, labels, deferred=deferred).backward()
        peaks[deferred] = _core.memory_statistics()["peak_bytes_in_use"] - before
    assert peaks[False] - peaks[True] >= 50_000 * 64 * 4


def test_a_gradient_that_is_asked_for_is_not_written_over() -> None:
    """The activation's gradient is made in the memory of the one behind it, unless that is kept."""
    x, first, second = leaf(0, TOKENS, WIDTH), leaf(1, WIDTH, WIDTH), leaf(2, WIDTH, WIDTH)

    def forward() -> tuple[Tensor, Tensor]:
        hidden = _core.linear(x, first, activation="gelu_tanh")
        return hidden, _core.linear(hidden, second).sum()

    hidden, total = forward()
    together = tempra.grad([total], [hidden, x])
    hidden, total = forward()
    (alone,) = tempra.grad([total], [hidden])
    expected = np.ones((TOKENS, WIDTH), dtype=np.float32) @ second.numpy()
    np.testing.assert_allclose(alone.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert together[0].numpy().tobytes() == alone.numpy().tobytes()
