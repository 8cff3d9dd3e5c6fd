"""Text from a model, piece by piece as it is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

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
    chosen = options or GenerationOptions()
    end = tokenizer.end_of_text if chosen.end_token is None else chosen.end_token
    tokens = [int(token) for token in tokenizer.encode(prompt)]
    if not tokens:
        tokens = [0 if tokenizer.end_of_text is None else tokenizer.end_of_text]
    ends = set() if end is None else {end}
    return stream_tokens(model, tokenizer, tokens, chosen, end_tokens=ends, stop=stop)


def stream_tokens(
    model: Transformer,
    tokenizer: Tokenizer,
    tokens: Sequence[int],
    options: GenerationOptions,
    *,
    end_tokens: Collection[int] = (),
    stop: Sequence[str] = (),
    on_end: Callable[[], None] = lambda: None,
) -> Iterator[str]:
    """Yield the continuation of tokens in pieces of whole characters.

    Ends at max_tokens, at any of the end tokens, or before the first of the `stop` strings; of the
    latter two, `on_end` hears. Raises ConfigError for an empty stop string.
    """
    if any(not text for text in stop):
        raise ConfigError("generate: a stop string is empty; give at least one character")
    pieces = _pieces(model, tokenizer, list(tokens), options, frozenset(end_tokens), on_end)
    return _until_stop(pieces, tuple(stop), on_end)


def _pieces(
    model: Transformer,
    tokenizer: Tokenizer,
    tokens: list[int],
    options: GenerationOptions,
    end_tokens: frozenset[int],
    on_end: Callable[[], None],
) -> Iterator[str]:
    stream = tokenizer.stream()
    for token in generate_tokens(model, tokens, options):
        if token in end_tokens:
            on_end()
            break
        if token >= tokenizer.vocab_size:
            continue  # a padding row of the model's table, which no text has
        if piece := stream.push(token):
            yield piece
    if rest := stream.finish():
        yield rest


def _until_stop(
    pieces: Iterator[str], stop: tuple[str, ...], on_end: Callable[[], None]
) -> Iterator[str]:
    """Pass text on up to a stop string; what could be the start of one is held back."""
    held = ""
    for piece in pieces:
        held += piece
        found = [at for text in stop if (at := held.find(text)) >= 0]
        if found:
            if held[: min(found)]:
                yield held[: min(found)]
            on_end()
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
