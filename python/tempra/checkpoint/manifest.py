"""The list of a checkpoint's files with size and CRC-32 of each, and the check against it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tempra import _core
from tempra._core import CheckpointError
from tempra.checkpoint.contents import (
    MANIFEST_FILE,
    MODEL_FILE,
    STATE_FILE,
    is_safe_file_name,
    step_of_folder,
)

FORMAT_VERSION = 1
_MAXIMUM_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and CRC-32 of one file."""

    size: int
    crc32: int


@dataclass(frozen=True)
class Manifest:
    """The files of one checkpoint."""

    step: int
    files: Mapping[str, FileRecord]

    def to_bytes(self) -> bytes:
        """Return the one canonical text of this manifest."""
        files = {
            name: {"size": record.size, "crc32": f"{record.crc32:08x}"}
            for name, record in sorted(self.files.items())
        }
        document = {"format": FORMAT_VERSION, "step": self.step, "files": files}
        return (json.dumps(document, indent=1) + "\n").encode()


def build_manifest(folder: Path, step: int) -> Manifest:
    """Measure every file of a folder."""
    files = {
        path.name: FileRecord(path.stat().st_size, _core.crc32_file(str(path)))
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST_FILE
    }
    return Manifest(step, files)


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest; raises CheckpointError naming what is wrong with it."""
    path = folder / MANIFEST_FILE
    try:
        if path.stat().st_size > _MAXIMUM_MANIFEST_BYTES:
            raise CheckpointError(f"{path}: larger than {_MAXIMUM_MANIFEST_BYTES} bytes")
        content = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: the folder is no complete checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    try:
        manifest = _parse(content)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    # Only the canonical text is accepted, so that no flipped bit can hide in white space.
    if manifest.to_bytes() != content:
        raise CheckpointError(f"{path} is damaged: its text is not as it was written")
    return manifest


def _parse(content: bytes) -> Manifest:
    document = json.loads(content)
    if document["format"] != FORMAT_VERSION:
        raise ValueError(f"format {document['format']!r}, but this version reads {FORMAT_VERSION}")
    step = document["step"]
    if type(step) is not int or step < 0:
        raise ValueError(f"step {step!r} is not a step number")
    files: dict[str, FileRecord] = {}
    for name, record in document["files"].items():
        size, checksum = record["size"], record["crc32"]
        if not is_safe_file_name(name):
            raise ValueError(f"file name {name!r} could leave the folder")
        if type(size) is not int or size < 0:
            raise ValueError(f"{name} has size {size!r}")
        files[name] = FileRecord(size, int(checksum, 16))
    for name in (MODEL_FILE, STATE_FILE):
        if name not in files:
            raise ValueError(f"{name} is not listed")
    return Manifest(step, files)


def verify_folder(folder: Path) -> Manifest:
    """Check every file against the manifest; raises CheckpointError naming the bad file and why."""
    manifest = read_manifest(folder)
    named_step = step_of_folder(folder.name)
    if named_step is not None and named_step != manifest.step:
        raise CheckpointError(
            f"{folder / MANIFEST_FILE} is of step {manifest.step}, but the folder is {folder.name}"
        )
    for name, record in manifest.files.items():
        _verify_file(folder / name, record)
    return manifest


def _verify_file(path: Path, record: FileRecord) -> None:
    try:
        size = path.stat().st_size
        if size != record.size:
            raise CheckpointError(
                f"{path} has {size} bytes, but {record.size} were written: it was cut or changed"
            )
        checksum = _core.crc32_file(str(path))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if checksum != record.crc32:
        raise CheckpointError(
            f"{path} is damaged: checksum {checksum:08x}, but {record.crc32:08x} was written"
        )
