"""What a training step reads: tokens, labels and where each sequence begins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The label of a position that is not trained on.
IGNORED_LABEL = -100

Int32Array = NDArray[np.int32]


@dataclass(frozen=True, init=False)
class Batch:
    """Sequences laid end to end. Attention and positions never cross a sequence.

    tokens, labels, positions: [tokens]; offsets: [sequences + 1], where each sequence begins and
    the last one ends. A label of -100 is not trained on; `valid_tokens` counts all other labels.
    `longest`: no sequence is longer; 0 where nobody has said. `padding` tokens lie behind the last
    sequence (see `padded`).
    """

    tokens: Int32Array
    labels: Int32Array
    offsets: Int32Array
    positions: Int32Array
    valid_tokens: int
    longest: int
    padding: int

    def __init__(
        self,
        tokens: Int32Array,
        labels: Int32Array,
        offsets: Int32Array,
        positions: Int32Array,
        valid_tokens: int,
        longest: int = 0,
        padding: int = 0,
    ) -> None:
        # A frozen dataclass sets its fields in twice this time, which small batches notice.
        fields = self.__dict__
        fields["tokens"] = tokens
        fields["labels"] = labels
        fields["offsets"] = offsets
        fields["positions"] = positions
        fields["valid_tokens"] = valid_tokens
        fields["longest"] = longest
        fields["padding"] = padding

    @property
    def even(self) -> bool:
        """All sequences are as long as the longest may be and no token is in none of them."""
        lengths = np.diff(self.offsets)
        longest = self.longest or lengths.max(initial=0)
        return self.padding == 0 and bool((lengths == longest).all())


def padded(batch: Batch, *, tokens: int = 0, sequences: int = 0, longest: int = 0) -> Batch:
    """Return the batch with at least so many tokens and sequences, and `longest` as it is given.

    Tokens that are added belong to no sequence and are not trained on; sequences that are added are
    empty. Only models on a CUDA device take such batches: there a shape that stays the same is
    worth more than the few numbers it costs, and no result depends on them.
    """
    more = max(tokens - batch.tokens.size, 0)
    empty = max(sequences + 1 - batch.offsets.size, 0)

    def extended(array: Int32Array, count: int, value: int) -> Int32Array:
        return np.append(array, np.full(count, value, np.int32)) if count else array

    return Batch(
        tokens=extended(batch.tokens, more, 0),
        labels=extended(batch.labels, more, IGNORED_LABEL),
        offsets=extended(batch.offsets, empty, int(batch.offsets[-1])),
        positions=extended(batch.positions, more, 0),
        valid_tokens=batch.valid_tokens,
        longest=longest or batch.longest,
        padding=batch.padding + more,
    )


class FixedRows:
    """Builds batches of equally long rows; their offsets and positions are made once and shared."""

    def __init__(self, rows: int, block: int) -> None:
        self.rows, self.block = rows, block
        self._offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(block)
        self._positions = np.tile(np.arange(block, dtype=np.int32), rows)
        # Shared by every batch, so that a caller who writes into one cannot spoil the next.
        self._offsets.flags.writeable = False
        self._positions.flags.writeable = False

    def batch(self, windows: Int32Array, mask: NDArray[np.uint8] | None = None) -> Batch:
        """Return a batch of windows [rows, block + 1]: each row predicts its own next token.

        Where the mask, of the same shape, is zero, a token is read but not predicted.
        """
        rows = windows.shape[0]
        labels, valid_tokens = windows[:, 1:].flatten(), rows * self.block
        if mask is not None:
            learned = mask[:, 1:].reshape(-1) != 0
            labels[~learned] = IGNORED_LABEL
            valid_tokens = int(np.count_nonzero(learned))
        return Batch(
            tokens=windows[:, :-1].flatten(),
            labels=labels,
            offsets=self._offsets[: rows + 1],
            positions=self._positions[: rows * self.block],
            valid_tokens=valid_tokens,
            longest=self.block,
        )
