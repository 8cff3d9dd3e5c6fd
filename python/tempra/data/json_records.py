"""Records of JSON lines or of one JSON array, read in bounded memory by the library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from tempra import _core

LONGEST_RECORD: int = _core.LONGEST_RECORD
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_READ_BYTES = 1 << 18


class JsonRecord(NamedTuple):
    """A record and the line it begins on; `problem` says why a line holds none."""

    line: int
    value: Any
    problem: str | None = None


def chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Read a file in chunks of the size that its reader is fed with."""
    while data := stream.read(_READ_BYTES):
        yield data


def json_records(path: Path, stream: IO[bytes]) -> Iterator[JsonRecord]:
    """Read every record; blank lines are passed over.

    A bad line is a record with a problem, and reading goes on behind it. Behind a mistake in an
    array nothing can be told apart any more, so that raises `FormatError`.
    """
    reader = _core.JsonRecordReader(path, LONGEST_RECORD)
    for data in chunks(stream):
        yield from map(JsonRecord._make, reader.feed(data))
    yield from map(JsonRecord._make, reader.finish())
