"""Readers of instruction data on any input: bounded memory, round trips, damaged files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tempra._core import ConfigError, FormatError, JsonRecordReader
from tempra.data import (
    Conversation,
    PlainText,
    PreferencePair,
    detect_format,
    parse_instruction_dataset,
)
from tempra.data import json_records as json_records_module
from tempra.data import marked_text as marked_text_module
from tempra.data.chat_template import TEMPLATES
from tempra.data.instruction_formats import RECORD_FORMATS
from tempra.data.json_records import json_records
from tempra.data.marked_text import read_dialogues, read_questions, text_lines

ALPACA = {"instruction": "Add.", "input": "1 and 2", "output": "3"}
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]

# Bounded memory, and round trips


def test_an_array_is_read_in_parts() -> None:
    records = [{"text": "é" * number, "n": number * 1.5} for number in range(60)]
    records += [{"text": "x", "n": n} for n in range(20)] + [12345678901 + n for n in range(40)]
    content = json.dumps(records, ensure_ascii=False, indent=1).encode()
    reader = JsonRecordReader("a.json")
    found, longest = [], 0
    for start in range(0, len(content), 16):
        found += reader.feed(content[start : start + 16])
        longest = max(longest, reader.pending_bytes)
    found += reader.finish()
    assert [value for _, value, _ in found] == records
    assert longest < 200 < len(content) / 4


def test_arrays_and_files_without_records(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for content, reason in (
        ("[]", "none of the first 100 records is an object"),
        (" [ ] ", "none of the first 100 records is an object"),
        ("[3, null]", "none of the first 100 records is an object"),
        ('[{"a": 1}, {"b": 2}]', "the record on line 1 has the fields of no other format"),
    ):
        file.write_text(content)
        found = detect_format(file)
        assert (found.format, found.reason) == ("text", reason)
    file.write_text("[]")
    with pytest.raises(FormatError, match="has no example of the format text"):
        parse_instruction_dataset(file)
    binary = tmp_path / "a.txt"
    binary.write_bytes(b"Q: \xff")
    assert detect_format(binary).reason == "its beginning is not UTF-8 text"
    with pytest.raises(FormatError, match=r"a\.txt: byte 3 is not valid UTF-8"):
        parse_instruction_dataset(binary)


@pytest.mark.parametrize("array", [False, True])
def test_a_record_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, array: bool
) -> None:
    monkeypatch.setattr(json_records_module, "LONGEST_RECORD", 1000)
    monkeypatch.setattr(json_records_module, "_READ_BYTES", 100)
    file = tmp_path / "a.json"
    content = json.dumps({"text": "x" * 10_000})
    file.write_text(f"[{content}]" if array else content)
    with open(file, "rb") as stream, pytest.raises(FormatError, match="line 1: has more than 1000"):
        list(json_records(file, stream))


def test_turns_and_dialogues_too_long_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marked_text_module, "LONGEST_RECORD", 100)
    turn = "User: a\nAssistant: b\n"
    found = list(read_dialogues(text_lines(["\n" + turn * 7 + "\n" + turn])))
    assert [(each.line, each.problem) for each in found] == [
        (2, "has more than 100 characters"),
        (17, None),
    ]
    long = "Q: a\n" + "x" * 60 + "\n" + "x" * 60 + "\nA: b\nQ: c\nA: d\n"
    found = list(read_questions(text_lines([long])))
    assert [(each.line, each.problem) for each in found] == [
        (1, "has more than 100 characters"),
        (4, "'A:' has no 'Q:' before it"),
        (5, None),
    ]


JSON_TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(JSON_TEXT, JSON_TEXT), min_size=1, max_size=8), st.booleans())
def test_written_messages_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]], ascii_only: bool
) -> None:
    records = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
        for asked, said in pairs
    ]
    folder = tmp_path_factory.mktemp("messages")
    lines = folder / "a.jsonl"
    lines.write_bytes(
        b"".join(json.dumps(r, ensure_ascii=ascii_only).encode() + b"\n" for r in records)
    )
    array = folder / "a.json"
    array.write_bytes(json.dumps(records, ensure_ascii=ascii_only).encode())
    for file in (lines, array):
        data = parse_instruction_dataset(file)
        assert [tuple(m.content for m in example.messages) for example in data] == pairs


LINE = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
MARKED = st.lists(LINE, min_size=1, max_size=4).map("\n".join).map(str.strip)
FREE = MARKED.filter(
    lambda text: (
        bool(text) and not any(line.startswith(("Q:", "A:")) for line in text.split("\n")[1:])
    )
)


@given(st.lists(st.tuples(FREE, FREE), min_size=1, max_size=6), st.integers(1, 7))
def test_written_questions_are_read_back(pairs: list[tuple[str, str]], size: int) -> None:
    text = "".join(f"Q: {asked}\nA: {said}\n\n" for asked, said in pairs)
    chunks = [text[start : start + size] for start in range(0, len(text), size)]
    found = list(read_questions(text_lines(chunks)))
    assert [each.problem for each in found] == [None] * len(pairs)
    contents = [tuple(m.content for m in each.conversation.messages) for each in found]  # type: ignore[union-attr]
    assert contents == pairs


# Whatever a file holds, it is read or refused with a `FormatError`, never anything else.

NAMES = [
    *("instruction", "input", "output", "history", "system", "conversations", "from", "value"),
    *("messages", "role", "content", "tool_calls", "weight", "tools", "type", "text"),
    *("prompt", "completion", "chosen", "rejected"),
]
WORDS = st.sampled_from(["user", "assistant", "system", "tool", "human", "gpt", "text", "", "x"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)
RECORDS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6) | VALUES


def read_or_refuse(file: Path, format: str) -> None:
    try:
        data = parse_instruction_dataset(file, format=format, skip_bad_lines=1000)
    except (FormatError, ConfigError):
        return
    for example in data:
        assert isinstance(example, (Conversation, PreferencePair, PlainText))
        if isinstance(example, Conversation):
            for template in ("chatml", "qa"):
                try:
                    segments = TEMPLATES[template].render(example.messages, example.tools)
                except FormatError:
                    continue
                "".join(segment.text for segment in segments).encode()


@settings(max_examples=150)
@given(st.lists(RECORDS, min_size=1, max_size=3), st.sampled_from(["auto", *RECORD_FORMATS]))
def test_any_json_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any], format: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    (folder / "a.json").write_text(json.dumps(records))
    for name in ("a.jsonl", "a.json"):
        read_or_refuse(folder / name, format)


SEEDS = [
    json.dumps([ALPACA, {"messages": TURNS}]).encode(),
    json.dumps(ALPACA).encode() + b"\n" + json.dumps({"messages": TURNS}).encode(),
    b"Q: a\nA: b\n\nUser: c\nAssistant: d\n",
]


@settings(max_examples=150)
@given(st.sampled_from(SEEDS), st.data())
def test_damaged_files_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, seed: bytes, data: st.DataObject
) -> None:
    content = bytearray(seed)
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 8))
        content[place : place + length] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b'"', b"{", b"]", b"\\u", b"\n", b"\0", b"Q:"])
        )
    folder = tmp_path_factory.mktemp("damaged")
    for name in ("a.jsonl", "a.json", "a.txt", "a.json.gz"):
        (folder / name).write_bytes(content)
        read_or_refuse(folder / name, "auto")
