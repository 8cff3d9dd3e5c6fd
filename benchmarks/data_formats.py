"""Checksums, and token-bin to WDBX and back, beside copying the same bytes with the same care.

python benchmarks/data_formats.py --folder /var/tmp

"copy" reads a file and writes it to a new one, flushed and renamed, in pieces of 1 MB: what any
conversion must do at least. A conversion's rate counts the tokens' bytes once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

import tempra
from harness import append_rows, interleave, print_table
from tempra import _core
from tempra.benchmark.machine import identity
from tempra.benchmark.samples import spread

PIECE_BYTES = 1 << 20


def copy(source: Path, destination: Path) -> None:
    """Copy a file as a careful program does: aside, flushed, renamed, the folder flushed."""
    aside = destination.with_suffix(".aside")
    buffer = bytearray(PIECE_BYTES)
    with source.open("rb", buffering=0) as reader, aside.open("wb", buffering=0) as writer:
        while count := reader.readinto(buffer):
            writer.write(memoryview(buffer)[:count])
        os.fsync(writer.fileno())
    aside.rename(destination)
    folder = os.open(destination.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def rows_of(
    candidates: dict[str, Callable[[], object]], bytes_moved: int, baseline: str, seconds: float
) -> list[dict[str, object]]:
    """Time candidates in turn; best rates, and how they compare with the baseline's."""
    samples = interleave(candidates, seconds=seconds)
    best = {name: min(times) for name, times in samples.items()}
    return [
        {
            "case": f"data/{name}",
            "unit": "GB/s",
            "rate": bytes_moved / best[name] / 1e9,
            "milliseconds": 1e3 * best[name],
            "spread": spread(samples[name]),
            "baseline": baseline,
            "of_baseline_share": best[baseline] / best[name],
            "peak_bytes": _core.peak_resident_bytes(),
            **identity(_core.get_num_threads()),
        }
        for name in candidates
    ]


def checksum_rows(megabytes: int, seconds: float) -> list[dict[str, object]]:
    """CRC-32 of memory beside zlib's."""
    data = np.random.default_rng(0).bytes(megabytes << 20)
    assert _core.crc32(data) == zlib.crc32(data)
    candidates: dict[str, Callable[[], object]] = {
        "crc32 of zlib": lambda: zlib.crc32(data),
        "crc32": lambda: _core.crc32(data),
    }
    return rows_of(candidates, len(data), "crc32 of zlib", seconds)


def conversion_rows(
    root: Path, megabytes: int, block_tokens: int, seconds: float
) -> list[dict[str, object]]:
    """Both conversions and their sum, beside copying."""
    tokens, wdbx, back = root / "a.bin", root / "a.wdbx", root / "back.bin"
    rng = np.random.default_rng(1)
    with _core.TokenBinWriter(tokens) as writer:
        for _ in range(megabytes):
            writer.append(rng.integers(0, 50_000, 1 << 18, dtype=np.uint32))
    size = tokens.stat().st_size

    def to_wdbx() -> None:
        tempra.token_bin_to_wdbx(tokens, wdbx, block_tokens, mode="replace")

    def to_token_bin() -> None:
        tempra.wdbx_to_token_bin(wdbx, back)

    to_wdbx()
    to_token_bin()
    assert _core.crc32_file(back) == _core.crc32_file(tokens)
    candidates: dict[str, Callable[[], object]] = {
        "copy": lambda: copy(tokens, root / "copy.bin"),
        "token-bin to wdbx": to_wdbx,
        "wdbx to token-bin": to_token_bin,
    }
    rows = rows_of(candidates, size, "copy", seconds)
    seconds_of = {row["case"]: float(str(row["milliseconds"])) / 1e3 for row in rows}
    both = seconds_of["data/token-bin to wdbx"] + seconds_of["data/wdbx to token-bin"]
    total = {**rows[-1], "case": "data/there and back", "rate": 2 * size / both / 1e9}
    total["milliseconds"] = 1e3 * both
    total["of_baseline_share"] = 2 * seconds_of["data/copy"] / both
    return [*rows, total]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--block-tokens", type=int, default=2048)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each comparison")
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="tempra-bench-", dir=options.folder))
    try:
        rows = conversion_rows(root, options.megabytes, options.block_tokens, options.seconds)
    finally:
        shutil.rmtree(root)
    rows += checksum_rows(min(options.megabytes, 256), options.seconds / 4)
    columns = {"case": "case", "unit": "unit", "rate": "rate", "milliseconds": "ms"}
    more = {"spread": "spread", "of_baseline_share": "of baseline", "peak_bytes": "peak MB"}
    print_table(rows, {**columns, **more})
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
