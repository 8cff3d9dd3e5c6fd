"""Writing and reading a checkpoint of the GPT-2 124M model, beside plain writing and reading.

python benchmarks/checkpoint_bandwidth.py --folder /var/tmp
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

from harness import append_rows, print_table
from tempra import _core
from tempra.benchmark.machine import identity
from tempra.benchmark.samples import spread
from tempra.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def _plain(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    count = options.megabytes << 18
    tensors = {f"weight.{i}": _core.normal((count // 16,)) for i in range(16)}
    data = b"".join(tensor.numpy().tobytes() for tensor in tensors.values())
    samples: dict[str, list[float]] = {"plain write": [], "save": [], "plain read": [], "load": []}
    root = Path(tempfile.mkdtemp(prefix="tempra-bench-", dir=options.folder))
    try:
        for step in range(options.runs):
            marks = [time.perf_counter()]
            _plain(root / "plain", data)
            marks.append(time.perf_counter())
            save_checkpoint(root / "run", Checkpoint(step=step, model=tensors))
            marks.append(time.perf_counter())
            assert len((root / "plain").read_bytes()) == len(data)
            marks.append(time.perf_counter())
            loaded = load_checkpoint(root / "run")
            assert loaded.step == step
            marks.append(time.perf_counter())
            for name, start, stop in zip(samples, marks, marks[1:], strict=False):
                samples[name].append(stop - start)
    finally:
        shutil.rmtree(root)
    rows = [
        {
            "case": f"checkpoint/{name}",
            "unit": "GB/s",
            "rate": len(data) / min(times) / 1e9,
            "milliseconds": 1e3 * min(times),
            "spread": spread(times),
            "peak_bytes": _core.memory_statistics()["peak_bytes_in_use"],
            **identity(_core.get_num_threads()),
        }
        for name, times in samples.items()
    ]
    columns = {"case": "case", "unit": "unit", "rate": "rate", "milliseconds": "ms"}
    print_table(rows, {**columns, "spread": "spread", "peak_bytes": "peak MB"})
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
