"""The loader: packed rows, mixtures, ranks, resuming, and batches that never change."""

from __future__ import annotations

import gc
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tempra
from sample_order_reference import ReferenceSampleOrder, mix, mix_array
from tempra._core import ConfigError, FormatError
from tempra.data import Batch, BatchIterator, DataLoader, Mixture, TokenizedDataset
from tempra.data.mixture import CYCLE_ROWS, share_out
from tempra.data.sequence_packer import STRATEGIES, Strategy
from tempra.data.shard_writer import ShardWriter
from tempra.data.tokenizer import ByteTokenizer


def write_documents(
    folder: Path, lengths: list[int], *, first: int = 0, shard_tokens: int = 150
) -> TokenizedDataset:
    """Documents that count up from `first`, each followed by the end mark."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = ShardWriter(folder, "train", ByteTokenizer(), "u32", shard_tokens)
    for length in lengths:
        ids = (np.arange(first, first + length) % 256).astype(np.uint32)
        writer.append(ids, ends_document=True)
        first += length
    writer.finish()
    return TokenizedDataset.from_folder(folder)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> TokenizedDataset:
    lengths = np.random.default_rng(0).integers(1, 60, 120).tolist()
    return write_documents(tmp_path_factory.mktemp("documents"), lengths)


def bits(batch: Batch) -> tuple[Any, ...]:
    arrays = (batch.tokens, batch.labels, batch.offsets, batch.positions)
    return (*(array.tobytes() for array in arrays), batch.valid_tokens)


def loader(dataset: Any, packing: Strategy | None = "best_fit", **options: Any) -> DataLoader:
    return DataLoader(
        dataset, **{"batch_size": 6, "block": 48, "seed": 7, "packing": packing, **options}
    )


def windows_in_numpy(source: DataLoader, dataset: TokenizedDataset, index: int) -> np.ndarray:
    """Rows of a batch as the first version of this library cut them."""
    rows = np.arange(index * source.batch_size, (index + 1) * source.batch_size)
    blocks = (len(dataset) - 1) // source.block
    if source.options.mode == "random":
        values = mix_array(mix_array(rows.astype(np.uint64)) ^ np.uint64(mix(source.seed)))
        starts = (values % np.uint64(len(dataset) - source.block)).astype(np.int64)
    else:
        slack = (len(dataset) - 1) % source.block
        starts = np.array(
            [
                ReferenceSampleOrder(blocks, source.seed, int(row) // blocks)([row % blocks])[0]
                * source.block
                + mix(mix(source.seed) ^ int(row // blocks)) % (slack + 1)
                for row in rows
            ]
        )
    return dataset.windows(starts, source.block + 1)


@pytest.mark.parametrize("mode", ["blocks", "random"])
@pytest.mark.parametrize("seed", [0, 1337, 2**63 + 5, -1])
def test_windows_are_those_that_runs_began_with(
    dataset: TokenizedDataset, mode: Any, seed: int
) -> None:
    source = DataLoader(dataset, batch_size=5, block=11, seed=seed, mode=mode)
    for index in (0, 1, 2, 60, 61, 200, 100_000):
        expected = windows_in_numpy(source, dataset, index)
        batch = source.batch(index)
        assert np.array_equal(batch.tokens.reshape(5, 11), expected[:, :-1])
        assert np.array_equal(batch.labels.reshape(5, 11), expected[:, 1:])


@pytest.mark.parametrize("packing", STRATEGIES)
@pytest.mark.parametrize("part_documents", [1 << 20, 40])
def test_each_epoch_reads_every_document_once(
    dataset: TokenizedDataset, packing: Strategy, part_documents: int
) -> None:
    source = loader(dataset, packing, batch_size=1, part_documents=part_documents)
    expected = np.sort(dataset.slice(0, len(dataset)))
    index = 0
    for epoch in range(1, 4):
        read: list[np.ndarray] = []
        valid = 0
        while source.epochs(index) < epoch:
            batch = source.batch(index)
            assert batch.tokens.size <= 48
            read.append(batch.tokens.copy())
            valid += batch.valid_tokens
            index += 1
        assert source.epochs(index) == epoch
        assert np.array_equal(np.sort(np.concatenate(read)), expected)
        assert valid == len(dataset) - dataset.documents


@pytest.mark.parametrize("packing", [*STRATEGIES, None])
def test_ranks_share_the_same_batches(dataset: TokenizedDataset, packing: Strategy | None) -> None:
    whole = loader(dataset, packing)
    for world_size in (2, 3, 6):
        ranks = [
            loader(dataset, packing, rank=rank, world_size=world_size) for rank in range(world_size)
        ]
        for index in (0, 1, 9, 10, 50):
            parts = [rank.batch(index) for rank in ranks]
            batch = whole.batch(index)
            for name in ("tokens", "labels", "positions"):
                joined = np.concatenate([getattr(part, name) for part in parts])
                assert np.array_equal(joined, getattr(batch, name))
            lengths = np.concatenate([np.diff(part.offsets) for part in parts])
            assert np.array_equal(lengths, np.diff(batch.offsets))
            assert batch.valid_tokens == sum(part.valid_tokens for part in parts)


@given(
    stop=st.integers(0, 60),
    packing=st.sampled_from([*STRATEGIES, None]),
    worlds=st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 3])),
)
@settings(deadline=None, max_examples=30)
def test_a_run_continues_at_any_batch_with_any_number_of_ranks(
    dataset: TokenizedDataset,
    stop: int,
    packing: Strategy | None,
    worlds: tuple[int, int],
) -> None:
    before = BatchIterator(loader(dataset, packing, world_size=worlds[0]))
    for _ in range(stop):
        next(before)
    state = before.state_dict()
    assert all(type(value) is int for value in state.values())
    expected = [bits(loader(dataset, packing).batch(stop + i)) for i in range(3)]
    resumed = BatchIterator(loader(dataset, packing, world_size=worlds[1], readahead=2))
    resumed.load_state_dict(state)
    rows = [next(resumed) for _ in range(3)]
    if worlds[1] == 1:
        assert [bits(batch) for batch in rows] == expected
    else:  # rank 0 has the first part
        for batch, whole in zip(rows, expected, strict=True):
            assert whole[0].startswith(batch.tokens.tobytes())


def test_other_packing_is_no_continuation(dataset: TokenizedDataset) -> None:
    state = iter(loader(dataset)).state_dict()
    for change, words in (
        ({"packing": "concat"}, "packing = 0, this one has 2"),
        ({"overlong": "reject"}, "overlong = 0, this one has 2"),
        ({"seed": 8}, "seed = 7, this one has 8"),
    ):
        with pytest.raises(ConfigError, match=words):
            iter(loader(dataset, **change)).load_state_dict(state)
    with pytest.raises(ConfigError, match="'packing' is missing"):
        iter(loader(dataset)).load_state_dict(iter(loader(dataset, None)).state_dict())


def test_batches_keep_their_content_while_they_are_held(dataset: TokenizedDataset) -> None:
    source = loader(dataset)
    held = [source.batch(index) for index in range(40)]
    expected = [bits(batch) for batch in held]
    tokens = held[5].tokens
    tensor = tempra.from_numpy(held[6].tokens)
    sixth = held[6].tokens.copy()
    held[7].labels[:] = 0  # one's own; the next batch in the same memory is whole again
    del held[:20]
    for index in range(40, 80):
        source.batch(index)
    assert bits(source.batch(5))[0] == tokens.tobytes()
    assert np.array_equal(tensor.numpy(), sixth)
    assert [bits(batch) for batch in held] == expected[20:]
    assert [bits(source.batch(index)) for index in range(10)] == expected[:10]


def test_readers_end_with_their_loader(dataset: TokenizedDataset) -> None:
    threads = len(list(Path("/proc/self/task").iterdir()))
    for _ in range(20):
        loader(dataset).batch(0)
    gc.collect()
    assert len(list(Path("/proc/self/task").iterdir())) <= threads + 1


def _read_in_child(source: DataLoader, queue: Any) -> None:
    queue.put([bits(source.batch(index)) for index in (3, 4, 5)])


def test_a_forked_child_reads_on(dataset: TokenizedDataset) -> None:
    source = loader(dataset)
    expected = [bits(source.batch(index)) for index in (3, 4, 5)]
    for index in range(3):
        source.batch(index)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_read_in_child, args=(source, queue))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(60)
    assert child.exitcode == 0
    assert [bits(source.batch(index)) for index in (3, 4, 5)] == expected


def test_damage_is_reported_by_the_batch_that_meets_it(tmp_path: Path) -> None:
    dataset = write_documents(tmp_path, [30] * 20, shard_tokens=10_000)
    path = dataset.shards[0].path
    content = bytearray(path.read_bytes())
    content[4 * 100 : 4 * 101] = (999).to_bytes(4, "little")
    path.write_bytes(content)
    source = loader(TokenizedDataset([path]), "concat", batch_size=1, block=31)
    failed = 0
    for index in range(20):
        try:
            source.batch(index)
        except FormatError as error:
            failed += 1
            assert "train-00000.bin: token 999 at position" in str(error)  # noqa: PT017
    assert 1 <= failed <= 2


def test_mixtures_keep_their_shares_and_read_each_set_evenly(tmp_path: Path) -> None:
    one = write_documents(tmp_path / "one", [20] * 30)
    two = write_documents(tmp_path / "two", [20] * 10, first=128)
    mixture = Mixture([one, two], weights=[3, 1])
    assert mixture.quotas == [768, 256]
    assert len(mixture) == len(one) + len(two)
    for packing in ("best_fit", None):
        source = loader(mixture, packing, batch_size=64, block=21)
        rows = np.concatenate([source.batch(index).offsets.size - 1 for index in range(16)], None)
        assert rows.sum() == CYCLE_ROWS
        again = loader(mixture, packing, batch_size=64, block=21)
        assert bits(again.batch(9)) == bits(source.batch(9))
        assert source.epochs(0) == 0.0
        assert source.epochs(100) > source.epochs(50) > 0.0
    whole = loader(mixture, batch_size=CYCLE_ROWS, block=21).batch(1)
    ends = whole.tokens.reshape(CYCLE_ROWS, 21)
    assert (ends[:, -1] == 256).all()
    other = DataLoader(
        Mixture([two, one], weights=[1, 3]), batch_size=6, block=21, seed=7, packing="best_fit"
    )
    state = iter(loader(mixture, block=21)).state_dict()
    with pytest.raises(ConfigError, match="the saved run had"):
        iter(other).load_state_dict(state)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40))
def test_quotas_are_whole_and_close(weights: list[float]) -> None:
    quotas = share_out(weights, len(weights))
    assert sum(quotas) == CYCLE_ROWS
    assert min(quotas) >= 1
    for quota, weight in zip(quotas, weights, strict=True):
        exact = weight / sum(weights) * CYCLE_ROWS
        assert abs(quota - exact) <= len(weights)


def test_temperature_raises_small_sets(tmp_path: Path) -> None:
    large = write_documents(tmp_path / "large", [30] * 90)
    small = write_documents(tmp_path / "small", [30] * 10)
    sizes = len(large) / (len(large) + len(small))
    assert Mixture([large, small]).quotas[0] == round(CYCLE_ROWS * sizes)
    quotas = [Mixture([large, small], temperature=t).quotas[1] for t in (1.0, 2.0, 5.0, 1e9)]
    assert quotas == sorted(quotas)
    assert quotas[-1] == CYCLE_ROWS // 2


def test_wrong_mixtures_are_refused(tmp_path: Path, dataset: TokenizedDataset) -> None:
    for options, words in (
        ({"weights": [1.0, 2.0]}, "2 weights for 1 data sets"),
        ({"weights": [0.0]}, "each needs to be finite and > 0"),
        ({"weights": [float("nan")]}, "each needs to be finite and > 0"),
        ({"temperature": 0.0}, "temperature of 0.0"),
        ({"weights": [1.0], "temperature": 1.0}, "give one of the two"),
    ):
        with pytest.raises(ConfigError, match=words):
            Mixture([dataset], **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="got 0 data sets"):
        Mixture([])


def test_wrong_loaders_are_refused(dataset: TokenizedDataset, tmp_path: Path) -> None:
    for options, words in (
        ({"mode": "random"}, "got mode 'random' with packing 'best_fit'"),
        ({"packing": "bfd"}, "strategy 'bfd'"),
        ({"world_size": 4}, "6 rows cannot be divided evenly among 4 ranks"),
        ({"rank": 2, "world_size": 2}, "rank 2 given in a world of 2"),
        ({"readahead": 0}, "readahead of 0"),
    ):
        with pytest.raises(ConfigError, match=words):
            loader(dataset, **{"packing": "best_fit", **options})
    with pytest.raises(FormatError, match="is no folder of token files"):
        TokenizedDataset.from_folder(tmp_path / "nothing")
    empty = write_documents(tmp_path / "long", [99, 99])
    with pytest.raises(ConfigError, match="no document is left to pack into rows of 48 tokens"):
        loader(empty, overlong="reject")


_EPOCH_OF_A_SPARSE_FILE = """
import resource, sys
import numpy as np
from tempra.data import DataLoader, TokenizedDataset

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
dataset = TokenizedDataset([sys.argv[1]], vocabulary_size=10)
loader = DataLoader(dataset, batch_size=64, block=4096, seed=0)
index = 0
while loader.epochs(index) < 1:
    loader.batch(index)
    index += 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_resident_memory_stays_flat_over_an_epoch(tmp_path: Path) -> None:
    path = tmp_path / "sparse.bin"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    command = [sys.executable, "-c", _EPOCH_OF_A_SPARSE_FILE, str(path)]
    grown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(grown) * 1024 < 300 << 20
