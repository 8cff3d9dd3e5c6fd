"""Masks beside token files: which tokens are learned, written and read back with their tokens."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tempra._core import ConfigError, FormatError
from tempra.data.batch import IGNORED_LABEL
from tempra.data.batch_source import DataLoader, validation_batches
from tempra.data.document_batches import document_batches
from tempra.data.shard_writer import ShardWriter
from tempra.data.token_dataset import TokenizedDataset
from tempra.data.token_shard import TokenShard, mask_path, sidecar_path
from tempra.data.tokenizer import ByteTokenizer


def tokens(*ids: int) -> np.ndarray:
    return np.array(ids, dtype=np.uint32)


def write(folder: Path, *documents: tuple[list[int], list[int] | None]) -> list[TokenShard]:
    writer = ShardWriter(folder, "train", ByteTokenizer(), "u32", 5)
    for ids, mask in documents:
        given = None if mask is None else np.array(mask, dtype=np.int64)
        writer.append(tokens(*ids), ends_document=True, mask=given)
    return [TokenShard(folder / name) for name in writer.finish().shards]


def test_masks_follow_their_tokens_over_shards(tmp_path: Path) -> None:
    shards = write(
        tmp_path,
        ([1, 2], None),
        ([3, 4, 5], [0, 1, 1]),
        ([6] * 5, None),
        ([7, 8], [1, 0]),
        ([], []),
    )
    assert [shard.tokens.tolist() for shard in shards] == [
        [1, 2, 256, 3, 4, 5, 256],
        [6, 6, 6, 6, 6, 256],
        [7, 8, 256, 256],
    ]
    found = [shard.mask() for shard in shards]
    assert found[1] is None
    assert not shards[1].has_mask
    assert not mask_path(shards[1].path).exists()
    # The end mark is learned with the last token before it; without any, it is not.
    assert found[0] is not None
    assert found[0].tolist() == [1, 1, 1, 0, 1, 1, 1]
    assert found[2] is not None
    assert found[2].tolist() == [1, 0, 0, 0]
    for shard in shards:
        shard.verify()


def test_damaged_masks_are_refused(tmp_path: Path) -> None:
    (shard,) = write(tmp_path, ([1, 2], [0, 1]))
    file = mask_path(shard.path)
    file.write_bytes(b"\1\1\1")
    assert shard.mask() is not None
    with pytest.raises(FormatError, match=r"train-00000\.bin\.mask: checksum is"):
        shard.verify()
    file.write_bytes(b"\1\1")
    with pytest.raises(FormatError, match=r"\.mask: has 2 bytes, 3 tokens need as many"):
        shard.mask()
    file.unlink()
    with pytest.raises(FormatError, match=r"\.mask: cannot be read"):
        shard.mask()


def test_wrong_masks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="values other than 0 and 1"):
        write(tmp_path, ([1, 2], [0, 2]))
    with pytest.raises(FormatError, match=r"has shape \(1,\), its tokens \(2,\)"):
        write(tmp_path, ([1, 2], [0]))


# Masks in batches


def masked_dataset(folder: Path) -> TokenizedDataset:
    shards = write(
        folder,
        ([10, 11, 12], [0, 0, 1]),  # stream: 0..3 with the end mark
        ([20, 21, 22, 23, 24], None),  # 4..9
        ([30, 31, 32], [0, 1, 0]),  # 10..13
    )
    return TokenizedDataset([shard.path for shard in shards])


def test_masks_become_ignored_labels(tmp_path: Path) -> None:
    dataset = masked_dataset(tmp_path)
    assert len(dataset.shards) == 2
    expected = [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 0]
    assert dataset.mask(0, 99).tolist() == expected
    assert dataset.trained_tokens == sum(expected)
    stream = dataset.slice(0, 14).tolist()
    source = DataLoader(dataset, batch_size=2, block=4, seed=0)
    for index in range(6):
        batch = source.batch(index)
        assert batch.valid_tokens == int((batch.labels >= 0).sum())
        for row in range(2):
            read = batch.tokens[4 * row : 4 * row + 4].tolist()
            start = stream.index(read[0]) if read[0] != 256 else None
            if start is None:
                continue
            wanted = [
                stream[place] if expected[place] else IGNORED_LABEL
                for place in range(start + 1, start + 5)
            ]
            assert batch.labels[4 * row : 4 * row + 4].tolist() == wanted


def test_validation_predicts_each_learned_token_once(tmp_path: Path) -> None:
    dataset = masked_dataset(tmp_path)
    batches = list(validation_batches(dataset, batch_size=2, block=3))
    labels = np.concatenate([batch.labels for batch in batches])
    mask = dataset.mask(1, 13)
    stream = dataset.slice(1, 13)
    assert labels.size == 15
    assert labels[:13].tolist() == np.where(mask == 1, stream, IGNORED_LABEL).tolist()
    assert labels[13:].tolist() == [IGNORED_LABEL] * 2
    assert sum(batch.valid_tokens for batch in batches) == int(mask.sum())


def test_a_mask_of_zeros_is_refused(tmp_path: Path) -> None:
    (shard,) = write(tmp_path, ([1, 2, 3], [0, 0, 0]))
    dataset = TokenizedDataset([shard.path])
    with pytest.raises(FormatError, match=r"text\.jsonl: the mask of all 4 tokens is zero"):
        dataset.check_trained("text.jsonl")
    (tmp_path / "b").mkdir()
    (shard,) = write(tmp_path / "b", ([1, 2, 3], [0, 1, 0]))
    TokenizedDataset([shard.path]).check_trained("text.jsonl")


def test_verify_reads_the_mask(tmp_path: Path) -> None:
    (shard,) = write(tmp_path, ([1, 2, 3], [0, 1, 0]))
    mask_path(shard.path).write_bytes(b"\0\1\2\0")
    sidecar = json.loads(sidecar_path(shard.path).read_text())
    sidecar["mask_crc32"] = zlib.crc32(b"\0\1\2\0")
    sidecar_path(shard.path).write_text(json.dumps(sidecar))
    with pytest.raises(FormatError, match="the mask of token 2 is 2, needs 0 or 1"):
        TokenizedDataset([shard.path]).verify()


# Documents one by one


def test_documents_are_measured_apart_and_each_token_once(tmp_path: Path) -> None:
    dataset = masked_dataset(tmp_path)
    batches = list(document_batches(dataset, batch_size=2, block=3))
    rows = [
        (
            batch.tokens[begin:end].tolist(),
            batch.labels[begin:end].tolist(),
            batch.positions[begin:end].tolist(),
        )
        for batch in batches
        for begin, end in pairwise(batch.offsets.tolist())
    ]
    ignored = IGNORED_LABEL
    assert rows == [
        ([10, 11, 12], [ignored, 12, 256], [0, 1, 2]),
        ([20, 21, 22], [21, 22, 23], [0, 1, 2]),
        ([23, 24], [24, 256], [0, 1]),
        ([30, 31, 32], [31, ignored, ignored], [0, 1, 2]),
    ]
    assert [batch.tokens.size for batch in batches] == [6, 5]
    assert [batch.valid_tokens for batch in batches] == [5, 3]
    assert all(batch.tokens.dtype == batch.labels.dtype == np.int32 for batch in batches)


def test_a_limit_spreads_over_the_documents(tmp_path: Path) -> None:
    ids = [list(range(10 * n, 10 * n + 4)) for n in range(1, 25)]
    shards = write(tmp_path, *((each, None) for each in ids))
    dataset = TokenizedDataset([shard.path for shard in shards])
    batches = list(document_batches(dataset, batch_size=2, block=10, limit=2))
    starts = [batch.tokens[begin] for batch in batches for begin in batch.offsets[:-1].tolist()]
    assert starts == [10, 40, 70, 100, 130, 160, 190, 220]
    assert sum(batch.tokens.size for batch in batches) == 32
    (tmp_path / "empty").mkdir()
    (empty,) = write(tmp_path / "empty")
    with pytest.raises(ConfigError, match="the validation text has 0 tokens"):
        list(document_batches(TokenizedDataset([empty.path]), batch_size=1, block=4))


def test_a_mask_is_not_kept_in_memory_while_its_shard_grows(tmp_path: Path) -> None:
    part = np.zeros(1 << 18, dtype=np.uint32)
    learned = np.arange(part.size) % 3 == 0
    writer = ShardWriter(tmp_path, "train", ByteTokenizer(), "u32", 1 << 40)
    writer.append(part, ends_document=False)
    tracemalloc.start()
    for _ in range(64):
        writer.append(part, ends_document=False, mask=learned)
    writer.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20  # the mask has 16 MB
    mask = TokenShard(tmp_path / "train-00000.bin").mask()
    assert mask is not None
    expected = np.concatenate([np.ones(part.size, dtype=bool), np.tile(learned, 64)])
    assert np.array_equal(mask != 0, expected)
    assert {file.name for file in tmp_path.iterdir()} == {
        "train-00000.bin" + suffix for suffix in ("", ".bounds", ".mask", ".meta.json")
    }
