"""Functions of many bf16 numbers come from tables (unary_tables.h): the bits are the same."""

from collections.abc import Callable

import numpy as np
import pytest

import tempra
from tempra import Tensor, _core, ops

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **{
        name: getattr(ops, name)
        for name in (
            *("exp", "log", "log1p", "expm1", "sin", "cos", "tanh", "erf"),
            *("sigmoid", "silu", "softplus", "gelu"),
        )
    },
    "gelu_tanh": lambda x: ops.gelu(x, approximate="tanh"),
}

COUNT = 1 << 16
EVERY_NUMBER = (np.arange(COUNT, dtype=np.uint32) << 16).view(np.float32)


def bf16(values: np.ndarray) -> Tensor:
    return tempra.tensor(values, "bf16")


def assert_same_bits(actual: np.ndarray, expected: np.ndarray) -> None:
    """NaN has many."""
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(
        actual[numbers].view(np.uint32), expected[numbers].view(np.uint32)
    )


def run(name: str, values: np.ndarray, gradients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Results and gradients."""
    x = bf16(values).requires_grad_(True)
    y = FUNCTIONS[name](x)
    (gradient,) = tempra.grad(y, x, bf16(gradients))
    return y.detach().to("f32").numpy(), gradient.to("f32").numpy()


@pytest.mark.parametrize("isa", _core.supported_isas())
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_number_gives_the_same_in_large_and_small_arrays(name: str, isa: str) -> None:
    tempra.set_isa(isa)
    gradients = np.random.default_rng(0).standard_normal(COUNT).astype(np.float32)
    pieces = zip(np.split(EVERY_NUMBER, 16), np.split(gradients, 16), strict=True)
    small = [run(name, *piece) for piece in pieces]
    # Some more, so that rows do not end with the vectors.
    large = run(name, *[np.concatenate([a, a[:37]]) for a in (EVERY_NUMBER, gradients)])
    for actual, expected in zip(large, zip(*small, strict=True), strict=True):
        assert_same_bits(actual[:COUNT], np.concatenate(expected))
        assert_same_bits(actual[COUNT:], actual[:37])


@pytest.mark.parametrize("isa", _core.supported_isas())
@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
def test_products_apply_the_same_activation(activation: str, isa: str) -> None:
    tempra.set_isa(isa)
    x, weight = ops.normal((128, 64)).to("bf16"), ops.normal((COUNT // 128 + 3, 64)).to("bf16")
    fused = ops.linear(x, weight, activation=activation).to("f32").numpy()
    pieces = ops.split(ops.linear(x, weight), [31, 31, 31, 31, 4])
    apart = np.concatenate([FUNCTIONS[activation](piece).to("f32").numpy() for piece in pieces])
    assert_same_bits(fused, apart)
