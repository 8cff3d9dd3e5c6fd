"""Time full training steps of a model on this machine's GPU through tempra, as gpu_peer.py does.

bf16 activations over fp32 parameters, clipping, AdamW; the defaults, so deterministic. Prints one
line of JSON without and one with CUDA graphs (train.cuda_graph): tokens per second, the largest
amount of device memory held, and how often the host waited for the device within the timed steps
(0).

    python benchmarks/gpu_step.py [--sequences 16] [--steps 20] [--config ref-gpt2]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import numpy as np

import tempra
from tempra import cuda
from tempra.benchmark.reference_configs import REFERENCE_CONFIGS
from tempra.benchmark.tempra_trainer import TempraTrainer
from tempra.data.batch import FixedRows
from tempra.train.captured_step import CapturedStep
from tempra.train.objective import DeferredAutoregressiveObjective
from tempra.train.train_step import StepResult, train_step

_REPEATS = 5


def _time_steps(
    name: str, sequences: int, steps: int, warm_up: int, *, cuda_graph: bool
) -> dict[str, object]:
    reference = REFERENCE_CONFIGS[name]
    config = reference.transformer("bf16")
    trainer = TempraTrainer(config, threads=tempra.get_num_threads(), device="cuda")
    random = np.random.default_rng(0)
    windows = random.integers(0, reference.vocabulary, (sequences, config.context + 1))
    batch = FixedRows(sequences, config.context).batch(windows.astype(np.int32))
    objective = DeferredAutoregressiveObjective(trainer.model)
    step_function = CapturedStep() if cuda_graph else train_step
    taken = 0

    def run() -> StepResult:
        nonlocal taken
        taken += 1
        return step_function(
            objective,
            {"adamw": trainer.optimizer},
            [batch],
            learning_rate=1e-3,
            max_gradient_norm=1.0,
            generator=tempra.default_generator(),
            first_batch=taken,
        )

    losses = [run().loss() for _ in range(warm_up)]
    cuda.reset_peak_memory()
    before = cuda.traffic()["waits"]
    seconds = []
    for _ in range(_REPEATS):
        cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(steps):
            result = run()
        cuda.synchronize()
        seconds.append((time.perf_counter() - begin) / steps)
    waits = cuda.traffic()["waits"] - before - 2 * _REPEATS
    median = statistics.median(seconds)
    return {
        "library": f"tempra {tempra.__version__}",
        "model": name,
        "cuda_graph": cuda_graph,
        "device": cuda.status().devices[0].name,
        "tokens": sequences * config.context,
        "step_milliseconds": round(median * 1e3, 3),
        "spread": round((max(seconds) - min(seconds)) / median, 3),
        "tokens_per_second": round(sequences * config.context / median),
        "peak_bytes": cuda.memory_statistics()["peak_bytes_in_use"],
        "waits_in_steps": waits,
        "first_loss": round(losses[0] or 0.0, 4),
        "last_loss": round(result.loss() or 0.0, 4),
    }


def main() -> int:
    """Time one configuration; 77 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", choices=sorted(REFERENCE_CONFIGS), default="ref-gpt2")
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=5, help="of which a graph takes two")
    given = parser.parse_args()
    if not cuda.is_available():
        print(f"SKIPPED: {cuda.status().unavailable}", file=sys.stderr)
        return 77
    for cuda_graph in (False, True):
        row = _time_steps(
            given.config, given.sequences, given.steps, given.warm_up, cuda_graph=cuda_graph
        )
        print(json.dumps(row), flush=True)
        cuda.release_free_memory()
    return 0


if __name__ == "__main__":
    sys.exit(main())
