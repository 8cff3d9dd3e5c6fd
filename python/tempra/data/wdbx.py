"""Token datasets in WDBX files, and their conversion from and to token-bin files."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tempra import _core
from tempra.data.tokenizer import Tokenizer

Path = str | os.PathLike[str]

DEFAULT_BLOCK_TOKENS = 2048


def token_bin_to_wdbx(
    source: Path,
    destination: Path,
    block_tokens: int = DEFAULT_BLOCK_TOKENS,
    *,
    mode: Literal["fail", "replace", "append"] = "fail",
) -> int:
    """Write a token-bin as a WDBX token dataset, whole or not at all; return how many tokens.

    A source with a `.meta.json` beside it is compared with what that says. An existing destination
    is a `FileExistsError`, unless `mode` is to replace it or to append to it.
    """
    return _core.token_bin_to_wdbx(source, destination, _count(block_tokens), mode=mode)


def wdbx_to_token_bin(source: Path, destination: Path, max_tokens: int = 0) -> int:
    """Write the tokens of a WDBX token dataset as a token-bin; return how many.

    At most `max_tokens` are written, all when it is 0. Texts are not kept. An existing destination
    is replaced once the new file is whole.
    """
    return _core.wdbx_to_token_bin(source, destination, _count(max_tokens))


def read_wdbx_records(
    path: Path,
) -> Iterator[tuple[int, NDArray[np.float32], bytes]]:
    """Walk the records of any WDBX file: id, vector and metadata.

    The whole file is verified first. Vectors are read-only views of the mapped file, which is not
    aligned; `numpy.array` copies one.
    """
    return _core.WdbxRecordIterator(path)


class WdbxTokenDataset:
    """Blocks of tokens, each with an optional text, in a WDBX file; a new file where there is none.

    What is appended is seen at once, and written by `save`. Iterating gives the id, the tokens and
    the text (or None) of each block in file order.
    """

    def __init__(self, path: Path) -> None:
        self._dataset = _core.WdbxTokenDataset(path)

    @property
    def path(self) -> str:
        """The file that `save` writes."""
        return self._dataset.path

    @property
    def name(self) -> str:
        """The name that the file gives itself."""
        return self._dataset.name

    @property
    def block_count(self) -> int:
        """Number of records, those without tokens included."""
        return self._dataset.block_count

    @property
    def token_count(self) -> int:
        """Number of tokens in all blocks."""
        return self._dataset.token_count

    @property
    def has_unsaved(self) -> bool:
        """Whether `save` has something to write."""
        return self._dataset.has_unsaved

    def append(self, tokens: ArrayLike, text: str | bytes | None = None) -> int:
        """Add a block of token ids and, if given, the text they came from; return its id."""
        given = np.asarray(tokens)
        if given.size == 0:
            given = given.astype(np.uint32)
        return self._dataset.append(given.reshape(-1), text)

    def ingest_text(
        self,
        text: str,
        tokenizer: Tokenizer,
        *,
        keep_text: bool = True,
        end_of_text: bool = False,
    ) -> int:
        """Tokenize a text and add it as one block; return the block's id.

        `end_of_text` adds the tokenizer's end mark, `keep_text` stores the text with its tokens.
        """
        tokens = tokenizer.encode(text)
        if end_of_text:
            if tokenizer.end_of_text is None:
                raise _core.FormatError(f"{self.path}: the tokenizer has no end mark to add")
            tokens = np.append(tokens, np.uint32(tokenizer.end_of_text))
        return self.append(tokens, text if keep_text else None)

    def import_token_bin(self, source: Path, block_tokens: int = DEFAULT_BLOCK_TOKENS) -> int:
        """Add the tokens of a token-bin in blocks, the last one shorter; return how many.

        The tokens are read when they are needed: the file must stay as it is until `save`.
        """
        return self._dataset.import_token_bin(source, _count(block_tokens))

    def export_token_bin(self, destination: Path, max_tokens: int = 0) -> int:
        """Write the tokens, or the first `max_tokens`, as a token-bin; return how many."""
        return self._dataset.export_token_bin(destination, _count(max_tokens))

    def collect(self, max_tokens: int = 0) -> NDArray[np.uint32]:
        """Return the tokens of all blocks in file order, or the first `max_tokens` of them."""
        return self._dataset.collect(_count(max_tokens))

    def save(self) -> None:
        """Write the file aside and rename it into place, so that it is never half written."""
        self._dataset.save()

    def __iter__(self) -> Iterator[tuple[int, NDArray[np.uint32], str | None]]:
        """Walk the blocks in file order; a change of the dataset ends it with an error."""
        return iter(self._dataset)


def _count(value: int) -> int:
    """Return a whole number that the native core can take, and will check."""
    return max(-(2**63), min(operator.index(value), 2**63 - 1))
