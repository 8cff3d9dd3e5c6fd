"""Corpora: finding files, streaming text, and naming what is wrong with it."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tempra._core import ConfigError, FormatError
from tempra.data import corpus as corpus_module
from tempra.data.bpe_tokenizer import BpeTokenizer
from tempra.data.corpus import Corpus, Piece, cut, cutting_place
from tempra.data.split import SplitRule, Survey, survey


def documents(pieces: Iterator[Piece]) -> list[str]:
    """Piece the documents together again."""
    result, parts = [], []
    for piece in pieces:
        parts.append(piece.text)
        if piece.ends_document:
            result.append("".join(parts))
            parts = []
    assert parts == [], "the last document never ends"
    return result


def read(*sources: Path | str, **options: str) -> list[str]:
    return documents(Corpus(sources, **options).pieces())  # type: ignore[arg-type]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# Finding files


def test_files_folders_and_patterns_in_order(tmp_path: Path) -> None:
    write(tmp_path / "b/2.txt", "two")
    write(tmp_path / "b/1.txt", "one")
    write(tmp_path / "b/deep/0.md", "deep")
    write(tmp_path / "b/.hidden/x.txt", "hidden")
    write(tmp_path / "b/.dot.txt", "hidden")
    write(tmp_path / "b/code.bin", b"\0")
    write(tmp_path / "b/empty.txt", "")
    write(tmp_path / "a.log", "named")
    assert read(tmp_path / "a.log", tmp_path / "b") == ["named", "one", "two", "deep"]
    assert read(str(tmp_path / "b" / "?.txt")) == ["one", "two"]
    assert read(str(tmp_path / "**" / "*.txt")) == ["one", "two"]


def test_what_cannot_be_found_is_named(tmp_path: Path) -> None:
    write(tmp_path / "code/a.c", "x")
    write(tmp_path / "code/b.c", "x")
    write(tmp_path / "code/README", "x")
    for sources, words in (
        ([], r"data\.train: is empty"),
        ([tmp_path / "no.txt"], r"data\.train: no such file or folder: .*no\.txt"),
        ([str(tmp_path / "*.txt")], r"no file matches '.*\*\.txt'"),
        (
            [tmp_path / "code"],
            r"no file that ends in \.txt.*2 with \.c, 1 with no ending.*suffixes",
        ),
        ([tmp_path / "code/a.c", str(tmp_path / "code/*.c")], r"a\.c is given twice"),
        (["/dev/null"], "neither a file nor a folder"),
    ):
        with pytest.raises(ConfigError, match=words):
            Corpus(sources)  # type: ignore[arg-type]


def test_a_dangling_link_and_an_empty_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(ConfigError, match=r"link\.txt cannot be read: No such file"):
        Corpus([tmp_path / "link.txt"])
    with pytest.raises(FormatError, match=r"empty\.txt: is empty"):
        Corpus([write(tmp_path / "empty.txt", "")])
    write(tmp_path / "folder/a.txt", "")
    with pytest.raises(FormatError, match=r"every file of .* is empty"):
        Corpus([tmp_path / "folder"])


# Text files


def test_text_is_kept_to_the_byte_and_a_mark_is_no_text(tmp_path: Path) -> None:
    text = "first\r\nsecond\r\tümlaut \U0001f98a\n\n"
    assert read(write(tmp_path / "a.txt", text)) == [text]
    assert read(write(tmp_path / "b.txt", b"\xef\xbb\xbfabc")) == ["abc"]
    assert read(write(tmp_path / "c.txt.gz", gzip.compress(text.encode()))) == [text]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"abc\0def", "byte 3 is zero"),
        (b"ab\xff", "byte 2 is not valid UTF-8 .*invalid start byte"),
        ("é".encode()[:1], "byte 0 is not valid UTF-8 .*unexpected end"),
        (b"a" * (1 << 20) + b"\xc3\x28", f"byte {1 << 20} is not valid UTF-8"),
        (b"a" * ((1 << 20) - 1) + b"\xc3\x28", f"byte {(1 << 20) - 1} is not valid UTF-8"),
        (b"a" * (1 << 20) + b"\0", f"byte {1 << 20} is zero"),
        ("utf-16".encode("utf-16"), r"byte 0 is not valid UTF-8|UTF-16"),
    ],
)
def test_what_is_not_text_is_named_with_the_byte(
    tmp_path: Path, content: bytes, words: str
) -> None:
    file = write(tmp_path / "bad.txt", content)
    with pytest.raises(FormatError, match=rf"bad\.txt: .*({words})"):
        read(file)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"text" * 100)[:-9]])
def test_a_damaged_gzip_file_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(FormatError, match=r"a\.txt\.gz: is not a sound gzip file"):
        read(write(tmp_path / "a.txt.gz", content))


@given(st.lists(st.text("ab\n <|>", max_size=12), max_size=6), st.integers(1, 7), st.integers(1, 9))
def test_separators_are_found_across_chunks_and_pieces(
    parts: list[str], chunk: int, longest: int
) -> None:
    parts = [part.replace("<|", "") for part in parts]
    text = "<|>".join(parts)
    chunks = [text[start : start + chunk] for start in range(0, len(text), chunk)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "PIECE_CHARACTERS", longest)
        pieces = list(cut(chunks, "<|>"))
    assert documents(iter(pieces)) == [part for part in text.split("<|>") if part]
    assert all(len(piece.text) <= longest + 3 for piece in pieces)


TRAINED = BpeTokenizer.train(iter(["two words\nand lines, \n\nand   spaces\n" * 20]), 300)


@given(st.text("ab \n,1", min_size=30, max_size=80), st.integers(8, 29))
def test_pieces_give_the_tokens_of_the_whole(text: str, limit: int) -> None:
    end = cutting_place(text, limit)
    assert 0 < end <= limit
    if text[end - 1] == "\n" and not text[end - 2].isspace() and not text[end].isspace():
        apart = np.concatenate([TRAINED.encode(text[:end]), TRAINED.encode(text[end:])])
        assert np.array_equal(apart, TRAINED.encode(text))


def test_cuts_fall_on_line_ends_then_spaces_then_anywhere() -> None:
    assert cutting_place("aaaaaa\nbbb bbb ccc", 12) == 7
    assert cutting_place("aaaaaa\nb\n\nbbb ccc", 12) == 7  # not between two line ends
    assert cutting_place("aaaaaaaaa bbbbb cc", 12) == 10
    assert cutting_place("a" * 30, 12) == 12


def test_memory_stays_bounded_and_progress_reaches_the_end(tmp_path: Path) -> None:
    line = "All work and no play makes Jack a dull boy.\n"
    file = write(tmp_path / "large.txt", line * (32 * 1024 * 1024 // len(line)))
    positions: list[int] = []
    tracemalloc.start()
    characters = sum(len(piece.text) for piece in Corpus([file]).pieces(positions.append))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert characters == file.stat().st_size == positions[-1]
    assert positions == sorted(positions)
    assert peak < 12 * 1024 * 1024


# JSON lines


def test_json_lines(tmp_path: Path) -> None:
    lines = ['{"text": "one"}', "", '{"id": 2, "text": "tw\\u00f6\\n"}', '{"text": ""}']
    file = write(tmp_path / "a.jsonl", "\n".join(lines))
    assert read(file) == ["one", "twö\n"]
    packed = write(tmp_path / "b.jsonl.gz", gzip.compress(file.read_bytes()))
    assert read(packed) == ["one", "twö\n"]
    other = write(tmp_path / "c.ndjson", json.dumps({"body": "x"}))
    assert read(other, text_field="body") == ["x"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": ', "is not JSON: .* at column 10"),
        ("[1]", "holds a list, needs an object"),
        ('{"body": "x"}', r"has no field 'text' \(it has 'body'\); set data\.text_field"),
        ("{}", "no fields"),
        ('{"text": 5}', "field 'text' is of type number, needs text"),
        ('{"text": "\\ud800"}', "half a surrogate pair at character 0"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_a_bad_json_line_is_named_with_its_number(tmp_path: Path, line: str, words: str) -> None:
    file = write(tmp_path / "a.jsonl", '{"text": "fine"}\n\n' + line + "\n")
    with pytest.raises(FormatError, match=rf"a\.jsonl, line 3: .*{words}"):
        read(file)


def test_bad_bytes_in_json_lines(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", b'{"text": "fine"}\n{"text": "\xff"}\n')
    with pytest.raises(FormatError, match="line 2: byte 27 of the file is not valid UTF-8"):
        read(file)


# Survey and split


def test_survey_counts_and_lists_the_characters(tmp_path: Path) -> None:
    write(tmp_path / "t/a.txt", "banana\n")
    write(tmp_path / "t/b.txt", "\U0001f98a")
    assert survey(Corpus([tmp_path / "t"])) == Survey(2, 8, "\nabn\U0001f98a")


def split(texts: list[str], fraction: float) -> tuple[SplitRule, dict[str, list[str]]]:
    total = sum(map(len, texts))
    rule = SplitRule.choose(Survey(len(texts), total, ""), fraction)
    sides: dict[str, list[Piece]] = {"train": [], "validation": []}
    for side, piece in rule.assign(Piece(text, True) for text in texts):
        sides[side].append(piece)
    return rule, {side: [piece.text for piece in pieces] for side, pieces in sides.items()}


def test_one_text_is_split_where_nanogpt_splits_it() -> None:
    text = "0123456789" * 7
    _, sides = split([text], 0.1)
    assert sides == {"train": [text[: int(70 * 0.9)]], "validation": [text[63:]]}


@settings(deadline=None)
@given(st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=30), st.floats(0, 0.9))
def test_a_tail_split_loses_nothing_and_keeps_the_order(texts: list[str], fraction: float) -> None:
    rule, sides = split(texts, fraction)
    if rule.kind != "documents":
        assert "".join(sides["train"] + sides["validation"]) == "".join(texts)
        assert len("".join(sides["train"])) == rule.train_characters


def test_the_end_of_a_divided_document_stays_with_its_text() -> None:
    rule = SplitRule("tail", 0.4, train_characters=3)
    sides = list(rule.assign(iter([Piece("abcde", False), Piece("", True)])))
    assert sides == [
        ("train", Piece("abc", False)),
        ("validation", Piece("de", False)),
        ("validation", Piece("", True)),
    ]


def test_many_documents_are_split_by_their_content() -> None:
    texts = [f"document {number}" for number in range(2000)]
    rule, sides = split(texts, 0.1)
    assert rule.kind == "documents"
    assert 140 < len(sides["validation"]) < 260
    assert sorted(sides["train"] + sides["validation"]) == sorted(texts)
    _, more = split([*texts, *(f"new {number}" for number in range(500)), *texts], 0.1)
    assert set(sides["validation"]) <= set(more["validation"])
    assert not set(more["train"]) & set(more["validation"])


def test_nothing_is_kept_back_when_asked() -> None:
    rule, sides = split(["a", "b"], 0.0)
    assert rule.kind == "none"
    assert sides == {"train": ["a", "b"], "validation": []}
