"""Named model sizes: the one place that knows them, for configuration and models alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Family = Literal["gpt2", "llama"]


@dataclass(frozen=True)
class ModelSizes:
    """The sizes that decide a transformer's parameter shapes, its vocabulary apart."""

    family: Family
    width: int
    layers: int
    heads: int
    kv_heads: int
    context: int
    feed_forward: int


def default_feed_forward(family: Family, width: int) -> int:
    """GPT-2: four times the width. LLaMA: 8/3 of the width, rounded up to a multiple of 64."""
    if family == "gpt2":
        return 4 * width
    return (8 * width + 3 * 64 - 1) // (3 * 64) * 64


def _llama(width: int, layers: int, heads: int, kv_heads: int, context: int) -> ModelSizes:
    feed_forward = default_feed_forward("llama", width)
    return ModelSizes("llama", width, layers, heads, kv_heads, context, feed_forward)


def _gpt2(width: int, layers: int, heads: int, context: int) -> ModelSizes:
    feed_forward = default_feed_forward("gpt2", width)
    return ModelSizes("gpt2", width, layers, heads, heads, context, feed_forward)


PRESETS: dict[str, ModelSizes] = {
    "nano": _llama(128, 4, 4, 2, 256),
    "micro": _llama(192, 4, 4, 2, 384),
    "tiny": _llama(256, 6, 8, 4, 512),
    "mini": _llama(384, 6, 6, 3, 512),
    "small": _llama(512, 8, 8, 4, 1024),
    "medium": _llama(768, 12, 12, 4, 2048),
    "base": _llama(896, 14, 14, 2, 2048),
    "large": _llama(1024, 16, 16, 4, 4096),
    "xl": _llama(1536, 24, 24, 6, 4096),
    "xxl": _llama(2048, 32, 32, 8, 8192),
    "gpt2": _gpt2(768, 12, 12, 1024),
    "gpt2-medium": _gpt2(1024, 24, 16, 1024),
    "gpt2-large": _gpt2(1280, 36, 20, 1024),
    "gpt2-xl": _gpt2(1600, 48, 25, 1024),
    # The reference configurations that every speed and memory number is quoted for.
    "ref-nano": _gpt2(128, 4, 4, 64),
    "ref-baby": _gpt2(384, 6, 6, 256),
    "ref-mid": _gpt2(512, 8, 8, 512),
    "ref-gpt2": _gpt2(768, 12, 12, 1024),
}
