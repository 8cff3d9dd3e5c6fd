"""Readers of instruction data: each format, its detection, and each mistake with its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import tempra
from tempra._core import ConfigError, FormatError
from tempra.data import (
    FORMATS,
    Conversation,
    MalformedLinesError,
    Message,
    PlainText,
    PreferencePair,
    detect_format,
    parse_instruction_dataset,
)
from tempra.data.json_records import json_records
from tempra.data.marked_text import read_dialogues, read_questions, text_lines

ALPACA = {"instruction": "Add.", "input": "1 and 2", "output": "3"}
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def write(path: Path, *records: Any) -> Path:
    lines = (each if isinstance(each, str) else json.dumps(each) for each in records)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def turns(example: object) -> list[tuple[str, str]]:
    assert isinstance(example, Conversation)
    return [(message.role, message.content) for message in example.messages]


# Each format


def test_it_is_a_top_level_name() -> None:
    assert tempra.parse_instruction_dataset is parse_instruction_dataset


def test_alpaca(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.jsonl",
        {**ALPACA, "text": "all of it"},
        {"instruction": "Greet.", "output": "Hi", "text": ""},
        {
            "instruction": "And now?",
            "input": "",
            "output": "Later",
            "system": "Be short.",
            "history": [["First?", "Second."]],
        },
    )
    data = parse_instruction_dataset(file)
    assert (data.format, len(data)) == ("alpaca", 3)
    assert data.reason == "the record on line 1 has 'instruction' and 'output'"
    assert turns(data[0]) == [("user", "Add.\n\n1 and 2"), ("assistant", "3")]
    assert data[0].messages[0].fields == {"instruction": "Add.", "input": "1 and 2"}
    assert turns(data[1]) == [("user", "Greet."), ("assistant", "Hi")]
    assert turns(data[2]) == [
        ("system", "Be short."),
        ("user", "First?"),
        ("assistant", "Second."),
        ("user", "And now?"),
        ("assistant", "Later"),
    ]
    assert data.ignored_fields == {"text": 2}


def test_sharegpt(tmp_path: Path) -> None:
    said = [("human", "a"), ("gpt", "b"), ("observation", "c"), ("gpt", "d")]
    record = {"conversations": [{"from": who, "value": what} for who, what in said], "system": "s"}
    data = parse_instruction_dataset(write(tmp_path / "a.jsonl", record))
    assert data.format == "sharegpt"
    assert turns(data[0]) == [
        ("system", "s"),
        ("user", "a"),
        ("assistant", "b"),
        ("tool", "c"),
        ("assistant", "d"),
    ]


def test_messages_keep_tool_calls_verbatim(tmp_path: Path) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "add", "arguments": '{"b": 2,  "a": 1}'},
    }
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"z": 1, "a": 2}}}]
    parts = [{"type": "text", "text": text} for text in ("1+", "2")]
    messages = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_call_id": "call_1", "name": "add"},
        {"role": "assistant", "content": "It is 3.", "weight": 0},
    ]
    record = {"messages": messages, "tools": tools, "id": 7}
    data = parse_instruction_dataset(write(tmp_path / "a.jsonl", record))
    example = data[0]
    assert isinstance(example, Conversation)
    assert turns(example)[:3] == [("user", "1+2"), ("assistant", ""), ("tool", "3")]
    assert json.dumps(example.messages[1].fields) == json.dumps({"tool_calls": [call]})
    assert example.messages[2].fields == {"tool_call_id": "call_1", "name": "add"}
    assert json.dumps(example.tools) == json.dumps(tools)
    assert [message.is_response for message in example.messages] == [False, True, False, False]
    assert data.ignored_fields == {"id": 1}


def test_prompt_completion(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.jsonl",
        {"prompt": "1 + 1 =", "completion": " 2"},
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
    )
    data = parse_instruction_dataset(file)
    assert data.format == "prompt_completion"
    assert turns(data[0]) == [("user", "1 + 1 ="), ("assistant", " 2")]
    assert turns(data[1]) == [("user", "Hi"), ("assistant", "Hello")]


def test_preference_pairs(tmp_path: Path) -> None:
    worse = {"role": "assistant", "content": "Go away"}
    file = write(
        tmp_path / "a.jsonl",
        {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"},
        {"prompt": TURNS[:1], "chosen": TURNS, "rejected": [TURNS[0], worse]},
    )
    data = parse_instruction_dataset(file)
    assert data.format == "preference"
    expected = PreferencePair(
        (Message("user", "Hi"),),
        (Message("assistant", "Hello"),),
        (Message("assistant", "Go away"),),
    )
    assert list(data) == [expected, expected]


def test_questions_and_answers(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    first = "\nQ: One Q: inside?\n A: not a marker\nA:\nFirst\n\nsecond.\r\n"
    file.write_bytes(first.encode() + b"\nQ: Two?\nA: 2")
    data = parse_instruction_dataset(file)
    assert data.format == "qa"
    assert data.reason == "line 2 starts with 'Q:' and line 4 with 'A:'"
    assert turns(data[0]) == [
        ("user", "One Q: inside?\n A: not a marker"),
        ("assistant", "First\n\nsecond."),
    ]
    assert turns(data[1]) == [("user", "Two?"), ("assistant", "2")]


def test_dialogues(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(
        "System: Be kind.\n\nUser: a\nAssistant: b\nUser: c\nAssistant: d\n\n"
        "User: e\n\nAssistant: f\nSystem: Other.\nUser: g\nAssistant: h\n"
    )
    data = parse_instruction_dataset(file)
    assert data.format == "user_assistant"
    assert [[text for _, text in turns(example)] for example in data] == [
        ["Be kind.", "a", "b", "c", "d"],
        ["e", "f"],
        ["Other.", "g", "h"],
    ]


def test_plain_text(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("Some text.\nA: in it.\n")
    data = parse_instruction_dataset(file)
    assert (data.format, list(data)) == ("text", [PlainText("Some text.\nA: in it.\n")])
    assert data.reason == "line 1 starts with no marker such as 'Q:' or 'User:'"
    records = write(tmp_path / "b.jsonl", {"text": "x"}, {"text": "y"})
    assert list(parse_instruction_dataset(records)) == [PlainText("x"), PlainText("y")]


def test_arrays_and_packed_files_read_like_lines(tmp_path: Path) -> None:
    records = [{**ALPACA, "output": f'{number} ]}},{{"[ \n é'} for number in range(5)]
    lines = parse_instruction_dataset(write(tmp_path / "a.jsonl", *records))
    array = tmp_path / "a.json"
    array.write_text("\ufeff \n" + json.dumps(records, indent=2, ensure_ascii=False) + "\n")
    packed = tmp_path / "b.json.gz"
    packed.write_bytes(gzip.compress(array.read_bytes()))
    for file in (array, packed):
        data = parse_instruction_dataset(file)
        assert data.format == "alpaca"
        assert list(data) == list(lines)
    assert parse_instruction_dataset(array).reason.startswith("the record on line 3 has")


@pytest.mark.parametrize(
    ("record", "format"),
    [
        ({"messages": TURNS, "text": "x"}, "messages"),
        ({"conversations": [{"from": "gpt", "value": "x"}]}, "sharegpt"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "completion": "d"}, "preference"),
        ({"prompt": "a", "completion": "b"}, "prompt_completion"),
        ({"instruction": "a", "output": "b", "text": "c"}, "alpaca"),
        ({"text": "a", "title": "b"}, "text"),
    ],
)
def test_detection_by_fields(tmp_path: Path, record: dict[str, Any], format: str) -> None:
    file = write(tmp_path / "a.jsonl", "[1", "3", record)
    found = detect_format(write(tmp_path / "b.jsonl", "not JSON", "3", record))
    assert found.format == format
    assert "line 3" in found.reason
    with pytest.raises(FormatError, match="needs ',' or ']'"):
        detect_format(file)  # begins as an array


def test_a_text_field_by_another_name_wins(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {**ALPACA, "body": "x"})
    assert detect_format(file, text_field="body").format == "text"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Q: Is it?\nQ: Or not?\n", "line 1 starts with 'Q:', but no line of the file with 'A:'"),
        ("x\nQ: a\nA: b\n", "line 1 starts with no marker"),
        (" Q: a\nA: b\n", "line 1 starts with no marker"),
        ("Q: a" + "\n" * 70_000 + "A: b\n", "no line of the first 65536 characters with 'A:'"),
        (" \n\n", "its beginning is blank"),
    ],
)
def test_text_that_is_no_dialogue(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "a.txt"
    file.write_text(text)
    found = detect_format(file)
    assert found.format == "text"
    assert reason in found.reason


# Mistakes


def answer(**changes: Any) -> dict[str, Any]:
    return {"messages": [TURNS[0], {"role": "assistant", "content": "x", **changes}]}


@pytest.mark.parametrize(
    ("format", "bad", "reason"),
    [
        ("alpaca", '{"instruction": ', "is not JSON: a value expected, the text ends at column 17"),
        ("alpaca", "[" * 100_000, "cannot be read as JSON: nested deeper than 256 levels"),
        ("alpaca", '{"output": NaN}', "is not JSON: a value expected at column 12"),
        ("alpaca", '{"output": 1e999}', "cannot be read as JSON: a number outside the range"),
        ("alpaca", '{"a": 1, "a": 2}', 'cannot be read as JSON: key "a" appears twice'),
        ("alpaca", "[3]", "holds a list, needs an object"),
        ("alpaca", {"instruction": "a"}, r"has no field 'output' \(it has 'instruction'\)"),
        ("alpaca", {**ALPACA, "instruction": " "}, "field 'instruction' is empty"),
        ("alpaca", {**ALPACA, "output": ""}, "field 'output' is empty"),
        ("alpaca", {**ALPACA, "input": 3}, "field 'input' is of type number, needs text"),
        ("alpaca", {**ALPACA, "output": "\ud800"}, "field 'output' has half a surrogate pair"),
        ("alpaca", {**ALPACA, "history": "x"}, "field 'history' is of type text, needs a list"),
        ("alpaca", {**ALPACA, "history": [["x"]]}, r"history\[0\] is no pair"),
        ("sharegpt", {"x": 1}, "has no field 'conversations'"),
        ("sharegpt", {"conversations": {}}, "is of type object, needs a list"),
        ("sharegpt", {"conversations": []}, "'conversations' is an empty list"),
        ("sharegpt", {"conversations": [3]}, r"conversations\[0\] is of type number"),
        (
            "sharegpt",
            {"conversations": [{"from": "me", "value": "x"}]},
            r"conversations\[0\].from is 'me', needs one of system, human",
        ),
        (
            "sharegpt",
            {"conversations": [{"from": "human", "value": "x"}]},
            "has no answer of the assistant",
        ),
        (
            "sharegpt",
            {"conversations": [{"from": "gpt", "value": "\n"}]},
            r"conversations\[0\] is an empty answer",
        ),
        ("messages", {"messages": ["x"]}, r"messages\[0\] is of type text"),
        ("messages", {"messages": [{"content": "x"}]}, r"messages\[0\].role is missing"),
        ("messages", answer(role="bot"), r"messages\[1\].role is 'bot', needs one of system"),
        ("messages", {"messages": TURNS[:1]}, "has no answer of the assistant"),
        ("messages", answer(content=None), r"messages\[1\].content is of type null"),
        ("messages", answer(content=" "), r"messages\[1\] is an empty answer"),
        (
            "messages",
            answer(content=[{"type": "image_url"}]),
            r"messages\[1\].content has a part of type 'image_url'",
        ),
        ("messages", answer(tool_calls="\ud800"), r"messages\[1\] has half a surrogate pair"),
        ("messages", {"messages": TURNS, "tools": ["\ud800"]}, "'tools' has half a surrogate"),
        ("messages", {"messages": TURNS, "tools": 3}, "field 'tools' is of type number"),
        ("prompt_completion", {"prompt": "x"}, "has no field 'completion'"),
        ("prompt_completion", {"prompt": "x", "completion": ""}, "field 'completion' is empty"),
        ("preference", {"prompt": "x", "chosen": "a"}, "has no field 'rejected'"),
        (
            "preference",
            {"prompt": "x", "chosen": "", "rejected": "b"},
            "field 'chosen' has no answer",
        ),
        ("preference", {"prompt": "x", "chosen": "a", "rejected": "a"}, "are the same"),
        ("text", {"body": "x"}, r"has no field 'text' \(it has 'body'\); set data.text_field"),
    ],
)
def test_a_malformed_record_is_named(tmp_path: Path, format: str, bad: Any, reason: str) -> None:
    good = {
        "alpaca": ALPACA,
        "sharegpt": {"conversations": [{"from": "gpt", "value": "x"}]},
        "messages": {"messages": TURNS},
        "prompt_completion": {"prompt": "a", "completion": "b"},
        "preference": {"prompt": "a", "chosen": "b", "rejected": "c"},
        "text": {"text": "x"},
    }[format]
    file = write(tmp_path / "a.jsonl", good, "", bad)
    with pytest.raises(MalformedLinesError, match=rf"a\.jsonl, line 3: .*{reason}") as caught:
        parse_instruction_dataset(file)
    assert [line.number for line in caught.value.lines] == [3]
    assert "1 line is malformed beside 1 good examples" in str(caught.value)
    data = parse_instruction_dataset(file, format=format, skip_bad_lines=1)
    assert (len(data), data.malformed_count) == (1, 1)
    assert data.malformed == caught.value.lines


def test_every_malformed_line_is_listed_and_only_so_many_are_skipped(tmp_path: Path) -> None:
    lines = [ALPACA if number % 2 else "{" for number in range(60)]
    file = write(tmp_path / "a.jsonl", *lines)
    with pytest.raises(MalformedLinesError, match="30 lines are malformed") as caught:
        parse_instruction_dataset(file, skip_bad_lines=29)
    assert [line.number for line in caught.value.lines] == list(range(1, 60, 2))
    message = str(caught.value)
    assert "beside 30 good examples, 29 may be: " in message
    assert message.count("is not JSON") == 20
    assert message.endswith("and 10 more. Correct them, or leave them out with skip_bad_lines=30")
    assert len(parse_instruction_dataset(file, skip_bad_lines=30)) == 30
    with pytest.raises(ConfigError, match="skip_bad_lines: got -1"):
        parse_instruction_dataset(file, skip_bad_lines=-1)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    good = json.dumps(ALPACA).encode()
    file.write_bytes(good + b'\n{"output": "\xff"}\n' + good)
    with pytest.raises(MalformedLinesError, match=rf"line 2: byte {len(good) + 13} of the file"):
        parse_instruction_dataset(file)
    assert len(parse_instruction_dataset(file, skip_bad_lines=1)) == 2
    array = tmp_path / "a.json"
    array.write_bytes(b"[" + good + b',\n"\xff"]')
    with pytest.raises(
        FormatError, match=r"a\.json, line 2: byte 62 of the file is not valid UTF-8"
    ):
        parse_instruction_dataset(array)


@pytest.mark.parametrize(
    ("text", "good", "line", "problem"),
    [
        ("Q: a\nQ: b\nA: c\n", 1, 1, "'Q:' has no 'A:' after it"),
        ("Q: a\nA: c\n\nA: d\n", 1, 4, "'A:' has no 'Q:' before it"),
        ("Q: a\nA: c\nQ: d\n", 1, 3, "'Q:' has no 'A:' after it"),
        ("Q:\nA: c\n", 0, 1, "'Q:' has no text"),
        ("Q: a\nA: \n\nQ: a\nA: b", 1, 2, "'A:' has no text"),
        ("\nhello\nthere\nQ: a\nA: b\n", 1, 2, r"text before the first marker (Q:, A:)"),
    ],
)
def test_mistakes_in_questions(text: str, good: int, line: int, problem: str) -> None:
    found = list(read_questions(text_lines([text])))
    assert [(each.line, each.problem) for each in found if each.problem] == [(line, problem)]
    assert sum(each.conversation is not None for each in found) == good


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("Assistant: a\n", 1, "'Assistant:' stands at the start of a dialogue"),
        ("User: a\nUser: b\nAssistant: c\n", 2, "'User:' stands after 'User:'"),
        ("User: a\nAssistant: b\nAssistant: c\n", 3, "'Assistant:' stands after 'Assistant:'"),
        ("User: a\n", 1, "'User:' has no answer after it"),
        ("System: a\nAssistant: b\n", 2, "'Assistant:' stands after 'System:'"),
        ("User: \nAssistant: b\n", 1, "'User:' has no text"),
        (
            "x\nUser: a\nAssistant: b",
            1,
            "text before the first marker (System:, User:, Assistant:)",
        ),
    ],
)
def test_mistakes_in_dialogues(text: str, line: int, problem: str) -> None:
    found = list(read_dialogues(text_lines([text + "\n\nUser: good\nAssistant: one"])))
    assert [(each.line, each.problem) for each in found if each.problem] == [(line, problem)]
    assert found[-1].conversation is not None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", r"line 1: is not JSON: a value expected, the text ends"),
        ("[{}", r"line 1: needs ',' or '\]' after the element, found the end of the file"),
        ("[{}\n,\n]", r"line 3: is not JSON: a value expected"),
        ("[{}\n{}]", r"line 2: needs ',' or '\]' after the element, found '\{'"),
        ('[{"a": "b\n', r"line 1: is not JSON: "),
        ('[{"a" 3}]', r"line 1: is not JSON: ':' expected"),
        ("[{}]\n3", r"line 2: there is more after the end of the array"),
        ("[" * 100_000, r"line 1: cannot be read as JSON"),
    ],
)
def test_a_broken_array_is_never_half_read(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with open(file, "rb") as stream, pytest.raises(FormatError, match=rf"a\.json, {problem}"):
        list(json_records(file, stream))


def test_wrong_arguments(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("Q: a\nA: b\n")
    records = write(tmp_path / "a.jsonl", ALPACA)
    for file, format, words in (
        (text, "alpacca", f"format: got 'alpacca', needs auto or one of {', '.join(FORMATS)}"),
        (text, "alpaca", r"a\.txt: format alpaca is read from JSON"),
        (records, "qa", r"a\.jsonl: is JSON by its name"),
    ):
        with pytest.raises(ConfigError, match=words):
            parse_instruction_dataset(file, format=format)
    with pytest.raises(FormatError, match="no such file"):
        parse_instruction_dataset(tmp_path / "gone.jsonl")
    empty = write(tmp_path / "b.jsonl", "")
    with pytest.raises(FormatError, match="has no example of the format alpaca"):
        parse_instruction_dataset(empty, format="alpaca")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(records.read_bytes() * 50)[:-20])
    with pytest.raises(FormatError, match="is not a sound gzip file"):
        parse_instruction_dataset(tmp_path / "c.jsonl.gz")
