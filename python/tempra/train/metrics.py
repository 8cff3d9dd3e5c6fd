"""metrics.jsonl of a run: one JSON object per line, numbers to the last bit.

Python writes a float with as many digits as it takes to read back the same bits, so two traces can
be compared exactly. Values that JSON has no number for (nan, inf) are written as text.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from tempra.train.errors import TrainError

METRICS_FILE = "metrics.jsonl"


class MetricsWriter:
    """Appends records; a resumed run first cuts off the records after its step."""

    def __init__(self, path: str | os.PathLike[str], *, resume_step: int | None = None) -> None:
        self.path = Path(path)
        try:
            if resume_step is not None and self.path.exists():
                truncate_metrics(self.path, resume_step)
            # Unbuffered: what could not be written must not be tried again by close().
            self._file: FileIO = self.path.open("ab", buffering=0)
        except OSError as error:
            raise TrainError(f"{self.path} cannot be written: {error.strerror}") from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; it reaches the system at once, so that a killed run keeps it."""
        line = json.dumps({key: _encodable(value) for key, value in record.items()}) + "\n"
        rest = line.encode()
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise TrainError(
                f"{self.path} cannot be written: {error.strerror}; the last checkpoint is intact"
            ) from error

    def sync(self) -> None:
        """Force what was written to the disk, as before a checkpoint that counts on it."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise TrainError(f"{self.path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def truncate_metrics(path: Path, step: int) -> None:
    """Cut a metrics file before its first record later than `step`, and before a torn last line."""
    with path.open("rb+") as file:
        kept = 0
        for line in file:
            record = _parse_line(line)
            if record is None or record.get("step", 0) > step:
                break
            kept += len(line)
        file.truncate(kept)
        os.fsync(file.fileno())


def read_metrics(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yield the records of a metrics file; a torn last line of a killed run ends them."""
    with Path(path).open("rb") as file:
        for line in file:
            record = _parse_line(line)
            if record is None:
                return
            yield record


def _parse_line(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _encodable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value
