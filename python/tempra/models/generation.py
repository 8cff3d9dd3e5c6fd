"""Continuing a sequence of tokens, one at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tempra._core import ConfigError, ShapeError
from tempra.models.kv_cache import KeyValueCache
from tempra.models.transformer import Transformer


@dataclass(frozen=True)
class GenerationOptions:
    """How the next token is chosen. ConfigError for values outside their range.

    temperature: 0 picks the likeliest token; higher is more varied. top_k: only the k likeliest
    (0: all). top_p: only the likeliest tokens that together reach this probability (Holtzman et
    al. 2020). repetition_penalty: divides the odds of tokens seen before, always lowering their
    chance; 1 for none. end_token: stops there, and it is not part of the result.
    """

    max_tokens: int = 256
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0
    end_token: int | None = None

    def __post_init__(self) -> None:
        checks = {
            "max_tokens": (self.max_tokens >= 0, "0 or more"),
            "temperature": (0.0 <= self.temperature < np.inf, "a number, 0 or more"),
            "top_k": (self.top_k >= 0, "0 (all) or more"),
            "top_p": (0.0 < self.top_p <= 1.0, "a number above 0, at most 1"),
            "repetition_penalty": (1.0 <= self.repetition_penalty < np.inf, "1 or more"),
        }
        for name, (valid, needed) in checks.items():
            if not valid:
                raise ConfigError(f"generation: {name} {getattr(self, name)} given; needs {needed}")


def generate_tokens(
    model: Transformer, prompt: Sequence[int], options: GenerationOptions | None = None
) -> Iterator[int]:
    """Yield tokens that continue `prompt`, until max_tokens or the end token.

    Each is a function of the prompt, the options and the weights alone. Past the context the
    older half of the tokens is forgotten. Raises ShapeError for an empty prompt or a token outside
    the vocabulary.
    """
    options = options or GenerationOptions()
    vocabulary = model.config.vocab_size
    if not prompt:
        raise ShapeError("generate: the prompt has no tokens; give at least one")
    outside = [token for token in prompt if not 0 <= token < vocabulary]
    if outside:
        raise ShapeError(f"generate: token {outside[0]} is outside the vocabulary of {vocabulary}")
    return _generate(model, list(prompt), options)


def _generate(model: Transformer, tokens: list[int], options: GenerationOptions) -> Iterator[int]:
    was_training = model.training
    model.eval()
    try:
        cache = KeyValueCache(model)
        generator = np.random.Generator(np.random.Philox(options.seed))
        pending = tokens[-model.config.context :]
        for _ in range(options.max_tokens):
            if cache.length + len(pending) > cache.capacity:
                cache.clear()
                pending = tokens[-max(1, cache.capacity // 2) :]
            logits = cache.next_logits(pending)
            token = choose_token(logits, tokens, options, generator)
            if token == options.end_token:
                return
            tokens.append(token)
            pending = [token]
            yield token
    finally:
        model.train(was_training)


def choose_token(
    logits: NDArray[np.float32],
    seen: Sequence[int],
    options: GenerationOptions,
    generator: np.random.Generator,
) -> int:
    """Return the next token for logits [vocabulary]."""
    if options.temperature == 0.0 and options.repetition_penalty == 1.0:
        return _likeliest(logits)
    scores = logits.astype(np.float64)
    if options.repetition_penalty != 1.0:
        # Dividing the odds lowers the chance whatever the logit's sign; scaling would not.
        known = np.unique(np.asarray(seen, dtype=np.int64))
        scores[known] -= np.log(options.repetition_penalty)
    likeliest = _likeliest(scores)
    if options.temperature == 0.0:
        return likeliest
    odds = np.exp((scores - scores[likeliest]) / options.temperature)
    tokens = np.arange(len(odds))
    if options.top_k:
        tokens = _largest(odds, options.top_k)
    if options.top_p < 1.0:
        tokens = tokens[_reaching(odds[tokens], options.top_p)]
    sums = np.cumsum(odds[tokens])
    drawn = int(np.searchsorted(sums, generator.random() * sums[-1], side="right"))
    return int(tokens[min(drawn, len(tokens) - 1)])


def _likeliest(scores: NDArray[np.floating]) -> int:
    likeliest = int(scores.argmax())  # a NaN counts as the largest
    if not math.isfinite(scores[likeliest]):
        raise ShapeError("generate: the model's output is not finite; its weights may be damaged")
    return likeliest


def _largest(odds: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Return the indices of the `count` largest, falling, equal ones by index."""
    candidates = np.arange(len(odds))
    if count < len(odds):
        candidates = np.flatnonzero(odds >= np.partition(odds, -count)[-count])
    return candidates[np.argsort(-odds[candidates], kind="stable")][:count]


def _reaching(odds: NDArray[np.float64], share: float) -> NDArray[np.intp]:
    """Return the indices of the fewest largest that together reach a share of the sum."""
    wanted, count = share * odds.sum(), 64
    while True:
        tokens = _largest(odds, count)
        sums = np.cumsum(odds[tokens])
        if sums[-1] >= wanted or count >= len(odds):
            return tokens[: int(np.searchsorted(sums, wanted)) + 1]
        count *= 16
