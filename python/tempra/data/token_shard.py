"""Files of tokens: `NAME.bin`, with `NAME.bin.meta.json` and `NAME.bin.bounds` beside it.

The tokens are a plain token-bin (little-endian u32, or u16 where the vocabulary allows and it was
asked for). The sidecar says what the bytes cannot: type, count, tokenizer, vocabulary, checksums.
Document boundaries are a file of their own, little-endian u64: the first token of each document and
then the token count. They are never in the JSON, because a corpus can have billions of documents.
Where not all tokens are to be learned, `NAME.bin.mask` holds a byte for each token: 1 where the
model learns to predict it, 0 where it only reads it. A token-bin without a sidecar is valid input.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tempra import _core
from tempra._core import FormatError

SIDECAR_SUFFIX = ".meta.json"
BOUNDS_SUFFIX = ".bounds"
MASK_SUFFIX = ".mask"
TOKEN_BYTES = {"u32": 4, "u16": 2}
_LARGEST_SIDECAR = 1 << 20

Size = Annotated[int, Field(ge=0, lt=2**62)]
Checksum = Annotated[int, Field(ge=0, lt=2**32)]
TokenArray = NDArray[np.uint32] | NDArray[np.uint16]

_Model = TypeVar("_Model", bound=BaseModel)


class Sidecar(BaseModel):
    """The content of a `.meta.json` file. Later versions may add fields, which are ignored here."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    format: Literal["tempra-token-bin"] = "tempra-token-bin"
    version: Literal[1] = 1
    dtype: Literal["u32", "u16"]
    tokens: Size
    crc32: Checksum
    documents: Size
    bounds_crc32: Checksum
    # None: there is no mask, and every token is learned
    mask_crc32: Checksum | None = None
    vocabulary_size: Annotated[int, Field(ge=1, le=2**32)]
    end_of_text: Checksum | None
    tokenizer_kind: str
    tokenizer_fingerprint: str


def sidecar_path(shard: Path) -> Path:
    """Return the name of the `.meta.json` beside a token-bin."""
    return shard.with_name(shard.name + SIDECAR_SUFFIX)


def bounds_path(shard: Path) -> Path:
    """Return the name of the `.bounds` beside a token-bin."""
    return shard.with_name(shard.name + BOUNDS_SUFFIX)


def mask_path(shard: Path) -> Path:
    """Return the name of the `.mask` beside a token-bin."""
    return shard.with_name(shard.name + MASK_SUFFIX)


def write_sidecar(shard: Path, sidecar: Sidecar) -> None:
    """Write the `.meta.json` beside a token-bin."""
    content = json.dumps(sidecar.model_dump(mode="json"), indent=1) + "\n"
    _core.write_file_atomic(str(sidecar_path(shard)), content.encode("ascii"))


def parse_model(model: type[_Model], file: Path, largest: int) -> _Model:
    """Return a JSON file checked against a model, or raise a `FormatError` that names it."""
    try:
        if file.stat().st_size > largest:
            raise FormatError(f"{file}: has {file.stat().st_size} bytes, needs at most {largest}")
        content = file.read_bytes()
    except OSError as error:
        raise FormatError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise FormatError(f"{file}: {place + ': ' if place else ''}{first['msg']}") from None


def read_sidecar(shard: Path) -> Sidecar | None:
    """Return the sidecar beside a token-bin, or None where there is none."""
    file = sidecar_path(shard)
    return parse_model(Sidecar, file, _LARGEST_SIDECAR) if file.exists() else None


class TokenShard:
    """A mapped token-bin with its sidecar, sizes checked against each other."""

    def __init__(self, path: str | Path, dtype: str | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FormatError(f"{self.path}: no such token file")
        self.sidecar = read_sidecar(self.path)
        self.dtype: str = self._resolve_dtype(dtype)
        self.tokens: TokenArray = _core.read_token_bin(str(self.path), self.dtype)
        if self.sidecar is not None and len(self.tokens) != self.sidecar.tokens:
            raise FormatError(
                f"{self.path}: holds {len(self.tokens)} tokens, its {SIDECAR_SUFFIX} says "
                f"{self.sidecar.tokens}: the file is truncated or was changed"
            )

    def _resolve_dtype(self, asked: str | None) -> str:
        if self.sidecar is None:
            return asked or "u32"
        if asked is not None and asked != self.sidecar.dtype:
            raise FormatError(
                f"{self.path}: asked for {asked}, its {SIDECAR_SUFFIX} says {self.sidecar.dtype}"
            )
        return self.sidecar.dtype

    def __len__(self) -> int:
        return len(self.tokens)

    def bounds(self) -> NDArray[np.uint64]:
        """Where each document begins, and the token count last; one document without a sidecar."""
        if self.sidecar is None:
            return np.array([0, len(self.tokens)], dtype=np.uint64)
        file = bounds_path(self.path)
        words = _core.read_token_bin(str(file), "u32")
        if len(words) != 2 * (self.sidecar.documents + 1):
            raise FormatError(
                f"{file}: has {4 * len(words)} bytes, {self.sidecar.documents} documents need "
                f"{8 * (self.sidecar.documents + 1)}"
            )
        bounds: NDArray[np.uint64] = np.asarray(words).view("<u8")
        if int(bounds[0]) != 0 or int(bounds[-1]) != len(self.tokens):
            raise FormatError(
                f"{file}: runs from {int(bounds[0])} to {int(bounds[-1])}, needs 0 to "
                f"{len(self.tokens)}"
            )
        falling = np.flatnonzero(bounds[1:] < bounds[:-1])
        if falling.size:
            raise FormatError(f"{file}: document {int(falling[0])} ends before it begins")
        return bounds

    @property
    def has_mask(self) -> bool:
        """Whether only some of the tokens are learned."""
        return self.sidecar is not None and self.sidecar.mask_crc32 is not None

    def mask(self) -> NDArray[np.uint8] | None:
        """Return 1 for each token that is learned and 0 for others, mapped; None: all are."""
        if not self.has_mask:
            return None
        file = mask_path(self.path)
        try:
            size = file.stat().st_size
            if size != len(self.tokens):
                raise FormatError(
                    f"{file}: has {size} bytes, {len(self.tokens)} tokens need as many"
                )
            if size == 0:  # an empty file cannot be mapped
                return np.zeros(0, dtype=np.uint8)
            return np.memmap(file, dtype=np.uint8, mode="r")
        except OSError as error:
            raise FormatError(f"{file}: cannot be read: {error.strerror}") from None

    def verify(self) -> None:
        """Compare checksums with the sidecar; raises `FormatError` naming the damaged file."""
        if self.sidecar is None:
            return
        for file, stated in (
            (self.path, self.sidecar.crc32),
            (bounds_path(self.path), self.sidecar.bounds_crc32),
            (mask_path(self.path), self.sidecar.mask_crc32),
        ):
            if stated is None:
                continue
            found = _core.crc32_file(str(file))
            if found != stated:
                raise FormatError(
                    f"{file}: checksum is {found:08x}, its {SIDECAR_SUFFIX} says {stated:08x}: "
                    "the file is damaged"
                )
