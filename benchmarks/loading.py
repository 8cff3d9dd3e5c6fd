"""Assembling batches from a token file, beside plain copying; and how long training waits for them.

python benchmarks/loading.py

`assembly`: tokens and labels written per second by the reader's thread while another takes them,
from a file in the system's cache, against `memcpy`: as many bytes copied from there to an array.
`wait`: the part of training steps of ref-nano (character tokens, 12 rows of 64) in which the loader
is waited for.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from harness import append_rows, interleave, print_table, spread
from machine import identity
from reference_configs import REFERENCE_CONFIGS
from tempra import _core
from tempra.data import DataLoader, TokenizedDataset
from tempra.data.sequence_packer import Strategy
from tempra.models import Transformer
from tempra.optim.adamw import AdamW

TOKENS = 1 << 26
VOCABULARY = 65


def write_tokens(folder: Path) -> TokenizedDataset:
    """Write a token file of a quarter of a gigabyte."""
    path = folder / "tokens.bin"
    with _core.TokenBinWriter(str(path), "u32") as writer:
        random = np.random.default_rng(0)
        for _ in range(16):
            writer.append(random.integers(0, VOCABULARY, TOKENS // 16, dtype=np.uint32))
        writer.finish()
    return TokenizedDataset([path], vocabulary_size=VOCABULARY)


class Windows:
    """Batches of windows, and plain copies of as many bytes from the same file."""

    def __init__(self, dataset: TokenizedDataset, batch_size: int, block: int) -> None:
        self.loader = DataLoader(dataset, batch_size=batch_size, block=block, seed=0)
        self.size = batch_size * block
        self.batches = max(1, (1 << 24) // self.size)
        self.source = dataset.shards[0].tokens.view(np.int32)
        self.written = np.empty((2, self.size), dtype=np.int32)
        self.assembled = self.copied = 0

    def assemble(self) -> None:
        """Take batches from the loader."""
        for _ in range(self.batches):
            self.loader.batch(self.assembled)
            self.assembled += 1

    def copy(self) -> None:
        """Copy tokens once for the tokens of a batch and once for its labels."""
        for _ in range(self.batches):
            start = self.copied * self.size % (TOKENS - self.size)
            for target in self.written:
                np.copyto(target, self.source[start : start + self.size])
            self.copied += 1


def assembly(dataset: TokenizedDataset, seconds: float) -> list[dict[str, object]]:
    """Measure batches of windows and plain copies of as many bytes, in turns."""
    rows: list[dict[str, object]] = []
    for batch_size, block in ((12, 64), (12, 1024), (64, 2048)):
        windows = Windows(dataset, batch_size, block)
        samples = interleave(
            {"assembly": windows.assemble, "memcpy": windows.copy}, seconds=seconds
        )
        best = min(samples["memcpy"])
        for name, times in samples.items():
            rows.append(
                {
                    "case": f"loading/{name} {batch_size} x {block}",
                    "unit": "GB/s",
                    "rate": windows.batches * windows.size * 8 / min(times) / 1e9,
                    "spread": spread(times),
                    "memcpy_share": best / min(times),
                    **identity(1),
                }
            )
    return rows


def wait(dataset: TokenizedDataset, steps: int, packing: Strategy | None) -> dict[str, object]:
    """Measure the part of ref-nano's training steps that waits for batches."""
    threads = _core.get_num_threads()
    config = REFERENCE_CONFIGS["ref-nano"]
    model = Transformer(config.transformer("f32"), seed=0)
    optimizer = AdamW(model.named_parameters())
    loader = DataLoader(dataset, batch_size=config.batch, block=64, seed=0, packing=packing)
    waited, began = 0.0, 0.0
    for index in range(steps + 5):
        if index == 5:  # warm
            waited, began = loader.seconds_waited, time.perf_counter()
        batch = loader.batch(index)
        optimizer.zero_gradients()
        model.loss(batch).backward()
        optimizer.step(
            learning_rate=1e-3, gradient_scale=1.0 / batch.valid_tokens, max_gradient_norm=1.0
        )
    total = time.perf_counter() - began
    waited = loader.seconds_waited - waited
    return {
        "case": f"loading/wait ref-nano, {packing or 'windows'}",
        "unit": "steps/s",
        "rate": steps / total,
        "wait_share": waited / total,
        **identity(threads),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each size of batch")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_tokens(Path(folder))
        rows = assembly(dataset, options.seconds)
        rows += [wait(dataset, options.steps, packing) for packing in (None, "best_fit")]
    columns = {"case": "case", "unit": "unit", "rate": "rate", "spread": "spread"}
    shares = {"memcpy_share": "of memcpy", "wait_share": "waiting"}
    print_table(rows, {**columns, **shares})
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
