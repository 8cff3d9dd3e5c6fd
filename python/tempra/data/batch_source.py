"""Batches as pure functions of their number: a few integers to save, nothing to replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from tempra import _core
from tempra._core import ConfigError
from tempra.data.batch import Batch, FixedRows
from tempra.data.mixture import Mixture
from tempra.data.row_options import PART_DOCUMENTS, Mode, Order, RowOptions
from tempra.data.sample_order import SampleOrder
from tempra.data.sequence_packer import Overlong, Strategy
from tempra.data.token_dataset import TokenizedDataset
from tempra.data.token_shard import TokenShard

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

    `order` other than `shuffled` reads the same rows in every epoch: `sequential` as the text lies,
    `shortest_first` packed documents by length. Such rows keep the documents' order, so `streaming`
    then ends a row where the next document does not fit (a `window` of 1).

    The sets of a `Mixture` are read by its own options where it has any, else all by these.

    Rows are numbered through all epochs, so a batch at the end of an epoch is filled up from the
    next one: none is short, nothing is dropped. Rank r of `world_size` reads the r-th of equal
    parts of each batch, so the ranks' number decides nothing but who reads what.

    A native thread assembles up to `readahead` batches ahead of the last one asked for; of small
    ones as many as have a megabyte together, but at most 64. The arrays of a batch are its own;
    their memory is used again when the last of them is gone.
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
        order: Order = "shuffled",
        overlong: Overlong = "split",
        window: int | None = None,
        longest_first: bool = False,
        pad_token: int | None = None,
        part_documents: int = PART_DOCUMENTS,
        rank: int = 0,
        world_size: int = 1,
        readahead: int = 3,
    ) -> None:
        if batch_size < 1 or block < 1:
            raise ConfigError(
                f"data loader: got batch_size {batch_size} and block {block}, needs at least 1"
            )
        self.dataset, self.batch_size, self.block, self.seed = dataset, batch_size, block, seed
        self.options = RowOptions(
            mode=mode,
            packing=packing,
            order=order,
            overlong=overlong,
            window=window,
            longest_first=longest_first,
            pad_token=pad_token,
            part_documents=part_documents,
        )
        self._parts = self._row_sources()
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
        rows = batches * self.batch_size
        if len(self._parts) == 1:
            return self._parts[0].epochs(rows)
        return rows / self.rows_per_epoch

    def epochs_by_source(self, batches: int) -> list[float]:
        """How often each set of a mixture has been read after that many batches."""
        read = self._rows_read(batches * self.batch_size)
        return [part.epochs(rows) for part, rows in zip(self._parts, read, strict=True)]

    def batches_for(self, epochs: float) -> int:
        """How many batches it takes to read the data so often."""
        low, high = 0, 1
        while self.epochs(high) < epochs:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.epochs(middle) < epochs else (low, middle)
        return high

    @property
    def rows_per_epoch(self) -> int:
        """Rows of the first epoch; with `streaming`, of others about as many.

        An epoch of a mixture has as many rows as its sets have together, however they are shared.
        """
        return sum(self.rows_per_epoch_by_source)

    @property
    def rows_per_epoch_by_source(self) -> list[int]:
        """Rows of the first epoch of each set."""
        return [round(1.0 / part.epochs(1)) for part in self._parts]

    def _rows_read(self, rows: int) -> list[int]:
        """Return how many of the first `rows` rows came from each set."""
        if not isinstance(self.dataset, Mixture):
            return [rows]
        quotas = self.dataset.quotas
        cycle, rest = divmod(rows, sum(quotas))
        places = SampleOrder(sum(quotas), self.seed, cycle)(np.arange(rest))
        sources = np.searchsorted(np.cumsum(quotas), places, side="right")
        begun = np.bincount(sources, minlength=len(quotas)).tolist()
        return [cycle * quota + more for quota, more in zip(quotas, begun, strict=True)]

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
            **self.options.state_dict(),
            "tokens": len(self.dataset),
            "checksum": self._checksum(),
        }
        if isinstance(self.dataset, Mixture):
            state |= {f"quota_{i}": quota for i, quota in enumerate(self.dataset.quotas)}
            for i, options in enumerate(self.dataset.options):
                own = {} if options is None else options.state_dict()
                state |= {f"{name}_{i}": value for name, value in own.items()}
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

    def _row_sources(self) -> list[_core.RowSource]:
        datasets = self._datasets()
        own = self.dataset.options if isinstance(self.dataset, Mixture) else [None]
        # Sources of equal length are not to run through their documents in step.
        return [
            row_source(dataset, self.block, self.seed + number, options or self.options)
            for number, (dataset, options) in enumerate(zip(datasets, own, strict=True))
        ]

    def _row_source(self) -> _core.RowSource:
        if not isinstance(self.dataset, Mixture):
            return self._parts[0]
        return _core.RowSource.mixed(self._parts, self.dataset.quotas, self.seed & _MASK)


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


def row_source(
    dataset: TokenizedDataset, block: int, seed: int, options: RowOptions
) -> _core.RowSource:
    """Return the rows of one data set."""
    if options.packing is None:
        check_length(dataset, block, "training text")
        return _core.RowSource.windows(
            dataset.stream(documents=False),
            block,
            seed & _MASK,
            random=options.mode == "random",
            sequential=options.order == "sequential",
        )
    stream = dataset.stream(documents=True)
    if options.order == "shuffled":
        return _core.RowSource.packed(
            stream,
            block,
            options.packing,
            options.overlong,
            seed & _MASK,
            options.resolved_window,
            options.longest_first,
            options.pad_token,
            options.part_documents,
        )
    return _core.RowSource.ordered(
        stream,
        block,
        options.packing,
        options.overlong,
        options.resolved_window,
        options.order == "shortest_first",
        options.pad_token,
        options.part_documents,
    )


def check_length(dataset: TokenizedDataset, block: int, purpose: str) -> None:
    """Raise `ConfigError` when the text has no complete sequence."""
    if len(dataset) < block + 1:
        raise ConfigError(
            f"the {purpose} has {len(dataset)} tokens, one sequence needs {block + 1} "
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
