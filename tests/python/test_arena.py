"""Parameters in an optimizer's arena: their gradients are its own, and one optimizer has them."""

from __future__ import annotations

import numpy as np
import pytest

import tempra
from tempra.nn import Linear
from tempra.optim import AdamW

STEP = {"learning_rate": 0.1, "gradient_scale": 1.0, "max_gradient_norm": 0.0}


def a_layer() -> tuple[Linear, AdamW]:
    layer = Linear(3, 2)
    return layer, AdamW(layer.named_parameters(), weight_decay=0.0)


def test_a_gradient_that_is_set_reaches_the_optimizer() -> None:
    layer, optimizer = a_layer()
    before = layer.weight.detach().numpy().copy()
    place = layer.weight.grad.data_pointer
    given = tempra.tensor(np.arange(6.0).reshape(3, 2), "bf16").transpose(0, 1)
    layer.weight.grad = given
    assert layer.weight.grad.data_pointer == place
    np.testing.assert_array_equal(optimizer.gradients()["weight"].numpy(), [0, 2, 4, 1, 3, 5])
    optimizer.step(**STEP)
    assert not np.array_equal(layer.weight.detach().numpy(), before)


def test_a_gradient_may_be_set_from_a_view_of_itself() -> None:
    layer = Linear(100, 100)
    optimizer = AdamW(layer.named_parameters())
    values = np.arange(1e4, dtype=np.float32).reshape(100, 100)
    layer.weight.grad = tempra.tensor(values)
    layer.weight.grad = layer.weight.grad.transpose(0, 1)
    np.testing.assert_array_equal(layer.weight.grad.numpy(), values.T)
    assert optimizer.gradients()["weight"].tolist()[1] == 100.0


def test_no_gradient_is_one_of_zeros() -> None:
    layer, optimizer = a_layer()
    layer(tempra.ones((1, 3))).sum().backward()
    layer.weight.grad = None
    assert layer.weight.grad.tolist() == [[0.0] * 3] * 2
    layer(tempra.ones((1, 3))).sum().backward()
    assert optimizer.gradients()["weight"].tolist() == [1.0] * 6


def test_a_gradient_of_its_own_once_the_optimizer_is_gone() -> None:
    layer, optimizer = a_layer()
    del optimizer
    layer.weight.grad = None
    assert layer.weight.grad is None


def test_an_optimizer_whose_parameters_another_has_refuses_to_step() -> None:
    layer, earlier = a_layer()
    later = AdamW(layer.named_parameters())
    with pytest.raises(tempra.TempraError, match="parameter weight belongs to an optimizer that"):
        earlier.step(**STEP)
    later.step(**STEP)
