"""The `model` section of the configuration."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from tempra.models.presets import PRESETS, Family, ModelSizes, default_feed_forward
from tempra.train.config_section import Section, suggestion
from tempra.train.config_values import Count, Fraction, Positive


class ModelConfig(Section):
    """What is trained: a named size (`preset`), or sizes of your own."""

    preset: str | None = Field(
        default=None,
        description="A named size, from nano (3 million parameters) to xxl (1.6 billion), "
        "or gpt2. "
        "Default: nano, unless sizes are given.",
    )
    family: Family | None = Field(
        default=None,
        description="gpt2 (learned positions, LayerNorm) or llama (rotary positions, RMSNorm). "
        "Default: llama.",
    )
    width: Count | None = Field(
        default=None, description="Numbers per token inside the model; a multiple of heads."
    )
    layers: Count | None = Field(
        default=None, description="Transformer blocks stacked on each other."
    )
    heads: Count | None = Field(default=None, description="Attention heads per block.")
    kv_heads: Count | None = Field(
        default=None,
        description="Key/value heads, each shared by heads/kv_heads heads. Default: as many as "
        "heads.",
    )
    context: Count | None = Field(
        default=None,
        description="Longest sequence the model can read, in tokens. Default: train.block.",
    )
    feed_forward: Count | None = Field(
        default=None,
        description="Width of the feed-forward part. Default: 4 x width (gpt2), 8/3 x width "
        "(llama).",
    )
    vocab_size: Count | None = Field(
        default=None,
        description="Rows of the token table. Default: as many as the tokenizer has; more is "
        "allowed.",
    )
    dropout: Fraction = Field(
        default=0.0,
        description="Share of values zeroed while training; helps when a small text is read many "
        "times.",
    )
    tie_embeddings: bool | None = Field(
        default=None,
        description="Use one table for reading and writing tokens. Default: true for gpt2, false "
        "for llama.",
    )
    bias: bool | None = Field(
        default=None, description="Bias terms in linear layers and norms; gpt2 only. Default: true."
    )
    norm_epsilon: Positive | None = Field(
        default=None,
        description="Added to the variance in norms. Default: 1e-5 for gpt2, 1e-6 for llama.",
    )
    rope_theta: Positive | None = Field(
        default=None, description="Base of the rotary position angles; llama only. Default: 10000."
    )

    def resolved_family(self) -> Family:
        """Return the family, by name or by preset."""
        if self.family is not None:
            return self.family
        return PRESETS[self.preset].family if self.preset is not None else "llama"

    def sizes(self, block: int | None = None) -> ModelSizes:
        """Every size filled in; `block` serves as the context where no other is given."""
        if self.preset is not None:
            return PRESETS[self.preset]
        if self.width is None or self.layers is None or self.heads is None:
            return PRESETS["nano"]
        family = self.resolved_family()
        return ModelSizes(
            family=family,
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.kv_heads or self.heads,
            context=self.context or block or 256,
            feed_forward=self.feed_forward or default_feed_forward(family, self.width),
        )

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        self._check_preset()
        self._check_sizes()
        if self.resolved_family() == "gpt2" and self.rope_theta is not None:
            raise ValueError(
                f"model.rope_theta: got {self.rope_theta}, but model.family gpt2 has no rotary "
                "positions; "
                "remove it or use the llama family"
            )
        if self.resolved_family() == "llama" and self.bias:
            raise ValueError(
                "model.bias: got true, but the llama family has no biases; remove it or use gpt2"
            )
        return self

    def _given_sizes(self) -> dict[str, Any]:
        names = ("family", "width", "layers", "heads", "kv_heads", "context", "feed_forward")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _check_preset(self) -> None:
        if self.preset is None:
            given = [name for name in self._given_sizes() if name != "family"]
            missing = [name for name in ("width", "layers", "heads") if getattr(self, name) is None]
            if given and missing:
                names = ", ".join(f"model.{name}" for name in missing)
                raise ValueError(
                    f"model: sizes are given ({', '.join(given)}), so {names} must be given too"
                )
            if self.family == "gpt2" and not given:
                raise ValueError(
                    "model.family: gpt2 needs sizes (model.width, model.layers, model.heads) or "
                    "a preset"
                )
            return
        if self.preset not in PRESETS:
            raise ValueError(
                f"model.preset: got {self.preset!r}, needs one of {', '.join(PRESETS)}"
                + suggestion(self.preset, list(PRESETS))
            )
        for name, value in self._given_sizes().items():
            named = getattr(PRESETS[self.preset], name)
            if named != value:
                raise ValueError(
                    f"model.{name}: got {value}, but model.preset {self.preset} means {named}; "
                    "give one of the two"
                )

    def _check_sizes(self) -> None:
        sizes = self.sizes()
        if sizes.width % sizes.heads != 0:
            raise ValueError(
                f"model.heads: got {sizes.heads}, needs a divisor of model.width ({sizes.width})"
            )
        if sizes.heads % sizes.kv_heads != 0:
            raise ValueError(
                f"model.kv_heads: got {sizes.kv_heads}, needs a divisor of model.heads "
                f"({sizes.heads})"
            )
        if sizes.family == "gpt2" and sizes.kv_heads != sizes.heads:
            raise ValueError(
                f"model.kv_heads: got {sizes.kv_heads}, but the gpt2 family has one per head "
                f"({sizes.heads})"
            )
        head = sizes.width // sizes.heads
        if sizes.family == "llama" and head % 2 != 0:
            raise ValueError(
                f"model.heads: got {sizes.heads} for width {sizes.width}, so a head has {head} "
                "numbers; "
                "rotary positions need an even number"
            )
