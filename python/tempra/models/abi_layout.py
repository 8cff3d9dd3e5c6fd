"""Where the weights of a LLaMA-like model lie in the flat arrays of the ABI program.

The arrays say neither names nor shapes: embedding, layer by layer, final norm, and the output
projection where it is not the embedding; matrices are rows of [outputs][inputs], as Hugging Face's
files have them, and rotary pairs are the two halves of a head, as there.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from tempra._core import ConfigError, FormatError
from tempra.models.transformer_config import TransformerConfig

Floats = NDArray[np.float32]


def abi_layout(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight by Hugging Face's name, in the order of the flat array."""
    if config.family != "llama":
        raise ConfigError(f"family: got {config.family}, but ABI's models are llama")
    width, wide = config.width, config.feed_forward
    keys = config.kv_heads * config.head_dim
    layout: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, width)}
    for layer in range(config.layers):
        layout |= {
            f"model.layers.{layer}.{name}.weight": shape
            for name, shape in (
                ("self_attn.q_proj", (width, width)),
                ("self_attn.k_proj", (keys, width)),
                ("self_attn.v_proj", (keys, width)),
                ("self_attn.o_proj", (width, width)),
                ("input_layernorm", (width,)),
                ("mlp.gate_proj", (wide, width)),
                ("mlp.up_proj", (wide, width)),
                ("mlp.down_proj", (width, wide)),
                ("post_attention_layernorm", (width,)),
            )
        }
    layout["model.norm.weight"] = (width,)
    if not config.tie_embeddings:
        layout["lm_head.weight"] = (config.vocab_size, width)
    return layout


def abi_parameter_count(config: TransformerConfig) -> int:
    """Return how many numbers the flat array of a model has."""
    return sum(prod(shape) for shape in abi_layout(config).values())


def check_abi_count(config: TransformerConfig, count: int, what: str) -> None:
    """Raise `FormatError` (ConfigMismatch) unless a model of these sizes has so many numbers."""
    needed = abi_parameter_count(config)
    if count == needed:
        return
    tied = "tied" if config.tie_embeddings else "not tied"
    message = (
        f"{what}: got {count:,}, but vocabulary {config.vocab_size}, width {config.width}, "
        f"{config.layers} layers, {config.heads} heads, {config.kv_heads} key/value heads and "
        f"feed-forward {config.feed_forward} with an embedding that is {tied} to the output need "
        f"{needed:,}"
    )
    other = config.model_copy(update={"tie_embeddings": not config.tie_embeddings})
    if abi_parameter_count(other) == count:
        message += f"; it fits if the embedding is {'not ' * config.tie_embeddings}tied"
    raise FormatError(f"ConfigMismatch: {message}")


def named_weights(config: TransformerConfig, flat: Floats) -> dict[str, Floats]:
    """Cut a flat array into views by name; raises `FormatError` where its size is not right."""
    check_abi_count(config, flat.size, "weights")
    named, start = {}, 0
    for name, shape in abi_layout(config).items():
        size = prod(shape)
        named[name] = flat[start : start + size].reshape(shape)
        start += size
    return named
