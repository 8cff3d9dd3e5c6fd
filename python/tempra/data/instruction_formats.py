"""The formats that examples come in, in one registry, and how a file's format is found out.

Reading a file gives `LocatedExample`s: the example and its line, or what is wrong with that line.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Literal, cast

from tempra._core import ConfigError, FormatError
from tempra.data.conversation import PlainText
from tempra.data.corpus import Piece, cut, decoded
from tempra.data.instruction_records import (
    PREFERENCE,
    TEXT,
    LocatedExample,
    record_examples,
)
from tempra.data.json_records import JSON_SUFFIXES, JsonRecord, json_records
from tempra.data.marked_text import (
    DIALOGUE_MARKERS,
    QUESTION_MARKERS,
    MarkedExample,
    marker_of,
    read_dialogues,
    read_questions,
    text_lines,
)

AUTO = "auto"
FormatName = Literal[
    "auto",
    "text",
    "qa",
    "user_assistant",
    "messages",
    "sharegpt",
    "preference",
    "prompt_completion",
    "alpaca",
]
# How much of a text, and how many records, detection looks at.
_DETECTION_CHARACTERS = 1 << 16
_DETECTION_RECORDS = 100


@dataclass(frozen=True)
class RecordFormat:
    """A format of JSON records and the fields it is known by."""

    name: str
    known_by: tuple[str, ...]
    # The template that fits it when none is chosen.
    template: str


@dataclass(frozen=True)
class MarkedFormat:
    """A format of plain text with markers at line starts."""

    name: str
    markers: Mapping[str, str]
    begins_with: tuple[str, ...]
    answer: str
    read: Callable[[Iterator[str]], Iterator[MarkedExample]]
    template: str


@dataclass(frozen=True)
class Detection:
    """The format of a file and what in the file says so."""

    format: str
    reason: str


# In the order of detection: a record that has the fields of several is of the first.
RECORD_FORMATS: dict[str, RecordFormat] = {
    each.name: each
    for each in (
        RecordFormat("messages", ("messages",), "chatml"),
        RecordFormat("sharegpt", ("conversations",), "chatml"),
        RecordFormat(PREFERENCE, ("prompt", "chosen", "rejected"), "chatml"),
        RecordFormat("prompt_completion", ("prompt", "completion"), "plain"),
        RecordFormat("alpaca", ("instruction", "output"), "alpaca"),
    )
}
MARKED_FORMATS: dict[str, MarkedFormat] = {
    each.name: each
    for each in (
        MarkedFormat("qa", QUESTION_MARKERS, ("Q:",), "A:", read_questions, "qa"),
        MarkedFormat(
            "user_assistant",
            DIALOGUE_MARKERS,
            ("User:", "System:"),
            "Assistant:",
            read_dialogues,
            "chatml",
        ),
    )
}
FORMATS = (TEXT, *MARKED_FORMATS, *RECORD_FORMATS)


def default_template(format: str) -> str:
    """Return the name of the template that a format gets when none is chosen."""
    known: dict[str, RecordFormat | MarkedFormat] = {**RECORD_FORMATS, **MARKED_FORMATS}
    return known[format].template


def is_json(path: Path) -> bool:
    """Whether a file's name says that it holds JSON."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix in JSON_SUFFIXES


@contextmanager
def open_data(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Open a file: its content, unpacked if it is a .gz, and the file as it is on disk.

    Raises `FormatError` where it cannot be read or is damaged.
    """
    try:
        with open(path, "rb") as raw:
            packed = path.suffix == ".gz"
            yield cast(IO[bytes], gzip.GzipFile(fileobj=raw) if packed else raw), raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FormatError(f"{path}: is not a sound gzip file: {error}") from None
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from None


def detect_format(path: Path, *, text_field: str = "text") -> Detection:
    """Find out the format of a file from its beginning; raises `FormatError` where none fits."""
    with open_data(path) as (stream, _):
        if is_json(path):
            return _detect_records(
                path, islice(json_records(path, stream), _DETECTION_RECORDS), text_field
            )
        return _detect_markers(path, stream)


def _detect_records(path: Path, records: Iterator[JsonRecord], text_field: str) -> Detection:
    first: JsonRecord | None = None
    for record in records:
        if not isinstance(record.value, dict):
            continue
        first = first or record
        fields = set(record.value)
        fitting = [each for each in RECORD_FORMATS.values() if fields.issuperset(each.known_by)]
        place = f"the record on line {record.line} has"
        # A field that was asked for by another name than the usual one is what is wanted.
        if text_field in fields and (not fitting or text_field != "text"):
            return Detection(TEXT, f"{place} the field {text_field!r}")
        if fitting:
            names = " and ".join(repr(name) for name in fitting[0].known_by)
            return Detection(fitting[0].name, f"{place} {names}")
    if first is None:
        return Detection(TEXT, f"none of the first {_DETECTION_RECORDS} records is an object")
    return Detection(TEXT, f"the record on line {first.line} has the fields of no other format")


def _detect_markers(path: Path, stream: IO[bytes]) -> Detection:
    chunks = decoded(path, stream)
    try:
        head = next(chunks, "")
    except FormatError:
        return Detection(TEXT, "its beginning is not UTF-8 text")  # reading it says where
    cut_off = len(head) > _DETECTION_CHARACTERS
    lines = list(enumerate(text_lines([head[:_DETECTION_CHARACTERS]]), start=1))
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        return Detection(TEXT, "its beginning is blank")
    for each in MARKED_FORMATS.values():
        marker = marker_of(first[1], dict.fromkeys(each.begins_with, ""))
        if marker is None:
            continue
        answer = next((number for number, line in lines if line.startswith(each.answer)), None)
        if answer is not None:
            return Detection(
                each.name,
                f"line {first[0]} starts with {marker!r} and line {answer} with {each.answer!r}",
            )
        extent = f"the first {_DETECTION_CHARACTERS} characters" if cut_off else "the file"
        return Detection(
            TEXT,
            f"line {first[0]} starts with {marker!r}, but no line of {extent} with {each.answer!r}",
        )
    return Detection(TEXT, f"line {first[0]} starts with no marker such as 'Q:' or 'User:'")


def check_format(path: Path, format: str) -> None:
    """Raise `ConfigError` for an unknown format, or one that the kind of file cannot have."""
    if format not in FORMATS:
        raise ConfigError(f"format: got {format!r}, needs auto or one of {', '.join(FORMATS)}")
    if format in RECORD_FORMATS and not is_json(path):
        raise ConfigError(
            f"{path}: format {format} is read from JSON, the name needs to end in "
            f"{', '.join(JSON_SUFFIXES)} (or these with .gz)"
        )
    if format in MARKED_FORMATS and is_json(path):
        raise ConfigError(f"{path}: is JSON by its name, but format {format} is plain text")


@dataclass
class ExampleReader:
    """Reads the examples of one file; `ignored_fields` counts what the format has no use for."""

    path: Path
    format: str
    text_field: str = "text"
    separator: str | None = None
    ignored_fields: dict[str, int] = field(default_factory=dict)
    # How many bytes of the file on disk have been read.
    position: int = 0

    def __post_init__(self) -> None:
        """Refuse formats that cannot be."""
        check_format(self.path, self.format)

    def __iter__(self) -> Iterator[LocatedExample]:
        """Yield every example and every problem, one at a time."""
        with open_data(self.path) as (stream, raw):
            for located in self._examples(stream):
                self.position = raw.tell()
                yield located

    def _examples(self, stream: IO[bytes]) -> Iterator[LocatedExample]:
        if is_json(self.path):
            return record_examples(
                self.path, stream, self.format, self.text_field, self.ignored_fields
            )
        if self.format in MARKED_FORMATS:
            lines = text_lines(decoded(self.path, stream))
            return (LocatedExample(*marked) for marked in MARKED_FORMATS[self.format].read(lines))
        return self._documents(stream)

    def _documents(self, stream: IO[bytes]) -> Iterator[LocatedExample]:
        parts: list[Piece] = []
        line = 1
        for piece in cut(decoded(self.path, stream), self.separator):
            parts.append(piece)
            if piece.ends_document:
                text = "".join(part.text for part in parts)
                yield LocatedExample(line, PlainText(text))
                line += text.count("\n") + (self.separator or "").count("\n")
                parts = []
