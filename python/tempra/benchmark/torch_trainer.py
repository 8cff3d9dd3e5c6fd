"""The peer: GPT and LLaMA in plain PyTorch, as its users write it, with its fused operations.

The one module of the package that imports PyTorch; a process of its own does, when asked to.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:  # nothing of ours is to count as PyTorch's memory
    from tempra.benchmark.tempra_trainer import TokenArray
    from tempra.models import TransformerConfig


class Attention(nn.Module):
    """Causal attention of many heads, by the library's fused kernel."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.output = nn.Linear(config.width, config.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return an array of the shape of `x`, [batch, tokens, width]."""
        batch, tokens, width = x.shape
        q, k, v = (
            part.view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(x).split(width, dim=2)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.output(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """Attention and feed-forward layer, each behind a norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.feed_forward)
        self.down = nn.Linear(config.feed_forward, config.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return an array of the shape of `x`, [batch, tokens, width]."""
        x = x + self.attention(self.attention_norm(x))
        hidden = functional.gelu(self.up(self.feed_forward_norm(x)), approximate="tanh")
        return x + self.down(hidden)


class Gpt(nn.Module):
    """Pre-norm GPT with learned positions and a tied head; returns the mean loss."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.width)
        self.apply(self.initialize)
        for name, parameter in self.named_parameters():
            if name.endswith(("output.weight", "down.weight")):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.layers))

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Draw weights as GPT-2 does."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def forward(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean loss; both are [batch, tokens]."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) + self.positions(positions)
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.final_norm(x), self.tokens.weight)
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


def rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Return [batch, heads, tokens, head_dim] with rotary positions, halves as pairs."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine.to(x.dtype) + torch.cat((-second, first), dim=-1) * sine.to(x.dtype)


class GroupedAttention(nn.Module):
    """Causal attention with rotary positions, several heads to a key and value head."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.sizes = (config.heads, config.kv_heads, config.kv_heads)
        self.head_dim = config.width // config.heads
        self.qkv = nn.Linear(config.width, sum(self.sizes) * self.head_dim, bias=False)
        self.output = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
        """Return an array of the shape of `x`, [batch, tokens, width]."""
        batch, tokens, width = x.shape
        heads = self.qkv(x).view(batch, tokens, -1, self.head_dim).transpose(1, 2)
        q, k, v = heads.split(self.sizes, dim=1)
        mixed = functional.scaled_dot_product_attention(
            rotate(q, cosine, sine), rotate(k, cosine, sine), v, is_causal=True, enable_gqa=True
        )
        return self.output(mixed.transpose(1, 2).reshape(batch, tokens, width))


class LlamaBlock(nn.Module):
    """Grouped attention and a SwiGLU feed-forward layer, each behind a norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width, eps=config.norm_epsilon)
        self.attention = GroupedAttention(config)
        self.feed_forward_norm = nn.RMSNorm(config.width, eps=config.norm_epsilon)
        self.gate_up = nn.Linear(config.width, 2 * config.feed_forward, bias=False)
        self.down = nn.Linear(config.feed_forward, config.width, bias=False)

    def forward(self, x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
        """Return an array of the shape of `x`, [batch, tokens, width]."""
        x = x + self.attention(self.attention_norm(x), cosine, sine)
        gate, up = self.gate_up(self.feed_forward_norm(x)).chunk(2, dim=-1)
        return x + self.down(functional.silu(gate) * up)


class Llama(nn.Module):
    """Pre-norm LLaMA; returns the mean loss."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.blocks = nn.ModuleList(LlamaBlock(config) for _ in range(config.layers))
        self.final_norm = nn.RMSNorm(config.width, eps=config.norm_epsilon)
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.tokens.weight
        head_dim = config.width // config.heads
        half = torch.arange(0, head_dim, 2) / head_dim
        angles = torch.outer(torch.arange(config.context), config.rope_theta**-half)
        self.register_buffer("cosine", torch.cat((angles, angles), dim=1).cos())
        self.register_buffer("sine", torch.cat((angles, angles), dim=1).sin())
        for parameter in self.parameters():
            if parameter.dim() >= 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean loss; both are [batch, tokens]."""
        x = self.tokens(tokens)
        cosine, sine = self.cosine[: tokens.shape[1]], self.sine[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, cosine, sine)
        logits = self.head(self.final_norm(x))
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


class TorchTrainer:
    """Full training steps: forward, backward, clip, AdamW."""

    def __init__(
        self, config: TransformerConfig, *, compiled: bool, threads: int, device: str = "cpu"
    ) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.device = device
        with torch.device(device):
            self.model: Any = Gpt(config) if config.family == "gpt2" else Llama(config)
        decayed = [p for p in self.model.parameters() if p.dim() >= 2]
        others = [p for p in self.model.parameters() if p.dim() < 2]
        self.parameters = decayed + others
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
            lr=1e-3,
            betas=(0.9, 0.95),
            fused=True,
        )
        self.bf16 = config.dtype == "bf16"
        if compiled:
            self.model = torch.compile(self.model)

    def step(self, tokens: TokenArray, labels: TokenArray) -> float:
        """Train on rows of tokens and what follows each; return the mean loss."""
        loss = self.run(torch.from_numpy(tokens).long(), torch.from_numpy(labels).long())
        return float(loss)

    def run(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Do the same with tensors on the model's device, without waiting for it."""
        context = torch.autocast(self.device, dtype=torch.bfloat16) if self.bf16 else nullcontext()
        with context:
            loss = self.model(tokens, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()
