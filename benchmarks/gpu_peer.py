"""Time full training steps of a model in PyTorch on this machine's GPU: the numbers to beat.

bf16 autocast over fp32 parameters, clipping, fused AdamW; the same models and batches as
gpu_step.py. Eager with each of PyTorch's attention kernels, then compiled with the fastest. Prints
the rate of one large matrix product, the ceiling for everything, and a line of JSON for each.

    python benchmarks/gpu_peer.py [--config gpt2-124m] [--sequences 64] [--seconds 4]
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tempra.benchmark.reference_configs import ALL_CASES, TrainingCase
from tempra.benchmark.torch_trainer import TorchTrainer

_ROUNDS, _WARM_UP = 5, 5
_ATTENTION = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


def _timed(step: Callable[[], object], count: int) -> float:
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(count):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - begin) / count


def _time_mode(
    case: TrainingCase, attention: str, *, compiled: bool, seconds: float
) -> dict[str, Any]:
    torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    config = case.transformer
    trainer = TorchTrainer(
        config, compiled=compiled, threads=torch.get_num_threads(), device="cuda"
    )
    shape = (case.batch, config.context)
    tokens = torch.randint(0, config.vocab_size, shape, device="cuda")
    labels = torch.randint(0, config.vocab_size, shape, device="cuda")

    def step() -> None:
        trainer.run(tokens, labels)

    with sdpa_kernel(_ATTENTION[attention]):
        _timed(step, _WARM_UP)
        steps = max(1, round(seconds / _ROUNDS / _timed(step, 1)))
        times = [_timed(step, steps) for _ in range(_ROUNDS)]
    median = statistics.median(times)
    return {
        "peer": f"torch {torch.__version__} {'compile' if compiled else 'eager'}",
        "model": case.name,
        "attention": attention,
        "device": torch.cuda.get_device_name(),
        "sequences": case.batch,
        "tokens": case.tokens,
        "steps": steps * _ROUNDS,
        "step_milliseconds": round(median * 1e3, 3),
        "spread": round((max(times) - min(times)) / median, 3),
        "tokens_per_second": round(case.tokens / median),
        "tflops": round(case.step_flops / median * 1e-12, 2),
        "peak_bytes": torch.cuda.max_memory_allocated(),
    }


def _matrix_peak() -> dict[str, object]:
    """Measure the rate of one large bf16 product."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    _timed(lambda: a @ b, 3)
    seconds = statistics.median(_timed(lambda: a @ b, 20) for _ in range(5))
    return {"matrix_peak_tflops": round(2 * 8192**3 / seconds * 1e-12, 1)}


def main() -> int:
    """Time eager and compiled steps; 77 without a GPU, 1 where compiled ones fail."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=sorted(ALL_CASES), default="gpt2-124m")
    parser.add_argument("--sequences", type=int, help="of a step; default: the configuration's")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a row")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("SKIPPED: PyTorch sees no GPU")
        return 77
    case = ALL_CASES[given.config]("bf16").with_batch(given.sequences)
    print(json.dumps(_matrix_peak()), flush=True)
    rates: dict[str, int] = {}

    def measure(attention: str, *, compiled: bool) -> bool:
        try:
            row = _time_mode(case, attention, compiled=compiled, seconds=given.seconds)
        except RuntimeError as error:  # a kernel that does not take these shapes, or no memory
            row = {"peer": "torch", "model": case.name, "attention": attention}
            row |= {"compiled": compiled, "error": str(error).splitlines()[0][:200]}
        print(json.dumps(row), flush=True)
        if not compiled:
            rates[attention] = row.get("tokens_per_second", 0)
        return "error" not in row

    for attention in _ATTENTION:
        measure(attention, compiled=False)
    return 0 if measure(max(rates, key=rates.__getitem__), compiled=True) else 1


if __name__ == "__main__":
    sys.exit(main())
