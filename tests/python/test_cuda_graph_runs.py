"""Whole runs with train.cuda_graph=true: files and traces as without it, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tempra
from device_runs import losses
from tempra import cuda
from tempra.train.callbacks import Callback, RunView
from tempra.train.language_model import continue_run
from tempra.train.metrics import read_metrics
from tempra.train.non_finite import find_origin
from tempra.train.resume import prepare_resume

pytestmark = pytest.mark.any_cuda

STEPS = 22


def conversations(folder: Path) -> str:
    """Questions and answers of quite different lengths."""
    file = folder / "chat.jsonl"
    if not file.exists():
        random = np.random.default_rng(1)
        words = ["red", "blue", "one", "two", "fish"]
        records = [
            {
                "instruction": " ".join(random.choice(words, random.integers(1, 6))),
                "output": " ".join(random.choice(words, random.integers(1, 6))),
            }
            for _ in range(60)
        ]
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(file)


def text(folder: Path) -> str:
    file = folder / "text.txt"
    if not file.exists():
        words = np.random.default_rng(0).choice(["red ", "blue ", "one ", "two ", "fish.\n"], 900)
        file.write_text("".join(words))
    return str(file)


def trained(
    folder: Path,
    run: str,
    *,
    family: str = "gpt2",
    chat: bool = False,
    stages: int = 0,
    callbacks: Sequence[Callback] = (),
    **train: Any,
) -> list[Any]:
    """Train, with dropout and two micro-batches a step; return what was logged but the speed."""
    layers = 1 if chat else 2  # its sequences are long for an emulated device
    sizes: dict[str, Any] = {"width": 16, "layers": layers, "heads": 2, "dropout": 0.1}
    if family == "llama":
        sizes |= {"kv_heads": 1}
    block = 160 if chat else 16
    tempra.train(
        tempra.LlmTrainingConfig.from_mapping(
            {
                "model": {"family": family, "context": block, **sizes},
                "data": {
                    "train": [conversations(folder) if chat else text(folder)],
                    "cache": str(folder / "cache"),
                },
                "tokenizer": {"kind": "byte"},
                "train": {
                    "steps": STEPS,
                    "batch_size": 2,
                    "block": block,
                    "gradient_accumulation": 2,
                    "device": "cuda",
                    **train,
                },
                "schedule": {"decay_steps": STEPS, "warmup_steps": 3},
                "evaluation": {"interval": 8, "batches": 2, "sample_tokens": 5},
                "checkpoint": {"dir": str(folder / run), "interval": 10},
                "logging": {"interval": 4},
                "stages": [{"name": f"stage-{number}"} for number in range(stages)],
            }
        ),
        callbacks=callbacks,
    )
    return logged(folder / run)


def logged(folder: Path) -> list[Any]:
    timed = ("tokens_per_second", "gflops_per_second")
    return [
        {key: value for key, value in record.items() if key not in timed}
        for record in read_metrics(folder / "metrics.jsonl")
    ]


def checkpoint_bits(folder: Path, step: int) -> dict[str, bytes]:
    """Return the files of a checkpoint that say what was trained."""
    files = ("model.safetensors", "optimizer.safetensors", "state.json")
    saved = folder / "checkpoints" / f"step-{step:08d}"
    return {name: (saved / name).read_bytes() for name in files}


@pytest.mark.parametrize(
    ("family", "dtype"),
    [("gpt2", "fp32"), ("gpt2", "bf16"), ("llama", "bf16"), ("llama", "fp16")],
)
def test_a_run_of_windows(family: str, dtype: str, tmp_path: Path) -> None:
    """Validation, samples and checkpoints between the launches included."""
    plain = trained(tmp_path, "plain", family=family, dtype=dtype)
    before = cuda.traffic()
    captured = trained(tmp_path, "graph", family=family, dtype=dtype, cuda_graph=True)
    after = cuda.traffic()
    assert captured == plain
    assert len([record for record in plain if record["kind"] == "step"]) == STEPS
    assert after["captures"] - before["captures"] == 2, "one recording: the pass and the update"
    assert after["graph_launches"] - before["graph_launches"] == (STEPS - 1) * 3
    assert checkpoint_bits(tmp_path / "graph", STEPS) == checkpoint_bits(tmp_path / "plain", STEPS)


@pytest.mark.parametrize(("family", "dtype"), [("gpt2", "fp16"), ("llama", "fp32")])
def test_a_run_of_packed_conversations(family: str, dtype: str, tmp_path: Path) -> None:
    """Rows hold other documents in every batch, and some are not full."""
    plain = trained(tmp_path, "plain", family=family, chat=True, dtype=dtype)
    before = cuda.traffic()["captures"]
    captured = trained(tmp_path, "graph", family=family, chat=True, dtype=dtype, cuda_graph=True)
    assert cuda.traffic()["captures"] - before == 2
    assert captured == plain
    last = [record for record in plain if record["kind"] == "step"][-1]
    assert last["tokens"] < STEPS * 2 * 2 * 160, "padding is not counted"
    assert checkpoint_bits(tmp_path / "graph", STEPS) == checkpoint_bits(tmp_path / "plain", STEPS)


@pytest.mark.parametrize("chat", [False, True])
def test_a_run_goes_on_with_and_without(chat: bool, tmp_path: Path) -> None:
    plain = trained(tmp_path, "plain", chat=chat, dtype="bf16")
    ways = ((True, False), (False, True)) if chat else ((True, False), (False, True), (True, True))
    for number, (first, then) in enumerate(ways):
        run = f"run-{number}"
        trained(tmp_path, run, chat=chat, dtype="bf16", steps=10, cuda_graph=first)
        overrides = [f"train.steps={STEPS}", f"train.cuda_graph={str(then).lower()}"]
        continue_run(prepare_resume(tmp_path / run, overrides))
        numbers = [r["loss"] for r in logged(tmp_path / run) if r["kind"] == "step"]
        assert numbers == [r["loss"] for r in plain if r["kind"] == "step"]
        assert checkpoint_bits(tmp_path / run, STEPS) == checkpoint_bits(tmp_path / "plain", STEPS)


def test_stages_of_other_shapes(tmp_path: Path) -> None:
    """Each stage's batches are recorded once, and the run is that without graphs."""

    def run(name: str, graph: bool) -> list[float]:
        config = {
            "model": {"family": "gpt2", "width": 16, "layers": 1, "heads": 2, "context": 16},
            "data": {"train": [text(tmp_path)], "cache": str(tmp_path / "cache")},
            "tokenizer": {"kind": "byte"},
            "train": {"batch_size": 2, "block": 16, "device": "cuda", "cuda_graph": graph},
            "evaluation": {"interval": 0},
            "checkpoint": {"dir": str(tmp_path / name)},
            "stages": [
                {"name": "first", "train": {"steps": 5}},
                {"name": "second", "train": {"steps": 5, "batch_size": 3, "block": 12}},
            ],
        }
        tempra.train(tempra.LlmTrainingConfig.from_mapping(config))
        return losses(tmp_path / name)

    plain = run("plain", False)
    before = cuda.traffic()["captures"]
    assert run("graph", True) == plain
    assert cuda.traffic()["captures"] - before == 4


class Memory(Callback):
    """Bytes in use after each step, and as each stage begins."""

    def __init__(self) -> None:
        self.after: list[int] = []
        self.at_stages: list[int] = []

    def on_batch_end(self, run: RunView) -> None:
        self.after.append(cuda.memory_statistics()["bytes_in_use"])

    def on_stage_begin(self, run: RunView) -> None:
        self.at_stages.append(cuda.memory_statistics()["bytes_in_use"])


def test_graphs_are_released_before_another_stage(tmp_path: Path) -> None:
    """Its first step runs as it is, and takes the memory of a step beside what they would hold."""
    memory = Memory()
    trained(tmp_path, "run", callbacks=[memory], stages=2, steps=4, cuda_graph=True)
    assert memory.after[3] > memory.after[0] + 50_000, "the first stage had graphs"
    assert memory.at_stages[1] < memory.after[0] + 20_000


def test_graphs_are_released_before_a_step_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which finds out where an infinite number came from."""
    memory, seen = Memory(), []

    class Spoil(Callback):
        def on_batch_end(self, run: RunView) -> None:
            if run.state.step == 3:
                with tempra.no_grad():
                    run.state.model.final_norm.weight.fill_(float("inf"))

    def spy(*arguments: Any, **named: Any) -> Any:
        seen.append(cuda.memory_statistics()["bytes_in_use"])
        return find_origin(*arguments, **named)

    monkeypatch.setattr("tempra.train.non_finite.find_origin", spy)
    with pytest.raises(tempra.TrainError, match=r"parameter final_norm\.weight"):
        trained(tmp_path, "run", callbacks=[memory, Spoil()], non_finite_limit=1, cuda_graph=True)
    assert memory.after[-1] > memory.after[0] + 50_000, "there were graphs"
    assert seen[0] < memory.after[0] + 20_000


def test_a_checkpoint_of_graphs_goes_on_on_the_cpu(tmp_path: Path) -> None:
    trained(tmp_path, "run", steps=8, cuda_graph=True)
    with pytest.raises(tempra.ConfigError, match=r"true with train\.device=cpu"):
        prepare_resume(tmp_path / "run", ["train.device=cpu"])
    trained_on = ["train.device=cpu", "train.cuda_graph=false", "train.steps=10"]
    continue_run(prepare_resume(tmp_path / "run", trained_on))
    steps = [record for record in logged(tmp_path / "run") if record["kind"] == "step"]
    assert len(steps) == 10
    assert all(np.isfinite(record["loss"]) for record in steps)


def test_graphs_need_a_cuda_device() -> None:
    with pytest.raises(
        tempra.ConfigError, match=r"train.cuda_graph: got true with train.device=cpu, which has no"
    ):
        tempra.LlmTrainingConfig.from_mapping({"train": {"cuda_graph": True}})


def test_what_runs_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tempra.cli.main import main

    asked = ["train", "plan", "train.device=cuda", f"data.train={text(tmp_path)}"]
    said = "steps are launched as CUDA graphs"
    assert main(asked) == 0
    assert said not in capsys.readouterr().out
    assert main([*asked, "train.cuda_graph=true"]) == 0
    assert said in capsys.readouterr().out
