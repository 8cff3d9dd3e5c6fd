"""The configurations that every speed and memory number is quoted for."""

from __future__ import annotations

from dataclasses import dataclass

from tempra.models import TransformerConfig


@dataclass(frozen=True)
class ReferenceConfig:
    """A GPT with pre-LayerNorm, learned positions, tanh GELU and a tied head, and its batch."""

    name: str
    vocabulary: int
    batch: int

    def transformer(self, dtype: str) -> TransformerConfig:
        return TransformerConfig.from_preset(self.name, self.vocabulary, dtype=dtype)


REFERENCE_CONFIGS = {
    config.name: config
    for config in (
        ReferenceConfig("ref-nano", 65, 12),
        ReferenceConfig("ref-baby", 65, 64),
        ReferenceConfig("ref-mid", 8192, 4),
        ReferenceConfig("ref-gpt2", 50304, 1),
    )
}
