"""Choosing the next token: the quick selection against sorting everything."""

from __future__ import annotations

import numpy as np
import pytest

from tempra import ShapeError
from tempra.models import GenerationOptions
from tempra.models.generation import choose_token


def kept_by_sorting(logits: np.ndarray, options: GenerationOptions) -> dict[int, float]:
    """Every token that may be drawn, with its probability."""
    scores = logits.astype(np.float64) / options.temperature
    order = np.argsort(-scores, kind="stable")
    if options.top_k:
        order = order[: options.top_k]
    chances = np.exp(scores[order] - scores[order[0]])
    chances /= chances.sum()
    if options.top_p < 1.0:
        kept = int(np.searchsorted(np.cumsum(chances), options.top_p)) + 1
        order, chances = order[:kept], chances[:kept] / chances[:kept].sum()
    return dict(zip(order.tolist(), chances.tolist(), strict=True))


@pytest.mark.parametrize("vocabulary", [1, 7, 3000])
@pytest.mark.parametrize("top_k", [0, 1, 5, 5000])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3, 1e-9])
def test_the_tokens_that_sorting_keeps_are_drawn(vocabulary: int, top_k: int, top_p: float) -> None:
    random = np.random.default_rng(vocabulary)
    logits = np.round(random.standard_normal(vocabulary) * 3, 1).astype(np.float32)  # with ties
    options = GenerationOptions(temperature=0.7, top_k=top_k, top_p=top_p)
    expected = kept_by_sorting(logits, options)
    counts = np.zeros(vocabulary)
    draws = 600
    for _ in range(draws):
        counts[choose_token(logits, [], options, random)] += 1
    assert set(np.flatnonzero(counts)) <= set(expected)
    for token, chance in expected.items():
        spread = np.sqrt(chance * (1 - chance) / draws)
        assert abs(counts[token] / draws - chance) <= 6 * spread + 1 / draws


def test_temperature_zero_takes_the_first_of_the_likeliest() -> None:
    options = GenerationOptions(temperature=0.0)
    generator = np.random.default_rng(0)
    logits = np.asarray([1.0, 4.0, 4.0, -np.inf], dtype=np.float32)
    assert choose_token(logits, [], options, generator) == 1
    penalised = GenerationOptions(temperature=0.0, repetition_penalty=2.0)
    assert choose_token(logits, [1, 1], penalised, generator) == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_damaged_logits_are_refused(bad: float, temperature: float) -> None:
    logits = np.asarray([0.0, bad, 1.0], dtype=np.float32)
    with pytest.raises(ShapeError, match="not finite"):
        choose_token(
            logits, [], GenerationOptions(temperature=temperature), np.random.default_rng(0)
        )


def test_nothing_possible_is_refused() -> None:
    logits = np.full(4, -np.inf, dtype=np.float32)
    with pytest.raises(ShapeError, match="not finite"):
        choose_token(logits, [], GenerationOptions(), np.random.default_rng(0))
