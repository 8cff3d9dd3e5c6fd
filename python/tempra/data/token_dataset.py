"""A split of tokenized text: shards read as one continuous stream of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tempra import _core
from tempra._core import ConfigError, FormatError
from tempra.data.batch import Int32Array
from tempra.data.token_shard import TokenShard
from tempra.data.tokenizer import Tokenizer

_SCAN_TOKENS = 1 << 22
# Ids are handed to the model as int32.
_LARGEST_VOCABULARY = 2**31


class TokenizedDataset:
    """Token files as one stream, never loaded whole.

    Sizes are checked on opening. The vocabulary comes from the sidecars or is given; ids are
    checked
    against it in every batch, and once on opening where a file has no sidecar to vouch for it.
    """

    def __init__(
        self,
        paths: Iterable[str | PathLike[str]],
        *,
        tokenizer: Tokenizer | None = None,
        vocabulary_size: int | None = None,
        dtype: str | None = None,
    ) -> None:
        self.shards = [TokenShard(Path(path), dtype) for path in paths]
        if not self.shards:
            raise ConfigError("dataset: got no token files, needs at least one")
        if tokenizer is not None:
            self._check_tokenizer(tokenizer)
            vocabulary_size = tokenizer.vocab_size if vocabulary_size is None else vocabulary_size
        self.vocabulary_size = self._resolve_vocabulary(vocabulary_size)
        lengths = [len(shard) for shard in self.shards]
        # [shards + 1]: the first token of each shard within the stream, and the end
        self._starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._masks = [shard.mask() for shard in self.shards]
        for shard in self.shards:
            if shard.sidecar is None:
                self._scan(shard)

    def __len__(self) -> int:
        """Tokens in all."""
        return int(self._starts[-1])

    @property
    def documents(self) -> int:
        """Documents in all."""
        return sum(1 if s.sidecar is None else s.sidecar.documents for s in self.shards)

    @classmethod
    def from_folder(
        cls, folder: str | PathLike[str], split: str = "train", **options: Any
    ) -> TokenizedDataset:
        """Open a folder's shards: those its `dataset.json` lists for `split`, else all `*.bin`."""
        from tempra.data.prepared import PreparedDataset, is_prepared

        location = Path(folder)
        if is_prepared(location):
            return PreparedDataset(location).dataset(split)
        if not location.is_dir():
            raise FormatError(f"{location}: is no folder of token files")
        shards = sorted(location.glob("*.bin"))
        if not shards:
            raise FormatError(f"{location}: has no file that ends in .bin")
        return cls(shards, **options)

    @classmethod
    def from_manifest(cls, manifest: str | PathLike[str], **options: Any) -> TokenizedDataset:
        """Open the shards that a JSON list names: see `tempra.data.shard_manifest`."""
        from tempra.data.shard_manifest import read_shard_manifest

        entries = read_shard_manifest(Path(manifest))
        opened = cls([path for path, _ in entries], **options)
        for shard, (_, entry) in zip(opened.shards, entries, strict=True):
            entry.check(shard)
        return opened

    def stream(self, *, documents: bool) -> _core.TokenStream:
        """Return the native reader of these shards, which knows documents only where asked."""
        shards = [
            (str(shard.path), shard.tokens, shard.bounds() if documents else None, mask, True)
            for shard, mask in zip(self.shards, self._masks, strict=True)
        ]
        return _core.TokenStream(shards, self.vocabulary_size)

    def windows(self, starts: NDArray[np.int64], length: int) -> Int32Array:
        """Return the `length` tokens from each of `starts` on, [starts, length]."""
        if starts.size and (int(starts.min()) < 0 or int(starts.max()) + length > len(self)):
            raise ConfigError(
                f"dataset: windows of {length} tokens from {int(starts.min())} to "
                f"{int(starts.max())} do not fit into {len(self)} tokens"
            )
        result = np.empty((starts.size, length), dtype=np.int32)
        first = np.searchsorted(self._starts, starts, side="right") - 1
        last = np.searchsorted(self._starts, starts + (length - 1), side="right") - 1
        for shard in np.unique(first):
            rows = np.flatnonzero((first == shard) & (last == shard))
            if rows.size:
                local = starts[rows] - self._starts[shard]
                view = np.lib.stride_tricks.sliding_window_view(self.shards[shard].tokens, length)
                result[rows] = view[local]
        for row in np.flatnonzero(first != last):
            result[row] = self.slice(int(starts[row]), length)
        self._check_ids(result, starts)
        return result

    def slice(self, start: int, length: int) -> Int32Array:
        """Tokens `start` to `start + length` of the stream, [length]; fewer at its end."""
        end = min(start + length, len(self))
        parts = [np.zeros(0, dtype=np.int32)]
        for index, shard in enumerate(self.shards):
            low = max(start - int(self._starts[index]), 0)
            high = min(end - int(self._starts[index]), len(shard))
            if low < high:
                parts.append(shard.tokens[low:high].astype(np.int32))
        return np.concatenate(parts)

    @property
    def has_mask(self) -> bool:
        """Whether only a part of the tokens is to be learned."""
        return any(mask is not None for mask in self._masks)

    def mask(self, start: int, length: int) -> NDArray[np.uint8]:
        """Return 1 for each token of `slice(start, length)` that is to be learned, else 0."""
        end = min(start + length, len(self))
        parts = [np.zeros(0, dtype=np.uint8)]
        for index, shard in enumerate(self.shards):
            low = max(start - int(self._starts[index]), 0)
            high = min(end - int(self._starts[index]), len(shard))
            if low < high:
                mask = self._masks[index]
                every = np.ones(high - low, dtype=np.uint8)
                parts.append(every if mask is None else mask[low:high])
        return np.concatenate(parts)

    @property
    def trained_tokens(self) -> int:
        """How many tokens are to be learned; reads the whole mask."""
        return sum(
            len(shard) if mask is None else int(np.count_nonzero(mask))
            for shard, mask in zip(self.shards, self._masks, strict=True)
        )

    def mask_windows(self, starts: NDArray[np.int64], length: int) -> NDArray[np.uint8] | None:
        """Return the masks of `windows`, [starts, length]; None where all tokens are learned."""
        if not self.has_mask:
            return None
        result = np.empty((starts.size, length), dtype=np.uint8)
        for row, start in enumerate(starts):
            result[row] = self.mask(int(start), length)
        return result

    def check_trained(self, name: str) -> None:
        """Raise `FormatError` where not a single token is to be learned."""
        if not self.has_mask:
            return
        for start in range(0, len(self), _SCAN_TOKENS):
            if self.mask(start, _SCAN_TOKENS).any():
                return
        raise FormatError(
            f"{name}: the mask of all {len(self)} tokens is zero, so there is nothing to learn; "
            "look at the examples with `tempra data preview`, or train on all of them with "
            "data.train_on=all"
        )

    def verify(self) -> None:
        """Read everything: checksums, document boundaries and every id."""
        for shard in self.shards:
            shard.verify()
            shard.bounds()
            self._scan(shard)
            _check_mask(shard)

    def _check_tokenizer(self, tokenizer: Tokenizer) -> None:
        for shard in self.shards:
            sidecar = shard.sidecar
            if sidecar is not None and sidecar.tokenizer_fingerprint != tokenizer.fingerprint:
                raise ConfigError(
                    f"{shard.path}: was made with another tokenizer ({sidecar.tokenizer_kind}, "
                    f"{sidecar.tokenizer_fingerprint[:12]}) than the one given "
                    f"({tokenizer.kind}, {tokenizer.fingerprint[:12]}); prepare the text again"
                )

    def _resolve_vocabulary(self, given: int | None) -> int:
        stated = {s.sidecar.vocabulary_size: s.path for s in self.shards if s.sidecar is not None}
        largest = max(stated, default=None)
        if given is None:
            if largest is None:
                raise ConfigError(
                    f"{self.shards[0].path}: has no .meta.json, so the vocabulary size must be "
                    "given"
                )
            given = largest
        elif largest is not None and given < largest:
            raise ConfigError(
                f"{stated[largest]}: was made with {largest} tokens, more than the vocabulary of "
                f"{given}"
            )
        if not 1 <= given <= _LARGEST_VOCABULARY:
            raise ConfigError(f"vocabulary size: got {given}, needs 1 to {_LARGEST_VOCABULARY}")
        return given

    def _scan(self, shard: TokenShard) -> None:
        whole = (str(shard.path), shard.tokens, None, None, True)
        _core.TokenStream([whole], self.vocabulary_size).check_ids()

    def _check_ids(self, windows: Int32Array, starts: NDArray[np.int64]) -> None:
        # Seen as unsigned, an id beyond int32 is large rather than negative.
        ids = windows.view(np.uint32)
        if ids.size == 0 or int(ids.max()) < self.vocabulary_size:
            return
        row, column = np.argwhere(ids >= self.vocabulary_size)[0]
        position = int(starts[row]) + int(column)
        index = int(np.searchsorted(self._starts, position, side="right")) - 1
        local = position - int(self._starts[index])
        raise self._outside(self.shards[index], local, int(ids[row, column]))

    def _outside(self, shard: TokenShard, position: int, token: int) -> FormatError:
        return FormatError(
            f"{shard.path}: token {token} at position {position} is outside the vocabulary of "
            f"{self.vocabulary_size} tokens"
        )


def _check_mask(shard: TokenShard) -> None:
    """Raise `FormatError` for a mask that has other bytes than 0 and 1."""
    mask = shard.mask()
    for start in range(0, len(shard) if mask is not None else 0, _SCAN_TOKENS):
        assert mask is not None
        part = mask[start : start + _SCAN_TOKENS]
        if int(part.max()) > 1:
            place = start + int(np.argmax(part > 1))
            raise FormatError(
                f"{shard.path}: the mask of token {place} is {int(mask[place])}, needs 0 or 1"
            )
