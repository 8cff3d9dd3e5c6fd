"""The programs for machines with a GPU run to their end, and say what was measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tempra.benchmark.reference_configs import ALL_CASES, GPU_CASES

pytestmark = pytest.mark.any_cuda

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, BENCHMARKS / program, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


def rows(program: str, *arguments: str) -> list[dict[str, Any]]:
    finished = run(program, *arguments)
    assert finished.returncode == 0, finished.stderr + finished.stdout
    return [json.loads(line) for line in finished.stdout.splitlines()]


def test_steps_are_timed_in_all_ways() -> None:
    small = ("--config", "ref-nano", "--sequences", "1", "--steps", "1", "--warm-up", "2")
    found = rows("gpu_step.py", *small)
    ways = [(row["cuda_graph"], row["deterministic"]) for row in found]
    assert ways == [(False, True), (True, True), (True, False)]
    for row in found:
        assert (row["tokens"], row["waits_in_steps"]) == (64, 0)
        assert row["tokens_per_second"] == pytest.approx(64e3 / row["step_milliseconds"], abs=1)
    losses = [row["loss"] for row in found]
    assert losses == sorted(losses, reverse=True), "every way trains"


@pytest.mark.parametrize("warm_up", ["0", "1"])
def test_a_recording_is_not_to_be_timed(warm_up: str) -> None:
    finished = run("gpu_step.py", "--warm-up", warm_up)
    assert finished.returncode == 2
    last = finished.stderr.splitlines()[-1]
    assert f"--warm-up: got {warm_up}, needs 2 or more: a graph is recorded" in last


def test_decoding_is_timed_beside_a_copy() -> None:
    arguments = ("--models", "nano", "--contexts", "0", "32", "--tokens", "2")
    copy, *decoded = rows("gpu_decode.py", *arguments, "--copy-bytes", "1048576")
    assert copy["bytes_per_second"] > 0
    assert [row["context"] for row in decoded] == [0, 32]
    for row in decoded:
        read = row["weight_bytes"] + row["cache_bytes"]
        assert row["limit"] == pytest.approx(copy["bytes_per_second"] / read, rel=1e-2)
        assert row["limit_share"] == pytest.approx(
            row["tokens_per_second"] / row["limit"], rel=1e-2
        )


def test_traces_are_compared() -> None:
    small = ("--steps", "2", "--width", "16", "--block", "16", "--families", "gpt2")
    (row,) = rows("gpu_trace.py", *small, "--dtypes", "fp32")
    assert row["as_it_should_be"]
    assert row["rerun_equal"]
    assert row["graph_equal"]
    assert row["resume_equal"]
    assert row["last_loss"] < row["first_loss"]
    assert 0 <= row["difference"] <= row["tolerance"]


def test_the_models_are_what_their_names_say() -> None:
    for name, billions in (("gpt2-124m", 0.124), ("llama-1b", 1.04)):
        case = GPU_CASES[name]("bf16")
        assert case.transformer.matrix_parameter_count() == pytest.approx(billions * 1e9, rel=0.01)
        assert ALL_CASES[name]("bf16").with_batch(3).tokens == 3 * case.transformer.context
        assert case.with_batch(None) == case
