"""Time full training steps of a model on this machine's GPU through tempra, as gpu_peer.py does.

bf16 activations over fp32 parameters, clipping, AdamW. Prints a line of JSON for steps as they are,
as CUDA graphs (train.cuda_graph), and as graphs with sums of attention's gradients in any order
(train.deterministic=false): tokens per second, operations per second (benchmarks/README.md says
which), the largest amount of device memory held, which kernels did attention, and how often the
host waited for the device within the timed steps (0).

    python benchmarks/gpu_step.py [--config gpt2-124m] [--sequences 64] [--seconds 4]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import tempra
from tempra import _core, cuda
from tempra.benchmark.reference_configs import ALL_CASES, TrainingCase
from tempra.benchmark.tempra_trainer import TempraTrainer
from tempra.data.batch import FixedRows
from tempra.train.captured_step import CapturedStep
from tempra.train.objective import DeferredAutoregressiveObjective
from tempra.train.train_step import StepResult, train_step

_ROUNDS = 5
_LEAST_WARM_UP = 2  # a graph is recorded at the second step of a shape


class _Training:
    """A model on the device and steps of one batch of it."""

    def __init__(self, case: TrainingCase) -> None:
        config = case.transformer
        self.case = case
        self.trainer = TempraTrainer(config, threads=tempra.get_num_threads(), device="cuda")
        self.objective = DeferredAutoregressiveObjective(self.trainer.model)
        shape = (case.batch, config.context + 1)
        windows = np.random.default_rng(0).integers(0, config.vocab_size, shape)
        self.batch = FixedRows(case.batch, config.context).batch(windows.astype(np.int32))
        self.taken = 0

    def step(self, step_function: Callable[..., StepResult]) -> StepResult:
        self.taken += 1
        return step_function(
            self.objective,
            {"adamw": self.trainer.optimizer},
            [self.batch],
            learning_rate=1e-4,
            max_gradient_norm=1.0,
            generator=tempra.default_generator(),
            first_batch=self.taken,
        )


def _time_steps(
    training: _Training,
    *,
    steps: int,
    seconds: float,
    warm_up: int,
    cuda_graph: bool,
    deterministic: bool,
) -> dict[str, Any]:
    """Return a row; `steps` of 0: as many as take `seconds`."""
    case = training.case
    _core.set_cuda_deterministic(deterministic)
    step_function = CapturedStep() if cuda_graph else train_step

    def timed(count: int) -> float:
        cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(count):
            training.step(step_function)
        cuda.synchronize()
        return (time.perf_counter() - begin) / count

    timed(warm_up)
    steps = steps or max(1, round(seconds / _ROUNDS / timed(1)))
    cuda.reset_peak_memory()
    before = cuda.traffic()["waits"]
    times = [timed(steps) for _ in range(_ROUNDS)]
    waits = cuda.traffic()["waits"] - before - 2 * _ROUNDS
    median = statistics.median(times)
    return {
        "library": f"tempra {tempra.__version__}",
        "model": case.name,
        "cuda_graph": cuda_graph,
        "deterministic": deterministic,
        "attention": cuda.status().attention,
        "device": cuda.status().devices[0].name,
        "sequences": case.batch,
        "tokens": case.tokens,
        "steps": steps * _ROUNDS,
        "step_milliseconds": round(median * 1e3, 3),
        "spread": round((max(times) - min(times)) / median, 3),
        "tokens_per_second": round(case.tokens / median),
        "tflops": round(case.step_flops / median * 1e-12, 2),
        "peak_bytes": cuda.memory_statistics()["peak_bytes_in_use"],
        "waits_in_steps": waits,
        "loss": round(training.step(step_function).loss() or 0.0, 4),
    }


def main() -> int:
    """Time one configuration; 77 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=sorted(ALL_CASES), default="gpt2-124m")
    parser.add_argument("--sequences", type=int, help="of a step; default: the configuration's")
    parser.add_argument("--steps", type=int, default=0, help="of each of five rounds")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a row, without --steps")
    parser.add_argument("--warm-up", type=int, default=5)
    given = parser.parse_args()
    if given.warm_up < _LEAST_WARM_UP:
        parser.error(
            f"--warm-up: got {given.warm_up}, needs {_LEAST_WARM_UP} or more: a graph is recorded "
            "at its second step, which is not to be timed"
        )
    if given.steps < 0 or (given.sequences is not None and given.sequences < 1):
        parser.error("--steps and --sequences: positive numbers are needed")
    if not cuda.is_available():
        print(f"SKIPPED: {cuda.status().unavailable}")
        return 77
    training = _Training(ALL_CASES[given.config]("bf16").with_batch(given.sequences))
    for cuda_graph, deterministic in ((False, True), (True, True), (True, False)):
        row = _time_steps(
            training,
            steps=given.steps,
            seconds=given.seconds,
            warm_up=given.warm_up,
            cuda_graph=cuda_graph,
            deterministic=deterministic,
        )
        print(json.dumps(row), flush=True)
        cuda.release_free_memory()
    return 0


if __name__ == "__main__":
    sys.exit(main())
