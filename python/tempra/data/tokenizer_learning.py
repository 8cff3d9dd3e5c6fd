"""The tokenizer of a text, or of several texts that are to share one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tempra import _core
from tempra._core import ConfigError, FormatError, TempraError
from tempra.data.corpus import Piece
from tempra.data.counted import counted
from tempra.data.split import TRAIN, SplitRule, Survey, survey
from tempra.data.tokenizer import (
    ByteTokenizer,
    CharacterTokenizer,
    Tokenizer,
    fingerprint_of,
    load_tokenizer,
    save_tokenizer,
)

if TYPE_CHECKING:
    from tempra.data.preparation import Preparation, PrepareProgress

READING, LEARNING = "reading", "learning the vocabulary"


@dataclass(frozen=True)
class SurveyedText:
    """A text that was read once, and how it is divided."""

    preparation: Preparation
    surveys: list[Survey]
    rule: SplitRule


def survey_text(preparation: Preparation, progress: PrepareProgress | None) -> SurveyedText:
    """Read a text, with every error it has, and choose how it is divided."""
    surveys = [
        survey(corpus, phase(progress, READING, corpus.total_bytes))
        for corpus in preparation.corpora()
    ]
    if surveys[0].documents == 0:
        given = counted(len(preparation.train_corpus.files), "file")
        raise FormatError(f"data.train: {given} given, without any text")
    fraction = 0.0 if preparation.validation else preparation.validation_fraction
    whole = preparation.conversations is not None
    return SurveyedText(preparation, surveys, SplitRule.choose(surveys[0], fraction, whole=whole))


def make_tokenizer(texts: Sequence[SurveyedText], progress: PrepareProgress | None) -> Tokenizer:
    """Make the tokenizer that the first text asks for, for all of them."""
    asked = texts[0].preparation
    if asked.tokenizer == "byte":
        return ByteTokenizer()
    if asked.tokenizer == "file":
        return load_tokenizer(Path(asked.tokenizer_path or ""))
    if asked.tokenizer == "char":
        # The alphabet is that of all text, so that measuring never meets an unknown character.
        surveys = [found for text in texts for found in text.surveys]
        several = sum(found.documents for found in surveys) > 1
        conversations = any(text.preparation.conversations is not None for text in texts)
        return CharacterTokenizer(
            "".join(found.alphabet for found in surveys), end_of_text=several or conversations
        )
    from tempra.data.bpe_tokenizer import BpeTokenizer

    characters = sum(text.rule.train_characters for text in texts)
    stride = max(1, -(-characters // asked.vocabulary_characters))
    pieces = _learned_texts(texts, progress)
    chosen = (text for number, text in enumerate(pieces) if number % stride == 0)
    marks: dict[str, None] = {}
    for text in texts:
        if text.preparation.conversations is not None:
            marks |= dict.fromkeys(text.preparation.conversations.template.marks)
    return BpeTokenizer.train(chosen, asked.vocab_size, marks=tuple(marks))


def shared_tokenizer(
    preparations: Sequence[Preparation], cache: Path, progress: PrepareProgress | None = None
) -> Path:
    """Return the folder, below `cache`, of one tokenizer for several texts; learns it if need be.

    Its name says from what it was learned, so it is used again as long as that stays the same.
    """
    fingerprint = fingerprint_of([each.fingerprint() for each in preparations])
    folder = cache / f"tokenizer-{fingerprint[:16]}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{cache}: is no folder and cannot become one: {error.strerror}"
        ) from None
    with _core.FileLock(str(folder.with_name(folder.name + ".lock"))):
        if _is_sound(folder):
            return folder
        tokenizer = make_tokenizer([survey_text(each, progress) for each in preparations], progress)
        temporary = folder.with_name(folder.name + ".preparing")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            save_tokenizer(tokenizer, temporary)
            _core.publish_directory(str(temporary), str(folder))
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return folder


def _is_sound(folder: Path) -> bool:
    try:
        return folder.is_dir() and bool(load_tokenizer(folder).vocab_size)
    except TempraError:
        return False  # it is made again


def phase(progress: PrepareProgress | None, name: str, total: int) -> Callable[[int], None] | None:
    """Return what hears of the bytes done in one phase."""
    if progress is None:
        return None
    report = progress
    return lambda done: report(name, done, total)


def _learned_texts(
    texts: Sequence[SurveyedText], progress: PrepareProgress | None
) -> Iterator[str]:
    for text in texts:
        corpus = text.preparation.train_corpus
        pieces = corpus.pieces(phase(progress, LEARNING, corpus.total_bytes))
        for side, piece in text.rule.assign(pieces):
            if side == TRAIN:
                yield from _of_piece(piece)


def _of_piece(piece: Piece) -> list[str]:
    """Return what a vocabulary is learned from: all but the marks, which are tokens already."""
    if piece.segments is None:
        return [piece.text]
    return [segment.text for segment in piece.segments if not segment.control]
