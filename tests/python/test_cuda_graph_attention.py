"""Steps as graphs whose attention is cuDNN's: every bit as without, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tempra
from device_runs import CONTEXT, Run, packed_batches, small_model
from stop_at import StopAt
from tempra import cuda
from tempra.data import Batch
from tempra.data.batch import padded
from tempra.train.captured_step import CapturedStep
from tempra.train.language_model import continue_run, train_with_result
from tempra.train.resume import prepare_resume
from tempra.train.train_step import train_step
from test_cuda_graph import window_batch, without_labels
from test_cuda_graph_runs import checkpoint_bits, conversations, logged, text

pytestmark = pytest.mark.any_cuda

STAGE_STEPS = 4


def batches_of(kind: str) -> list[Batch]:
    """Five of one shape; from the first, nothing is to be learned."""
    if kind == "windows":
        batches = [window_batch(3) for _ in range(5)]
    else:
        sizes = {"tokens": 4 * CONTEXT, "longest": CONTEXT, "sequences": 8}
        batches = [padded(batch, **sizes) for batch in packed_batches(5)]
    return [without_labels(batches[0]), *batches[1:]]


def steps(kind: str, step_function: Callable[..., Any]) -> tuple[list[Any], list[str]]:
    """Take the steps; return the losses and all bits of weights and moments."""
    tempra.manual_seed(7)
    run = Run(small_model("llama", "bf16", "cuda"), step_function)
    traced = [run.step(batch).loss() for batch in batches_of(kind)]
    return traced, [bits.hex() for _, bits in sorted(run.bits().items())]


def staged(folder: Path, name: str, *, graph: bool, stop: int = 0) -> None:
    """Train on windows of a text, then on packed conversations in rows of another length."""
    config = {
        "model": {"family": "llama", "width": 16, "layers": 1, "heads": 2, "context": 64},
        "data": {"train": [text(folder)], "cache": str(folder / "cache")},
        "tokenizer": {"kind": "byte"},
        "train": {"batch_size": 2, "dtype": "bf16", "device": "cuda", "cuda_graph": graph},
        "evaluation": {"interval": 0},
        "checkpoint": {"dir": str(folder / name), "interval": 2},
        "stages": [
            {"name": "windows", "train": {"steps": STAGE_STEPS, "block": 16}},
            {
                "name": "conversations",
                "data": {"train": [conversations(folder)], "packing": "best_fit"},
                "train": {"steps": STAGE_STEPS, "block": 64},
            },
        ],
    }
    callbacks = [StopAt(stop)] if stop else []
    train_with_result(tempra.LlmTrainingConfig.from_mapping(config), callbacks=callbacks)


def report(folder: str) -> None:
    """Print what a process of its own finds, with whatever its environment chooses."""
    found: dict[str, Any] = {"attention": cuda.status().attention, "steps": {}, "captures": []}
    for kind in ("windows", "packed"):
        before = cuda.traffic()["captures"]
        found["steps"][kind] = [steps(kind, train_step), steps(kind, CapturedStep())]
        found["captures"].append(cuda.traffic()["captures"] - before)
    place = Path(folder)
    staged(place, "plain", graph=False)
    before = cuda.traffic()["captures"]
    staged(place, "graph", graph=True)
    found["captures"].append(cuda.traffic()["captures"] - before)
    # In the second stage; what was recorded there is not, and then is again.
    staged(place, "resumed", graph=True, stop=STAGE_STEPS + 2)
    continue_run(prepare_resume(place / "resumed"))
    staged(place, "changed", graph=True, stop=STAGE_STEPS + 2)
    continue_run(prepare_resume(place / "changed", ["train.cuda_graph=false"]))
    names = ("plain", "graph", "resumed", "changed")
    found["losses"] = {
        name: [r["loss"] for r in logged(place / name) if r["kind"] == "step"] for name in names
    }
    bits = {name: checkpoint_bits(place / name, 2 * STAGE_STEPS) for name in names}
    found["different"] = [name for name in names if bits[name] != bits["plain"]]
    print(json.dumps(found))


def run_alone(folder: Path, **environment: str) -> dict[str, Any]:
    folder.mkdir()
    call = f"import test_cuda_graph_attention as t; t.report({str(folder)!r})"
    finished = subprocess.run(
        [sys.executable, "-c", call],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TEMPRA_EMULATED_CUDNN": "1",
            **environment,
        },
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


def test_no_bit_differs_by_cudnn(tmp_path: Path) -> None:
    found = run_alone(tmp_path / "cudnn")
    if "our own" in found["attention"]:
        pytest.skip(found["attention"])
    for plain, captured in found["steps"].values():
        assert captured == plain
    assert found["captures"] == [2, 2, 4], "each shape once: the pass and the update"
    traced = found["losses"].pop("plain")
    assert len(traced) == 2 * STAGE_STEPS
    assert all(other == traced for other in found["losses"].values())
    assert found["different"] == []
    if "emulated" in found["attention"]:  # it rounds elsewhere: so it was cuDNN that served
        ours = run_alone(tmp_path / "own", TEMPRA_CUDA_ATTENTION="own")
        assert "our own" in ours["attention"]
        for kind, (plain, _) in found["steps"].items():
            assert ours["steps"][kind][0] != plain
        for stage in (slice(STAGE_STEPS), slice(STAGE_STEPS, None)):
            assert ours["losses"]["plain"][stage] != traced[stage]
