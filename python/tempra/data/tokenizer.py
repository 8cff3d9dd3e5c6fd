"""Tokenizers: what they have in common, the byte and the character tokenizer, saving and loading.

A saved tokenizer is `tokenizer.tempra.json` (kind, end-of-text id, fingerprint, and for characters
the alphabet); word-piece tokenizers add `tokenizer.json` in Hugging Face's format beside it. A
folder or file that holds only a `tokenizer.json` loads too.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tempra import _core
from tempra._core import FormatError

Tokens = NDArray[np.uint32]

DEFINITION_FILE = "tokenizer.tempra.json"
END_OF_TEXT = "<|endoftext|>"
_LARGEST_DEFINITION = 1 << 28
_NO_ID = 0xFFFFFFFF


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back."""

    kind: str
    vocab_size: int
    end_of_text: int | None
    # Whether text may be cut at a line end and encoded in parts with the same result.
    splittable: bool

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical definition: equal exactly when two tokenizers encode alike."""

    def encode(self, text: str) -> Tokens:
        """Return the ids of `text`; marks such as <|endoftext|> inside it are ordinary text."""

    def encode_batch(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the ids of each text, computed in parallel where the tokenizer can."""

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of `tokens`; the end mark gives nothing, broken UTF-8 gives U+FFFD."""

    def stream(self) -> TokenStream:
        """Return a decoder for tokens that arrive one at a time."""

    def control_token(self, mark: str) -> int | None:
        """Return the token of a mark such as <|im_end|>; <|endoftext|> asks for the end mark."""

    def control_text(self, token: int) -> str | None:
        """Return the mark that a token stands for; None for tokens of ordinary text."""

    def files(self) -> dict[str, bytes]:
        """Return the files that `load_tokenizer` needs, by name."""


class TokenStream(Protocol):
    """Text of tokens that arrive one at a time; never a part of a character."""

    def push(self, token: int) -> str:
        """Return the text that is certain now: empty while a character is unfinished."""

    def finish(self) -> str:
        """Return what is left at the end; an unfinished character gives U+FFFD."""


class ByteStream:
    """A `TokenStream` for tokenizers whose tokens are byte strings."""

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """Return the text that is certain after this token."""
        return self._decoder.decode(self._token_bytes[token])

    def finish(self) -> str:
        """Return what is left at the end."""
        return self._decoder.decode(b"", final=True)


def fingerprint_of(definition: Any) -> str:
    """SHA-256 of a JSON value, independent of key order and spacing."""
    canonical = json.dumps(definition, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def check_ids(tokens: Iterable[int], vocab_size: int) -> NDArray[np.int64]:
    """Token ids as an array; raises `FormatError` naming the first id outside the vocabulary."""
    ids = np.fromiter(tokens, dtype=np.int64)
    outside = np.flatnonzero((ids < 0) | (ids >= vocab_size))
    if outside.size:
        position = int(outside[0])
        raise FormatError(
            f"decode: token {int(ids[position])} at position {position} is outside the vocabulary "
            f"of {vocab_size} tokens"
        )
    return ids


def _divide(ids: Tokens, lengths: Iterable[int]) -> list[Tokens]:
    """Return the parts of an array that have these lengths, in order."""
    parts, begin = [], 0
    for length in lengths:
        parts.append(ids[begin : begin + length])
        begin += length
    return parts


def code_points(text: str) -> NDArray[np.uint32]:
    """Return the Unicode numbers of the characters of `text`."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


class ByteTokenizer:
    """One token per byte of UTF-8, and an end mark: needs no training, knows every text."""

    kind = "byte"
    vocab_size = 257
    end_of_text: int | None = 256
    splittable = True

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical definition."""
        return fingerprint_of({"kind": "byte", "end_of_text": 256})

    def encode(self, text: str) -> Tokens:
        """Return the ids of `text`."""
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.uint32)

    def encode_batch(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the ids of each text."""
        encoded = [text.encode("utf-8") for text in texts]
        ids = np.frombuffer(b"".join(encoded), dtype=np.uint8).astype(np.uint32)
        return _divide(ids, map(len, encoded))

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of `tokens`."""
        ids = check_ids(tokens, self.vocab_size)
        return ids[ids < 256].astype(np.uint8).tobytes().decode("utf-8", "replace")

    def stream(self) -> TokenStream:
        """Return a decoder for tokens that arrive one at a time."""
        return ByteStream([bytes([value]) for value in range(256)] + [b""])

    def control_token(self, mark: str) -> int | None:
        """Return the end mark; there are no others."""
        return self.end_of_text if mark == END_OF_TEXT else None

    def control_text(self, token: int) -> str | None:
        """Return the name of the end mark; there are no others."""
        return END_OF_TEXT if token == self.end_of_text else None

    def files(self) -> dict[str, bytes]:
        """Return the files that `load_tokenizer` needs, by name."""
        return {DEFINITION_FILE: definition_file(self, {})}


class CharacterTokenizer:
    """One token per character that the text has, in Unicode order.

    A text of one document needs no end mark, and then has none; the ids are those of nanoGPT's
    character-level recipe.
    """

    kind = "char"
    splittable = True

    def __init__(self, characters: str, *, end_of_text: bool) -> None:
        points = np.unique(code_points(characters))
        if points.size == 0:
            raise FormatError("character tokenizer: the text has no characters")
        self._points = points
        # The id of each character up to the last that has one.
        self._table = np.full(int(points[-1]) + 1, _NO_ID, dtype=np.uint32)
        self._table[points] = np.arange(points.size, dtype=np.uint32)
        self.end_of_text = int(points.size) if end_of_text else None
        self.vocab_size = int(points.size) + int(end_of_text)

    @property
    def characters(self) -> str:
        """The alphabet, in the order of the ids."""
        return self._points.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical definition."""
        return fingerprint_of(
            {"kind": "char", "characters": self.characters, "end_of_text": self.end_of_text}
        )

    def encode(self, text: str) -> Tokens:
        """Return the ids of `text`."""
        points = code_points(text)
        ids = self._ids_of(points)
        if ids is None:
            position = int(np.flatnonzero(~np.isin(points, self._points))[0])
            character = text[position]
            raise FormatError(
                f"character {character!r} (U+{ord(character):04X}) at position {position} is not "
                f"among the {self._points.size} characters of the tokenizer"
            )
        return ids

    def _ids_of(self, points: NDArray[np.uint32]) -> Tokens | None:
        """Return the ids of characters; None where there is one that has none."""
        if points.size and int(points.max()) >= self._table.size:
            return None
        ids: Tokens = self._table[points]
        return None if (ids == _NO_ID).any() else ids

    def encode_batch(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the ids of each text."""
        points = code_points("".join(texts))
        ids = self._ids_of(points)
        if ids is None:
            return [self.encode(text) for text in texts]  # one of them says which character
        return _divide(ids, map(len, texts))

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of `tokens`."""
        ids = check_ids(tokens, self.vocab_size)
        points = self._points[ids[ids < self._points.size]]
        return points.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def stream(self) -> TokenStream:
        """Return a decoder for tokens that arrive one at a time."""
        end = [b""] if self.end_of_text is not None else []
        return ByteStream([character.encode("utf-8") for character in self.characters] + end)

    def control_token(self, mark: str) -> int | None:
        """Return the end mark; there are no others."""
        return self.end_of_text if mark == END_OF_TEXT else None

    def control_text(self, token: int) -> str | None:
        """Return the name of the end mark; there are no others."""
        return END_OF_TEXT if token == self.end_of_text else None

    def files(self) -> dict[str, bytes]:
        """Return the files that `load_tokenizer` needs, by name."""
        return {DEFINITION_FILE: definition_file(self, {"characters": self.characters})}


def definition_file(tokenizer: Tokenizer, extra: dict[str, Any]) -> bytes:
    """Return the content of `tokenizer.tempra.json`."""
    definition = {
        "format": "tempra-tokenizer",
        "version": 1,
        "kind": tokenizer.kind,
        "vocab_size": tokenizer.vocab_size,
        "end_of_text": tokenizer.end_of_text,
        "fingerprint": tokenizer.fingerprint,
        **extra,
    }
    return (json.dumps(definition, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def save_tokenizer(tokenizer: Tokenizer, folder: str | PathLike[str]) -> None:
    """Write the tokenizer's files into an existing folder."""
    for name, content in tokenizer.files().items():
        _core.write_file_atomic(str(Path(folder) / name), content)


def load_tokenizer(path: str | PathLike[str]) -> Tokenizer:
    """Load a tokenizer from its folder, or from a `tokenizer.json` file."""
    location = Path(path)
    if location.is_dir() and (location / DEFINITION_FILE).is_file():
        return _load_definition(location / DEFINITION_FILE)
    file = location / "tokenizer.json" if location.is_dir() else location
    if file.name == DEFINITION_FILE and file.is_file():
        return _load_definition(file)
    if not file.is_file():
        raise FormatError(
            f"{location}: holds no tokenizer (no {DEFINITION_FILE}, no tokenizer.json)"
        )
    from tempra.data.bpe_tokenizer import BpeTokenizer

    return BpeTokenizer.from_file(file)


def _load_definition(file: Path) -> Tokenizer:
    if file.stat().st_size > _LARGEST_DEFINITION:
        raise FormatError(f"{file}: has {file.stat().st_size} bytes, too many for a tokenizer")
    try:
        definition = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{file}: is not a tokenizer definition: {error}") from None
    if not isinstance(definition, dict) or definition.get("format") != "tempra-tokenizer":
        raise FormatError(f"{file}: is not a tokenizer definition")
    if definition.get("version") != 1:
        raise FormatError(
            f"{file}: has version {definition.get('version')!r}, this program knows 1"
        )
    tokenizer = _from_definition(file, definition)
    if definition.get("fingerprint") != tokenizer.fingerprint:
        raise FormatError(
            f"{file}: the fingerprint does not match the content: the file is damaged"
        )
    return tokenizer


def _from_definition(file: Path, definition: dict[str, Any]) -> Tokenizer:
    kind, end_of_text = definition.get("kind"), definition.get("end_of_text")
    if kind == "byte":
        return ByteTokenizer()
    if kind == "char":
        characters = definition.get("characters")
        if not isinstance(characters, str) or not characters:
            raise FormatError(f"{file}: needs the text 'characters'")
        return CharacterTokenizer(characters, end_of_text=end_of_text is not None)
    if kind == "bpe":
        from tempra.data.bpe_tokenizer import BpeTokenizer

        if end_of_text is not None and type(end_of_text) is not int:
            raise FormatError(f"{file}: 'end_of_text' is {end_of_text!r}, needs a token id or null")
        return BpeTokenizer.from_file(file.with_name("tokenizer.json"), end_of_text=end_of_text)
    raise FormatError(f"{file}: kind {kind!r} is unknown, needs byte, char or bpe")
