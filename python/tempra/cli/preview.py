"""The beginning of documents as training sees them: what is learned and what is only read."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from tempra.data.chat_template import Segment
from tempra.data.corpus import Corpus
from tempra.data.instruction_corpus import InstructionCorpus
from tempra.data.loss_mask import TrainOn, learned_segments
from tempra.data.prepared import PreparedDataset
from tempra.data.tokenizer import Tokenizer
from tempra.train.config_data import DataConfig, TokenizerConfig
from tempra.train.preparation import preparation_of_sections
from tempra.train.stage_report import describe_instructions

# Text and whether it is learned.
Run = tuple[str, bool]
Preview = tuple[list[str], Iterator[str]]

_DIM, _PLAIN = "\033[2m", "\033[22m"
_LEGEND = "what stands between [[ and ]] is learned, the rest only read"
_COLOUR_LEGEND = "what is dim is only read, the rest learned"


def preview_prepared(
    prepared: PreparedDataset, split: str, documents: int, characters: int
) -> Preview:
    """Return notes, and the beginnings of the first documents of a split, token by token."""
    notes = describe_instructions(prepared)
    shown = islice(_prepared_runs(prepared, split, characters), documents)
    if not notes:
        return [], ("".join(text for text, _ in runs) for runs in shown)
    return [*notes, _legend()], map(_highlighted, shown)


def preview_sources(data: DataConfig, documents: int, characters: int) -> Preview:
    """Return notes, and the beginnings of the first documents of text that is not prepared."""
    tokenizer = TokenizerConfig.from_mapping({"kind": "byte"})
    corpus = preparation_of_sections(data, tokenizer).train_corpus
    if isinstance(corpus, Corpus):
        return [], islice(_beginnings(corpus, characters), documents)
    first = corpus.files[0]
    found = corpus.detections[first]
    notes = [
        f"{first.path} is read as {found.format}: {found.reason}",
        f"template {corpus.template.name}, learning {corpus.train_on}",
        _legend(),
    ]
    return notes, islice(_conversations(corpus, characters), documents)


def _prepared_runs(prepared: PreparedDataset, split: str, characters: int) -> Iterator[list[Run]]:
    tokenizer = prepared.tokenizer()
    # One token is never more than a few characters short of its share; four bytes at worst.
    budget = 4 * characters
    for shard in prepared.dataset(split).shards:
        bounds, mask = shard.bounds(), shard.mask()
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            part = slice(begin, min(end, begin + budget))
            tokens = np.asarray(shard.tokens[part])
            if mask is None and prepared.manifest.instructions is None:
                runs: list[Run] = [(tokenizer.decode(tokens.tolist()), True)]
            else:
                learned = np.ones(tokens.size, np.uint8) if mask is None else mask[part]
                runs = list(_token_runs(tokenizer, tokens.tolist(), learned.tolist()))
            yield _cut(runs, characters, end - begin > budget)


def _token_runs(tokenizer: Tokenizer, tokens: list[int], mask: list[int]) -> Iterator[Run]:
    """Decode tokens between the bounds of the mask, with the names of marks."""
    start = 0
    for place in range(1, len(tokens) + 1):
        if place == len(tokens) or mask[place] != mask[start]:
            yield "".join(_named(tokenizer, tokens[start:place])), bool(mask[start])
            start = place


def _named(tokenizer: Tokenizer, tokens: list[int]) -> Iterator[str]:
    text: list[int] = []
    for token in tokens:
        mark = tokenizer.control_text(token)
        if mark is None:
            text.append(token)
        else:
            yield tokenizer.decode(text) + mark
            text = []
    yield tokenizer.decode(text)


def _beginnings(corpus: Corpus, characters: int) -> Iterator[str]:
    begins = True
    for piece in corpus.pieces():
        if begins:
            runs = _cut([(piece.text, True)], characters, not piece.ends_document)
            yield "".join(text for text, _ in runs)
        begins = piece.ends_document


def _conversations(corpus: InstructionCorpus, characters: int) -> Iterator[str]:
    for piece in corpus.pieces():
        runs = _segment_runs(piece.segments or (), corpus.train_on)
        yield _highlighted(_cut(list(runs), characters, False))


def _segment_runs(segments: Iterable[Segment], train_on: TrainOn) -> Iterator[Run]:
    given = list(segments)
    for segment, learned in zip(given, learned_segments(given, train_on), strict=True):
        yield segment.text, learned


def _cut(runs: list[Run], characters: int, goes_on: bool) -> list[Run]:
    """Keep so many characters, and say when there are more."""
    kept: list[Run] = []
    left = characters
    for text, learned in runs:
        if not left and text:
            goes_on = True
            break
        kept.append((text[:left], learned))
        goes_on = goes_on or len(text) > left
        left -= len(kept[-1][0])
    return [*kept, (" [...]", False)] if goes_on else kept


def _legend() -> str:
    return _COLOUR_LEGEND if sys.stdout.isatty() else _LEGEND


def _highlighted(runs: list[Run]) -> str:
    dim = sys.stdout.isatty()
    shown: list[str] = []
    for text, learned in _joined(runs):
        if dim:
            shown.append(text if learned else f"{_DIM}{text}{_PLAIN}")
        else:
            shown.append(f"[[{text}]]" if learned else text)
    return "".join(shown)


def _joined(runs: list[Run]) -> Iterator[Run]:
    """Put neighbours together that are both learned, or both not."""
    held, state = "", False
    for text, learned in runs:
        if learned != state and held:
            yield held, state
            held = ""
        held, state = held + text, learned
    if held:
        yield held, state
