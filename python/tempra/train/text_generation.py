"""Text from a model, piece by piece as it is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tempra._core import ConfigError
from tempra.data.tokenizer import Tokenizer
from tempra.models import GenerationOptions, Transformer, generate_tokens


def stream_text(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: str,
    options: GenerationOptions | None = None,
    *,
    stop: Sequence[str] = (),
) -> Iterator[str]:
    """Yield the continuation of `prompt` in pieces of whole characters.

    Ends at max_tokens, at the tokenizer's end-of-text token, or before the first of the `stop`
    strings; neither is part of the text. An empty prompt starts from end-of-text, as documents do,
    or where the tokenizer has none from its first token (of characters: the line break, in most
    texts). Raises ConfigError for an empty stop string.
    """
    if any(not text for text in stop):
        raise ConfigError("generate: a stop string is empty; give at least one character")
    chosen = options or GenerationOptions()
    if chosen.end_token is None:
        chosen = replace(chosen, end_token=tokenizer.end_of_text)
    tokens = [int(token) for token in tokenizer.encode(prompt)]
    if not tokens:
        tokens = [0 if tokenizer.end_of_text is None else tokenizer.end_of_text]
    return _until_stop(_pieces(model, tokenizer, tokens, chosen), tuple(stop))


def _pieces(
    model: Transformer, tokenizer: Tokenizer, tokens: list[int], options: GenerationOptions
) -> Iterator[str]:
    stream = tokenizer.stream()
    for token in generate_tokens(model, tokens, options):
        if token >= tokenizer.vocab_size:
            continue  # a padding row of the model's table, which no text has
        if piece := stream.push(token):
            yield piece
    if rest := stream.finish():
        yield rest


def _until_stop(pieces: Iterator[str], stop: tuple[str, ...]) -> Iterator[str]:
    """Pass text on up to a stop string; what could be the start of one is held back."""
    held = ""
    for piece in pieces:
        held += piece
        found = [at for text in stop if (at := held.find(text)) >= 0]
        if found:
            if held[: min(found)]:
                yield held[: min(found)]
            return
        keep = max((_overlap(held, text) for text in stop), default=0)
        ready, held = held[: len(held) - keep], held[len(held) - keep :]
        if ready:
            yield ready
    if held:
        yield held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
