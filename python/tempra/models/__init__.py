"""Models: one decoder-only transformer that is GPT-2 or LLaMA by configuration, its named sizes."""

from tempra.models.generation import GenerationOptions, generate_tokens
from tempra.models.kv_cache import KeyValueCache
from tempra.models.presets import PRESETS, ModelSizes
from tempra.models.transformer import Transformer
from tempra.models.transformer_config import TransformerConfig

__all__ = [
    "PRESETS",
    "GenerationOptions",
    "KeyValueCache",
    "ModelSizes",
    "Transformer",
    "TransformerConfig",
    "generate_tokens",
]
