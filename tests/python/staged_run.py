"""A small run of three stages, two of them mixtures, and the text it reads."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tempra.train.metrics import read_metrics

WORDS = (
    *("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven"),
    *("wizards", "mix", "magic", "potions"),
)

CONFIG: dict[str, Any] = {
    "model": {"width": 16, "layers": 1, "heads": 2, "dropout": 0.1},
    "tokenizer": {"kind": "byte"},
    "train": {"batch_size": 2, "block": 24},
    "optimizer": {"lr": 0.01},
    "checkpoint": {"interval": 1, "keep_last": 100, "dir": "whole"},
    "evaluation": {"interval": 4, "batches": 2},
    "logging": {"interval": 3},
    "stages": [
        {
            "name": "pretrain",
            "train": {"steps": 9},
            "data": {
                "sources": [
                    {"name": "web", "train": "web", "weight": 3},
                    {"name": "books", "train": ["books.txt"], "weight": 1, "packing": "concat"},
                ]
            },
        },
        {
            "name": "instruct",
            "train": {"steps": 7, "block": 40, "gradient_accumulation": 2},
            "data": {"train": "chat.jsonl", "order": "shortest_first"},
            "optimizer": {"lr": 0.004},
            "schedule": {"kind": "linear", "warmup_steps": 2},
            "reset_optimizer": True,
        },
        {
            "name": "anneal",
            "train": {"steps": 6},
            "schedule": {"kind": "constant"},
            "data": {
                "temperature": 2,
                "sources": [
                    {"name": "web", "train": "web"},
                    {"name": "chat", "train": "chat.jsonl"},
                ],
            },
        },
    ],
}
STEPS = 9 + 7 + 6


def write_text(folder: Path) -> None:
    """A folder of pages, a book, and a file of conversations."""
    choose = random.Random(0)

    def text(least: int, most: int) -> str:
        return " ".join(choose.choice(WORDS) for _ in range(choose.randint(least, most))) + ".\n"

    (folder / "web").mkdir()
    for number in range(30):
        (folder / f"web/{number}.txt").write_text(text(5, 60))
    (folder / "books.txt").write_text("".join(text(5, 20) for _ in range(40)))
    (folder / "chat.jsonl").write_text(
        "\n".join(
            json.dumps({"prompt": text(1, 3), "completion": text(1, 6).strip()}) for _ in range(60)
        )
    )


def records(folder: Path | str) -> list[dict[str, Any]]:
    """All that metrics.jsonl says, but for how long it took; floats keep every bit."""
    timed = ("tokens_per_second", "gflops_per_second")
    return [
        {name: value for name, value in record.items() if name not in timed}
        for record in read_metrics(Path(folder) / "metrics.jsonl")
    ]
