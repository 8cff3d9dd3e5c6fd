"""After zero_gradients() gradients are zeros to everybody, though nothing may be written for it."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest

import tempra
from tempra import Tensor, _core
from tempra.models import Transformer, TransformerConfig
from tempra.nn import Linear
from tempra.optim import AdamW


def a_trained_layer() -> tuple[Linear, AdamW]:
    """Return a layer whose gradients are not zero."""
    layer = Linear(5, 3)
    optimizer = AdamW(layer.named_parameters())
    run(layer)
    return layer, optimizer


def run(layer: Linear) -> None:
    layer(tempra.ones((2, 5))).sum().backward()


def test_nothing_is_written_where_nobody_holds_a_gradient() -> None:
    layer, optimizer = a_trained_layer()
    pointer = layer.weight.grad.data_pointer
    memory = np.ctypeslib.as_array((ctypes.c_float * 15).from_address(pointer))
    assert (memory == 2.0).all()
    optimizer.zero_gradients()
    assert (memory == 2.0).all()
    run(layer)
    assert (memory == 2.0).all()
    run(layer)
    assert (memory == 4.0).all()


def test_gradients_that_somebody_holds_are_zeroed_at_once() -> None:
    for hold in (
        lambda layer, _: layer.weight.grad,
        lambda layer, _: layer.weight.grad[0],
        lambda layer, _: layer.weight.grad.numpy(),
        lambda _, optimizer: optimizer.arena.gradients,
        lambda _, optimizer: optimizer.arena.gradients.numpy(),
        lambda _, optimizer: optimizer.gradients()["weight"],
    ):
        layer, optimizer = a_trained_layer()
        held = hold(layer, optimizer)
        optimizer.zero_gradients()
        values = held.numpy() if isinstance(held, Tensor) else held
        assert not values.any()
        run(layer)
        values = held.numpy() if isinstance(held, Tensor) else held
        assert values.any()


def test_what_reads_a_gradient_sees_zeros() -> None:
    for read in (
        lambda layer, _: layer.weight.grad.numpy(),
        lambda _, optimizer: optimizer.arena.gradients.numpy(),
        lambda _, optimizer: optimizer.gradients()["weight"].numpy(),
    ):
        layer, optimizer = a_trained_layer()
        optimizer.zero_gradients()
        assert not read(layer, optimizer).any()
        run(layer)
        assert read(layer, optimizer).any()


def test_a_parameter_without_a_part_in_the_loss_gets_none_of_an_earlier_one() -> None:
    layer, optimizer = a_trained_layer()
    optimizer.zero_gradients()
    layer.bias.sum().backward()
    optimizer.step(learning_rate=0.1, gradient_scale=1.0, max_gradient_norm=0.0)
    assert optimizer.gradient_norm == pytest.approx(3**0.5)
    assert not layer.weight.grad.numpy().any()


def test_zeros_outlive_the_optimizer() -> None:
    layer, optimizer = a_trained_layer()
    optimizer.zero_gradients()
    del optimizer
    assert not layer.weight.grad.numpy().any()


def test_a_gradient_that_is_set_is_added_to() -> None:
    layer, optimizer = a_trained_layer()
    optimizer.zero_gradients()
    layer.weight.grad = tempra.ones((3, 5))
    run(layer)
    assert (layer.weight.grad.numpy() == 3.0).all()
    optimizer.zero_gradients()
    layer.weight.grad = None
    run(layer)
    assert (layer.weight.grad.numpy() == 2.0).all()


def test_no_rows_leave_zeros() -> None:
    layer, optimizer = a_trained_layer()
    optimizer.zero_gradients()
    layer(tempra.ones((0, 5))).sum().backward()
    assert not optimizer.arena.gradients.numpy().any()


def test_one_weight_twice_in_a_group_is_added_up() -> None:
    layer, optimizer = a_trained_layer()
    optimizer.zero_gradients()
    x = tempra.ones((2, 5))
    _core.linear_group(x, [layer.weight, layer.weight]).sum().backward()
    assert (layer.weight.grad.numpy() == 4.0).all()


def test_a_loss_adds_to_a_bias_that_has_a_gradient_already() -> None:
    gradients = []
    for lazily in (True, False):
        layer = Linear(5, 3)
        optimizer = AdamW(layer.named_parameters())
        run(layer)
        held = None if lazily else optimizer.arena.gradients
        optimizer.zero_gradients()
        (layer.bias * 7.0).sum().backward()
        labels = tempra.tensor([0, 2], "i64")
        loss = _core.linear_cross_entropy(
            tempra.ones((2, 5)),
            layer.weight,
            labels,
            bias=layer.bias,
            reduction="sum",
            deferred=True,
        )
        loss.backward()
        gradients.append(optimizer.arena.gradients.numpy().copy())
        del held
    np.testing.assert_array_equal(gradients[0], gradients[1])
    assert gradients[0].max() > 7.0


def test_a_backward_pass_that_fails_leaves_zeros() -> None:
    layer, optimizer = a_trained_layer()
    hidden, labels = tempra.ones((2, 5)), tempra.tensor([0, 99], "i64")
    optimizer.zero_gradients()
    loss = _core.linear_cross_entropy(hidden, layer.weight, labels, bias=layer.bias, deferred=True)
    with pytest.raises(tempra.ShapeError, match="a label is outside"):
        loss.backward()
    assert not optimizer.arena.gradients.numpy().any()
    run(layer)
    assert (layer.weight.grad.numpy() == 2.0).all()


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_accumulated_gradients_are_those_of_filled_ones(family: str, dtype: str) -> None:
    config = TransformerConfig.for_family(
        family, vocab_size=61, width=32, layers=2, heads=4, kv_heads=4 if family == "gpt2" else 2,
        context=16, dtype=dtype,
    )  # fmt: skip
    model = Transformer(config, seed=0)
    optimizer = AdamW(model.named_parameters())
    random = np.random.default_rng(0)
    batches = []
    for _ in range(3):
        tokens = random.integers(0, 61, 33, dtype=np.int32)
        batches.append(
            SimpleNamespace(
                tokens=tokens[:-1],
                labels=tokens[1:],
                offsets=np.array([0, 16, 32], np.int32),
                positions=np.tile(np.arange(16, dtype=np.int32), 2),
                longest=16,
                even=True,
            )
        )

    def gradients(held: Tensor | None) -> bytes:
        optimizer.zero_gradients()
        for batch in batches:
            model.loss(batch, deferred=True).backward()
        del held
        return (optimizer.arena.gradients + 0.0).numpy().tobytes()  # -0 is 0

    filled = gradients(optimizer.arena.gradients)
    assert gradients(None) == filled
    assert gradients(optimizer.arena.gradients) == filled
