"""Train small models on the CPU and on this machine's GPU, and compare the losses of 20 steps.

For both families and each dtype prints a line of JSON: the largest relative difference between the
losses on the GPU and the CPU's, beside the tolerance it is judged by; whether a second run, one
with CUDA graphs, and one resumed in its middle gave the same bits; and the largest difference of
runs that changed devices in their middle. Exits 1 where one of these is not as it should be.

    python benchmarks/gpu_trace.py [--steps 20]

fp16 is compared with the CPU in fp32, which has no kernels for it, and does not resume there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import tempra
from tempra import cuda
from tempra.train.language_model import continue_run
from tempra.train.metrics import read_metrics
from tempra.train.resume import prepare_resume

_FAMILIES = ["gpt2", "llama"]
# Relative, of a step's mean loss: the tests' (tests/python/test_cuda_training.py says why).
_TOLERANCE = {"fp32": 1e-5, "bf16": 1e-2, "fp16": 1e-3}


def _text(folder: Path) -> str:
    words = np.random.default_rng(0).choice(["red ", "blue ", "one ", "two ", "fish.\n"], 4000)
    file = folder / "text.txt"
    file.write_text("".join(words))
    return str(file)


class _Runs:
    """Runs of one model and dtype, each in a folder of its own."""

    def __init__(self, folder: Path, family: str, *, steps: int, width: int, block: int) -> None:
        self.folder, self.text, self.family = folder, _text(folder), family
        self.steps, self.width, self.block = steps, width, block
        self.made = 0

    def train(self, device: str, dtype: str, *, steps: int | None = None, **train: bool) -> Path:
        self.made += 1
        run = self.folder / f"run-{self.made}"
        heads = {"heads": 4} if self.family == "gpt2" else {"heads": 4, "kv_heads": 2}
        sizes = {"width": self.width, "layers": 2, "context": self.block, **heads}
        config = {
            "model": {"family": self.family, **sizes},
            "data": {"train": [self.text], "cache": str(self.folder / "cache")},
            "tokenizer": {"kind": "byte"},
            "train": {
                "steps": steps or self.steps,
                "batch_size": 4,
                "block": self.block,
                "gradient_accumulation": 2,
                "device": device,
                "dtype": dtype,
                **train,
            },
            "schedule": {"decay_steps": self.steps, "warmup_steps": 1},
            "evaluation": {"interval": 0},
            "checkpoint": {"dir": str(run), "interval": self.steps},
        }
        tempra.train(tempra.LlmTrainingConfig.from_mapping(config))
        return run

    def losses(self, run: Path) -> list[float]:
        found = [r["loss"] for r in read_metrics(run / "metrics.jsonl") if r["kind"] == "step"]
        if len(found) != self.steps:
            raise RuntimeError(f"{run}: {len(found)} of {self.steps} steps were logged")
        return found

    def whole(self, device: str, dtype: str, **train: bool) -> list[float]:
        return self.losses(self.train(device, dtype, **train))

    def resumed(self, first: str, then: str, dtype: str) -> list[float]:
        """Train half of the steps on one device and the others on another."""
        run = self.train(first, dtype, steps=self.steps // 2)
        overrides = [f"train.steps={self.steps}", f"train.device={then}"]
        continue_run(prepare_resume(run, overrides))
        return self.losses(run)


def _difference(found: list[float], expected: list[float]) -> float:
    return float(np.max(np.abs(np.array(found) / np.array(expected) - 1)))


def _compare(runs: _Runs, dtype: str) -> tuple[dict[str, object], bool]:
    on_cpu = runs.whole("cpu", "fp32" if dtype == "fp16" else dtype)
    on_gpu = runs.whole("cuda", dtype)
    equal = {
        "rerun_equal": runs.whole("cuda", dtype) == on_gpu,
        "graph_equal": runs.whole("cuda", dtype, cuda_graph=True) == on_gpu,
        "resume_equal": runs.resumed("cuda", "cuda", dtype) == on_gpu,
    }
    differences = {"difference": _difference(on_gpu, on_cpu)}
    if dtype != "fp16":
        for first, then in (("cpu", "cuda"), ("cuda", "cpu")):
            resumed = runs.resumed(first, then, dtype)
            differences[f"difference_{first}_then_{then}"] = _difference(resumed, on_cpu)
    within = all(value <= _TOLERANCE[dtype] for value in differences.values())
    row = {
        "trace": runs.family,
        "dtype": dtype,
        "device": cuda.status().devices[0].name,
        "attention": cuda.status().attention,
        "steps": runs.steps,
        "first_loss": on_gpu[0],
        "last_loss": on_gpu[-1],
        "tolerance": _TOLERANCE[dtype],
        **differences,
        **equal,
        "as_it_should_be": within and all(equal.values()),
    }
    return row, within and all(equal.values())


def main() -> int:
    """Compare; 0 where all is as it should be, 77 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--families", nargs="+", choices=_FAMILIES, default=_FAMILIES)
    parser.add_argument("--dtypes", nargs="+", choices=list(_TOLERANCE), default=list(_TOLERANCE))
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--block", type=int, default=64)
    given = parser.parse_args()
    if given.steps < 2:
        parser.error("--steps: two or more are needed, as runs are resumed in their middle")
    if not cuda.is_available():
        print(f"SKIPPED: {cuda.status().unavailable}")
        return 77
    sound = True
    for family in given.families:
        for dtype in given.dtypes:
            with tempfile.TemporaryDirectory() as folder:
                runs = _Runs(
                    Path(folder), family, steps=given.steps, width=given.width, block=given.block
                )
                row, as_it_should_be = _compare(runs, dtype)
            print(json.dumps(row), flush=True)
            sound = sound and as_it_should_be
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
