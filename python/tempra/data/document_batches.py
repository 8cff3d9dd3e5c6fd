"""Documents one by one for measuring: none sees another, and each token is predicted once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tempra._core import ConfigError
from tempra.data.batch import IGNORED_LABEL, Batch, Int32Array
from tempra.data.token_dataset import TokenizedDataset

# Tokens and their labels.
_Sequence = tuple[Int32Array, Int32Array]


def document_batches(
    dataset: TokenizedDataset, *, batch_size: int, block: int, limit: int | None = None
) -> Iterator[Batch]:
    """Yield batches of at most `batch_size` times `block` tokens, in order.

    A document longer than `block` is cut; what follows a cut sees nothing before it. With a
    `limit`, about that many batches of documents spread evenly over the split.
    """
    if len(dataset) < 2:
        raise ConfigError(f"the validation text has {len(dataset)} tokens, needs at least 2")
    capacity = batch_size * block
    stride = 1 if limit is None else max(1, -(-len(dataset) // (limit * capacity)))
    gathered: list[_Sequence] = []
    size = 0
    for sequence in _sequences(dataset, block, stride):
        if size + sequence[0].size > capacity:
            yield _batch(gathered)
            gathered, size = [], 0
        gathered.append(sequence)
        size += sequence[0].size
    if gathered:
        yield _batch(gathered)


def _sequences(dataset: TokenizedDataset, block: int, stride: int) -> Iterator[_Sequence]:
    number = first = 0
    for shard in dataset.shards:
        bounds = shard.bounds().astype(np.int64)
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            if number % stride == 0:
                yield from _parts(dataset, first + begin, first + end, block)
            number += 1
        first += len(shard)


def _parts(dataset: TokenizedDataset, begin: int, end: int, block: int) -> Iterator[_Sequence]:
    for start in range(begin, end - 1, block):
        length = min(block + 1, end - start)
        tokens: Int32Array = dataset.windows(np.array([start], dtype=np.int64), length)[0]
        learned = dataset.mask(start, length)[1:] != 0
        yield tokens[:-1], np.where(learned, tokens[1:], np.int32(IGNORED_LABEL)).astype(np.int32)


def _batch(sequences: list[_Sequence]) -> Batch:
    lengths = [tokens.size for tokens, _ in sequences]
    labels = np.concatenate([each for _, each in sequences])
    offsets: NDArray[np.int32] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return Batch(
        tokens=np.concatenate([tokens for tokens, _ in sequences]),
        labels=labels,
        offsets=offsets,
        positions=np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
        valid_tokens=int(np.count_nonzero(labels != IGNORED_LABEL)),
    )
