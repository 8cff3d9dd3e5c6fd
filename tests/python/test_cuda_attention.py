"""Which kernels serve attention on a device, and that training does not depend on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tempra
from device_runs import CONTEXT, VOCABULARY, Run, packed_batches, small_model
from tempra import _core, cuda
from tempra.data import Batch
from test_cuda_training import TOLERANCE

ops: Any = _core


def rows(count: int) -> list[Batch]:
    """Three sequences of one length."""
    random = np.random.default_rng(8)
    result = []
    for _ in range(count):
        tokens = random.integers(0, VOCABULARY, 3 * CONTEXT).astype(np.int32)
        result.append(
            Batch(
                tokens=tokens,
                labels=np.roll(tokens, -1),
                offsets=np.arange(4, dtype=np.int32) * np.int32(CONTEXT),
                positions=np.tile(np.arange(CONTEXT, dtype=np.int32), 3),
                valid_tokens=tokens.size,
            )
        )
    return result


def traces(device: str) -> list[list[float | None]]:
    result = []
    for batches in (rows(4), packed_batches(4)):
        run = Run(small_model("llama", "bf16", device))
        result.append([run.step(batch).loss() for batch in batches])
    return result


def report() -> None:
    """Print what a process of its own finds, with whatever its environment chooses."""
    print(json.dumps({"traces": traces("cuda"), "lines": cuda.describe()}))


def run_alone(**environment: str) -> dict[str, Any]:
    finished = subprocess.run(
        [sys.executable, "-c", "import test_cuda_attention; test_cuda_attention.report()"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


@pytest.mark.any_cuda
def test_training_by_cudnn_and_by_our_own_kernels_follows_the_cpu() -> None:
    by_cudnn = run_alone(TEMPRA_EMULATED_CUDNN="1")
    by_us = run_alone(TEMPRA_EMULATED_CUDNN="1", TEMPRA_CUDA_ATTENTION="own")
    assert "attention by our own kernels, as chosen" in by_us["lines"]
    (line,) = (line for line in by_cudnn["lines"] if line.startswith("attention by "))
    if line.startswith("attention by our own"):
        pytest.skip(line)
    assert "cuDNN" in line
    assert "left to our own kernels" not in line
    expected = traces("cpu")
    for found in (by_cudnn, by_us):
        np.testing.assert_allclose(found["traces"], expected, rtol=TOLERANCE["bf16"])
    if "emulated" in line:  # it rounds elsewhere
        assert by_cudnn["traces"] != by_us["traces"]


@pytest.mark.any_cuda
def test_a_choice_that_there_is_not_is_one_line() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", "import test_cuda_attention; test_cuda_attention.report()"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TEMPRA_CUDA_ATTENTION": "flash",
        },
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stderr.splitlines()[-1].endswith(
        "attention: TEMPRA_CUDA_ATTENTION is flash; it may be cudnn or own"
    )


def test_rows_that_are_not_even_are_refused() -> None:
    heads = ops.from_numpy(np.zeros((7, 1, 8), np.float32))
    offsets = ops.from_numpy(np.array([0, 3, 7], np.int32))
    with pytest.raises(tempra.ShapeError, match="2 sequences of 4 queries and 4 keys are said"):
        ops.attention(heads, heads, heads, offsets_q=offsets, even=True)
    offsets = ops.from_numpy(np.array([0, 7], np.int32))
    assert ops.attention(heads, heads, heads, offsets_q=offsets, even=True).shape == (7, 1, 8)
