"""Token files from a folder and from a manifest: the same stream, and every mistake named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tempra
from tempra import _core
from tempra._core import FormatError
from tempra.data import TokenizedDataset


def write_shards(folder: Path, *shards: list[int]) -> list[Path]:
    """Token files without sidecars."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"part-{number}.bin" for number in range(len(shards))]
    for path, tokens in zip(paths, shards, strict=True):
        tempra.write_token_bin_file(path, np.array(tokens, dtype=np.uint32))
    return paths


def manifest(folder: Path, content: Any) -> Path:
    file = folder / "shards.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_a_folder_and_a_manifest_give_the_same_stream(tmp_path: Path) -> None:
    paths = write_shards(tmp_path / "shards", [1, 2, 3], [4], [5, 6])
    (tmp_path / "shards/notes.txt").write_text("not read")
    folder = TokenizedDataset.from_folder(tmp_path / "shards", vocabulary_size=10)
    entries = [
        "shards/part-0.bin",
        {"path": "shards/part-1.bin", "tokens": 1},
        {"path": str(paths[2]), "tokens": 2, "crc32": _core.crc32_file(str(paths[2]))},
    ]
    listed = TokenizedDataset.from_manifest(manifest(tmp_path, entries), vocabulary_size=10)
    assert folder.slice(0, 9).tolist() == listed.slice(0, 9).tolist() == [1, 2, 3, 4, 5, 6]
    # The order is that of the manifest.
    turned = TokenizedDataset.from_manifest(manifest(tmp_path, entries[::-1]), vocabulary_size=10)
    assert turned.slice(0, 9).tolist() == [5, 6, 4, 1, 2, 3]
    for one, other in ((folder, listed),):
        batches = [
            tempra.DataLoader(each, batch_size=2, block=2, seed=1).batch(3) for each in (one, other)
        ]
        assert batches[0].tokens.tolist() == batches[1].tokens.tolist()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[", "shards.json"),
        ({"shards": []}, "valid array"),
        ([], "lists no token files"),
        ([3], "0"),
        ([{"tokens": 3}], "0.path"),
        ([{"path": "part-0.bin", "token": 3}], "0.token"),
        ([{"path": "part-0.bin", "tokens": -1}], "0.tokens"),
        (["part-0.bin", "part-0.bin"], "part-0.bin is listed twice, again as entry 1"),
        (["part-7.bin"], "part-7.bin: no such token file"),
        ([{"path": "part-0.bin", "tokens": 4}], "holds 3 tokens, the manifest says 4"),
        ([{"path": "part-0.bin", "crc32": 5}], "the manifest says 00000005"),
    ],
)
def test_mistakes_in_a_manifest_are_named(tmp_path: Path, content: Any, words: str) -> None:
    write_shards(tmp_path, [1, 2, 3])
    with pytest.raises(FormatError, match=words):
        TokenizedDataset.from_manifest(manifest(tmp_path, content), vocabulary_size=10)


def test_a_folder_without_token_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"has no file that ends in \.bin"):
        TokenizedDataset.from_folder(tmp_path, vocabulary_size=10)
