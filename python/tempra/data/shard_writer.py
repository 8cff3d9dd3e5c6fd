"""Writes the token files of one split, document by document, in bounded memory."""

from __future__ import annotations

import mmap
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tempra import _core
from tempra._core import FormatError
from tempra.data.token_shard import Sidecar, bounds_path, mask_path, write_sidecar
from tempra.data.tokenizer import Tokenizer, Tokens

# Small documents are gathered, so that a write is never smaller than this.
_BUFFER_TOKENS = 1 << 18

TokenType = Literal["u32", "u16"]
Mask = NDArray[np.uint8]
_NOT_LEARNED = np.zeros(1, dtype=np.uint8)


@dataclass(frozen=True)
class SplitSummary:
    """What was written for one split."""

    shards: tuple[str, ...]
    tokens: int
    documents: int


class _Column:
    """A file of numbers being written, with its running count and checksum."""

    def __init__(self, path: Path, dtype: TokenType) -> None:
        self._writer = _core.TokenBinWriter(str(path), dtype)
        self._type = np.dtype("<u4" if dtype == "u32" else "<u2")
        self.count = 0
        self.crc32 = 0

    def append(self, numbers: Tokens) -> None:
        stored = np.ascontiguousarray(numbers, dtype=self._type)
        self._writer.append(stored)
        self.count += stored.size
        self.crc32 = zlib.crc32(stored.data, self.crc32)

    def finish(self) -> None:
        self._writer.finish()


class _MaskFile:
    """A byte for each token, gathered in a nameless file, since a shard's can be large."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=_BUFFER_TOKENS)  # noqa: SIM115
        self._count = 0

    def append(self, mask: Mask) -> None:
        self._file.write(mask.tobytes())
        self._count += mask.size

    def append_learned(self, count: int) -> None:
        for first in range(0, count, _BUFFER_TOKENS):
            self._file.write(b"\1" * min(_BUFFER_TOKENS, count - first))
        self._count += count

    def write(self, path: Path) -> int:
        """Write the file of this name, whole or not at all; return its checksum."""
        self._file.flush()
        with self._file:
            if self._count == 0:  # an empty file cannot be mapped
                return _core.write_file_atomic(str(path), b"")[1]
            with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _core.write_file_atomic(str(path), content)[1]


class _OpenShard:
    """One token file and its document boundaries, while they grow."""

    def __init__(self, path: Path, dtype: TokenType) -> None:
        self.path = path
        self.tokens = _Column(path, dtype)
        # 64-bit boundaries are written as pairs of little-endian 32-bit words.
        self.bounds = _Column(bounds_path(path), "u32")
        self.documents = 0
        self._mask: _MaskFile | None = None  # None while every token is learned
        self.mask_crc32: int | None = None
        self._buffer: list[Tokens] = []
        self._starts: list[int] = []
        self.count = 0

    def begin_document(self) -> None:
        self._starts.append(self.count)
        self.documents += 1

    def append(self, tokens: Tokens, mask: Mask | None) -> None:
        if mask is not None and self._mask is None:
            self._mask = _MaskFile(self.path.parent)
            self._mask.append_learned(self.count)
        if self._mask is not None:
            if mask is None:
                self._mask.append_learned(tokens.size)
            else:
                self._mask.append(mask)
        self._buffer.append(tokens)
        self.count += tokens.size
        if self.count - self.tokens.count >= _BUFFER_TOKENS:
            self.flush()

    def flush(self) -> None:
        if self._buffer:
            self.tokens.append(np.concatenate(self._buffer))
        if self._starts:
            self.bounds.append(np.array(self._starts, dtype="<u8").view("<u4"))
        self._buffer, self._starts = [], []

    def finish(self) -> None:
        self._starts.append(self.count)
        self.flush()
        self.tokens.finish()
        self.bounds.finish()
        if self._mask is not None:
            self.mask_crc32 = self._mask.write(mask_path(self.path))


class ShardWriter:
    """Writes `SPLIT-00000.bin`, `SPLIT-00001.bin`, ... with their sidecars into a folder.

    The end mark follows every finished document. A shard ends with the document that fills it, so a
    document never spans two files; a single huge document makes a single huge shard.
    """

    def __init__(
        self, folder: Path, split: str, tokenizer: Tokenizer, dtype: TokenType, shard_tokens: int
    ) -> None:
        self._folder, self._split, self._tokenizer = folder, split, tokenizer
        self._dtype, self._shard_tokens = dtype, shard_tokens
        self._end = (
            None
            if tokenizer.end_of_text is None
            else np.array([tokenizer.end_of_text], dtype=np.uint32)
        )
        self._fingerprint = tokenizer.fingerprint
        self._shard: _OpenShard | None = None
        self._in_document = False
        self._names: list[str] = []
        self._tokens = 0
        self._documents = 0

    def append(
        self, tokens: Tokens, *, ends_document: bool, mask: NDArray[np.generic] | None = None
    ) -> None:
        """Add a part of a document; `mask` is 1 for each token to be learned, by default all are.

        The end mark that follows a document is learned when its last token is.
        """
        values = None if mask is None else self._check_mask(mask, tokens)
        shard = self._open()
        if not self._in_document:
            shard.begin_document()
        shard.append(tokens, values)
        self._in_document = not ends_document
        if ends_document:
            if self._end is not None:
                # Behind nothing there is nothing to learn either.
                last = values[-1:] if values is not None and values.size else _NOT_LEARNED
                shard.append(self._end, None if values is None else last)
            if shard.count >= self._shard_tokens:
                self._close(shard)

    @staticmethod
    def _check_mask(mask: NDArray[np.generic], tokens: Tokens) -> Mask:
        if mask.shape != tokens.shape:
            raise FormatError(f"loss mask: has shape {mask.shape}, its tokens {tokens.shape}")
        if mask.dtype == np.bool_:
            return mask.view(np.uint8)
        if mask.size and not np.isin(mask, (0, 1)).all():
            raise FormatError("loss mask: has values other than 0 and 1")
        return mask.astype(np.uint8)

    def finish(self) -> SplitSummary:
        """Write what is left; a split without text is one empty shard."""
        if self._shard is not None or not self._names:
            self._close(self._open())
        return SplitSummary(tuple(self._names), self._tokens, self._documents)

    def _open(self) -> _OpenShard:
        if self._shard is None:
            name = f"{self._split}-{len(self._names):05d}.bin"
            self._shard = _OpenShard(self._folder / name, self._dtype)
            self._names.append(name)
        return self._shard

    def _close(self, shard: _OpenShard) -> None:
        shard.finish()
        sidecar = Sidecar(
            dtype=self._dtype,
            tokens=shard.count,
            crc32=shard.tokens.crc32,
            documents=shard.documents,
            bounds_crc32=shard.bounds.crc32,
            mask_crc32=shard.mask_crc32,
            vocabulary_size=self._tokenizer.vocab_size,
            end_of_text=self._tokenizer.end_of_text,
            tokenizer_kind=self._tokenizer.kind,
            tokenizer_fingerprint=self._fingerprint,
        )
        write_sidecar(shard.path, sidecar)
        self._tokens += shard.count
        self._documents += shard.documents
        self._shard = None
