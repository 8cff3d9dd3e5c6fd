"""The best matrix rate any library reaches here, in this run: the limit that shares refer to.

Each library runs in a process of its own, because two thread pools in one process slow each other
down: `python -m tempra.benchmark.matrix_peak LIBRARY THREADS DTYPE ...` prints a JSON object.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from tempra._core import TempraError

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
    from tempra import _core

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


def numpy_rate(dtype: str, threads: int) -> float:
    """Return the same of NumPy's, which is OpenBLAS where it comes from a wheel; fp32 only."""
    import numpy as np

    if dtype != "f32":
        return 0.0
    left = np.random.default_rng(0).standard_normal((SIZE, SIZE), dtype=np.float32)
    right = left.T.copy()
    return _best_rate(lambda: left @ right)


RATES: dict[str, Callable[[str, int], float]] = {
    "tempra": tempra_rate,
    "torch": torch_rate,
    "numpy": numpy_rate,
}


def measured_peaks(
    dtypes: Sequence[str],
    threads: int,
    *,
    torch: bool = True,
    environment: Mapping[str, str] | None = None,
) -> dict[str, dict[str, float]]:
    """Return each library's rate by dtype; PyTorch's where it is installed and asked for."""
    variables = {**os.environ, **(environment or {})}
    # What numpy's matrix library may be; it reads its number of threads when it is loaded.
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        variables[name] = str(threads)
    rates: dict[str, dict[str, float]] = {dtype: {} for dtype in dtypes}
    for library in RATES:
        if library == "torch" and not (torch and importlib.util.find_spec("torch") is not None):
            continue
        command = [sys.executable, "-m", __name__, library, str(threads), *dtypes]
        answer = subprocess.run(command, env=variables, capture_output=True, text=True)
        if answer.returncode:
            if library == "tempra":
                raise TempraError(f"the matrix product failed: {answer.stderr.strip()[-300:]}")
            continue  # a broken peer must not keep a user from measuring
        for dtype, rate in json.loads(answer.stdout).items():
            if rate:
                rates[dtype][library] = rate
    return rates


def measured_peak(dtype: str, threads: int) -> float:
    """Return the rate of the fastest library."""
    return max(measured_peaks([dtype], threads)[dtype].values())


if __name__ == "__main__":
    _library, _threads, *_dtypes = sys.argv[1:]
    print(json.dumps({dtype: RATES[_library](dtype, int(_threads)) for dtype in _dtypes}))
