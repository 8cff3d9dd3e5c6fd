"""Tokenizers: round trips, fingerprints, files, streams and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tempra._core import FormatError
from tempra.data.bpe_tokenizer import BpeTokenizer
from tempra.data.tokenizer import (
    DEFINITION_FILE,
    END_OF_TEXT,
    ByteTokenizer,
    CharacterTokenizer,
    Tokenizer,
    load_tokenizer,
    save_tokenizer,
)

TEXT = (
    "The quick brown fox jumps over the lazy dog.\n\nZwölf Boxkämpfer jagen Viktor. 日本語 🦊\n" * 8
)

# Every Unicode character that UTF-8 can hold.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def make(kind: str) -> Tokenizer:
    if kind == "byte":
        return ByteTokenizer()
    if kind == "char":
        return CharacterTokenizer(TEXT, end_of_text=True)
    return BpeTokenizer.train(iter([TEXT]), 320)


BPE = make("bpe")
KINDS = ["byte", "char", "bpe"]


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_and_bounds(kind: str) -> None:
    tokenizer = make(kind)
    tokens = tokenizer.encode(TEXT)
    assert isinstance(tokenizer, Tokenizer)
    assert tokens.dtype == np.uint32
    assert int(tokens.max()) < tokenizer.vocab_size
    assert tokenizer.decode(tokens) == TEXT
    batch = tokenizer.encode_batch([TEXT, "", "fox"])
    assert [tokenizer.decode(part) for part in batch] == [TEXT, "", "fox"]
    assert tokenizer.encode("").size == 0


@given(texts)
def test_bytes_and_word_pieces_know_every_text(text: str) -> None:
    assert ByteTokenizer().decode(ByteTokenizer().encode(text)) == text
    assert BPE.decode(BPE.encode(text)) == text


@given(texts)
def test_characters_of_the_text_itself(text: str) -> None:
    if text:
        tokenizer = CharacterTokenizer(text, end_of_text=False)
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.vocab_size == len(set(text))
        assert tokenizer.end_of_text is None


def test_character_ids_follow_the_sorted_characters() -> None:
    tokenizer = CharacterTokenizer("banana", end_of_text=False)
    assert tokenizer.encode("abn").tolist() == [0, 1, 2]
    assert CharacterTokenizer("banana", end_of_text=True).end_of_text == 3


def test_an_unknown_character_is_named_with_its_position() -> None:
    with pytest.raises(FormatError, match=r"'ß' \(U\+00DF\) at position 3 .* 4 characters"):
        CharacterTokenizer("abcd", end_of_text=False).encode("abcß")


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_mark_is_an_id_and_never_comes_from_text(kind: str) -> None:
    tokenizer = make(kind)
    assert tokenizer.end_of_text is not None
    if kind != "char":
        assert tokenizer.end_of_text not in tokenizer.encode(f"a{END_OF_TEXT}b").tolist()
    tokens = [*tokenizer.encode("fox").tolist(), tokenizer.end_of_text]
    assert tokenizer.decode(tokens) == "fox"


@pytest.mark.parametrize("kind", KINDS)
def test_ids_outside_the_vocabulary_are_refused(kind: str) -> None:
    tokenizer = make(kind)
    for wrong in (tokenizer.vocab_size, -1):
        with pytest.raises(
            FormatError, match=f"token {wrong} at position 1 .*{tokenizer.vocab_size}"
        ):
            tokenizer.decode([0, wrong])


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_is_the_same(kind: str, tmp_path: Path) -> None:
    tokenizer = make(kind)
    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert (loaded.kind, loaded.vocab_size, loaded.end_of_text) == (
        tokenizer.kind,
        tokenizer.vocab_size,
        tokenizer.end_of_text,
    )
    assert np.array_equal(loaded.encode(TEXT), tokenizer.encode(TEXT))


def test_fingerprints_tell_tokenizers_apart() -> None:
    different = {
        ByteTokenizer().fingerprint,
        CharacterTokenizer("ab", end_of_text=False).fingerprint,
        CharacterTokenizer("ab", end_of_text=True).fingerprint,
        CharacterTokenizer("abc", end_of_text=False).fingerprint,
        BPE.fingerprint,
        BpeTokenizer.train(iter([TEXT]), 300).fingerprint,
    }
    assert len(different) == 6
    assert BpeTokenizer.train(iter([TEXT]), 320).fingerprint == BPE.fingerprint


def test_a_plain_tokenizer_json_loads_with_its_end_mark(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(BPE.files()["tokenizer.json"])
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        assert load_tokenizer(path).end_of_text == BPE.end_of_text
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "a"}}))
    assert load_tokenizer(tmp_path).end_of_text == int(BPE.encode("a")[0])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer.json", b"{", "not a tokenizer.json"),
        ("tokenizer.json", b"\xff", "byte 0 is not valid UTF-8"),
        (DEFINITION_FILE, b"[]", "not a tokenizer definition"),
        (DEFINITION_FILE, b'{"format": "tempra-tokenizer", "version": 9}', "version 9"),
        (DEFINITION_FILE, b'{"format": "tempra-tokenizer", "version": 1, "kind": "x"}', "'x'"),
        (
            DEFINITION_FILE,
            b'{"format": "tempra-tokenizer", "version": 1, "kind": "char"}',
            "characters",
        ),
        (
            DEFINITION_FILE,
            b'{"format": "tempra-tokenizer", "version": 1, "kind": "byte"}',
            "damaged",
        ),
        ("other.txt", b"", "holds no tokenizer"),
    ],
)
def test_bad_files_are_refused_by_name(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=words):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(data=st.data())
def test_streams_give_whole_characters_and_the_same_text(kind: str, data: st.DataObject) -> None:
    tokenizer = BPE if kind == "bpe" else make(kind)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40))
    stream = tokenizer.stream()
    parts = [stream.push(token) for token in ids]
    assert "".join(parts) + stream.finish() == tokenizer.decode(ids)


@given(st.text(st.sampled_from("a é日🦊\n"), max_size=30))
def test_streams_never_emit_part_of_a_character(text: str) -> None:
    for tokenizer in (ByteTokenizer(), BPE):
        stream = tokenizer.stream()
        so_far = ""
        for token in tokenizer.encode(text):
            so_far += stream.push(int(token))
            assert text.startswith(so_far)
        assert so_far == text
        assert stream.finish() == ""


def test_an_unfinished_character_at_the_end_is_marked() -> None:
    stream = ByteTokenizer().stream()
    assert stream.push("é".encode()[0]) == ""
    assert stream.finish() == "\ufffd"


def prefix_space_tokenizer() -> BpeTokenizer:
    """A tokenizer as SentencePiece models have it: words start with a space mark, bytes as
    fallback."""
    import tokenizers

    pieces = ["<unk>", "</s>", *[f"<0x{value:02X}>" for value in range(256)], "▁", "a", "b", "▁a"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    model = tokenizers.models.BPE(vocabulary, [("▁", "a")], unk_token="<unk>", byte_fallback=True)
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    decoders = tokenizers.decoders
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return BpeTokenizer(backend, end_of_text=1)


def test_tokenizers_with_a_prefix_space_are_not_split_and_stream_correctly() -> None:
    tokenizer = prefix_space_tokenizer()
    assert not tokenizer.splittable
    assert BPE.splittable
    for text in ("a b a", "é a", "a🦊b", ""):
        tokens = tokenizer.encode(text)
        stream = tokenizer.stream()
        parts = [stream.push(int(token)) for token in tokens]
        assert "".join(parts) + stream.finish() == text == tokenizer.decode(tokens)
        assert all("\ufffd" not in part for part in parts)
