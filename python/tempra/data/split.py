"""Which part of a text trains and which part only measures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tempra.data.corpus import PIECE_CHARACTERS, Corpus, Piece, Progress
from tempra.data.instruction_corpus import InstructionCorpus
from tempra.data.tokenizer import code_points

TRAIN, VALIDATION = "train", "validation"

# With fewer expected validation documents than this, whole documents are too coarse a unit.
_FEWEST_DOCUMENTS = 10
_UNICODE = 0x110000


@dataclass(frozen=True)
class Survey:
    """What one pass over a corpus found out."""

    documents: int
    characters: int
    alphabet: str


def survey(corpus: Corpus | InstructionCorpus, progress: Progress | None = None) -> Survey:
    """Read a whole corpus once: counts, the characters it uses, and every error it has."""
    documents = characters = 0
    seen: NDArray[np.bool_] = np.zeros(_UNICODE, dtype=np.bool_)
    texts: list[str] = []
    gathered = 0
    for piece in corpus.pieces(progress):
        texts.append(piece.text)
        gathered += len(piece.text)
        documents += piece.ends_document
        if gathered >= PIECE_CHARACTERS:  # many short documents are looked at together
            seen[code_points("".join(texts))] = True
            characters += gathered
            texts, gathered = [], 0
    seen[code_points("".join(texts))] = True
    characters += gathered
    alphabet = "".join(map(chr, np.flatnonzero(seen)))
    return Survey(documents, characters, alphabet)


@dataclass(frozen=True)
class SplitRule:
    """How the text of data.train is divided when no validation text is given.

    `documents`: a document validates when a hash of its beginning falls below `fraction`, so equal
    documents never land on both sides and added documents move no others. `tail`: the last
    `fraction` of all characters validates, cut inside a document if need be, as nanoGPT does; used
    where the text has so few documents that fewer than ten would validate. `last`: the same for
    documents that must stay whole, conversations. `none`: all trains.
    """

    kind: str
    fraction: float
    train_characters: int
    train_documents: int = 0

    @classmethod
    def choose(cls, found: Survey, fraction: float, *, whole: bool = False) -> SplitRule:
        """Choose the rule for a surveyed text; `whole` documents are never divided."""
        if fraction == 0.0:
            return cls("none", 0.0, found.characters)
        kept = int(found.characters * (1.0 - fraction))
        few = found.documents * fraction < _FEWEST_DOCUMENTS
        if few and whole:
            last = max(1, round(found.documents * fraction))
            return cls("last", fraction, kept, max(1, found.documents - last))
        return cls("tail" if few else "documents", fraction, kept)

    def describe(self) -> str:
        """Say the rule in words, for reports and the dataset's own record."""
        if self.kind == "none":
            return "all text trains"
        if self.kind == "tail":
            return f"the last {self.fraction:.4g} of the characters validates"
        if self.kind == "last":
            return f"the examples after the first {self.train_documents} validate"
        return f"documents whose hash falls below {self.fraction:.4g} validate"

    def assign(self, pieces: Iterator[Piece]) -> Iterator[tuple[str, Piece]]:
        """Give every piece its side."""
        if self.kind == "none":
            return ((TRAIN, piece) for piece in pieces)
        if self.kind == "last":
            # Each piece is a whole document.
            return (
                (TRAIN if number < self.train_documents else VALIDATION, piece)
                for number, piece in enumerate(pieces)
            )
        return self._by_document(pieces) if self.kind == "documents" else self._by_tail(pieces)

    def _by_document(self, pieces: Iterator[Piece]) -> Iterator[tuple[str, Piece]]:
        limit = int(self.fraction * 2**64)
        begins, side = True, TRAIN
        for piece in pieces:
            if begins:
                digest = hashlib.blake2b(piece.text.encode("utf-8"), digest_size=8).digest()
                side = VALIDATION if int.from_bytes(digest, "little") < limit else TRAIN
            yield side, piece
            begins = piece.ends_document

    def _by_tail(self, pieces: Iterator[Piece]) -> Iterator[tuple[str, Piece]]:
        left, reached = self.train_characters, False
        for piece in pieces:
            if not reached and len(piece.text) <= left:
                left -= len(piece.text)
                yield TRAIN, piece
                continue
            if left > 0:
                yield TRAIN, Piece(piece.text[:left], False)
            yield VALIDATION, Piece(piece.text[left:], piece.ends_document)
            left, reached = 0, True
