"""Token files and the dataset over them: sizes, vocabularies, damage."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from tempra import _core
from tempra._core import ConfigError, FormatError
from tempra.data.token_dataset import TokenizedDataset
from tempra.data.token_shard import Sidecar, TokenShard, bounds_path, sidecar_path, write_sidecar
from tempra.data.tokenizer import ByteTokenizer, CharacterTokenizer


def write_shard(path: Path, tokens: list[int], *, dtype: str = "u32", sidecar: bool = True) -> Path:
    array = np.array(tokens, dtype="<u4" if dtype == "u32" else "<u2")
    with _core.TokenBinWriter(str(path), dtype) as writer:
        writer.append(array)
        writer.finish()
    if sidecar:
        bounds = np.array([0, len(tokens)], dtype="<u8")
        with _core.TokenBinWriter(str(bounds_path(path)), "u32") as writer:
            writer.append(bounds.view("<u4"))
            writer.finish()
        facts = Sidecar(
            dtype="u32" if dtype == "u32" else "u16",
            tokens=len(tokens),
            crc32=zlib.crc32(array.tobytes()),
            documents=1,
            bounds_crc32=zlib.crc32(bounds.tobytes()),
            vocabulary_size=257,
            end_of_text=256,
            tokenizer_kind="byte",
            tokenizer_fingerprint=ByteTokenizer().fingerprint,
        )
        write_sidecar(path, facts)
    return path


def dataset_of(folder: Path, *shards: list[int], dtype: str = "u32") -> TokenizedDataset:
    names = [folder / f"part-{index}.bin" for index in range(len(shards))]
    return TokenizedDataset(
        [write_shard(n, s, dtype=dtype) for n, s in zip(names, shards, strict=True)]
    )


@pytest.mark.parametrize("dtype", ["u32", "u16"])
def test_shards_are_one_stream(tmp_path: Path, dtype: str) -> None:
    dataset = dataset_of(tmp_path, [0, 1, 2], [3], [], [4, 5, 6, 7], dtype=dtype)
    assert len(dataset) == 8
    assert dataset.vocabulary_size == 257
    assert dataset.documents == 4
    windows = dataset.windows(np.array([0, 4, 1, 2, 5]), 3)
    assert windows.dtype == np.int32
    assert windows.tolist() == [[0, 1, 2], [4, 5, 6], [1, 2, 3], [2, 3, 4], [5, 6, 7]]
    assert dataset.slice(2, 100).tolist() == [2, 3, 4, 5, 6, 7]
    dataset.verify()


def test_windows_beyond_the_stream_are_refused(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, list(range(10)))
    for start in (-1, 8):
        with pytest.raises(ConfigError, match="do not fit into 10 tokens"):
            dataset.windows(np.array([start]), 3)


def test_a_plain_token_bin_needs_only_the_vocabulary(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "plain.bin", [5, 6, 7], sidecar=False)
    with pytest.raises(ConfigError, match=r"plain\.bin: has no \.meta\.json.*must be given"):
        TokenizedDataset([path])
    assert TokenizedDataset([path], vocabulary_size=8).slice(0, 3).tolist() == [5, 6, 7]
    assert TokenShard(path).bounds().tolist() == [0, 3]


def test_ids_outside_the_vocabulary_name_file_and_position(tmp_path: Path) -> None:
    plain = write_shard(tmp_path / "plain.bin", [5, 6, 99, 7], sidecar=False)
    with pytest.raises(FormatError, match=r"plain\.bin: token 99 at position 2 .* of 10 tokens"):
        TokenizedDataset([plain], vocabulary_size=10)
    huge = write_shard(tmp_path / "huge.bin", [1, 2**32 - 1], sidecar=False)
    with pytest.raises(FormatError, match=rf"token {2**32 - 1} at position 1"):
        TokenizedDataset([huge], vocabulary_size=10)


def test_ids_outside_the_vocabulary_are_found_in_the_batch_that_reads_them(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, [1, 2, 3], [4, 2**31 + 5, 6])
    assert dataset.windows(np.array([0]), 4).tolist() == [[1, 2, 3, 4]]
    outside = rf"part-1\.bin: token {2**31 + 5} at position 1 .* 257"
    with pytest.raises(FormatError, match=outside):
        dataset.windows(np.array([0, 2]), 3)
    with pytest.raises(FormatError, match=r"part-1\.bin: token"):
        dataset.verify()


def test_a_smaller_vocabulary_than_the_files_were_made_with_is_refused(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.bin", [1])
    with pytest.raises(ConfigError, match=r"a\.bin: was made with 257 tokens.* 256"):
        TokenizedDataset([path], vocabulary_size=256)


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.bin", [1])
    TokenizedDataset([path], tokenizer=ByteTokenizer())
    with pytest.raises(ConfigError, match=r"a\.bin: was made with another tokenizer \(byte"):
        TokenizedDataset([path], tokenizer=CharacterTokenizer("ab", end_of_text=False))


def test_truncated_and_grown_files_are_refused(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.bin", [1, 2, 3])
    content = path.read_bytes()
    for wrong in (content[:-4], content + b"\0\0\0\0"):
        path.write_bytes(wrong)
        with pytest.raises(FormatError, match=rf"a\.bin: holds {len(wrong) // 4} tokens.*says 3"):
            TokenShard(path)
    path.write_bytes(content[:-1])
    with pytest.raises(FormatError, match=r"a\.bin"):
        TokenShard(path)


@pytest.mark.parametrize("damaged", ["tokens", "bounds"])
def test_verify_finds_a_flipped_bit(tmp_path: Path, damaged: str) -> None:
    path = write_shard(tmp_path / "a.bin", [1, 2, 3])
    TokenShard(path).verify()
    file = path if damaged == "tokens" else bounds_path(path)
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    with pytest.raises(FormatError, match=f"{file.name}: checksum .* damaged"):
        TokenShard(path).verify()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0], "has 8 bytes, 1 documents need 16"),
        ([0, 4], "runs from 0 to 4, needs 0 to 3"),
        ([1, 3], "runs from 1 to 3"),
    ],
)
def test_wrong_document_bounds_are_refused(tmp_path: Path, values: list[int], words: str) -> None:
    path = write_shard(tmp_path / "a.bin", [1, 2, 3])
    assert TokenShard(path).bounds().tolist() == [0, 3]
    bounds_path(path).write_bytes(np.array(values, dtype="<u8").tobytes())
    with pytest.raises(FormatError, match=words):
        TokenShard(path).bounds()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "JSON"),
        (b"{}", "required"),
        (b'{"dtype": "u8"}', "dtype"),
        (b" " * (1 << 20) + b"{}", "at most 1048576"),
    ],
)
def test_bad_sidecars_are_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = write_shard(tmp_path / "a.bin", [1])
    sidecar_path(path).write_bytes(content)
    with pytest.raises(FormatError, match=rf"a\.bin\.meta\.json: .*{words}"):
        TokenShard(path)


def test_a_sidecar_with_a_negative_size_is_refused(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.bin", [1])
    text = sidecar_path(path).read_text()
    sidecar_path(path).write_text(text.replace('"tokens": 1', '"tokens": -1'))
    with pytest.raises(FormatError, match=r"tokens: .*greater than or equal to 0"):
        TokenShard(path)


def test_missing_files_and_wrong_types(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"no\.bin: no such token file"):
        TokenizedDataset([tmp_path / "no.bin"])
    path = write_shard(tmp_path / "a.bin", [1])
    with pytest.raises(FormatError, match=r"asked for u16, .* says u32"):
        TokenizedDataset([path], dtype="u16")
    with pytest.raises(ConfigError, match="at least one"):
        TokenizedDataset([])
