"""The best matrix rate any library reaches here, in this run: the limit that shares refer to."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable

from tempra import _core

SIZE = 1536


def _best_rate(run: Callable[[], object], seconds: float = 1.0) -> float:
    run()
    best = float("inf")
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return 2.0 * SIZE**3 / best


def tempra_rate(dtype: str, threads: int) -> float:
    """Return floating-point operations per second of our square product."""
    _core.set_num_threads(threads)
    a = _core.normal((SIZE, SIZE)).to(dtype)
    b = _core.normal((SIZE, SIZE)).to(dtype)
    return _best_rate(lambda: _core.matmul(a, b))


def torch_rate(dtype: str, threads: int) -> float:
    """Return floating-point operations per second of PyTorch's square product."""
    import torch

    torch.set_num_threads(threads)
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    left, right = torch.randn(SIZE, SIZE).to(kind), torch.randn(SIZE, SIZE).to(kind)
    return _best_rate(lambda: left @ right)


def measured_peak(dtype: str, threads: int) -> float:
    """Return the rate of the fastest library; PyTorch's runs in a process of its own, because two
    thread pools in one process slow each other down.
    """
    rates = [tempra_rate(dtype, threads)]
    if importlib.util.find_spec("torch") is not None:
        answer = subprocess.run(
            [sys.executable, __file__, dtype, str(threads)],
            check=True,
            capture_output=True,
            text=True,
        )
        rates.append(float(answer.stdout))
    return max(rates)


if __name__ == "__main__":
    print(torch_rate(sys.argv[1], int(sys.argv[2])))
