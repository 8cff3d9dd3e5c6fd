"""Batches as pure functions of their number: a few integers to save, nothing to replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tempra import _core
from tempra._core import ConfigError
from tempra.data.batch import Batch, FixedRows
from tempra.data.order import SampleOrder, mix, mix_array
from tempra.data.token_dataset import TokenizedDataset

Mode = Literal["blocks", "random"]


class TokenSource:
    """Training batches of `batch_size` rows of `block` tokens; labels are the next tokens.

    `blocks`: each epoch cuts the stream into blocks that do not overlap and reads every one exactly
    once, in the order of `SampleOrder(blocks, seed, epoch)`. Rows are numbered through all epochs,
    so
    a batch at the end of an epoch is filled up from the next one: none is short, nothing is
    dropped.
    Where the stream is no multiple of `block`, each epoch starts at another offset, so that the
    rest at the end is not always the same tokens.

    `random`: each row starts anywhere, as in nanoGPT: a function of (seed, row number) alone.
    """

    def __init__(
        self,
        dataset: TokenizedDataset,
        *,
        batch_size: int,
        block: int,
        seed: int,
        mode: Mode = "blocks",
    ) -> None:
        if batch_size < 1 or block < 1:
            raise ConfigError(
                f"token source: got batch_size {batch_size} and block {block}, needs at least 1"
            )
        if mode not in ("blocks", "random"):
            raise ConfigError(f"token source: got mode {mode!r}, needs 'blocks' or 'random'")
        check_length(dataset, block, "training")
        self.dataset, self.batch_size, self.block = dataset, batch_size, block
        self.seed, self.mode = seed, mode
        self.blocks_per_epoch = (len(dataset) - 1) // block
        self._rows = FixedRows(batch_size, block)

    def batch(self, index: int) -> Batch:
        """Batch number `index`, counted from 0 through all epochs."""
        if index < 0:
            raise ConfigError(f"token source: got batch {index}, needs at least 0")
        first = index * self.batch_size
        rows = np.arange(first, first + self.batch_size, dtype=np.int64)
        starts = self._block_starts(rows) if self.mode == "blocks" else self._random_starts(rows)
        length = self.block + 1
        mask = self.dataset.mask_windows(starts, length)
        return self._rows.batch(self.dataset.windows(starts, length), mask)

    def __iter__(self) -> BatchIterator:
        return BatchIterator(self)

    def epochs(self, batches: int) -> float:
        """How often the text has been read after that many batches."""
        return batches * self.batch_size / self.blocks_per_epoch

    def state_dict(self) -> dict[str, int]:
        """Return what decides the batches; a resumed run compares it by `check_state`."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "block": self.block,
            "random": int(self.mode == "random"),
            "tokens": len(self.dataset),
            "checksum": self._checksum(),
        }

    def _checksum(self) -> int:
        """Return one number for the shards' checksums; 0 stands for a shard without a sidecar."""
        sidecars = (shard.sidecar for shard in self.dataset.shards)
        each = [0 if sidecar is None else sidecar.crc32 for sidecar in sidecars]
        return _core.crc32(" ".join(map(str, each)).encode())

    def check_state(self, state: Mapping[str, int]) -> None:
        """Raise `ConfigError` if batches would differ from those of the saved run."""
        for name, value in self.state_dict().items():
            if name not in state:
                raise ConfigError(f"data state: {name!r} is missing")
            if state[name] != value:
                raise ConfigError(
                    f"data: the saved run had {name} = {state[name]}, this one has {value}; "
                    "it cannot continue on the same batches"
                )

    def _block_starts(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        epochs, positions = np.divmod(rows, self.blocks_per_epoch)
        slack = (len(self.dataset) - 1) % self.block
        starts = np.empty_like(rows)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            order = SampleOrder(self.blocks_per_epoch, self.seed, int(epoch))
            offset = mix(mix(self.seed) ^ int(epoch)) % (slack + 1)
            starts[chosen] = order(positions[chosen]) * self.block + offset
        return starts

    def _random_starts(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        key = np.uint64(mix(self.seed))
        values = mix_array(mix_array(rows.astype(np.uint64)) ^ key)
        # The remainder favours small values by less than 2**-20 for any text under 2**44 tokens.
        starts: NDArray[np.int64] = (values % np.uint64(len(self.dataset) - self.block)).astype(
            np.int64
        )
        return starts


class BatchIterator(Iterator[Batch]):
    """Batches of a source one after the other; `cursor` counts those handed out."""

    def __init__(self, source: TokenSource, cursor: int = 0) -> None:
        self.source, self.cursor = source, cursor

    def __next__(self) -> Batch:
        batch = self.source.batch(self.cursor)
        self.cursor += 1
        return batch

    def state_dict(self) -> dict[str, int]:
        """Return what a resumed run needs: a few integers."""
        return {**self.source.state_dict(), "cursor": self.cursor}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue behind the batches of a saved state; raises if they would differ."""
        self.source.check_state(state)
        if state.get("cursor", -1) < 0:
            raise ConfigError(f"data state: cursor is {state.get('cursor')}, needs at least 0")
        self.cursor = state["cursor"]


# The name that users of other training libraries look for.
DataLoader = TokenSource


def check_length(dataset: TokenizedDataset, block: int, purpose: str) -> None:
    """Raise `ConfigError` when the text has no complete sequence."""
    if len(dataset) < block + 1:
        raise ConfigError(
            f"the {purpose} text has {len(dataset)} tokens, one sequence needs {block + 1} "
            f"(train.block {block} and the token after it); give more text or a smaller train.block"
        )


def validation_batches(
    dataset: TokenizedDataset, *, batch_size: int, block: int, limit: int | None = None
) -> Iterator[Batch]:
    """Return the whole split in order: every token but the first is predicted exactly once.

    The last block is padded with ignored labels, and the last batch can have fewer rows. With a
    `limit`, that many batches of blocks spread evenly over the split.
    """
    if len(dataset) < 2:
        raise ConfigError(f"the validation text has {len(dataset)} tokens, needs at least 2")
    count = (len(dataset) - 1 + block - 1) // block
    blocks: NDArray[np.int64] = np.arange(count, dtype=np.int64)
    if limit is not None and limit * batch_size < count:
        chosen = limit * batch_size
        blocks = np.arange(chosen, dtype=np.int64) * count // chosen
    rows = FixedRows(batch_size, block)
    for first in range(0, blocks.size, batch_size):
        yield _validation_batch(dataset, rows, blocks[first : first + batch_size] * block)


def _validation_batch(
    dataset: TokenizedDataset, rows: FixedRows, starts: NDArray[np.int64]
) -> Batch:
    length = rows.block + 1
    available = len(dataset) - int(starts[-1])
    if available >= length:
        return rows.batch(dataset.windows(starts, length), dataset.mask_windows(starts, length))
    padded = np.zeros((starts.size, length), dtype=np.int32)
    padded[:-1] = dataset.windows(starts[:-1], length)
    padded[-1, :available] = dataset.windows(starts[-1:], available)
    # What is padding is not learned, and neither is what the mask leaves out.
    mask = np.zeros((starts.size, length), dtype=np.uint8)
    for row, start in enumerate(starts):
        learned = dataset.mask(int(start), length)
        mask[row, : learned.size] = learned
    return rows.batch(padded, mask)
