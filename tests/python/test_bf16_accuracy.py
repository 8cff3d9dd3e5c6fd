"""bf16 operations and their gradients are no farther from f64 than PyTorch's, on every ISA."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import tempra
from accuracy_cases import CASES, WITHOUT_COUNTERPART
from bf16_accuracy import bf16, compare
from op_case import OpCase, to_array
from op_cases import identifiers
from op_cases_layout import generator
from tempra import Tensor, _core, ops


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES, ids=identifiers(CASES))
def test_errors_are_no_larger_than_those_of_torch(case: OpCase) -> None:
    for isa, comparisons in compare(case, tuple(_core.supported_isas())).items():
        shortfalls = [text for c in comparisons if (text := c.shortfall()) is not None]
        assert not shortfalls, f"{isa}: {'; '.join(shortfalls)}"


@pytest.mark.torch
def test_one_rounding_more_is_seen() -> None:
    silu = next(case for case in CASES if case.op == "silu")
    composed = replace(silu, call=lambda x: x * ops.sigmoid(x))
    isa = tempra.current_isa()
    assert all(c.shortfall() is None for c in compare(silu, (isa,))[isa])
    assert all(c.shortfall() is not None for c in compare(composed, (isa,))[isa])


@pytest.mark.torch
def test_a_nan_is_seen() -> None:
    silu = next(case for case in CASES if case.op == "silu")
    isa = tempra.current_isa()
    comparison = compare(silu, (isa,))[isa][0]
    comparison.ours.add(np.full(4, np.nan), np.ones(4))
    assert comparison.shortfall() is not None


def test_every_operation_is_compared_or_excused() -> None:
    compared, excused = {case.op for case in CASES}, set(WITHOUT_COUNTERPART)
    assert compared | excused == set(ops.__all__)
    assert not compared & excused


def test_identifiers_are_unique() -> None:
    repeated = [name for name, count in Counter(identifiers(CASES)).items() if count > 1]
    assert not repeated


SHAPE = (64, 1024)


@pytest.mark.parametrize(
    ("low_precision", "exact"),
    [
        (lambda: ops.zeros(SHAPE, "bf16"), lambda: ops.zeros(SHAPE, "f64")),
        (lambda: ops.ones(SHAPE, "bf16"), lambda: ops.ones(SHAPE, "f64")),
        (lambda: ops.full(SHAPE, 0.1, "bf16"), lambda: ops.full(SHAPE, 0.1, "f64")),
        (lambda: ops.arange(0, 700, 0.7, "bf16"), lambda: ops.arange(0, 700, 0.7, "f64")),
        (
            lambda: ops.normal(SHAPE, 1, 2, dtype="bf16", generator=generator()),
            lambda: ops.normal(SHAPE, 1, 2, generator=generator()),
        ),
        (
            lambda: ops.normal_(ops.zeros(SHAPE, "bf16"), generator=generator()),
            lambda: ops.normal(SHAPE, generator=generator()),
        ),
        (
            lambda: ops.uniform(SHAPE, -1, 3, dtype="bf16", generator=generator()),
            lambda: below(ops.uniform(SHAPE, -1, 3, generator=generator()), 3),
        ),
        (
            lambda: ops.uniform_(ops.zeros(SHAPE, "bf16"), -1, 3, generator=generator()),
            lambda: below(ops.uniform(SHAPE, -1, 3, generator=generator()), 3),
        ),
    ],
    ids=["zeros", "ones", "full", "arange", "normal", "normal_", "uniform", "uniform_"],
)
def test_created_numbers_are_rounded_once(low_precision: object, exact: object) -> None:
    np.testing.assert_array_equal(to_array(low_precision()), to_array(exact().to("bf16")))


def below(x: Tensor, high: float) -> Tensor:
    """The largest bf16 number below `high`, which the range excludes, where x rounds up to it."""
    values = to_array(x)
    values[bf16(values) >= high] = high - high * 2.0**-8
    return tempra.tensor(values, "f64")


def test_dropout_is_rounded_once() -> None:
    values = bf16(np.random.default_rng(0).standard_normal(SHAPE))
    x = tempra.tensor(values, "bf16").requires_grad_(True)
    y = ops.dropout(x, 0.3, generator=generator())
    kept = to_array(y) != 0
    expected = np.where(kept, bf16(values / 0.7), 0)
    np.testing.assert_array_equal(to_array(y), expected)
    (gradient,) = tempra.grad(y, x, tempra.tensor(values, "bf16"))
    np.testing.assert_array_equal(to_array(gradient), expected)
