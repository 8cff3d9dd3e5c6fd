"""Resident memory over an epoch of a token file far larger than it, and of a huge shuffle order.

python benchmarks/data_memory.py --gigabytes 20

The file is sparse: it has its size but takes no room on the disk, and reading it works as for any
file in the system's cache. A whole epoch is read in shuffled order through `DataLoader`, as windows
and as packed documents of a million tokens, each in a process of its own. `RssAnon` (the process's
own memory) and `RssFile` (mapped file pages) are taken from /proc/self/status a hundred times on
the way: `growth` is the most of both together beyond what it was after the first hundredth.
`order`: positions looked up in the order of 10^12 samples.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness import append_rows, print_table
from tempra.benchmark.machine import identity

BATCH_SIZE, BLOCK = 64, 4096
DOCUMENT_TOKENS = 1_000_000
VOCABULARY = 65
SAMPLES = 10**12
LOOKUPS = 1 << 20


def resident() -> tuple[int, int]:
    """Return this process's own memory and its mapped file pages, in bytes."""
    found = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        found[name] = value
    return tuple(int(found[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))  # type: ignore[return-value]


def write_sparse(path: Path, gigabytes: float) -> int:
    """Write a token file of zeros that takes no room, with its documents; return its tokens."""
    from tempra import _core
    from tempra.data.token_shard import Sidecar, bounds_path, write_sidecar

    tokens = int(gigabytes * 1e9) // 4
    with path.open("wb") as file:
        file.truncate(4 * tokens)
    bounds = np.append(np.arange(0, tokens, DOCUMENT_TOKENS, dtype="<u8"), np.uint64(tokens))
    bounds_path(path).write_bytes(bounds.astype("<u8").tobytes())
    sidecar = Sidecar(
        dtype="u32",
        tokens=tokens,
        crc32=0,  # of the tokens: only `verify` compares it
        documents=bounds.size - 1,
        bounds_crc32=_core.crc32(bounds.astype("<u8").tobytes()),
        vocabulary_size=VOCABULARY,
        end_of_text=None,
        tokenizer_kind="none",
        tokenizer_fingerprint="none",
    )
    write_sidecar(path, sidecar)
    return tokens


def epoch(path: Path, case: str) -> dict[str, Any]:
    """Read every batch of one epoch in this process."""
    from tempra.data import DataLoader, TokenizedDataset

    dataset = TokenizedDataset([path])
    loader = DataLoader(
        dataset,
        batch_size=BATCH_SIZE,
        block=BLOCK,
        seed=0,
        packing=None if case == "windows" else "best_fit",
    )
    batches = -(-loader.rows_per_epoch // BATCH_SIZE)
    every = max(1, batches // 100)
    seen: list[tuple[int, int]] = []
    began = time.perf_counter()
    read = 0
    for index in range(batches):
        read += loader.batch(index).tokens.size
        if (index + 1) % every == 0:
            seen.append(resident())
    seconds = time.perf_counter() - began
    first, most = sum(seen[0]), max(sum(each) for each in seen)
    return {
        "unit": "GB/s",
        "rate": 4 * read / seconds / 1e9,
        "seconds": seconds,
        "tokens": read,
        "anonymous_bytes": max(each[0] for each in seen),
        "mapped_bytes": max(each[1] for each in seen),
        "growth_bytes": most - first,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def order() -> dict[str, Any]:
    """Look positions up in an order of 10^12 samples."""
    from tempra.data import SampleOrder

    positions = np.random.default_rng(0).integers(0, SAMPLES, LOOKUPS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    samples = SampleOrder(SAMPLES, seed=0, epoch=0)(positions)
    seconds = time.perf_counter() - began
    assert int(samples.min()) >= 0
    assert int(samples.max()) < SAMPLES
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return {
        "unit": "M lookups/s",
        "rate": LOOKUPS / seconds / 1e6,
        "seconds": seconds,
        "growth_bytes": grown,
        "peak_bytes": before * 1024 + grown,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--folder", type=Path, default=None, help="where the sparse file goes")
    parser.add_argument("--case", default=None, help="one case, in this process")
    parser.add_argument("--file", type=Path, default=None, help="the token file of that case")
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    if options.case is not None:
        print(json.dumps(order() if options.case == "order" else epoch(options.file, options.case)))
        return
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "sparse.bin"
        write_sparse(path, options.gigabytes)
        for case in ("order", "windows", "best_fit"):
            command = [sys.executable, __file__, "--case", case, "--file", str(path)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            size = "of 10^12" if case == "order" else f"{options.gigabytes:g} GB"
            row = json.loads(done.stdout.splitlines()[-1])
            rows.append({"case": f"data memory/{case}, {size}", **row, **identity(1)})
    columns = {"case": "case", "unit": "unit", "rate": "rate", "seconds": "seconds"}
    memory = {"anonymous_bytes": "own MB", "mapped_bytes": "mapped MB", "growth_bytes": "growth MB"}
    print_table(rows, {**columns, **memory, "peak_bytes": "peak MB"})
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
