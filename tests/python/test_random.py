"""Generators and what is drawn from them: positions, ranges, distributions, replay."""

import math

import numpy as np
import pytest

import references
import tempra
from op_case import to_array
from tempra import ConfigError, Generator, ops


def test_philox_known_answers() -> None:
    """Vectors of the paper's reference implementation (Random123, philox4x32-10)."""
    zero = references.philox_words((4,), seed=0)
    assert [hex(int(word)) for word in zero[0]] == [
        "0x6627e8d5",
        "0xe169c58d",
        "0xbc57ac4c",
        "0x9b00dbd8",
    ]


def test_state_round_trip() -> None:
    g = Generator(2**63 + 5)
    g.set_step(9)
    g.set_row_offset(4)
    tempra.uniform(3, generator=g)
    state = g.state()
    assert state == {"seed": 2**63 + 5, "step": 9, "ordinal": 1, "row_offset": 4}
    first = tempra.normal((2, 5), generator=g).numpy()
    g.set_state(state)
    np.testing.assert_array_equal(first, tempra.normal((2, 5), generator=g).numpy())
    assert "step=9" in repr(g)


def test_set_step_starts_ordinals_again() -> None:
    g = Generator(1)
    first = tempra.uniform(8, generator=g).numpy()
    second = tempra.uniform(8, generator=g).numpy()
    assert not np.array_equal(first, second)
    g.set_step(0)
    np.testing.assert_array_equal(first, tempra.uniform(8, generator=g).numpy())
    g.set_step(1)
    assert not np.array_equal(first, tempra.uniform(8, generator=g).numpy())


@pytest.mark.parametrize("missing", ["seed", "step", "ordinal", "row_offset"])
def test_an_incomplete_state_is_refused(missing: str) -> None:
    state = Generator().state()
    del state[missing]
    with pytest.raises(ConfigError, match=missing):
        Generator().set_state(state)


def test_manual_seed_replays_the_default_generator() -> None:
    tempra.manual_seed(5)
    first = tempra.normal(7).numpy()
    assert tempra.default_generator().state()["ordinal"] == 1
    tempra.manual_seed(5)
    np.testing.assert_array_equal(first, tempra.normal(7).numpy())
    tempra.manual_seed(6)
    assert not np.array_equal(first, tempra.normal(7).numpy())


@pytest.mark.parametrize("fill", ["uniform", "normal"])
def test_rows_do_not_depend_on_who_holds_them(fill: str) -> None:
    """A rank that holds rows 3.. draws what the whole batch has there."""
    make = getattr(tempra, fill)
    whole = make((8, 13), generator=Generator(2)).numpy()
    g = Generator(2)
    g.set_row_offset(3)
    np.testing.assert_array_equal(whole[3:], make((5, 13), generator=g).numpy())


def test_dropout_rows_do_not_depend_on_who_holds_them() -> None:
    x = tempra.ones((8, 50))
    whole = ops.dropout(x, 0.4, generator=Generator(2)).numpy()
    g = Generator(2)
    g.set_row_offset(3)
    np.testing.assert_array_equal(whole[3:], ops.dropout(x[3:], 0.4, generator=g).numpy())


def test_every_operation_takes_one_ordinal() -> None:
    g = Generator()
    x = tempra.ones((2, 3))
    ops.dropout(x, 0.0, generator=g)
    ops.dropout(x, 0.5, generator=g)
    ops.categorical(x, generator=g)
    tempra.uniform((100, 100), generator=g)
    assert g.state()["ordinal"] == 4


def test_evaluation_and_recorded_dropout_use_one_mask() -> None:
    x = tempra.ones((50, 40)).requires_grad_(True)
    y = ops.dropout(x, 0.3, generator=Generator(4))
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
    zeros = (y.detach().numpy() == 0).mean()
    assert abs(zeros - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 2000)


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f64"])
def test_uniform_stays_in_its_range(dtype: str) -> None:
    values = to_array(tempra.uniform((300, 300), -1, 1, dtype=dtype, generator=Generator(1)))
    assert values.min() >= -1
    # bf16 has few numbers: rounding to nearest would reach the bound.
    assert values.max() < 1
    assert abs(values.mean()) < 5 / math.sqrt(3 * values.size)
    assert abs(values.var() - 1 / 3) < 0.01


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f64"])
def test_normal_moments(dtype: str) -> None:
    values = to_array(tempra.normal((400, 400), 2, 3, dtype=dtype, generator=Generator(1)))
    z = (values - 2) / 3
    bound = 5 / math.sqrt(z.size)
    assert abs(z.mean()) < bound
    assert abs((z**2).mean() - 1) < bound * math.sqrt(2) + 1e-3
    assert abs((z**3).mean()) < bound * math.sqrt(15)
    assert abs((z**4).mean() - 3) < bound * math.sqrt(96) + 1e-2
    pairs = np.corrcoef(z[:, 0::2].ravel(), z[:, 1::2].ravel())[0, 1]
    assert abs(pairs) < bound * 2


def test_categorical_follows_the_probabilities() -> None:
    logits = np.log(np.array([0.5, 0.25, 0.0, 0.25]) + 1e-300)
    logits[2] = -np.inf
    draws = ops.categorical(tempra.tensor(np.tile(logits, (20000, 1)), "f32"))
    share = np.bincount(draws.numpy(), minlength=4) / 20000
    assert share[2] == 0
    assert np.abs(share - [0.5, 0.25, 0, 0.25]).max() < 4 * math.sqrt(0.25 / 20000)


def test_categorical_accepts_one_class_and_no_rows() -> None:
    assert ops.categorical(tempra.zeros((3, 1))).tolist() == [0, 0, 0]
    assert ops.categorical(tempra.zeros((0, 4))).shape == (0,)
    assert ops.categorical(tempra.zeros(4)).shape == ()


def test_default_generator_is_one_object() -> None:
    tempra.default_generator().set_step(3)
    assert tempra.default_generator().state()["step"] == 3
