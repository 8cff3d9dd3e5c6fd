"""Small models, batches and runs for tests of training on a CUDA device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tempra
from tempra import _core
from tempra.data import Batch
from tempra.models import Transformer, TransformerConfig
from tempra.optim.adamw import AdamW
from tempra.train.metrics import read_metrics
from tempra.train.objective import DeferredAutoregressiveObjective
from tempra.train.train_step import StepResult, train_step

CONTEXT, VOCABULARY = 16, 67


def small_model(family: str, dtype: str, device: str, dropout: float = 0.0) -> Transformer:
    options: dict[str, Any] = {"vocab_size": VOCABULARY, "width": 48, "layers": 2, "dtype": dtype}
    heads = {"heads": 4} if family == "gpt2" else {"heads": 6, "kv_heads": 2}
    config = TransformerConfig.for_family(
        family, context=CONTEXT, dropout=dropout, **heads, **options
    )
    model = Transformer(config, seed=3)
    model.to(device)
    return model


def packed_batches(count: int) -> list[Batch]:
    """Sequences of unequal lengths laid end to end; some labels are not trained."""
    random = np.random.default_rng(5)
    result = []
    for _ in range(count):
        lengths = random.integers(1, CONTEXT + 1, 4)
        tokens = random.integers(0, VOCABULARY, lengths.sum()).astype(np.int32)
        labels = np.where(random.random(tokens.size) < 0.1, -100, np.roll(tokens, -1))
        result.append(
            Batch(
                tokens=tokens,
                labels=labels.astype(np.int32),
                offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
                positions=np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
                valid_tokens=int((labels >= 0).sum()),
            )
        )
    return result


class Run:
    """A model, its optimizer and steps as the trainer makes them, by `step_function`."""

    def __init__(
        self, model: Transformer, step_function: Callable[..., StepResult] = train_step
    ) -> None:
        half = model.device != "cpu" and model.config.dtype != "f32"
        self.optimizer = AdamW(
            model.named_parameters(),
            weight_decay=0.1,
            low_precision=model.config.dtype if half else None,
            scale_losses=model.config.dtype == "f16",
        )
        self.objective = DeferredAutoregressiveObjective(model)
        self.generator = _core.default_generator()
        self.step_function = step_function
        self.steps = 0
        self.batches = 1

    def step(self, *batches: Batch) -> StepResult:
        self.steps += 1
        result = self.step_function(
            self.objective,
            {"adamw": self.optimizer},
            batches,
            learning_rate=3e-3 / self.steps,
            max_gradient_norm=1.0,
            generator=self.generator,
            first_batch=self.batches,
        )
        self.batches += len(batches)
        return result

    def bits(self) -> dict[str, bytes]:
        """Return every parameter and moment to the last bit."""
        tensors = dict(self.objective.model.named_parameters())
        tensors |= self.optimizer.state_tensors()
        return {name: tensor.detach().cpu().numpy().tobytes() for name, tensor in tensors.items()}


def trace(
    model: Transformer, batches: Sequence[Batch], step_function: Callable[..., Any] = train_step
) -> list[float | None]:
    tempra.manual_seed(7)
    run = Run(model, step_function)
    return [run.step(batch).loss() for batch in batches]


def configuration(folder: Path, run: str, device: str, **train: Any) -> tempra.LlmTrainingConfig:
    text = folder / "text.txt"
    if not text.exists():
        words = np.random.default_rng(0).choice(["red ", "blue ", "one ", "two ", "fish.\n"], 900)
        text.write_text("".join(words))
    return tempra.LlmTrainingConfig.from_mapping(
        {
            "model": {"family": "gpt2", "width": 16, "layers": 1, "heads": 2, "context": 16},
            "data": {"train": [str(text)], "cache": str(folder / "cache")},
            "tokenizer": {"kind": "char"},
            "train": {"steps": 8, "batch_size": 2, "block": 16, "device": device, **train},
            "schedule": {"decay_steps": 8, "warmup_steps": 1},
            "evaluation": {"interval": 4, "batches": 2, "sample_tokens": 5},
            "checkpoint": {"dir": str(folder / run), "interval": 4},
            "logging": {"interval": 2},
        }
    )


def losses(folder: Path) -> list[float]:
    records = read_metrics(folder / "metrics.jsonl")
    return [record["loss"] for record in records if record["kind"] in ("step", "validation")]


def resumed(folder: Path, run: str, device: str, *overrides: str) -> list[float]:
    from tempra.train.language_model import continue_run
    from tempra.train.resume import prepare_resume

    given = ["train.steps=8", f"train.device={device}", *overrides]
    continue_run(prepare_resume(folder / run, given))
    return losses(folder / run)
