"""Packing: which documents share a row, so that little of a row stays empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tempra import _core
from tempra._core import PackingPlan, ShapeError
from tempra.data.batch import Batch

Strategy = Literal["best_fit", "streaming", "concat", "none"]
Overlong = Literal["split", "truncate", "reject"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
OVERLONG: tuple[Overlong, ...] = get_args(Overlong)

_MASK = (1 << 64) - 1
_LARGEST_VOCABULARY = 2**31


class SequencePacker:
    """Puts documents into rows of `capacity` tokens.

    `best_fit`: longest first, each into the row it fills best; the fullest rows. `streaming`:
    shuffled documents one by one into at most `window` open rows. `concat`: shuffled documents end
    to end, cut where rows end. `none`: a row for each, shuffled or `longest_first`. Documents
    longer than a row are split, truncated or rejected, and counted in the plan.

    A plan is a function of (lengths, capacity, strategy, seed, epoch) and nothing else; each seed
    and epoch packs other documents together, in another order.
    """

    def __init__(
        self,
        capacity: int,
        strategy: Strategy = "best_fit",
        *,
        overlong: Overlong = "split",
        seed: int = 0,
        window: int = 1024,
        longest_first: bool = False,
    ) -> None:
        self.capacity, self.strategy, self.overlong = capacity, strategy, overlong
        self.seed, self.window, self.longest_first = seed, window, longest_first
        self.plan([])  # refuses what it would refuse later

    def plan(self, lengths: ArrayLike, *, epoch: int = 0) -> PackingPlan:
        """Return the pieces of each row, for documents of these lengths."""
        return _core.plan_packing(
            np.asarray(lengths, dtype=np.int64),
            self.capacity,
            self.strategy,
            self.overlong,
            self.seed & _MASK,
            epoch & _MASK,
            self.window,
            self.longest_first,
        )

    def pack(
        self,
        documents: Sequence[ArrayLike],
        masks: Sequence[ArrayLike] | None = None,
        *,
        epoch: int = 0,
    ) -> PackedDocuments:
        """Return rows of documents, each an array of token ids.

        `masks` are 1 for each token that is to be learned, by default all.
        """
        parts: list[NDArray[np.int64]] = [np.asarray(ids, dtype=np.int64) for ids in documents]
        lengths = np.array([ids.size for ids in parts], dtype=np.int64)
        tokens = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
        if tokens.size and not 0 <= int(tokens.min()) <= int(tokens.max()) < _LARGEST_VOCABULARY:
            raise ShapeError(
                f"packing: token ids run from {int(tokens.min())} to {int(tokens.max())}, "
                f"0 to {_LARGEST_VOCABULARY - 1} needed"
            )
        mask = None
        if masks is not None:
            given = [np.asarray(values) != 0 for values in masks]
            if [values.size for values in given] != lengths.tolist():
                raise ShapeError("packing: the masks have other lengths than their documents")
            mask = np.concatenate([np.zeros(0, dtype=np.bool_), *given]).astype(np.uint8)
        bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.uint64)
        shard = ("documents", tokens.astype(np.uint32), bounds, mask, False)
        stream = _core.TokenStream([shard], _LARGEST_VOCABULARY)
        return PackedDocuments(stream, self.plan(lengths, epoch=epoch))


class PackedDocuments:
    """Rows of packed documents; tokens are moved when rows are asked for."""

    def __init__(self, stream: Any, plan: PackingPlan) -> None:
        self._stream, self.plan = stream, plan

    def __len__(self) -> int:
        return self.plan.rows

    def rows(self, first: int, last: int, *, pad_token: int | None = None) -> Batch:
        """Return rows `first` to `last` as a batch, each filled up with `pad_token` if given."""
        return Batch(*_core.pack_rows(self._stream, self.plan, first, last, pad_token))
