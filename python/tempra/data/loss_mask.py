"""Rendered conversations to tokens, and which of those tokens are learned."""

from __future__ import annotations

from collections.abc import Sequence
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
    if train_on not in get_args(TrainOn):
        raise ConfigError(f"train_on: got {train_on!r}, needs {', '.join(get_args(TrainOn))}")
    if train_on == "all":
        return [True] * len(segments)
    last = max((each.response for each in segments if each.response is not None), default=None)
    return [
        each.response is not None and (train_on == "responses" or each.response == last)
        for each in segments
    ]


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
    result = []
    for example in examples:
        parts: list[Tokens] = [np.zeros(0, dtype=np.uint32)]
        for segment in example:
            mark = marks[segment.text] if segment.control else None
            parts.append(next(encoded) if mark is None else np.array([mark], dtype=np.uint32))
        learned = np.array([False, *learned_segments(example, train_on)], dtype=np.uint8)
        mask = np.repeat(learned, [part.size for part in parts])
        result.append(EncodedExample(np.concatenate(parts), mask))
    return result


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
