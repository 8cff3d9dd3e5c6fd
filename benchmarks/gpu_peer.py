"""Time full training steps of GPT-2 124M in PyTorch on this machine's GPU: the numbers to beat.

bf16 autocast over fp32 parameters, fastest attention, clipping, fused AdamW; eager and compiled.
Needs PyTorch with CUDA and nothing of tempra, which may not be installed there. Prints one line of
JSON per mode.

    python benchmarks/gpu_peer.py [--sequences 16] [--steps 20] [--modes eager compile]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional

_VOCABULARY, _CONTEXT, _WIDTH, _HEADS, _LAYERS = 50304, 1024, 768, 12, 12


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.qkv, self.output = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.up, self.down = nn.Linear(_WIDTH, 4 * _WIDTH), nn.Linear(4 * _WIDTH, _WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        q, k, v = (
            part.view(batch, tokens, _HEADS, _WIDTH // _HEADS).transpose(1, 2)
            for part in self.qkv(self.attention_norm(x)).split(_WIDTH, dim=2)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(batch, tokens, _WIDTH))
        hidden = functional.gelu(self.up(self.feed_forward_norm(x)), approximate="tanh")
        return x + self.down(hidden)


class _Gpt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(_VOCABULARY, _WIDTH)
        self.positions = nn.Embedding(_CONTEXT, _WIDTH)
        self.blocks = nn.ModuleList(_Block() for _ in range(_LAYERS))
        self.final_norm = nn.LayerNorm(_WIDTH)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) + self.positions(positions)
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.final_norm(x), self.tokens.weight)
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


def _time_mode(mode: str, sequences: int, steps: int) -> dict[str, object]:
    torch.manual_seed(0)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    model = _Gpt().cuda()
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=1e-4,
        betas=(0.9, 0.95),
        fused=True,
    )
    run = torch.compile(model) if mode == "compile" else model
    shape = (sequences, _CONTEXT)
    tokens = torch.randint(0, _VOCABULARY, shape, device="cuda")
    labels = torch.randint(0, _VOCABULARY, shape, device="cuda")

    def step() -> None:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = run(tokens, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decayed + others, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(5):
        step()
    seconds = []
    for _ in range(5):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        seconds.append((time.perf_counter() - begin) / steps)
    median = statistics.median(seconds)
    return {
        "peer": f"torch {torch.__version__} {mode}",
        "device": torch.cuda.get_device_name(),
        "tokens": sequences * _CONTEXT,
        "step_milliseconds": round(median * 1e3, 3),
        "spread": round((max(seconds) - min(seconds)) / median, 3),
        "tokens_per_second": round(sequences * _CONTEXT / median),
        "peak_bytes": torch.cuda.max_memory_allocated(),
    }


def _matrix_peak() -> dict[str, object]:
    """Measure the rate of one large bf16 product, the ceiling for everything else."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(20):
        a @ b
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - begin) / 20
    return {"matrix_peak_tflops": round(2 * 8192**3 / seconds * 1e-12, 1)}


def main() -> int:
    """Time the modes asked for; 77 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "--modes", nargs="+", choices=("eager", "compile"), default=["eager", "compile"]
    )
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("SKIPPED: PyTorch sees no GPU", file=sys.stderr)
        return 77
    print(json.dumps(_matrix_peak()), flush=True)
    for mode in given.modes:
        print(json.dumps(_time_mode(mode, given.sequences, given.steps)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
