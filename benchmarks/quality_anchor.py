"""Does the recipe reach the loss it should? nanoGPT's small character model, ours and PyTorch's,
seed by seed, judged by the loss over the whole validation tenth.

python benchmarks/quality_anchor.py --text tinyshakespeare.txt --seeds 1 2 3
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from harness import add_dtypes_argument, append_rows, print_table
from tempra.benchmark.machine import identity
from tempra.benchmark.reference_configs import REFERENCE_CONFIGS

# nanoGPT's CPU recipe (train_shakespeare_char.py with the README's arguments for a laptop).
STEPS, WARM_UP, RATE, LEAST_RATE, BETAS, DECAY = 2000, 100, 1e-3, 1e-4, (0.9, 0.99), 0.1
BATCH, BLOCK = 12, 64
NANOGPT_LOSS = 1.89  # design, section 9: mean of 3 seeds of the original program


def our_config(text: Path, seed: int, dtype: str) -> dict[str, Any]:
    return {
        "model": {"preset": "ref-nano"},
        "data": {"train": [str(text)], "mode": "random", "validation_fraction": 0.1},
        "tokenizer": {"kind": "char"},
        "train": {
            "steps": STEPS,
            "batch_size": BATCH,
            "block": BLOCK,
            "seed": seed,
            "dtype": "fp32" if dtype == "f32" else dtype,
        },
        "optimizer": {
            "lr": RATE,
            "min_lr": LEAST_RATE,
            "betas": list(BETAS),
            "weight_decay": DECAY,
        },
        "schedule": {"warmup_steps": WARM_UP},
        "evaluation": {"interval": STEPS, "sample_tokens": 0},
    }


def run_ours(text: Path, seed: int, dtype: str, folder: Path) -> float:
    """Train with the command a user types and return the validation loss it wrote down."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(our_config(text, seed, dtype)))
    command = [sys.executable, "-m", "tempra", "train", "run", "--config", str(config)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr or done.stdout)
    metrics = next(folder.glob("runs/*/metrics.jsonl")).read_text().splitlines()
    rows = [row for row in map(json.loads, metrics) if row["kind"] == "validation"]
    return float(rows[-1]["loss"])


def run_peer(text: Path, seed: int, dtype: str) -> float:
    """Return the loss of the same recipe on the plain PyTorch model; runs in its own process."""
    import torch

    from tempra.benchmark.torch_trainer import TorchTrainer

    characters = text.read_text(encoding="utf-8")
    alphabet = {character: i for i, character in enumerate(sorted(set(characters)))}
    ids = np.array([alphabet[character] for character in characters], dtype=np.int64)
    cut = int(len(ids) * 0.9)
    train, validation = ids[:cut], ids[cut:]
    config = REFERENCE_CONFIGS["ref-nano"].transformer(dtype)
    trainer = TorchTrainer(config, compiled=False, threads=os.cpu_count() or 1)
    torch.manual_seed(seed)
    trainer.model.apply(trainer.model.initialize)
    for name, parameter in trainer.model.named_parameters():
        if name.endswith(("output.weight", "down.weight")):
            torch.nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.layers))
    for group in trainer.optimizer.param_groups:
        group["betas"] = BETAS
    random = np.random.default_rng(seed)
    for step in range(STEPS):
        if step < WARM_UP:
            rate = RATE * (step + 1) / (WARM_UP + 1)
        else:
            progress = (step - WARM_UP) / (STEPS - WARM_UP)
            rate = LEAST_RATE + 0.5 * (1 + math.cos(math.pi * progress)) * (RATE - LEAST_RATE)
        for group in trainer.optimizer.param_groups:
            group["lr"] = rate
        starts = random.integers(0, len(train) - BLOCK, BATCH)
        windows = train[starts[:, None] + np.arange(BLOCK + 1)]
        trainer.step(windows[:, :-1].copy(), windows[:, 1:].copy())
    # Windows side by side, every token but the first predicted once.
    total = 0.0
    with torch.no_grad():
        for begin in range(0, len(validation) - 1, BLOCK):
            window = torch.from_numpy(validation[begin : begin + BLOCK + 1])[None]
            terms = window.shape[1] - 1
            total += terms * float(trainer.model(window[:, :-1], window[:, 1:]))
    return total / (len(validation) - 1)


def measure(library: str, text: Path, seed: int, dtype: str) -> dict[str, Any]:
    """Return one run's loss, wall seconds with start-up, and peak memory of its process."""
    folder = Path(tempfile.mkdtemp(prefix="tempra-anchor-"))
    started = time.perf_counter()
    try:
        if library == "tempra":
            loss = run_ours(text, seed, dtype, folder)
        else:
            command = [sys.executable, __file__, "--text", str(text), "--dtypes", dtype]
            done = subprocess.run(
                [*command, "--peer-seed", str(seed)], capture_output=True, text=True, check=True
            )
            loss = float(done.stdout.split()[-1])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"loss": loss, "seconds": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="Tiny Shakespeare, one file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add_dtypes_argument(parser)
    parser.add_argument("--no-peer", action="store_true", help="leave PyTorch out")
    parser.add_argument("--peer-seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    text = options.text.resolve()
    if options.peer_seed is not None:
        print(run_peer(text, options.peer_seed, options.dtypes[0]))
        return
    peer = importlib.util.find_spec("torch") is not None and not options.no_peer
    rows = []
    for dtype in options.dtypes:
        libraries = ["tempra", *(["torch-eager"] if peer else [])]
        runs: dict[str, list[dict[str, Any]]] = {library: [] for library in libraries}
        for seed in options.seeds:
            for library in libraries:
                runs[library].append(measure(library, text, seed, dtype))
                print(f"{library} {dtype} seed {seed}: {runs[library][-1]}", flush=True)
        for library, results in runs.items():
            losses = [result["loss"] for result in results]
            rows.append(
                {
                    "case": f"quality_anchor/{dtype}",
                    "library": library,
                    "loss": statistics.mean(losses),
                    "losses": losses,
                    "above_nanogpt": statistics.mean(losses) - NANOGPT_LOSS,
                    "seconds": statistics.median(result["seconds"] for result in results),
                    **identity(os.cpu_count() or 1),
                }
            )
    for row in rows:
        row["loss_text"] = f"{row['loss']:.4f} ({row['above_nanogpt']:+.4f})"
    columns = {"case": "case", "library": "library", "loss_text": "mean loss (nanoGPT)"}
    print_table(rows, {**columns, "seconds": "seconds a run"})
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
