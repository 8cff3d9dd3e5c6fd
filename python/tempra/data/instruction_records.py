"""Examples of JSON records, as the library reads them, to the classes of Python's interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import starmap
from pathlib import Path
from typing import IO, Any, NamedTuple

from tempra import _core
from tempra.data.conversation import Conversation, Example, Message, PlainText, PreferencePair
from tempra.data.json_records import LONGEST_RECORD, chunks

TEXT, PREFERENCE = "text", "preference"


class LocatedExample(NamedTuple):
    """An example and the line it begins on; `problem` says why there is none."""

    line: int
    example: Example | None
    problem: str | None = None


def record_texts(path: Path, stream: IO[bytes], field: str) -> Iterator[str]:
    """Read the text of each record; raises `FormatError` where there is none."""
    reader = _core.InstructionReader(path, TEXT, field, LONGEST_RECORD)
    for line, text, problem in _fed(reader, stream):
        if problem is not None:
            raise _core.FormatError(f"{path}, line {line}: {problem}")
        yield text


def record_examples(
    path: Path, stream: IO[bytes], format: str, text_field: str, ignored_fields: dict[str, int]
) -> Iterator[LocatedExample]:
    """Read every record; `ignored_fields` counts the fields that the format has no use for."""
    reader = _core.InstructionReader(path, format, text_field, LONGEST_RECORD)
    build: Callable[[Any], Example] = _conversation
    if format in (TEXT, PREFERENCE):
        build = PlainText if format == TEXT else _preference_pair
    for line, found, problem in _fed(reader, stream):
        yield LocatedExample(line, None if problem else build(found), problem)
    ignored_fields.update(reader.ignored_fields)


def _fed(reader: _core.InstructionReader, stream: IO[bytes]) -> Iterator[tuple[int, Any, Any]]:
    for data in chunks(stream):
        yield from reader.feed(data)
    yield from reader.finish()


def _conversation(found: tuple[Any, Any]) -> Conversation:
    messages, tools = found
    return Conversation(tuple(starmap(Message, messages)), tools)


def _preference_pair(found: tuple[Any, Any, Any, Any]) -> PreferencePair:
    *parts, tools = found
    prompt, chosen, rejected = (tuple(starmap(Message, turns)) for turns in parts)
    return PreferencePair(prompt, chosen, rejected, tools)
