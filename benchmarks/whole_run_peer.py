"""The peer of a whole run: a small character model trained in plain PyTorch, in one process.

nanoGPT's recipe for a laptop, written anew: the text read and cut, AdamW with decay on matrices,
cosine learning rate, clipping, the loss of 20 batches of either part every 250 steps, a checkpoint
whenever that of the validation part is the best so far, the loss of each step printed. Nothing of
Tempra is imported.

    python whole_run_peer.py --text FILE --folder OUT [--dtype bf16] [--compile]
    python whole_run_peer.py --text FILE --folder OUT --judge   # loss over the validation tenth
"""

from __future__ import annotations

import argparse
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

STEPS, WARM_UP, RATE, LEAST_RATE = 2000, 100, 1e-3, 1e-4
BETAS, DECAY, CLIP = (0.9, 0.99), 0.1, 1.0
BATCH, BLOCK, WIDTH, HEADS, LAYERS = 12, 64, 128, 4, 4
EVALUATION_STEPS, EVALUATION_BATCHES = 250, 20


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.feed_forward_norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, block, width = x.shape
        q, k, v = (
            part.view(rows, block, HEADS, width // HEADS).transpose(1, 2)
            for part in self.qkv(self.attention_norm(x)).split(width, dim=2)
        )
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mix(seen.transpose(1, 2).reshape(rows, block, width))
        return x + self.down(functional.gelu(self.up(self.feed_forward_norm(x))))


class CharacterModel(nn.Module):
    """GPT of the recipe's size; returns the mean loss."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, WIDTH)
        self.positions = nn.Embedding(BLOCK, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.final_norm = nn.LayerNorm(WIDTH)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                ends_branch = name.endswith(("mix.weight", "down.weight"))
                std = 0.02 / math.sqrt(2 * LAYERS) if ends_branch else 0.02
                nn.init.normal_(parameter, std=std)

    def forward(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.final_norm(x), self.tokens.weight)
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


def read(text: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the ids of the first nine tenths, those of the rest, and how many there are."""
    characters = text.read_text(encoding="utf-8")
    alphabet = {character: i for i, character in enumerate(sorted(set(characters)))}
    ids = np.array([alphabet[character] for character in characters], dtype=np.uint16)
    cut = int(len(ids) * 0.9)
    return ids[:cut], ids[cut:], len(alphabet)


def draw(ids: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch of windows at random places, and what follows each token."""
    starts = torch.randint(len(ids) - BLOCK, (BATCH,)).tolist()
    window = [torch.from_numpy(ids[i : i + BLOCK + 1].astype(np.int64)) for i in starts]
    both = torch.stack(window)
    return both[:, :-1], both[:, 1:]


def rate_at(step: int) -> float:
    if step < WARM_UP:
        return RATE * (step + 1) / (WARM_UP + 1)
    progress = (step - WARM_UP) / (STEPS - WARM_UP)
    return LEAST_RATE + 0.5 * (1 + math.cos(math.pi * progress)) * (RATE - LEAST_RATE)


def estimate(model: Any, ids: np.ndarray, precision: Any) -> float:
    model.eval()
    losses = []
    for _ in range(EVALUATION_BATCHES):
        with torch.no_grad(), precision():
            losses.append(model(*draw(ids)).item())
    model.train()
    return sum(losses) / len(losses)


def train(options: argparse.Namespace, precision: Any) -> None:
    training, validation, vocabulary = read(options.text)
    plain = CharacterModel(vocabulary)
    matrices = [p for p in plain.parameters() if p.dim() >= 2]
    vectors = [p for p in plain.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, fused=True)
    model: Any = torch.compile(plain) if options.compile else plain
    best = math.inf
    batch = draw(training)
    for step in range(STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step)
        if step % EVALUATION_STEPS == 0:
            now = estimate(model, training, precision), estimate(model, validation, precision)
            print(f"step {step}: train loss {now[0]:.4f}, val loss {now[1]:.4f}")
            if now[1] < best and step:
                best = now[1]
                state = {"model": plain.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save(state, options.folder / "checkpoint.pt")
        if step == STEPS:
            break
        with precision():
            loss = model(*batch)
        batch = draw(training)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        print(f"iter {step}: loss {loss.item():.4f}")
    torch.save(plain.state_dict(), options.folder / "last.pt")


def judge(options: argparse.Namespace, precision: Any) -> float:
    """Return the loss over the validation tenth, every token but the first predicted once."""
    _, ids, vocabulary = read(options.text)
    model = CharacterModel(vocabulary)
    model.load_state_dict(torch.load(options.folder / "last.pt", weights_only=True))
    total = 0.0
    for begin in range(0, len(ids) - 1, BLOCK):
        window = torch.from_numpy(ids[begin : begin + BLOCK + 1].astype(np.int64))[None]
        with torch.no_grad(), precision():
            total += (window.shape[1] - 1) * model(window[:, :-1], window[:, 1:]).item()
    return total / (len(ids) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--judge", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)

    def precision() -> Any:
        if options.dtype == "f32":
            return nullcontext()
        return torch.autocast("cpu", dtype=torch.bfloat16)

    if options.judge:
        print(judge(options, precision))
    else:
        train(options, precision)


if __name__ == "__main__":
    main()
