"""Batches cut from a token stream: complete, repeatable, and independent of how they are asked
for."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tempra import _core
from tempra._core import ConfigError
from tempra.data.batch import Batch
from tempra.data.batch_source import BatchIterator, DataLoader, Mode, validation_batches
from tempra.data.token_dataset import TokenizedDataset

VOCABULARY = 257


def counted(tokens: int) -> TokenizedDataset:
    """A stream that counts up, so that a token tells its place."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "counted.bin"
        with _core.TokenBinWriter(str(path), "u32") as writer:
            writer.append(np.arange(tokens, dtype=np.uint32) % np.uint32(VOCABULARY))
            writer.finish()
        # The mapping outlives the file's name.
        return TokenizedDataset([path], vocabulary_size=VOCABULARY)


def check_rows(batch: Batch, rows: int, block: int) -> None:
    assert batch.tokens.shape == batch.labels.shape == batch.positions.shape == (rows * block,)
    assert batch.offsets.tolist() == [row * block for row in range(rows + 1)]
    assert batch.positions.tolist() == list(range(block)) * rows
    for array in (batch.tokens, batch.labels, batch.offsets, batch.positions):
        assert array.dtype == np.int32
        assert array.flags.c_contiguous


@given(st.integers(1, 8), st.integers(1, 9), st.integers(2, 200), st.integers(0, 2**62))
def test_each_epoch_reads_every_block_once(
    batch_size: int, block: int, tokens: int, seed: int
) -> None:
    assume(tokens > block)
    source = DataLoader(counted(tokens), batch_size=batch_size, block=block, seed=seed)
    blocks = (tokens - 1) // block
    rows = []
    for index in range(-(-2 * blocks // batch_size)):
        batch = source.batch(index)
        check_rows(batch, batch_size, block)
        assert batch.valid_tokens == batch_size * block
        assert np.array_equal(batch.labels, (batch.tokens + 1) % VOCABULARY)
        rows += batch.tokens[::block].tolist()
    for epoch in range(2):
        starts = sorted(rows[epoch * blocks : (epoch + 1) * blocks])
        assert all(b - a == block for a, b in pairwise(starts))
        assert 0 <= starts[0] <= (tokens - 1) % block


@pytest.mark.parametrize("mode", ["blocks", "random"])
def test_batches_do_not_depend_on_what_was_asked_before(mode: Mode) -> None:
    dataset = counted(500)
    one = DataLoader(dataset, batch_size=3, block=7, seed=1, mode=mode)
    two = DataLoader(dataset, batch_size=3, block=7, seed=1, mode=mode)
    forward = [one.batch(index).tokens.tolist() for index in range(40)]
    backward = [two.batch(index).tokens.tolist() for index in reversed(range(40))]
    assert forward == backward[::-1]
    other = DataLoader(dataset, batch_size=3, block=7, seed=2, mode=mode)
    assert other.batch(0).tokens.tolist() != forward[0]


def test_epochs_differ_and_offsets_move_over_the_rest() -> None:
    source = DataLoader(counted(100), batch_size=9, block=10, seed=3)
    epochs = [source.batch(epoch).tokens[::10].tolist() for epoch in range(60)]
    assert len({tuple(rows) for rows in epochs}) == 60
    assert {min(rows) for rows in epochs} == set(range(10))
    assert source.epochs(4) == 4.0


def test_random_mode_starts_everywhere_evenly() -> None:
    source = DataLoader(counted(41), batch_size=1000, block=8, seed=3, mode="random")
    starts = np.concatenate([source.batch(index).tokens[::8] for index in range(33)])
    counts = np.bincount(starts, minlength=33)
    assert counts.size == 33
    assert counts.min() > 850
    assert counts.max() < 1150


def test_rows_do_not_share_memory() -> None:
    batch = DataLoader(counted(50), batch_size=1, block=8, seed=3).batch(0)
    before = batch.tokens.tolist()
    batch.labels[:] = -100
    assert batch.tokens.tolist() == before
    with pytest.raises(ValueError, match="read-only"):
        batch.positions[0] = 1


def test_text_shorter_than_a_sequence_is_refused_with_the_numbers() -> None:
    dataset = counted(64)
    with pytest.raises(ConfigError, match="has 64 tokens, one sequence needs 65"):
        DataLoader(dataset, batch_size=1, block=64, seed=0)
    DataLoader(dataset, batch_size=1, block=63, seed=0).batch(0)


def test_wrong_arguments_are_refused() -> None:
    dataset = counted(64)
    with pytest.raises(ConfigError, match="got mode 'rows'"):
        DataLoader(dataset, batch_size=1, block=4, seed=0, mode="rows")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="batch_size 0"):
        DataLoader(dataset, batch_size=0, block=4, seed=0)
    with pytest.raises(ConfigError, match="got batch -1"):
        DataLoader(dataset, batch_size=1, block=4, seed=0).batch(-1)


def test_an_iterator_continues_from_its_state() -> None:
    source = DataLoader(counted(500), batch_size=2, block=5, seed=1)
    iterator = BatchIterator(source)
    for _ in range(7):
        next(iterator)
    state = iterator.state_dict()
    assert all(type(value) is int for value in state.values())
    expected = next(iterator).tokens.tolist()
    resumed = BatchIterator(source)
    resumed.load_state_dict(state)
    assert next(resumed).tokens.tolist() == expected
    other = DataLoader(counted(500), batch_size=2, block=6, seed=1)
    with pytest.raises(ConfigError, match="block = 5, this one has 6"):
        BatchIterator(other).load_state_dict(state)
    with pytest.raises(ConfigError, match="'seed' is missing"):
        BatchIterator(source).load_state_dict({})
    with pytest.raises(ConfigError, match="cursor is -2"):
        BatchIterator(source).load_state_dict({**state, "cursor": -2})


@given(st.integers(1, 5), st.integers(1, 9), st.integers(2, 120))
def test_validation_predicts_every_token_exactly_once(
    batch_size: int, block: int, tokens: int
) -> None:
    labels: list[int] = []
    for batch in validation_batches(counted(tokens), batch_size=batch_size, block=block):
        check_rows(batch, batch.offsets.size - 1, block)
        trained = batch.labels != -100
        assert int(trained.sum()) == batch.valid_tokens
        assert np.array_equal(batch.labels[trained], (batch.tokens[trained] + 1) % VOCABULARY)
        labels += batch.labels[trained].tolist()
    assert labels == [index % VOCABULARY for index in range(1, tokens)]


def test_limited_validation_spreads_over_the_split() -> None:
    dataset = counted(201)
    batches = list(validation_batches(dataset, batch_size=2, block=10, limit=2))
    assert [batch.tokens[::10].tolist() for batch in batches] == [[0, 50], [100, 150]]
    whole = list(validation_batches(dataset, batch_size=2, block=10, limit=99))
    assert sum(batch.valid_tokens for batch in whole) == 200


def test_validation_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="has 1 tokens, needs at least 2"):
        next(validation_batches(counted(1), batch_size=1, block=4))
