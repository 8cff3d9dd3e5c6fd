"""WDBX files put together and taken apart with `struct` and `zlib` alone, after their description.

Nothing of the library is used: what it reads and writes is compared with these bytes.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

METADATA, VECTORS, BLOOM, INDEX, LINEAGE, DISTRIBUTED = range(1, 7)
_MASK = (1 << 64) - 1


def block(tokens: Sequence[int], text: bytes = b"", *, flags: int = 0, after: bytes = b"") -> bytes:
    """Return one WDTK block."""
    head = struct.pack("<4sHHII", b"WDTK", 1, flags, len(tokens), len(text))
    return head + struct.pack(f"<{len(tokens)}I", *tokens) + text + after


def record(number: int, vector: Sequence[float] | bytes, metadata: bytes = b"") -> bytes:
    """Return one record; a vector may be given by its bits."""
    bits = vector if isinstance(vector, bytes) else struct.pack(f"<{len(vector)}f", *vector)
    return struct.pack("<QII", number, len(bits) // 4, len(metadata)) + bits + metadata


def limbs(number: int) -> list[float]:
    """Return the vector of a token dataset's record."""
    return [float(number >> 16 * limb & 0xFFFF) for limb in range(4)]


def name_of(name: bytes, after: bytes = b"") -> bytes:
    """Return a metadata section, or the first block of version 2."""
    return struct.pack("<H", len(name)) + name + after


def index_of(*neighbours: Sequence[int], entry: int = 0, layers: int = 1) -> bytes:
    """Return a vector index."""
    lists = b"".join(struct.pack(f"<{len(n) + 1}I", len(n), *n) for n in neighbours)
    return struct.pack("<III", entry, layers, len(neighbours)) + lists


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> 64 - bits) & _MASK


def hashed(number: int, seed: int) -> int:
    """Return XXH3 of the eight bytes of an id."""
    seed ^= int.from_bytes((seed & 0xFFFFFFFF).to_bytes(4, "little"), "big") << 32
    value = (number >> 32) + ((number & 0xFFFFFFFF) << 32) ^ (0xC73AB174C5ECD5A2 - seed) & _MASK
    value &= _MASK
    value ^= _rotated(value, 49) ^ _rotated(value, 24)
    value = value * 0x9FB21C651E98DF25 & _MASK
    value ^= (value >> 35) + 8
    value = value * 0x9FB21C651E98DF25 & _MASK
    return value ^ value >> 28


def bloom_of(numbers: Sequence[int]) -> bytes:
    """Return the bloom filter of these ids."""
    count = len(numbers)
    bits = int(-count * math.log(0.01) / math.log(2) ** 2)
    size = (bits + 7) // 8
    probes = min(16, max(1, int(bits / count * math.log(2))))
    array = bytearray(size)
    for number in numbers:
        first, second = hashed(number, 0), hashed(number, 1)
        for probe in range(probes):
            bit = (first + probe * second & _MASK) % _MASK % (8 * size)
            array[bit // 8] |= 1 << bit % 8
    return struct.pack("<BI", probes, size) + bytes(array)


@dataclass(frozen=True)
class Section:
    """One section of version 3, with what its directory entry says beside place and checksum."""

    type: int
    payload: bytes
    flags: int = 0
    items: int = 0
    reserved: int = 0


@dataclass(frozen=True)
class FileV3:
    """A version 3 file by its parts; `crcs` off by one where a test wants them wrong."""

    sections: Sequence[Section]
    records: int = 0
    dimension: int = 0
    flags: int = 7
    header_size: int = 80
    reserved: int = 0
    created: int = 0
    modified: int = 0
    metric: int = 0
    compression: int = 0
    uuid: bytes = bytes(16)
    before_directory: bytes = b""
    after_directory: bytes = b""
    between: bytes = b""
    directory_last: bool = False
    directory_offset: int | None = None  # what the header says instead of the truth
    directory_size: int | None = None
    entries: dict[int, tuple[int, int]] = field(default_factory=dict)  # offset and length, likewise
    wrong_crcs: Iterable[str | int] = ()
    footer_marker: bytes = b"END3"
    footer_size: int | None = None
    footer_sections: int | None = None

    def but(self, **changes: object) -> FileV3:
        """Return the same file with some parts changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def _body(self) -> tuple[int, bytes]:
        """Return where the directory is, and everything after the header."""
        size = 32 * len(self.sections)
        payloads = self.between.join(section.payload for section in self.sections)
        if self.directory_last:
            start = 80 + len(self.before_directory)
            directory = start + len(payloads)
        else:
            directory = 80 + len(self.before_directory)
            start = directory + size + len(self.after_directory)
        entries = []
        for number, section in enumerate(self.sections):
            offset, length = self.entries.get(number, (start, len(section.payload)))
            crc = zlib.crc32(section.payload) ^ (number in self.wrong_crcs)
            entries.append(
                struct.pack(
                    "<HHQQIII", section.type, section.flags, offset, length, crc,
                    section.items, section.reserved,
                )
            )  # fmt: skip
            start += len(section.payload) + len(self.between)
        table = b"".join(entries)
        if self.directory_last:
            return directory, self.before_directory + payloads + table + self.after_directory
        return directory, self.before_directory + table + self.after_directory + payloads

    def to_bytes(self) -> bytes:
        """Return the file, every checksum right unless it is to be wrong."""
        place, body = self._body()
        size = 32 * len(self.sections)
        header = struct.pack(
            "<4sHHHHIQQqqQIBBH", b"WDBX", 3, self.flags, self.header_size, len(self.sections),
            self.reserved,
            place if self.directory_offset is None else self.directory_offset,
            size if self.directory_size is None else self.directory_size,
            self.created, self.modified, self.records, self.dimension, self.metric,
            self.compression, self.reserved & 0xFFFF,
        ) + self.uuid  # fmt: skip
        file = header + body
        parts = {
            "header": header,
            "directory": file[place : place + size],
            "data": file[place + size :],
            "file": file,
        }
        crcs = [zlib.crc32(part) ^ (name in self.wrong_crcs) for name, part in parts.items()]
        footer = struct.pack(
            "<4sIIIIQIQ", self.footer_marker, *crcs,
            len(file) if self.footer_size is None else self.footer_size,
            len(self.sections) if self.footer_sections is None else self.footer_sections,
            self.reserved,
        )  # fmt: skip
        return file + footer


@dataclass(frozen=True)
class FileV2:
    """A version 2 file: header, blocks as given, footer."""

    blocks: bytes
    records: int = 0
    dimension: int = 0
    flags: int = 0
    metric: int = 0
    compression: int = 0
    older_checksum: bool = False
    wrong_crcs: Iterable[str] = ()
    footer_marker: bytes = b"END\0"
    footer_size: int | None = None
    created: int = 0

    def but(self, **changes: object) -> FileV2:
        """Return the same file with some parts changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def to_bytes(self) -> bytes:
        """Return the file, every checksum right unless it is to be wrong."""
        header = struct.pack(
            "<4sHBBqqQIBBH16s8s", b"WDBX", 2, self.flags, 0, self.created, 0, self.records,
            self.dimension, self.metric, self.compression, 0, bytes(16), bytes(8),
        )  # fmt: skip
        file = header + self.blocks
        parts = {
            "header": header,
            "data": self.blocks,
            "file": header if self.older_checksum else file,
        }
        crcs = [zlib.crc32(part) ^ (name in self.wrong_crcs) for name, part in parts.items()]
        size = len(file) if self.footer_size is None else self.footer_size
        return file + struct.pack("<4sIIIQII", self.footer_marker, *crcs, size, 9, 0)


def bloom_block(payload: bytes) -> bytes:
    """Return the bloom filter's block of version 2."""
    return struct.pack("<BBHI", 2, 0, 0, len(payload)) + payload


def vector_block(
    count: int, records: bytes, *, kind: int = 4, compression: int = 0, size: int | None = None
) -> bytes:
    """Return the vectors' block of version 2."""
    length = len(records) if size is None else size
    return struct.pack("<BBHIQ", kind, compression, 0, count, length) + records


def index_block(content: bytes) -> bytes:
    """Return the index block of version 2."""
    return b"\x03\0\0\0" + content


# Taking apart


@dataclass(frozen=True)
class Parts:
    """What a version 3 file says, its checksums verified."""

    flags: int
    created: int
    modified: int
    records: int
    dimension: int
    metric: int
    compression: int
    uuid: bytes
    sections: list[Section]

    def payload(self, kind: int) -> bytes:
        """Return the only section of a type."""
        (found,) = (section.payload for section in self.sections if section.type == kind)
        return found


def take_apart(file: bytes) -> Parts:
    """Read a version 3 file, asserting what its description promises."""
    magic, version, flags, header_size, count, _, place, size = struct.unpack_from(
        "<4sHHHHIQQ", file
    )
    created, modified, records, dimension, metric, compression = struct.unpack_from(
        "<qqQIBB", file, 32
    )
    assert (magic, version, header_size, size) == (b"WDBX", 3, 80, 32 * count)
    end = len(file) - 40
    marker, *crcs, stated, in_footer = struct.unpack_from("<4sIIIIQI", file, end)
    assert (marker, stated, in_footer) == (b"END3", end, count)
    parts = (file[:80], file[place : place + size], file[place + size : end], file[:end])
    assert crcs == [zlib.crc32(part) for part in parts]
    sections = []
    for start in range(place, place + size, 32):
        kind, own, offset, length, crc, items, reserved = struct.unpack_from(
            "<HHQQIII", file, start
        )
        payload = file[offset : offset + length]
        assert len(payload) == length
        assert crc == zlib.crc32(payload)
        sections.append(Section(kind, payload, own, items, reserved))
    return Parts(
        flags, created, modified, records, dimension, metric, compression, file[64:80], sections
    )
