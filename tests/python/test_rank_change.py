"""A resumed run may have another number of ranks: the batches of all together stay the same."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tempra.data import BatchIterator, DataLoader, Mixture, RowOptions, TokenizedDataset
from test_data_curriculum import write_documents

Sets = tuple[TokenizedDataset, TokenizedDataset]

# Ways to read a set, as a stage of a run may choose them.
READINGS: list[dict[str, Any]] = [
    {},
    {"mode": "random"},
    {"order": "sequential"},
    *({"packing": packing} for packing in ("best_fit", "streaming", "concat", "none")),
    {"packing": "best_fit", "pad_token": 1, "overlong": "truncate"},
    {"packing": "streaming", "order": "shortest_first"},
    {"packing": "concat", "order": "sequential", "part_documents": 7},
]
BATCH = 12


@pytest.fixture(scope="module")
def sets() -> Iterator[Sets]:
    choose = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        yield (
            write_documents(Path(folder) / "one", choose.integers(1, 40, 90).tolist()),
            write_documents(Path(folder) / "two", choose.integers(1, 20, 30).tolist(), first=128),
        )


def dataset_of(sets: Sets, readings: list[dict[str, Any]], weights: list[float]) -> Any:
    """One set, or a mixture of both."""
    if len(readings) == 1:
        return sets[0]
    return Mixture(sets, weights=weights, options=[RowOptions(**each) for each in readings])


def global_batches(
    build: Any, world_size: int, cursor: int, count: int, state: dict[str, int] | None
) -> tuple[list[tuple[bytes, ...]], dict[str, int]]:
    """What all ranks read together, and the state of the first one afterwards."""
    ranks = [BatchIterator(build(rank=rank, world_size=world_size)) for rank in range(world_size)]
    for rank in ranks:
        if state is not None:
            rank.load_state_dict(state)
        assert rank.cursor == cursor
    batches = []
    for _ in range(count):
        parts = [next(rank) for rank in ranks]
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        joined = [
            np.concatenate([getattr(part, name) for part in parts]).tobytes()
            for name in ("tokens", "labels", "positions")
        ]
        batches.append((*joined, lengths.tobytes()))
    states = [rank.state_dict() for rank in ranks]
    assert all(state == states[0] for state in states)
    return batches, states[0]


@given(
    stages=st.lists(
        st.tuples(
            st.lists(st.sampled_from(READINGS), min_size=1, max_size=2),
            st.tuples(st.floats(0.1, 10.0), st.floats(0.1, 10.0)),
            st.sampled_from([8, 24]),  # block
            st.integers(1, 25),  # batches
        ),
        min_size=1,
        max_size=3,
    ),
    worlds=st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=2, max_size=4),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_ranks_may_change_at_any_batch_of_any_stage(
    sets: Sets, stages: list[Any], worlds: list[int], data: st.DataObject
) -> None:
    for number, (readings, weights, block, batches) in enumerate(stages):

        def build(
            readings: Any = readings,
            weights: Any = weights,
            block: int = block,
            seed: int = number,
            **ranks: int,
        ) -> DataLoader:
            dataset = dataset_of(sets, readings, list(weights))
            alone = readings[0] if len(readings) == 1 else {}
            return DataLoader(dataset, batch_size=BATCH, block=block, seed=seed, **alone, **ranks)

        whole, _ = global_batches(build, 1, 0, batches, None)
        cuts = sorted(data.draw(st.integers(0, batches)) for _ in worlds[1:])
        read: list[Any] = []
        state: dict[str, int] | None = None
        for world_size, end in zip(worlds, [*cuts, batches], strict=True):
            part, state = global_batches(build, world_size, len(read), end - len(read), state)
            assert all(type(value) is int for value in state.values())
            read += part
        assert read == whole
