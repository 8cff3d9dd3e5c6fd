"""Assembling batches from a token file, beside plain copying; and how long training waits for them.

python benchmarks/loading.py

`assembly`: bytes a second that `DataLoader.batch` writes, from a file in the system's cache: tokens
and labels of windows in shuffled order (their positions never change), or tokens, labels and
positions of packed documents of the lengths of `packing.py`. `memcpy`: NumPy copying as many bytes
per batch from the same mapped file, in the order of the file: once for each of these arrays, to as
many sets of them in turn as the loader has buffers, since a loader must hand out distinct ones.
`memcpy in place`: the same to one set, which stays in the first caches where it fits.
`memcpy_share` compares the times that passed, which needs a machine without other work;
`processor_share` the time of all threads on the processors, where a reader that looks for a batch
before it sleeps counts against the loader.
`wait`: the part of training steps of ref-nano (character tokens, 12 rows of 64) in which the loader
is waited for.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from harness import append_rows, interleave, print_table
from tempra import _core
from tempra.benchmark.machine import identity
from tempra.benchmark.reference_configs import REFERENCE_CONFIGS
from tempra.benchmark.samples import spread
from tempra.data import DataLoader, TokenizedDataset
from tempra.data.sequence_packer import Strategy
from tempra.data.token_shard import Sidecar, bounds_path, write_sidecar
from tempra.models import Transformer
from tempra.optim.adamw import AdamW

TOKENS = 1 << 26
VOCABULARY = 65
# What the loader goes through with three batches of readahead: those, one being assembled, and one
# that is held.
BUFFERS = 5


def write_tokens(folder: Path) -> TokenizedDataset:
    """Write a token file of a quarter of a gigabyte."""
    path = folder / "tokens.bin"
    random = np.random.default_rng(0)
    with _core.TokenBinWriter(str(path), "u32") as writer:
        for _ in range(16):
            writer.append(random.integers(0, VOCABULARY, TOKENS // 16, dtype=np.uint32))
        writer.finish()
    lengths = np.clip(random.lognormal(5.0, 0.9, TOKENS // 128), 1, 2048).astype(np.uint64)
    ends = np.cumsum(lengths)
    bounds = np.concatenate([[0], ends[ends < TOKENS], [TOKENS]]).astype("<u8")
    bounds_path(path).write_bytes(bounds.tobytes())
    sidecar = Sidecar(
        dtype="u32",
        tokens=TOKENS,
        crc32=_core.crc32_file(str(path)),
        documents=bounds.size - 1,
        bounds_crc32=_core.crc32(bounds.tobytes()),
        vocabulary_size=VOCABULARY,
        end_of_text=None,
        tokenizer_kind="none",
        tokenizer_fingerprint="none",
    )
    write_sidecar(path, sidecar)
    return TokenizedDataset([path])


class Assembly:
    """Batches, and plain copies of as many bytes from the same file."""

    def __init__(
        self, dataset: TokenizedDataset, batch_size: int, block: int, packing: Strategy | None
    ) -> None:
        self.loader = DataLoader(
            dataset, batch_size=batch_size, block=block, seed=0, packing=packing
        )
        self.size = batch_size * block
        self.arrays = 2 if packing is None else 3
        self.batches = max(1, (1 << 22) // self.size)
        self.source = dataset.shards[0].tokens.view(np.int32)
        self.targets = [np.empty(self.size, dtype=np.int32) for _ in range(3 * BUFFERS)]
        self.assembled = self.copied = 0

    def assemble(self) -> None:
        """Take batches from the loader."""
        for _ in range(self.batches):
            self.loader.batch(self.assembled)
            self.assembled += 1

    def copy(self, buffers: int) -> None:
        """Copy the tokens of a batch once for each array that the loader writes."""
        for _ in range(self.batches):
            start = self.copied * self.size % (self.source.size - self.size)
            first = self.arrays * (self.copied % buffers)
            for target in self.targets[first : first + self.arrays]:
                np.copyto(target, self.source[start : start + self.size])
            self.copied += 1


def timed(run: Callable[[], None], processor: list[float]) -> Callable[[], None]:
    """Also note the processor time of each call."""

    def noting() -> None:
        before = time.process_time()
        run()
        processor.append(time.process_time() - before)

    return noting


def assembly(
    dataset: TokenizedDataset, seconds: float, packing: Strategy | None
) -> list[dict[str, object]]:
    """Measure batches and plain copies of as many bytes, in turns."""
    rows: list[dict[str, object]] = []
    for batch_size, block in ((12, 64), (12, 1024), (64, 2048)):
        case = Assembly(dataset, batch_size, block, packing)
        candidates: dict[str, Callable[[], None]] = {
            "assembly": case.assemble,
            "memcpy": lambda case=case: case.copy(BUFFERS),  # type: ignore[misc]
            "memcpy in place": lambda case=case: case.copy(1),  # type: ignore[misc]
        }
        processor: dict[str, list[float]] = {name: [] for name in candidates}
        samples = interleave(
            {name: timed(run, processor[name]) for name, run in candidates.items()},
            seconds=seconds,
        )
        for name, times in samples.items():
            rows.append(
                {
                    "case": f"loading/{name} {batch_size} x {block}, {packing or 'windows'}",
                    "unit": "GB/s",
                    "rate": case.batches * case.size * 4 * case.arrays / min(times) / 1e9,
                    "spread": spread(times),
                    "memcpy_share": min(samples["memcpy"]) / min(times),
                    "processor_share": min(processor["memcpy"]) / min(processor[name]),
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
        rows = assembly(dataset, options.seconds, None)
        rows += assembly(dataset, options.seconds, "best_fit")
        rows += [wait(dataset, options.steps, packing) for packing in (None, "best_fit")]
    columns = {"case": "case", "unit": "unit", "rate": "rate", "spread": "spread"}
    shares = {"memcpy_share": "of memcpy", "processor_share": "by processor"}
    shares["wait_share"] = "waiting"
    print_table(rows, {**columns, **shares})
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
