"""A list of token files as JSON: paths, and what is known of each.

    ["part-0.bin", {"path": "part-1.bin", "tokens": 1048576, "crc32": 3632233996}]

Paths are relative to the folder of the manifest. `tokens` and `crc32` (of the token file, as a
sidecar has it) are compared where they are given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel

from tempra import _core
from tempra._core import FormatError
from tempra.data.token_shard import Checksum, Size, TokenShard, parse_model

_LARGEST_MANIFEST = 1 << 26


class ShardEntry(BaseModel):
    """One token file of a manifest."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    path: Annotated[str, Field(min_length=1)]
    tokens: Size | None = None
    crc32: Checksum | None = None

    def check(self, shard: TokenShard) -> None:
        """Compare with the file; without a sidecar that is read, all of it for a checksum."""
        if self.tokens is not None and len(shard) != self.tokens:
            raise FormatError(
                f"{shard.path}: holds {len(shard)} tokens, the manifest says {self.tokens}"
            )
        if self.crc32 is None:
            return
        stated = shard.sidecar.crc32 if shard.sidecar else _core.crc32_file(str(shard.path))
        if stated != self.crc32:
            raise FormatError(
                f"{shard.path}: checksum is {stated:08x}, the manifest says {self.crc32:08x}"
            )


def _path_alone(entry: object) -> object:
    return {"path": entry} if isinstance(entry, str) else entry


class _Entries(RootModel[list[Annotated[ShardEntry, BeforeValidator(_path_alone)]]]):
    """The whole file."""


def read_shard_manifest(manifest: Path) -> list[tuple[Path, ShardEntry]]:
    """Return the files of a manifest with their entries; raises `FormatError` naming the entry."""
    entries = parse_model(_Entries, manifest, _LARGEST_MANIFEST).root
    if not entries:
        raise FormatError(f"{manifest}: lists no token files, needs at least one")
    found: dict[Path, ShardEntry] = {}
    for number, entry in enumerate(entries):
        path = manifest.parent / entry.path
        if path in found:
            raise FormatError(f"{manifest}: {entry.path} is listed twice, again as entry {number}")
        found[path] = entry
    return list(found.items())
