"""What decides a transformer: sizes, family, options; and what follows from them by arithmetic."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tempra.models.presets import PRESETS, Family, default_feed_forward


class TransformerConfig(BaseModel):
    """A decoder-only transformer, GPT-2 or LLaMA by `family`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    family: Family
    vocab_size: int = Field(gt=0)
    width: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    context: int = Field(gt=0)
    feed_forward: int = Field(gt=0)
    tie_embeddings: bool = True
    bias: bool = True  # in linear layers and norms; gpt2 only
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    norm_epsilon: float = Field(default=1e-5, gt=0.0)
    rope_theta: float = Field(default=10000.0, gt=0.0)
    dtype: str = Field(default="f32", pattern="^(f32|bf16|f16)$")  # of activations

    @model_validator(mode="after")
    def _consistent(self) -> TransformerConfig:
        if self.width % self.heads != 0:
            raise ValueError(f"heads: got {self.heads}, needs a divisor of width ({self.width})")
        if self.heads % self.kv_heads != 0:
            raise ValueError(
                f"kv_heads: got {self.kv_heads}, needs a divisor of heads ({self.heads})"
            )
        if self.family == "llama" and self.bias:
            raise ValueError("bias: got true, but the llama family has no biases")
        if self.family == "llama" and self.head_dim % 2 != 0:
            raise ValueError(
                f"heads: a head has {self.head_dim} numbers; rotary positions need an even number"
            )
        return self

    @classmethod
    def from_preset(cls, name: str, vocab_size: int, **options: Any) -> TransformerConfig:
        """Return a named size (see `tempra.models.PRESETS`) with the family's usual options."""
        sizes = PRESETS[name]
        return cls.for_family(
            sizes.family,
            vocab_size=vocab_size,
            width=sizes.width,
            layers=sizes.layers,
            heads=sizes.heads,
            kv_heads=sizes.kv_heads,
            context=sizes.context,
            feed_forward=sizes.feed_forward,
            **options,
        )

    @classmethod
    def for_family(cls, family: Family, **options: Any) -> TransformerConfig:
        """Return a configuration with what is usual in the family where nothing is said."""
        usual: dict[str, Any]
        if family == "gpt2":
            usual = {"tie_embeddings": True, "bias": True, "norm_epsilon": 1e-5}
        else:
            usual = {"tie_embeddings": False, "bias": False, "norm_epsilon": 1e-6}
        usual["kv_heads"] = options.get("heads")
        usual["feed_forward"] = default_feed_forward(family, options.get("width", 0))
        return cls(family=family, **{**usual, **options})

    @property
    def head_dim(self) -> int:
        """Numbers in one head."""
        return self.width // self.heads

    def matrix_parameter_count(self) -> int:
        """Parameters used in matrix products, the head counted once; tables of vectors are not."""
        attention = self.width * (2 * self.width + 2 * self.kv_heads * self.head_dim)
        matrices = 2 if self.family == "gpt2" else 3
        return (
            self.layers * (attention + matrices * self.width * self.feed_forward)
            + self.vocab_size * self.width
        )

    def parameter_count(self) -> int:
        """All parameters, a tied table counted once."""
        count = self.matrix_parameter_count()
        if not self.tie_embeddings:
            count += self.vocab_size * self.width
        norm = self.width * (2 if self.bias else 1)
        count += (2 * self.layers + 1) * norm
        if self.family == "gpt2":
            count += self.context * self.width
        if self.bias:
            per_layer = 2 * self.width + 2 * self.kv_heads * self.head_dim
            count += self.layers * (per_layer + self.feed_forward + self.width)
        return count

    def flops_per_token(self, block: int | None = None) -> int:
        """Floating-point operations of a training step, forward and backward, per token.

        6 per parameter in matrix products, and 6 * layers * width * block for causal attention
        (half of the square), as PaLM counts (Chowdhery et al. 2022, appendix B).
        """
        length = self.context if block is None else block
        return 6 * self.matrix_parameter_count() + 6 * self.layers * self.width * length

    def kv_cache_bytes(self, tokens: int | None = None, batch: int = 1) -> int:
        """Bytes of keys and values of `tokens` (default: the whole context) in all layers."""
        length = self.context if tokens is None else tokens
        element = 4 if self.dtype == "f32" else 2
        return 2 * self.layers * batch * length * self.kv_heads * self.head_dim * element
