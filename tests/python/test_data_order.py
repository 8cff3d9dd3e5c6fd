"""The sample order: a bijection for every size, independent of how it is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sample_order_reference import ReferenceSampleOrder, mix, mix_array
from tempra import ConfigError, ShapeError
from tempra.data import SampleOrder

seeds = st.integers(0, 2**63 - 1)
epochs = st.integers(0, 2**40)


@given(st.integers(1, 5000), seeds, epochs)
def test_every_sample_exactly_once_and_back(count: int, seed: int, epoch: int) -> None:
    order = SampleOrder(count, seed, epoch)
    samples = order(np.arange(count))
    assert np.array_equal(np.sort(samples), np.arange(count))
    assert np.array_equal(order.inverse(samples), np.arange(count))


@given(st.integers(1, 2**62), seeds, epochs, st.data())
def test_single_positions_of_huge_corpora_need_no_array(
    count: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    positions = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=20))
    order = SampleOrder(count, seed, epoch)
    samples = order(positions)
    assert int(samples.min()) >= 0
    assert int(samples.max()) < count
    assert order.inverse(samples).tolist() == positions
    assert [int(order([position])[0]) for position in positions] == samples.tolist()


def test_seed_and_epoch_change_the_order() -> None:
    orders = {
        tuple(SampleOrder(1000, seed, epoch)(np.arange(1000)).tolist())
        for seed in (0, 1, 2**40)
        for epoch in (0, 1, 2)
    }
    assert len(orders) == 9


def test_the_order_is_pinned() -> None:
    """A resumed run must read what the interrupted one would have read, also after an upgrade."""
    assert SampleOrder(10, 1337, 0)(np.arange(10)).tolist() == PINNED_10
    assert SampleOrder(10**9, 7, 3)([0, 1, 10**9 - 1]).tolist() == PINNED_1E9


PINNED_10 = [0, 4, 2, 7, 8, 1, 6, 3, 5, 9]
PINNED_1E9 = [192730566, 174764958, 43318230]


def test_the_order_looks_random() -> None:
    """Position and sample are uncorrelated, and neighbours stay neighbours as rarely as by
    chance."""
    count = 100_000
    samples = SampleOrder(count, 5, 0)(np.arange(count))
    assert abs(np.corrcoef(np.arange(count), samples)[0, 1]) < 0.02
    close = np.count_nonzero(np.abs(np.diff(samples)) <= 50)
    assert 50 < close < 160  # 100 expected
    # Each tenth of the epoch draws evenly from each tenth of the samples: chi-squared, 81 degrees.
    table = np.zeros((10, 10))
    np.add.at(table, (np.arange(count) // 10_000, samples // 10_000), 1)
    assert float(((table - 1000) ** 2 / 1000).sum()) < 140


def test_small_counts_reach_every_permutation() -> None:
    seen = {tuple(SampleOrder(3, seed, 0)(np.arange(3)).tolist()) for seed in range(200)}
    assert len(seen) == 6


@pytest.mark.parametrize("index", [-1, 10])
def test_positions_outside_are_refused(index: int) -> None:
    with pytest.raises(ShapeError, match="0 to 9 needed"):
        SampleOrder(10, 0, 0)([index])
    for count in (0, -1, 2**62 + 1):
        with pytest.raises(ConfigError, match="sample order"):
            SampleOrder(count, 0, 0)


@given(st.integers(0, 2**64 - 1))
def test_vector_and_scalar_arithmetic_agree(value: int) -> None:
    assert int(mix_array(np.array([value], dtype=np.uint64))[0]) == mix(value)


@given(st.integers(1, 2**62), st.integers(-(2**70), 2**70), epochs, st.data())
def test_native_and_numpy_arithmetic_agree(
    count: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    positions = data.draw(st.lists(st.integers(0, count - 1), max_size=20))
    expected = ReferenceSampleOrder(count, seed, epoch)(positions)
    assert SampleOrder(count, seed, epoch)(positions).tolist() == expected.tolist()
