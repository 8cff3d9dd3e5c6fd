"""The transformer in PyTorch, from our parameters by name: the oracle of loss traces."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from tempra.models import Transformer, TransformerConfig


def torch_parameters(model: Transformer) -> dict[str, torch.nn.Parameter]:
    """Copy the parameters of a model."""
    return {
        name: torch.nn.Parameter(torch.from_numpy(tensor.detach().numpy().copy()))
        for name, tensor in model.named_parameters()
    }


def _norm(config: TransformerConfig, x: torch.Tensor, p: dict[str, Any], name: str) -> torch.Tensor:
    if config.family == "gpt2":
        bias = p.get(f"{name}.bias")
        return functional.layer_norm(
            x, (config.width,), p[f"{name}.weight"], bias, config.norm_epsilon
        )
    return functional.rms_norm(x, (config.width,), p[f"{name}.weight"], config.norm_epsilon)


def _rotate(config: TransformerConfig, x: torch.Tensor) -> torch.Tensor:
    """x [batch, heads, tokens, head_dim]."""
    half = config.head_dim // 2
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
    positions = torch.arange(x.shape[2], dtype=torch.float64)
    angles = torch.outer(positions, config.rope_theta**-exponents)
    cosine, sine = angles.cos().float(), angles.sin().float()
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def _attention(
    config: TransformerConfig, x: torch.Tensor, p: dict[str, Any], block: str
) -> torch.Tensor:
    batch, tokens, width = x.shape
    heads = []
    for part, count in (("q", config.heads), ("k", config.kv_heads), ("v", config.kv_heads)):
        name = f"{block}.attention.qkv.{part}"
        mapped = functional.linear(x, p[f"{name}_weight"], p.get(f"{name}_bias"))
        heads.append(mapped.view(batch, tokens, count, config.head_dim).transpose(1, 2))
    q, k, v = heads
    if config.family == "llama":
        q, k = _rotate(config, q), _rotate(config, k)
    mixed = functional.scaled_dot_product_attention(
        q, k, v, is_causal=True, enable_gqa=config.heads != config.kv_heads
    )
    mixed = mixed.transpose(1, 2).reshape(batch, tokens, width)
    name = f"{block}.attention.output"
    return functional.linear(mixed, p[f"{name}.weight"], p.get(f"{name}.bias"))


def _feed_forward(
    config: TransformerConfig, x: torch.Tensor, p: dict[str, Any], block: str
) -> torch.Tensor:
    name = f"{block}.feed_forward"
    if config.family == "gpt2":
        hidden = functional.linear(x, p[f"{name}.up.weight"], p.get(f"{name}.up.bias"))
        hidden = functional.gelu(hidden, approximate="tanh")
    else:
        gate = functional.linear(x, p[f"{name}.gate_up.gate_weight"])
        hidden = functional.silu(gate) * functional.linear(x, p[f"{name}.gate_up.up_weight"])
    return functional.linear(hidden, p[f"{name}.down.weight"], p.get(f"{name}.down.bias"))


def torch_loss(
    config: TransformerConfig, p: dict[str, Any], tokens: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Mean loss of tokens and labels [batch, tokens]."""
    x = functional.embedding(tokens, p["token_embedding.weight"])
    if config.family == "gpt2":
        x = x + p["position_embedding.weight"][: tokens.shape[1]]
    for layer in range(config.layers):
        block = f"blocks.{layer}"
        x = x + _attention(config, _norm(config, x, p, f"{block}.attention_norm"), p, block)
        x = x + _feed_forward(config, _norm(config, x, p, f"{block}.feed_forward_norm"), p, block)
    x = _norm(config, x, p, "final_norm")
    head = p["token_embedding.weight"] if config.tie_embeddings else p["head.weight"]
    logits = functional.linear(x, head).float()
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
