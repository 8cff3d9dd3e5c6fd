"""Orders of lessons: text as it lies, and documents from short to long."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tempra._core import ConfigError
from tempra.data import DataLoader, Mixture, RowOptions, TokenizedDataset
from tempra.data.shard_writer import ShardWriter
from tempra.data.tokenizer import ByteTokenizer

CAPACITY = 16
IN_ORDER = ("streaming", "concat", "none")


def write_documents(
    folder: Path, lengths: list[int], shard_tokens: int = 90, *, first: int = 0
) -> TokenizedDataset:
    """Documents whose tokens are their number, each followed by the end mark, of these lengths."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = ShardWriter(folder, "train", ByteTokenizer(), "u32", shard_tokens)
    for number, length in enumerate(lengths, start=first):
        writer.append(np.full(length - 1, number % 256, dtype=np.uint32), ends_document=True)
    writer.finish()
    return TokenizedDataset.from_folder(folder)


def rows_of(source: DataLoader, count: int) -> list[list[int]]:
    """The tokens of the first rows, of a loader that has one row in a batch."""
    return [source.batch(index).tokens.tolist() for index in range(count)]


def expected_rows(lengths: list[tuple[int, int]], packing: str, overlong: str) -> list[list[int]]:
    """Rows by the plainest code there is, for documents in the order of their lessons."""
    documents = []
    for number, length in lengths:
        tokens = [number % 256] * (length - 1) + [256]
        if length > CAPACITY and overlong == "reject":
            continue
        documents.append(tokens[:CAPACITY] if overlong == "truncate" else tokens)
    if packing == "concat":
        stream = [token for document in documents for token in document]
        return [stream[at : at + CAPACITY] for at in range(0, len(stream), CAPACITY)]
    rows: list[list[int]] = []
    for document in documents:
        for at in range(0, len(document), CAPACITY):
            piece = document[at : at + CAPACITY]
            if packing == "streaming" and rows and len(rows[-1]) + len(piece) <= CAPACITY:
                rows[-1] += piece
            else:
                rows.append(list(piece))
    return rows


@given(
    lengths=st.lists(st.integers(1, 3 * CAPACITY), min_size=1, max_size=60),
    packing=st.sampled_from(IN_ORDER),
    overlong=st.sampled_from(["split", "truncate", "reject"]),
    order=st.sampled_from(["sequential", "shortest_first"]),
    part_documents=st.sampled_from([1 << 20, 7, 1]),
)
@settings(deadline=None, max_examples=150)
def test_rows_are_those_of_the_plainest_code(
    lengths: list[int], packing: Any, overlong: Any, order: Any, part_documents: int
) -> None:
    numbered = list(enumerate(lengths))
    if order == "shortest_first":  # documents longer than a row are all alike
        numbered.sort(key=lambda pair: min(pair[1], CAPACITY + 1))
    expected = [
        row
        for first in range(0, len(numbered), part_documents)
        for row in expected_rows(numbered[first : first + part_documents], packing, overlong)
    ]
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_documents(Path(folder), lengths)
        options = {"packing": packing, "order": order, "overlong": overlong}

        def loader(**more: Any) -> DataLoader:
            return DataLoader(dataset, batch_size=1, block=CAPACITY, seed=3, **options, **more)

        if not expected:
            with pytest.raises(ConfigError, match="no document is left to pack"):
                loader(part_documents=part_documents)
            return
        source = loader(part_documents=part_documents)
        assert source.rows_per_epoch == len(expected)
        # Every epoch alike, and the same whatever was asked before.
        assert rows_of(source, 2 * len(expected)) == 2 * expected
        assert source.batch(0).tokens.tolist() == expected[0]
        learned = sum(source.batch(index).valid_tokens for index in range(len(expected)))
        if overlong == "split":
            assert learned == sum(lengths) - len(lengths)


def test_labels_go_on_where_a_document_does(tmp_path: Path) -> None:
    dataset = write_documents(tmp_path, [40])
    source = DataLoader(
        dataset, batch_size=3, block=CAPACITY, seed=0, packing="none", order="sequential"
    )
    batch = source.batch(0)
    assert np.diff(batch.offsets).tolist() == [16, 16, 8]
    assert batch.labels.tolist() == [0] * 38 + [256, -100]
    padded = DataLoader(
        dataset,
        batch_size=3,
        block=CAPACITY,
        seed=0,
        packing="none",
        order="sequential",
        pad_token=7,
    ).batch(0)
    assert padded.tokens[-9:].tolist() == [256, *[7] * 8]
    assert padded.valid_tokens == 39


@given(st.integers(1, 9), st.integers(20, 200), st.integers(0, 2**62))
@settings(deadline=None, max_examples=40)
def test_blocks_in_sequence(block: int, tokens: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_documents(Path(folder), [7] * (tokens // 7 + 1), 1000)
        source = DataLoader(dataset, batch_size=1, block=block, seed=seed, order="sequential")
        shuffled = DataLoader(dataset, batch_size=1, block=block, seed=seed)
        blocks = (len(dataset) - 1) // block
        for epoch in range(3):
            rows = [source.batch(epoch * blocks + index) for index in range(blocks)]
            # The same blocks as shuffled, one behind the other: labels are the next row's tokens.
            for one, other in pairwise(rows):
                assert one.labels[-1] == other.tokens[0]
            others = [shuffled.batch(epoch * blocks + index).tokens for index in range(blocks)]
            assert sorted(row.tokens.tolist() for row in rows) == sorted(
                row.tolist() for row in others
            )


def test_orders_that_cannot_be_are_refused(tmp_path: Path) -> None:
    dataset = write_documents(tmp_path, [9, 30, 5])
    for options, words in (
        ({"order": "longest"}, "got order 'longest', needs one of shuffled, sequential"),
        ({"order": "sequential", "mode": "random"}, "with mode 'random'"),
        ({"order": "shortest_first"}, "without packing, so sequences are cut from all"),
        ({"order": "shortest_first", "packing": "best_fit"}, "streaming, concat and none keep"),
        (
            {"order": "sequential", "packing": "none", "longest_first": True},
            "longest_first with order",
        ),
    ):
        with pytest.raises(ConfigError, match=words):
            DataLoader(dataset, batch_size=1, block=8, seed=0, **options)  # type: ignore[arg-type]


def test_an_order_is_part_of_what_a_resumed_run_compares(tmp_path: Path) -> None:
    dataset = write_documents(tmp_path, [9, 30, 5])

    def loader(order: Any) -> DataLoader:
        return DataLoader(dataset, batch_size=1, block=8, seed=0, packing="concat", order=order)

    state = iter(loader("shortest_first")).state_dict()
    assert all(type(value) is int for value in state.values())
    with pytest.raises(ConfigError, match="order = 2, this one has 1"):
        iter(loader("sequential")).load_state_dict(state)


def test_a_mixture_reads_each_set_by_its_own_options(tmp_path: Path) -> None:
    lessons = write_documents(tmp_path / "lessons", [3, 12, 7, 5, 9, 15])
    text = write_documents(tmp_path / "text", [400], 1000, first=200)
    options = [RowOptions(packing="streaming", order="shortest_first"), None]
    mixture = Mixture([lessons, text], weights=[1, 1], options=options)
    source = DataLoader(mixture, batch_size=1, block=CAPACITY, seed=1)
    alone = DataLoader(
        lessons, batch_size=1, block=CAPACITY, seed=1, packing="streaming", order="shortest_first"
    )
    rows = rows_of(source, 200)
    of_lessons = [row for row in rows if 200 not in row]
    assert 60 < len(of_lessons) < 140
    assert of_lessons == rows_of(alone, len(of_lessons))
    assert {len(row) for row in rows if 200 in row} == {CAPACITY}
    with pytest.raises(ConfigError, match="options for 1 of 2 data sets"):
        Mixture([lessons, text], options=[None])


def test_epochs_of_a_mixture(tmp_path: Path) -> None:
    large = write_documents(tmp_path / "large", [64] * 32, 10_000)
    small = write_documents(tmp_path / "small", [64] * 8, 10_000, first=100)
    mixture = Mixture([large, small], weights=[1, 1])
    source = DataLoader(mixture, batch_size=4, block=CAPACITY, seed=1)
    assert source.rows_per_epoch_by_source == [127, 31]
    assert source.rows_per_epoch == 158
    assert source.epochs(158) == 4.0
    assert source.batches_for(1.0) == 40
    assert source.epochs(39) < 1.0 <= source.epochs(40)
    counted = [0, 0]
    for index in range(300):
        for row in source.batch(index).tokens.reshape(4, CAPACITY):
            counted[int((row[row < 256] >= 100).any())] += 1
        assert source.epochs_by_source(index + 1) == [counted[0] / 127, counted[1] / 31]
    alone = DataLoader(large, batch_size=4, block=CAPACITY, seed=1)
    assert alone.epochs_by_source(10) == [alone.epochs(10)]
