"""Text from files, folders, patterns and JSON records, streamed in pieces of bounded size.

A document is a text file, one part of it where a separator is given, or a JSON record. Documents
are handed out as pieces of at most about 256 K characters, cut where a tokenizer would cut as well.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from tempra._core import ConfigError, FormatError
from tempra.data.instruction_records import record_texts
from tempra.data.json_records import JSON_SUFFIXES

if TYPE_CHECKING:
    from tempra.data.chat_template import Segment

PIECE_CHARACTERS = 1 << 18
_READ_BYTES = 1 << 20
_BYTE_ORDER_MARK = "\ufeff"

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Piece:
    """A part of a document; `ends_document` marks its last part.

    A rendered conversation is one piece, and has the segments that its text consists of.
    """

    text: str
    ends_document: bool
    segments: tuple[Segment, ...] | None = None


@dataclass(frozen=True)
class SourceFile:
    """A file of a corpus, as found on disk."""

    path: Path
    size: int
    modified_ns: int


class Corpus:
    """The documents of `sources` (files, folders, patterns), in the order given, folders sorted.

    `setting` is the name that errors use for the list of sources.
    """

    def __init__(
        self,
        sources: Sequence[str | os.PathLike[str]],
        *,
        text_field: str = "text",
        suffixes: Sequence[str] = (".txt", ".md", ".jsonl"),
        separator: str | None = None,
        setting: str = "data.train",
    ) -> None:
        self.text_field, self.separator, self.setting = text_field, separator, setting
        self.files = find_files(sources, tuple(suffixes), setting)

    @property
    def total_bytes(self) -> int:
        """Size of all files on disk."""
        return sum(file.size for file in self.files)

    def pieces(self, progress: Progress | None = None) -> Iterator[Piece]:
        """Read every document; `progress` hears how many bytes of the files are done."""
        done = 0
        for file in self.files:
            for piece, position in self._file_pieces(file.path):
                yield piece
                if progress is not None:
                    progress(done + min(position, file.size))
            done += file.size
            if progress is not None:
                progress(done)

    def _file_pieces(self, path: Path) -> Iterator[tuple[Piece, int]]:
        try:
            with open(path, "rb") as raw:
                compressed = path.suffix == ".gz"
                stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw) if compressed else raw)
                name = path.with_suffix("") if compressed else path
                if name.suffix in JSON_SUFFIXES:
                    texts = record_texts(path, stream, self.text_field)
                    pieces: Iterator[Piece] = (
                        piece for text in texts for piece in cut([text], None)
                    )
                else:
                    pieces = cut(decoded(path, stream), self.separator)
                for piece in pieces:
                    yield piece, raw.tell()
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise FormatError(f"{path}: is not a sound gzip file: {error}") from None


def find_files(
    sources: Sequence[str | os.PathLike[str]], suffixes: tuple[str, ...], setting: str
) -> tuple[SourceFile, ...]:
    """Return the files of the sources; empty files are refused when named, skipped when found."""
    if not sources:
        raise ConfigError(f"{setting}: is empty, needs at least one file, folder or pattern")
    found: dict[Path, str] = {}
    result = []
    for source in [os.fspath(source) for source in sources]:
        named = False
        if os.path.isdir(source):
            paths = _folder_files(Path(source), suffixes, setting)
        elif os.path.lexists(source):
            paths, named = [Path(source)], True
        else:
            paths = _matching_files(source, setting)
        for path in paths:
            file = _source_file(path, setting)
            if file.size == 0 and not named:
                continue
            if file.size == 0:
                raise FormatError(f"{path}: is empty, needs text")
            real = path.resolve()
            if real in found:
                raise ConfigError(
                    f"{setting}: {path} is given twice, by {found[real]!r} and {source!r}"
                )
            found[real] = source
            result.append(file)
    if not result:
        raise FormatError(f"{setting}: every file of {', '.join(map(str, sources))} is empty")
    return tuple(result)


def _source_file(path: Path, setting: str) -> SourceFile:
    try:
        state = path.stat()
        if not os.access(path, os.R_OK):
            raise ConfigError(f"{setting}: {path} cannot be read: permission denied")
    except OSError as error:
        raise ConfigError(f"{setting}: {path} cannot be read: {error.strerror}") from None
    if not path.is_file():
        raise ConfigError(f"{setting}: {path} is neither a file nor a folder")
    return SourceFile(path, state.st_size, state.st_mtime_ns)


def _folder_files(folder: Path, suffixes: tuple[str, ...], setting: str) -> list[Path]:
    paths = []
    others: dict[str, int] = {}
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            if name.endswith(suffixes):
                paths.append(Path(place) / name)
            else:
                ending = os.path.splitext(name)[1] or "no ending"
                others[ending] = others.get(ending, 0) + 1
    if not paths:
        most = sorted(others, key=lambda ending: -others[ending])[:5]
        seen = ", ".join(f"{others[ending]} with {ending}" for ending in most) or "no files"
        raise ConfigError(
            f"{setting}: folder {folder} has no file that ends in {', '.join(suffixes)} (it has "
            f"{seen}); set data.suffixes"
        )
    return paths


def _raise(error: OSError) -> None:
    raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}")


def _matching_files(pattern: str, setting: str) -> list[Path]:
    if not glob.has_magic(pattern):
        raise ConfigError(f"{setting}: no such file or folder: {pattern}")
    paths = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    files = [path for path in paths if not path.is_dir()]
    if not files:
        raise ConfigError(f"{setting}: no file matches {pattern!r}")
    return files


def decoded(path: Path, stream: IO[bytes]) -> Iterator[str]:
    """Decode a file in chunks; raises `FormatError` with the byte offset of what is not text."""
    rest = b""
    offset = 0  # of the first byte of `rest` within the file
    while True:
        data = stream.read(_READ_BYTES)
        block = rest + data
        zero = block.find(b"\0")
        if zero >= 0:
            raise FormatError(
                f"{path}: byte {offset + zero} is zero, so this is a binary file (or UTF-16), "
                "not UTF-8 text"
            )
        try:
            text, used = codecs.utf_8_decode(block, "strict", not data)
        except UnicodeDecodeError as error:
            raise FormatError(
                f"{path}: byte {offset + error.start} is not valid UTF-8 ({error.reason}); "
                "save the file as UTF-8"
            ) from None
        # The mark says how the file is encoded and is no part of the text.
        yield text.removeprefix(_BYTE_ORDER_MARK) if offset == 0 else text
        if not data:
            return
        offset += used
        rest = block[used:]


def cut(chunks: Iterable[str], separator: str | None) -> Iterator[Piece]:
    """Turn the chunks of a file into pieces of its documents; empty documents vanish."""
    pending = ""
    begun = False  # whether a part of the current document is out
    margin = PIECE_CHARACTERS + len(separator or "")
    for chunk in chunks:
        pending += chunk
        if separator is not None:
            *complete, pending = pending.split(separator)
            for document in complete:
                yield from _last_pieces(document, begun)
                begun = False
        # What stays behind is longer than a separator, so none is ever cut in two.
        while len(pending) > margin:
            end = cutting_place(pending, PIECE_CHARACTERS)
            yield Piece(pending[:end], False)
            begun = True
            pending = pending[end:]
    yield from _last_pieces(pending, begun)


def _last_pieces(text: str, begun: bool) -> Iterator[Piece]:
    while len(text) > PIECE_CHARACTERS:
        end = cutting_place(text, PIECE_CHARACTERS)
        yield Piece(text[:end], False)
        begun, text = True, text[end:]
    if text or begun:
        yield Piece(text, True)


def cutting_place(text: str, limit: int) -> int:
    """Return where to cut a long text, at most `limit` characters from its start.

    After a line end between two visible characters, where tokenizers begin a new word anyway, so
    that pieces and whole give the same tokens. A text without such a place in the last half is cut
    after white space, or at the limit.
    """
    end = limit
    while (end := text.rfind("\n", limit // 2, end)) > 0:
        if not text[end - 1].isspace() and not text[end + 1].isspace():
            return end + 1
    for place in range(limit, limit // 2, -1):
        if text[place - 1].isspace() and not text[place].isspace():
            return place
    return limit
