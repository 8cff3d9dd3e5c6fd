"""Packing plans: nothing lost, nothing repeated, no row over capacity, the same every time."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tempra
from tempra import _core
from tempra._core import ConfigError, PackingPlan, ShapeError
from tempra.data import Batch, SequencePacker
from tempra.data.sequence_packer import OVERLONG, STRATEGIES, Overlong, Strategy

lengths_lists = st.lists(st.integers(0, 60), max_size=80)
strategies = st.sampled_from(STRATEGIES)
policies = st.sampled_from(OVERLONG)


def pieces_by_row(plan: PackingPlan) -> list[list[tuple[int, int, int]]]:
    pieces = list(
        zip(plan.documents.tolist(), plan.begins.tolist(), plan.lengths.tolist(), strict=True)
    )
    return [pieces[a:b] for a, b in pairwise(plan.row_offsets.tolist())]


@given(lengths_lists, st.integers(1, 70), strategies, policies, st.integers(0, 2**64 - 1))
def test_every_token_lies_in_exactly_one_place(
    lengths: list[int], capacity: int, strategy: Strategy, overlong: Overlong, seed: int
) -> None:
    packer = SequencePacker(capacity, strategy, overlong=overlong, seed=seed, window=3)
    plan = packer.plan(lengths)
    rows = pieces_by_row(plan)
    assert len(plan) == plan.rows == len(rows)
    placed: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        assert 0 < sum(length for _, _, length in row) <= capacity
        for document, begin, length in row:
            assert length > 0
            placed[document].extend(range(begin, begin + length))
    kept = 0
    for document, length in enumerate(lengths):
        if length > capacity and overlong == "truncate":
            length = capacity
        if length > capacity and overlong == "reject":
            length = 0
        assert sorted(placed[document]) == list(range(length))
        kept += length
    counts = plan.counts
    assert counts["tokens"] == kept
    assert counts["tokens"] + counts["lost_tokens"] == sum(lengths)
    assert counts["documents"] == len(lengths)
    assert counts["overlong"] == sum(length > capacity for length in lengths)
    assert counts["empty"] == lengths.count(0)
    parts = np.bincount(np.asarray(plan.documents, dtype=np.int64), minlength=1)
    assert counts["split"] == int((parts > 1).sum())
    assert plan.fill == (kept / (len(rows) * capacity) if rows else 1.0)


@given(lengths_lists, st.integers(1, 70), strategies, st.integers(0, 99), st.integers(0, 99))
def test_plans_are_functions_of_their_arguments(
    lengths: list[int], capacity: int, strategy: Strategy, seed: int, epoch: int
) -> None:
    plans = []
    threads = tempra.get_num_threads()
    try:
        for count in (1, 2):
            tempra.set_num_threads(count)
            packer = SequencePacker(capacity, strategy, seed=seed)
            packer.plan([5, 9, 13], epoch=epoch + 1)  # what was planned before is no argument
            plans.append(pieces_by_row(packer.plan(lengths, epoch=epoch)))
    finally:
        tempra.set_num_threads(threads)
    assert plans[0] == plans[1]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_seed_and_epoch_packs_differently(strategy: Strategy) -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 500)
    plans = {
        SequencePacker(128, strategy, seed=seed).plan(lengths, epoch=epoch).documents.tobytes()
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(plans) == 9


def partners(plan: PackingPlan) -> set[frozenset[int]]:
    return {frozenset(document for document, _, _ in row) for row in pieces_by_row(plan)}


def test_epochs_change_which_documents_share_a_row() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 1000)
    packer = SequencePacker(256, seed=1)
    one, other = packer.plan(lengths, epoch=0), packer.plan(lengths, epoch=1)
    assert one.rows == other.rows
    assert len(partners(one) & partners(other)) < one.rows // 10


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(50, 90))
def test_best_fit_is_at_most_as_bad_as_best_fit_decreasing_can_be(
    lengths: list[int], capacity: int
) -> None:
    """Johnson's bound: 11/9 of the optimum and 6/9; the sum bounds the optimum from below."""
    rows = SequencePacker(capacity).plan(lengths).rows
    free: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in free if room >= length]
        if fitting:
            free.remove(min(fitting))
        free.append((min(fitting) if fitting else capacity) - length)
    assert rows == len(free)
    assert rows >= -(-sum(lengths) // capacity)


def test_the_reference_lengths_fill_their_rows() -> None:
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(5.0, 0.9, 1_000_000), 1, 2048).astype(np.int64)
    plan = SequencePacker(2048).plan(lengths)
    assert plan.counts["tokens"] == int(lengths.sum())
    assert plan.fill >= 0.9998


def test_streaming_needs_no_more_than_its_window() -> None:
    packer = _core.StreamingPacker(100, "split", 4)
    lengths = np.random.default_rng(0).integers(0, 150, 500).tolist()
    rows = []
    for document, length in enumerate(lengths):
        rows += packer.push(document, length)
        assert packer.open_rows <= 4
    rows += packer.finish()
    assert packer.open_rows == 0
    places = [(d, t) for row in rows for d, b, n in row for t in range(b, b + n)]
    assert sorted(places) == [(d, t) for d, n in enumerate(lengths) for t in range(n)]
    assert packer.counts["tokens"] == sum(lengths)


def check_batch(batch: Batch, documents: list[list[int]], masks: list[list[int]]) -> set[int]:
    """Check a batch of documents whose ids are all different; return the labels learned."""
    place = {
        token: (document, index)
        for document, ids in enumerate(documents)
        for index, token in enumerate(ids)
    }
    learned: list[int] = []
    for first, last in zip(batch.offsets[:-1], batch.offsets[1:], strict=True):
        document, start = place[int(batch.tokens[first])]
        for i in range(first, last):
            assert place[int(batch.tokens[i])] == (document, start + int(i - first))
            assert batch.positions[i] == i - first
            label = int(batch.labels[i])
            after = start + int(i - first) + 1
            if after < len(documents[document]) and masks[document][after]:
                assert label == documents[document][after]
                learned.append(label)
            else:
                assert label == -100
    assert batch.valid_tokens == len(learned) == len(set(learned))
    return set(learned)


@given(st.lists(st.integers(0, 25), max_size=30), st.integers(1, 20), strategies, st.data())
def test_labels_stay_within_documents_and_masks(
    lengths: list[int], capacity: int, strategy: Strategy, data: st.DataObject
) -> None:
    starts = np.cumsum([0, *lengths]).tolist()
    documents = [
        list(range(start, start + n)) for start, n in zip(starts[:-1], lengths, strict=True)
    ]
    masks = [data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)) for n in lengths]
    packed = SequencePacker(capacity, strategy, seed=3).pack(documents, masks)
    learned = check_batch(packed.rows(0, len(packed)), documents, masks)
    one_by_one: set[int] = set()
    for row in range(len(packed)):
        one_by_one |= check_batch(packed.rows(row, row + 1), documents, masks)
    # Every token but the first of each document, where its mask says so, also across rows.
    expected = {
        token
        for ids, mask in zip(documents, masks, strict=True)
        for token, wanted in list(zip(ids, mask, strict=True))[1:]
        if wanted
    }
    assert learned == one_by_one == expected


def test_padding_fills_rows_and_is_not_learned() -> None:
    packed = SequencePacker(8, "none", longest_first=True).pack([[1, 2, 3], [4] * 8, [5]])
    batch = packed.rows(0, 3, pad_token=0)
    assert batch.tokens.tolist() == [4] * 8 + [1, 2, 3] + [0] * 5 + [5] + [0] * 7
    assert batch.labels.tolist() == [4] * 7 + [-100, 2, 3] + [-100] * 14
    assert batch.offsets.tolist() == [0, 8, 11, 16, 17, 24]
    assert batch.positions[8:16].tolist() == [0, 1, 2, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0,), "capacity 0 given, 1 to 16777216 needed"),
        ((8, "bfd"), "strategy 'bfd' given, best_fit, streaming, concat or none needed"),
        ((8, "best_fit", {"overlong": "cut"}), "overlong 'cut' given, split, truncate or reject"),
        ((8, "streaming", {"window": 0}), "window of 0 rows given"),
        ((8, "concat", {"longest_first": True}), "strategy none only"),
    ],
)
def test_wrong_options_are_refused(arguments: tuple[Any, ...], words: str) -> None:
    *positional, last = arguments
    options = last if isinstance(last, dict) else {}
    with pytest.raises(ConfigError, match=words):
        SequencePacker(*(positional if options else arguments), **options)


def test_wrong_documents_are_refused() -> None:
    packer = SequencePacker(8)
    with pytest.raises(ShapeError, match="document 1 has length -2, at least 0 needed"):
        packer.plan([1, -2])
    with pytest.raises(ShapeError, match="2 dimensions given, 1 needed"):
        packer.plan([[1, 2]])
    with pytest.raises(ShapeError, match="run from -1 to 3"):
        packer.pack([[3, -1]])
    with pytest.raises(ShapeError, match="other lengths than their documents"):
        packer.pack([[3, 1]], [[1]])
    packed = packer.pack([[1, 2]])
    with pytest.raises(ShapeError, match="rows 0 to 2 given, 0 to 1 there"):
        packed.rows(0, 2)
