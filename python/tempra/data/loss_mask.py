"""Rendered conversations to tokens, and which of those tokens are learned."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from tempra._core import ConfigError
from tempra.data.chat_template import Segment
from tempra.data.tokenizer import END_OF_TEXT, Tokenizer, Tokens

TrainOn = Literal["all", "responses", "last_response"]


class EncodedExample(NamedTuple):
    """Tokens and their mask, [tokens]: 1 for each that is learned."""

    tokens: Tokens
    mask: NDArray[np.uint8]


def learned_segments(segments: Sequence[Segment], train_on: TrainOn) -> list[bool]:
    """Return which segments are learned: all, answers with their end marks, or the last answer."""
    if train_on == "responses":
        return [each.response is not None for each in segments]
    if train_on == "all":
        return [True] * len(segments)
    if train_on != "last_response":
        raise ConfigError(f"train_on: got {train_on!r}, needs {', '.join(get_args(TrainOn))}")
    last = max((each.response for each in segments if each.response is not None), default=None)
    return [last is not None and each.response == last for each in segments]


def encode_examples(
    tokenizer: Tokenizer, examples: Sequence[Sequence[Segment]], train_on: TrainOn
) -> list[EncodedExample]:
    """Tokenize segment by segment, so that a token lies on one side of each bound or the other.

    Raises `ConfigError` where the template ends a turn by end of text and the tokenizer has none.
    """
    marks: dict[str, int | None] = {}
    texts: list[str] = []
    for segment in (segment for example in examples for segment in example):
        if segment.control and segment.text not in marks:
            marks[segment.text] = _mark_token(tokenizer, segment.text)
        if not segment.control or marks[segment.text] is None:
            texts.append(segment.text)
    encoded = iter(tokenizer.encode_batch(texts))
    alone = {
        mark: np.array([token], dtype=np.uint32)
        for mark, token in marks.items()
        if token is not None
    }
    parts = [
        alone[segment.text] if segment.control and segment.text in alone else next(encoded)
        for example in examples
        for segment in example
    ]
    learned = [each for example in examples for each in learned_segments(example, train_on)]
    # All examples at once; each is a part of the two arrays.
    sizes = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
    tokens = np.concatenate([np.zeros(0, dtype=np.uint32), *parts])
    mask = np.repeat(np.array(learned, dtype=np.uint8), sizes)
    bounds = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
    places = np.cumsum([0, *map(len, examples)])
    ends: list[int] = bounds[places].tolist()
    return [EncodedExample(tokens[begin:end], mask[begin:end]) for begin, end in pairwise(ends)]


def encode_prompt(tokenizer: Tokenizer, segments: Sequence[Segment]) -> list[int]:
    """Return the tokens of segments that are only read."""
    tokens: list[int] = encode_examples(tokenizer, [segments], "all")[0].tokens.tolist()
    return tokens


def spelled_out(tokenizer: Tokenizer, marks: Sequence[str]) -> list[str]:
    """Return the marks that the vocabulary has no token for."""
    return [mark for mark in marks if tokenizer.control_token(mark) is None]


def _mark_token(tokenizer: Tokenizer, mark: str) -> int | None:
    token = tokenizer.control_token(mark)
    if token is None and mark == END_OF_TEXT:
        raise ConfigError(
            "template: ends turns with the end of the text, for which this tokenizer has no mark; "
            "use the template chatml"
        )
    return token
