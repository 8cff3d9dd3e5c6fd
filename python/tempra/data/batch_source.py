"""Batches as pure functions of their number: a few integers to save, nothing to replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tempra import _core
from tempra._core import ConfigError
from tempra.data.batch import Batch, FixedRows
from tempra.data.mixture import Mixture
from tempra.data.sequence_packer import OVERLONG, STRATEGIES, Overlong, Strategy
from tempra.data.token_dataset import TokenizedDataset
from tempra.data.token_shard import TokenShard

Mode = Literal["blocks", "random"]

# Some 200 million tokens, whose plan has about 20 MB.
_PART_DOCUMENTS = 1 << 20
_MASK = (1 << 64) - 1


class DataLoader:
    """Training batches of `batch_size` rows of at most `block` tokens; labels are the next tokens.

    Without packing, rows are windows of the stream of all tokens. `blocks`: each epoch cuts the
    stream into blocks that do not overlap and reads every one exactly once, in the order of
    `SampleOrder(blocks, seed, epoch)`. Where the stream is no multiple of `block`, each epoch
    starts at another offset, so that the rest at the end is not always the same tokens. `random`:
    each row starts anywhere, as in nanoGPT: a function of (seed, row number) alone.

    With packing, rows hold whole documents, which attention and positions never cross: see
    `SequencePacker`. Rows end where their documents end, or with `pad_token` are filled up to
    `block`. Documents are planned `part_documents` at a time, to bound memory.

    Rows are numbered through all epochs, so a batch at the end of an epoch is filled up from the
    next one: none is short, nothing is dropped. Rank r of `world_size` reads the r-th of equal
    parts of each batch, so the ranks' number decides nothing but who reads what.

    A native thread assembles up to `readahead` batches ahead of the last one asked for. The arrays
    of a batch are its own; their memory is used again when the last of them is gone.
    """

    def __init__(
        self,
        dataset: TokenizedDataset | Mixture,
        *,
        batch_size: int,
        block: int,
        seed: int,
        mode: Mode = "blocks",
        packing: Strategy | None = None,
        overlong: Overlong = "split",
        window: int = 1024,
        longest_first: bool = False,
        pad_token: int | None = None,
        part_documents: int = _PART_DOCUMENTS,
        rank: int = 0,
        world_size: int = 1,
        readahead: int = 3,
    ) -> None:
        if batch_size < 1 or block < 1:
            raise ConfigError(
                f"data loader: got batch_size {batch_size} and block {block}, needs at least 1"
            )
        if mode not in ("blocks", "random"):
            raise ConfigError(f"data loader: got mode {mode!r}, needs 'blocks' or 'random'")
        if packing is not None and mode != "blocks":
            raise ConfigError(
                f"data loader: got mode {mode!r} with packing {packing!r}; packed rows hold whole "
                "documents and start at none but their beginning"
            )
        self.dataset, self.batch_size, self.block = dataset, batch_size, block
        self.seed, self.mode, self.packing = seed, mode, packing
        self.overlong, self.window, self.longest_first = overlong, window, longest_first
        self.pad_token, self.part_documents = pad_token, part_documents
        self._rows = self._row_source()
        self._reader = _core.BatchReader(self._rows, batch_size, rank, world_size, readahead)

    def batch(self, index: int) -> Batch:
        """Batch number `index`, counted from 0 through all epochs."""
        if index < 0:
            raise ConfigError(f"data loader: got batch {index}, needs at least 0")
        return Batch(*self._reader.read(index))

    def __iter__(self) -> BatchIterator:
        return BatchIterator(self)

    def epochs(self, batches: int) -> float:
        """How often the data has been read after that many batches."""
        return self._rows.epochs(batches * self.batch_size)

    @property
    def rows_per_epoch(self) -> int:
        """Rows of the first epoch; with `streaming` and mixtures, of others about as many."""
        return round(1.0 / self._rows.epochs(1)) if self._rows.epochs(1) else 0

    @property
    def shards(self) -> list[TokenShard]:
        """All token files that are read."""
        return [shard for dataset in self._datasets() for shard in dataset.shards]

    @property
    def seconds_waited(self) -> float:
        """How long `batch` has waited for batches in all."""
        return self._reader.seconds_waited

    def state_dict(self) -> dict[str, int]:
        """Return what decides the batches; a resumed run compares it by `check_state`."""
        state = {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "block": self.block,
            "random": int(self.mode == "random"),
            "tokens": len(self.dataset),
            "checksum": self._checksum(),
        }
        if self.packing is not None:
            state |= {
                "packing": STRATEGIES.index(self.packing),
                "overlong": OVERLONG.index(self.overlong),
                "window": self.window,
                "longest_first": int(self.longest_first),
                "pad_token": -1 if self.pad_token is None else self.pad_token,
                "part_documents": self.part_documents,
            }
        if isinstance(self.dataset, Mixture):
            state |= {f"quota_{i}": quota for i, quota in enumerate(self.dataset.quotas)}
        return state

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

    def _checksum(self) -> int:
        """Return one number for the shards' checksums; 0 stands for a shard without a sidecar."""
        each: list[int] = []
        for shard in self.shards:
            each.append(0 if shard.sidecar is None else shard.sidecar.crc32)
            if shard.sidecar is not None and shard.sidecar.mask_crc32 is not None:
                each.append(shard.sidecar.mask_crc32)
        return _core.crc32(" ".join(map(str, each)).encode())

    def _datasets(self) -> list[TokenizedDataset]:
        return self.dataset.datasets if isinstance(self.dataset, Mixture) else [self.dataset]

    def _row_source(self) -> _core.RowSource:
        if not isinstance(self.dataset, Mixture):
            return self._rows_of(self.dataset, self.seed)
        # Sources of equal length are not to run through their documents in step.
        sources = [
            self._rows_of(dataset, self.seed + number)
            for number, dataset in enumerate(self.dataset.datasets)
        ]
        return _core.RowSource.mixed(sources, self.dataset.quotas, self.seed & _MASK)

    def _rows_of(self, dataset: TokenizedDataset, seed: int) -> _core.RowSource:
        if self.packing is None:
            check_length(dataset, self.block, "training")
            stream = dataset.stream(documents=False)
            return _core.RowSource.windows(stream, self.block, seed & _MASK, self.mode == "random")
        return _core.RowSource.packed(
            dataset.stream(documents=True),
            self.block,
            self.packing,
            self.overlong,
            seed & _MASK,
            self.window,
            self.longest_first,
            self.pad_token,
            self.part_documents,
        )


class BatchIterator(Iterator[Batch]):
    """Batches of a source one after the other; `cursor` counts those handed out."""

    def __init__(self, source: DataLoader, cursor: int = 0) -> None:
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
