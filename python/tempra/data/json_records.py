"""Records of JSON lines or of one JSON array, read one at a time in bounded memory."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from tempra._core import FormatError

LONGEST_RECORD = 1 << 28
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_READ_BYTES = 1 << 20
_PEEK_BYTES = 4096
_BLANK = " \t\r\n"
# Errors this close to the end of what has been read may come from a number or word cut in two.
_LONGEST_WORD = 16


class JsonRecord(NamedTuple):
    """A record and the line it begins on; `problem` says why a line holds none."""

    line: int
    value: Any
    problem: str | None = None


def json_records(path: Path, stream: IO[bytes]) -> Iterator[JsonRecord]:
    """Read every record; blank lines are passed over.

    A bad line is a record with a problem, and reading goes on behind it. Behind a mistake in an
    array nothing can be told apart any more, so that raises `FormatError`.
    """
    head: bytes = stream.peek(_PEEK_BYTES)  # type: ignore[attr-defined]
    if head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        return _ArrayReader(path, stream).records()
    return _line_records(path, stream)


def _line_records(path: Path, stream: IO[bytes]) -> Iterator[JsonRecord]:
    offset = 0
    number = 0
    while line := stream.readline(LONGEST_RECORD + 1):
        number += 1
        if len(line) > LONGEST_RECORD:
            raise FormatError(f"{path}, line {number}: has more than {LONGEST_RECORD} bytes")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            place = f"byte {offset + error.start} of the file"
            yield JsonRecord(number, None, f"{place} is not valid UTF-8 ({error.reason})")
        else:
            if text.strip():
                yield _parse_line(number, text.rstrip("\r\n"))
        offset += len(line)


def _parse_line(number: int, text: str) -> JsonRecord:
    try:
        return JsonRecord(number, json.loads(text))
    except json.JSONDecodeError as error:
        return JsonRecord(number, None, f"is not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return JsonRecord(number, None, f"cannot be read as JSON: {error}")


class _ArrayReader:
    """Takes the elements of an array off a buffer that grows only as far as one element needs."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._path, self._stream = path, stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._buffer, self._position, self._line = "", 0, 1
        self._ended = False

    def records(self) -> Iterator[JsonRecord]:
        self._advance(self._skip_blank() + 1)  # the bracket that json_records saw
        if self._next() == "]":
            self._advance(self._position + 1)
        else:
            while True:
                self._skip_blank()
                yield JsonRecord(self._line, self._element())
                separator = self._next()
                if separator not in (",", "]"):
                    found = repr(separator) if separator else "the end of the file"
                    raise self._error(f"needs ',' or ']' after the element, found {found}")
                self._advance(self._position + 1)
                if separator == "]":
                    break
        if self._next():
            raise self._error("there is more after the end of the array")

    def _element(self) -> Any:
        while True:
            try:
                value, end = self._json.raw_decode(self._buffer, self._position)
            except json.JSONDecodeError as error:
                near_end = error.pos >= len(self._buffer) - _LONGEST_WORD
                cut_off = near_end or error.msg.startswith("Unterminated string")
                if cut_off and self._grow():
                    continue
                self._advance(min(error.pos, len(self._buffer)))
                raise self._error(f"is not JSON: {error.msg}") from None
            except (ValueError, RecursionError) as error:
                raise self._error(f"cannot be read as JSON: {error}") from None
            # A number at the very end of the buffer may go on behind it.
            if end < len(self._buffer) or not self._grow():
                self._advance(end)
                return value

    def _next(self) -> str:
        """Return the next visible character without taking it; empty at the end of the file."""
        place = self._skip_blank()
        return self._buffer[place : place + 1]

    def _skip_blank(self) -> int:
        while True:
            place = self._position
            while place < len(self._buffer) and self._buffer[place] in _BLANK:
                place += 1
            self._advance(place)
            if place < len(self._buffer) or not self._grow():
                return self._position

    def _advance(self, place: int) -> None:
        self._line += self._buffer.count("\n", self._position, place)
        self._position = place

    def _grow(self) -> bool:
        """Read on, twice as much each time; False at the end of the file."""
        if self._ended:
            return False
        self._buffer = self._buffer[self._position :]
        self._position = 0
        if len(self._buffer) > LONGEST_RECORD:
            raise self._error(f"has more than {LONGEST_RECORD} characters")
        data = self._stream.read(max(_READ_BYTES, len(self._buffer)))
        self._ended = not data
        try:
            self._buffer += self._decode.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            raise self._error(f"is not valid UTF-8 ({error.reason})") from None
        return True

    def _error(self, problem: str) -> FormatError:
        return FormatError(
            f"{self._path}, line {self._line}: {problem}; what follows in the array cannot be read"
        )
