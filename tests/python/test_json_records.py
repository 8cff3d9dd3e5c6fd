"""The library's JSON records against Python's json module, on values and on damaged text."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tempra._core import ConfigError, FormatError, JsonRecordReader

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=20)
    ),
    max_leaves=20,
)


class RefusedError(ValueError):
    """What Python's json accepts and this library does not."""


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise RefusedError("a key appears twice")
    return dict(pairs)


def finite(text: str) -> float:
    value = float(text)
    mantissa = text.lower().split("e")[0]
    vanished = value == 0.0 and mantissa.strip("-0.") != ""
    if math.isinf(value) or vanished:
        raise RefusedError("outside the range of a double")
    return value


def no_constant(name: str) -> None:
    raise RefusedError(name)


def expected(text: str) -> Any:
    """Return what Python's json reads, with its extensions switched off."""
    return json.loads(
        text, object_pairs_hook=unique, parse_float=finite, parse_constant=no_constant
    )


def read(content: bytes, sizes: list[int]) -> list[tuple[int, Any, str | None]]:
    reader = JsonRecordReader("input")
    found, start = [], 0
    for size in sizes:
        found += reader.feed(content[start : start + size])
        start += size
    return [*found, *reader.feed(content[start:]), *reader.finish()]


def same(found: Any, wanted: Any) -> bool:
    """Whether two values are equal and of equal types, signs of zero and order of keys included."""
    return repr(found) == repr(wanted)


SIZES = st.lists(st.integers(1, 9), max_size=40)


@given(st.lists(VALUES, min_size=1, max_size=4), SIZES, st.booleans(), st.sampled_from([None, 1]))
def test_values_are_those_of_pythons_json(
    values: list[Any], sizes: list[int], ascii_only: bool, indent: int | None
) -> None:
    texts = [json.dumps(value) for value in values]
    if not ascii_only:
        plain = [json.dumps(value, ensure_ascii=False) for value in values]
        texts = [
            escaped if any("\ud800" <= c <= "\udfff" for c in text) else text
            for escaped, text in zip(texts, plain, strict=True)
        ]
    lines = "".join(text + "\n" for text in texts).encode()
    if not lines.startswith(b"["):
        found = read(lines, sizes)
        assert [each[0] for each in found] == list(range(1, len(values) + 1))
        assert [each[2] for each in found] == [None] * len(values)
        assert same([each[1] for each in found], values)
    array = json.dumps(values, indent=indent).encode()
    assert same([each[1] for each in read(array, sizes)], values)


SEEDS = [
    '{"a": [1, -2.5e3, "x\\n\\u00e9\\ud83d\\ude00"], "b": {"c": null, "d": true}, "é": false}',
    '[[], {}, "", 0, -0, 0.0, 1E+2, 12345678901234567890]',
    '"\\ud800 \\" \\\\ \\/"',
]
PIECES = ['"', "{", "}", "[", "]", ",", ":", "\\", "\\u", "0", "-", ".", "e", "1e999", "1e-999"]
PIECES += ["NaN", "Infinity", "nul", "true", '"a"', " ", "\t", "\x01", "é", "\\ud800", "\x7f"]


@settings(max_examples=400)
@given(st.sampled_from(SEEDS), st.data())
def test_damaged_text_is_refused_exactly_when_pythons_json_refuses_it(
    seed: str, data: st.DataObject
) -> None:
    text = seed
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 4))
        text = text[:place] + data.draw(st.sampled_from(PIECES)) + text[place + length :]
    check_against_python(text)


@example("1" * 999)
@example("[" * 255 + "]" * 255)
@example('{"a": {"a": 1}, "b": {"a": 1}}')
@example(json.dumps({str(n): n for n in range(40)}))
@example('{"\\u0061": 1, "a": 2}')
@given(st.text(st.sampled_from('{}[]",:\\u0123e-.truefalsn \t\x0bé'), max_size=12))
def test_any_text_is_refused_exactly_when_pythons_json_refuses_it(text: str) -> None:
    check_against_python(text)


def check_against_python(text: str) -> None:
    content = ("{}\n" + text).encode()  # a first line, so that the second is no array
    found = read(content, [])[1:]
    if not text.strip(" \t\r\n"):
        assert found == []
        return
    ((line, value, problem),) = found
    assert line == 2
    try:
        wanted = expected(text)
    except ValueError:
        assert problem is not None
        assert "JSON: " in problem
    else:
        assert problem is None
        assert same(value, wanted)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1" * 1001, "cannot be read as JSON: a number of more than 1000 characters at column 1"),
        ("é" + "x", "is not JSON: a value expected at column 1"),
        ('"é" x', "is not JSON: text after the end of the value at column 5"),
        ("[" * 257, "cannot be read as JSON: nested deeper than 256 levels at column 257"),
        ("\x0c", "is not JSON: a value expected at column 1"),
    ],
)
def test_the_place_of_a_mistake(text: str, problem: str) -> None:
    assert read(b"0\n\n" + text.encode() + b"\n1", [])[1:] == [(3, None, problem), (4, 1, None)]


def test_what_came_before_an_error_is_given_first() -> None:
    reader = JsonRecordReader("file")
    assert reader.feed(b'[1, {"a": 1, "a": 2}, 3 4]') == [
        (1, 1, None),
        (1, None, 'cannot be read as JSON: key "a" appears twice'),
        (1, 3, None),
    ]
    for call in (lambda: reader.feed(b"5"), reader.finish):
        with pytest.raises(FormatError, match=r"file, line 1: needs ',' or '\]' .* found '4'"):
            call()


def test_a_byte_order_mark_and_the_place_of_bad_bytes() -> None:
    mark = b"\xef\xbb\xbf"
    content = mark + b'{"a": 1}\n"\xff"\n2'
    for size in range(1, 6):
        found = read(content, [size] * 20)
        problem = f"byte {content.index(0xFF)} of the file is not valid UTF-8"
        assert found == [(1, {"a": 1}, None), (2, None, problem), (3, 2, None)]
    assert read(mark + b"[7]", [1, 1]) == [(1, 7, None)]
    assert read(mark[:2], [])[0][2] == "byte 0 of the file is not valid UTF-8"


def test_wrong_limits_are_refused() -> None:
    for longest in (0, 1 << 31):
        with pytest.raises(ConfigError, match="longest_record is"):
            JsonRecordReader("file", longest)
