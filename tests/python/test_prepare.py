"""From text to token files: content, documents, splits, reuse, refusals, nothing half done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tempra import _core
from tempra._core import ConfigError, FormatError
from tempra.data import corpus as corpus_module
from tempra.data import prepare as prepare_module
from tempra.data import shard_writer as shard_writer_module
from tempra.data.bpe_tokenizer import BpeTokenizer
from tempra.data.preparation import Preparation
from tempra.data.prepare import PHASES, prepare
from tempra.data.prepared import MANIFEST_FILE, PreparedDataset
from tempra.data.tokenizer import ByteTokenizer, save_tokenizer

TEXT = "".join(f"Line {number}: the quick brown fox, again and again.\n" for number in range(400))


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="")
    return path


def run(folder: Path, *train: Path, **options: Any) -> PreparedDataset:
    return prepare(Preparation([str(path) for path in train], **options), folder)[0]


def text_of(prepared: PreparedDataset, split: str = "train") -> str:
    dataset = prepared.dataset(split)
    dataset.verify()
    return prepared.tokenizer().decode(dataset.slice(0, len(dataset)))


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_one_text_comes_back_from_its_tokens(tmp_path: Path, kind: Any) -> None:
    prepared = run(
        tmp_path / "out", write(tmp_path / "a.txt", TEXT), tokenizer=kind, vocab_size=300
    )
    kept = int(len(TEXT) * 0.9)
    assert text_of(prepared) == TEXT[:kept]
    assert text_of(prepared, "validation") == TEXT[kept:]
    assert prepared.manifest.tokenizer_kind == kind
    assert prepared.manifest.characters == len(TEXT)


def test_characters_of_one_text_have_nanogpt_ids_and_no_end_mark(tmp_path: Path) -> None:
    prepared = run(tmp_path / "out", write(tmp_path / "a.txt", TEXT), tokenizer="char")
    alphabet = sorted(set(TEXT))
    assert prepared.manifest.vocabulary_size == len(alphabet)
    expected = [alphabet.index(character) for character in TEXT[: int(len(TEXT) * 0.9)]]
    assert prepared.dataset().slice(0, 10**6).tolist() == expected


def test_documents_end_with_the_mark_and_have_bounds(tmp_path: Path) -> None:
    lines = [json.dumps({"text": text}) for text in ("one", "three", "")]
    file = write(tmp_path / "a.jsonl", "\n".join(lines))
    prepared = run(tmp_path / "out", file, tokenizer="byte", validation_fraction=0.0)
    dataset = prepared.dataset()
    assert dataset.slice(0, 100).tolist() == [*b"one", 256, *b"three", 256]
    assert dataset.shards[0].bounds().tolist() == [0, 4, 10]
    assert dataset.documents == prepared.manifest.splits["train"].documents == 2
    assert not prepared.has_validation


def test_shards_end_with_a_document_and_read_as_one_stream(tmp_path: Path) -> None:
    texts = [f"document number {number}" for number in range(50)]
    file = write(tmp_path / "a.jsonl", "\n".join(json.dumps({"text": text}) for text in texts))
    options: dict[str, Any] = {"tokenizer": "byte", "validation_fraction": 0.0}
    whole = run(tmp_path / "whole", file, **options).dataset()
    split = run(tmp_path / "split", file, shard_tokens=100, **options).dataset()
    assert len(whole.shards) == 1
    assert len(split.shards) > 5
    assert split.slice(0, 10**6).tolist() == whole.slice(0, 10**6).tolist()
    assert all(shard.tokens[-1] == 256 for shard in split.shards)
    assert sum(len(shard.bounds()) - 1 for shard in split.shards) == 50


def test_checksums_cover_every_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_writer_module, "_BUFFER_TOKENS", 16)
    file = write(
        tmp_path / "a.jsonl", "\n".join(json.dumps({"text": "ten bytes!"}) for _ in "12345")
    )
    options: dict[str, Any] = {"tokenizer": "byte", "validation_fraction": 0.0}
    dataset = run(tmp_path / "out", file, **options).dataset()
    dataset.verify()
    assert dataset.slice(0, 100).tolist() == [*b"ten bytes!", 256] * 5


def test_pieces_do_not_change_the_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "a.txt", TEXT)
    options: dict[str, Any] = {"vocab_size": 300, "validation_fraction": 0.0}
    whole = run(tmp_path / "whole", file, **options)
    save_tokenizer(whole.tokenizer(), tmp_path)
    monkeypatch.setattr(corpus_module, "PIECE_CHARACTERS", 200)
    monkeypatch.setattr(prepare_module, "_BATCH_CHARACTERS", 1000)
    given: dict[str, Any] = {"tokenizer": "file", "tokenizer_path": str(tmp_path)}
    pieces = run(tmp_path / "pieces", file, validation_fraction=0.0, **given)
    assert pieces.manifest.tokenizer_fingerprint == whole.manifest.tokenizer_fingerprint
    first, second = whole.dataset(), pieces.dataset()
    assert first.slice(0, 10**6).tolist() == second.slice(0, 10**6).tolist()


def test_tokenizers_that_see_document_starts_get_whole_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "a.txt", TEXT)
    monkeypatch.setattr(corpus_module, "PIECE_CHARACTERS", 200)
    monkeypatch.setattr(ByteTokenizer, "splittable", False)
    prepared = run(tmp_path / "out", file, tokenizer="byte")
    assert text_of(prepared) == TEXT[: int(len(TEXT) * 0.9)]
    monkeypatch.setattr(prepare_module, "_LONGEST_UNDIVIDED", 1000)
    with pytest.raises(ConfigError, match=r"more than 1000 characters.*data\.separator"):
        run(tmp_path / "out2", file, tokenizer="byte")


def test_validation_text_of_its_own(tmp_path: Path) -> None:
    train, other = write(tmp_path / "a.txt", "abc"), write(tmp_path / "b.txt", "xyz")
    prepared = run(tmp_path / "out", train, validation=[str(other)], tokenizer="char")
    assert (text_of(prepared), text_of(prepared, "validation")) == ("abc", "xyz")
    with pytest.raises(ConfigError, match=r"data\.validation: .*a\.txt is in data\.train as well"):
        run(tmp_path / "out2", train, validation=[str(tmp_path / "*.txt")])


@pytest.mark.parametrize(("asked", "found"), [("u32", "u32"), ("u16", "u16"), ("auto", "u16")])
def test_token_types(tmp_path: Path, asked: Any, found: str) -> None:
    file = write(tmp_path / "a.txt", TEXT)
    prepared = run(tmp_path / "out", file, tokenizer="byte", token_dtype=asked)
    assert prepared.manifest.dtype == found
    assert prepared.dataset().shards[0].tokens.dtype == np.dtype(f"<u{int(found[1:]) // 8}")
    assert text_of(prepared) == TEXT[: int(len(TEXT) * 0.9)]


def test_the_second_run_uses_what_the_first_made(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", TEXT)
    preparation = Preparation([str(file)], vocab_size=300)
    _, reused = prepare(preparation, tmp_path / "out")
    assert not reused
    before = (tmp_path / "out" / MANIFEST_FILE).stat().st_ino
    _, reused = prepare(Preparation([str(file)], vocab_size=300), tmp_path / "out")
    assert reused
    assert (tmp_path / "out" / MANIFEST_FILE).stat().st_ino == before
    assert preparation.fingerprint() != Preparation([str(file)], vocab_size=301).fingerprint()
    write(file, TEXT + "more\n")
    changed = Preparation([str(file)], vocab_size=300)
    with pytest.raises(ConfigError, match="other files or with other options"):
        prepare(changed, tmp_path / "out")
    prepared, reused = prepare(changed, tmp_path / "out", replace=True)
    assert not reused
    assert prepared.manifest.characters == len(TEXT) + 5


def test_the_same_text_gives_the_same_files(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", TEXT)
    for name in ("one", "two"):
        run(tmp_path / name, file, vocab_size=300)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_damaged_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", TEXT)
    write(tmp_path / "foreign/thesis.doc", "precious")
    with pytest.raises(ConfigError, match="exists and is not a prepared dataset"):
        run(tmp_path / "foreign", file, tokenizer="byte")
    assert (tmp_path / "foreign/thesis.doc").read_text() == "precious"
    run(tmp_path / "out", file, tokenizer="byte")
    shard = tmp_path / "out" / "train-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-4])
    with pytest.raises(FormatError, match=r"train-00000\.bin: holds .* truncated.*--replace"):
        run(tmp_path / "out", file, tokenizer="byte")
    prepared, _ = prepare(
        Preparation([str(file)], tokenizer="byte"), tmp_path / "out", replace=True
    )
    prepared.check()


def test_a_swapped_tokenizer_is_noticed(tmp_path: Path) -> None:
    prepared = run(tmp_path / "out", write(tmp_path / "a.txt", TEXT), tokenizer="byte")
    save_tokenizer(BpeTokenizer.train(iter([TEXT]), 300), tmp_path / "out")
    with pytest.raises(FormatError, match=r"the tokenizer there \(bpe, .*\(byte"):
        prepared.tokenizer()


@pytest.mark.parametrize("name", ["../secret.bin", "/etc/passwd", "train-0.txt"])
def test_a_record_cannot_name_files_elsewhere(tmp_path: Path, name: str) -> None:
    run(tmp_path / "out", write(tmp_path / "a.txt", TEXT), tokenizer="byte")
    file = tmp_path / "out" / MANIFEST_FILE
    file.write_text(file.read_text().replace("train-00000.bin", name))
    with pytest.raises(FormatError, match=r"dataset\.json: splits\.train\.shards\.0"):
        PreparedDataset(tmp_path / "out")


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    good = write(tmp_path / "in/a.txt", TEXT)
    write(tmp_path / "in/b.txt", "x").write_bytes(b"\xff")
    with pytest.raises(FormatError, match=r"b\.txt: byte 0"):
        run(tmp_path / "out", good.parent, tokenizer="byte")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.lock"]


def test_leftovers_of_a_killed_run_do_not_matter(tmp_path: Path) -> None:
    write(tmp_path / "out.preparing/train-00000.bin", "half")
    prepared = run(tmp_path / "out", write(tmp_path / "a.txt", TEXT), tokenizer="byte")
    assert text_of(prepared) == TEXT[: int(len(TEXT) * 0.9)]
    assert not (tmp_path / "out.preparing").exists()


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", TEXT)
    with _core.FileLock(str(tmp_path / "out.lock")), pytest.raises(OSError, match="in use"):
        run(tmp_path / "out", file, tokenizer="byte")


def test_too_little_text_is_refused_with_numbers(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"validation text has 1 tokens.*validation_fraction"):
        run(tmp_path / "out", write(tmp_path / "a.txt", "x"), tokenizer="char")
    with pytest.raises(FormatError, match="1 file given, without any text"):
        run(tmp_path / "out", write(tmp_path / "b.jsonl", "\n\n"), tokenizer="char")


def test_u16_refuses_a_vocabulary_that_does_not_fit(tmp_path: Path) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 20_000)))
    text += "".join(map(chr, range(0x20000, 0x20000 + 50_000)))
    with pytest.raises(ConfigError, match=r"data\.token_dtype: got u16.*has 70000; use u32"):
        run(tmp_path / "o", write(tmp_path / "a.txt", text), tokenizer="char", token_dtype="u16")


def test_progress_runs_through_the_phases_to_the_end(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", TEXT)
    heard: list[tuple[str, int, int]] = []
    prepare(
        Preparation([str(file)], vocab_size=300),
        tmp_path / "out",
        progress=lambda *event: heard.append(event),
    )
    assert list(dict.fromkeys(phase for phase, _, _ in heard)) == list(PHASES)
    for phase in PHASES:
        done = [event[1] for event in heard if event[0] == phase]
        assert done == sorted(done)
        assert done[-1] == len(TEXT.encode())
