"""The configurations that every speed and memory number is quoted for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from tempra.models import TransformerConfig


@dataclass(frozen=True)
class TrainingCase:
    """A model and a batch to train it on; `name` is what rows of results call it."""

    name: str
    transformer: TransformerConfig
    batch: int

    def with_batch(self, batch: int | None) -> TrainingCase:
        """Return the case with so many rows; with its own for None."""
        return self if batch is None else replace(self, batch=batch)

    @property
    def tokens(self) -> int:
        """Tokens of one step."""
        return self.batch * self.transformer.context

    @property
    def step_flops(self) -> float:
        """Floating-point operations of one step, as `TransformerConfig.flops_per_token` counts."""
        return float(self.transformer.flops_per_token() * self.tokens)

    def to_json(self) -> str:
        """Return the case as text that `from_json` reads, for another process."""
        fields = self.transformer.model_dump()
        return json.dumps({"name": self.name, "transformer": fields, "batch": self.batch})

    @classmethod
    def from_json(cls, text: str) -> TrainingCase:
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        return cls(fields["name"], TransformerConfig(**fields["transformer"]), fields["batch"])


@dataclass(frozen=True)
class ReferenceConfig:
    """A GPT with pre-LayerNorm, learned positions, tanh GELU and a tied head, and its batch."""

    name: str
    vocabulary: int
    batch: int

    def transformer(self, dtype: str) -> TransformerConfig:
        """Return the model's configuration."""
        return TransformerConfig.from_preset(self.name, self.vocabulary, dtype=dtype)

    def case(self, dtype: str) -> TrainingCase:
        """Return what a training benchmark measures."""
        return TrainingCase(f"train/{self.name}/{dtype}", self.transformer(dtype), self.batch)


REFERENCE_CONFIGS = {
    config.name: config
    for config in (
        ReferenceConfig("ref-nano", 65, 12),
        ReferenceConfig("ref-baby", 65, 64),
        ReferenceConfig("ref-mid", 8192, 4),
        ReferenceConfig("ref-gpt2", 50304, 1),
    )
}


@dataclass(frozen=True)
class LlamaConfig:
    """A LLaMA of the sizes of a reference configuration, with fewer key and value heads."""

    name: str
    counterpart: str
    kv_heads: int

    def case(self, dtype: str) -> TrainingCase:
        """Return what a training benchmark measures."""
        reference = REFERENCE_CONFIGS[self.counterpart]
        sizes = reference.transformer(dtype)
        transformer = TransformerConfig.for_family(
            "llama",
            vocab_size=reference.vocabulary,
            width=sizes.width,
            layers=sizes.layers,
            heads=sizes.heads,
            kv_heads=self.kv_heads,
            context=sizes.context,
            dtype=dtype,
        )
        return TrainingCase(f"train/{self.name}/{dtype}", transformer, reference.batch)


LLAMA_CONFIGS = {
    config.name: config
    for config in (
        LlamaConfig("llama-nano", "ref-nano", 2),
        LlamaConfig("llama-baby", "ref-baby", 2),
        LlamaConfig("llama-mid", "ref-mid", 4),
    )
}


def _gpt2_124m(dtype: str) -> TrainingCase:
    return replace(
        REFERENCE_CONFIGS["ref-gpt2"].case(dtype), name=f"train/gpt2-124m/{dtype}", batch=64
    )


def _llama_1b(dtype: str) -> TrainingCase:
    """Return 1.1 billion parameters in the sizes of LLaMA 3.2 1B, with 32,000 tokens."""
    transformer = TransformerConfig.for_family(
        "llama",
        vocab_size=32000,
        width=2048,
        layers=16,
        heads=32,
        kv_heads=8,
        feed_forward=8192,
        context=4096,
        dtype=dtype,
    )
    return TrainingCase(f"train/llama-1b/{dtype}", transformer, batch=4)


# Of the size that a GPU is busy with.
GPU_CASES: dict[str, Callable[[str], TrainingCase]] = {
    "gpt2-124m": _gpt2_124m,
    "llama-1b": _llama_1b,
}

# By name, for a dtype.
ALL_CASES: dict[str, Callable[[str], TrainingCase]] = {
    **{name: config.case for name, config in REFERENCE_CONFIGS.items()},
    **{name: config.case for name, config in LLAMA_CONFIGS.items()},
    **GPU_CASES,
}
