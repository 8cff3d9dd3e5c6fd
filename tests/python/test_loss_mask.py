"""Masks beside token files: which tokens are learned, written and read back with their tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tempra._core import FormatError
from tempra.data.shard_writer import ShardWriter
from tempra.data.token_shard import TokenShard, mask_path
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
