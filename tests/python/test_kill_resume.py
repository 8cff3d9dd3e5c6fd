"""A run killed with SIGKILL at random moments, also inside checkpoint writes, loses nothing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from tempra.checkpoint import find_checkpoints, load_checkpoint
from tiny_run import trace, train_tiny

SCRIPT = Path(__file__).with_name("tiny_run.py")
KILLS = int(os.environ.get("TEMPRA_KILLS", "20"))


def run_until_killed(folder: Path, steps: int, choose: random.Random) -> bool:
    """Run the training script and kill it some steps later; False if it finished before."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), str(steps)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(choose.randrange(1, 16)):  # the first line says that it is ready
        line = process.stdout.readline()
        assert line, f"the training script ended by itself: {process.wait()}"
        if line.strip() == "finished":
            assert process.wait() == 0
            return False
    time.sleep(choose.random() * 0.012)
    process.kill()
    process.communicate()
    return process.returncode != 0


def test_killed_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    steps, choose = 20 * KILLS, random.Random(KILLS)
    killed, inside_a_write, folder = 0, 0, tmp_path / "killed"
    while killed < KILLS and run_until_killed(folder, steps, choose):
        killed += 1
        checkpoints = folder / "checkpoints"
        inside_a_write += any(checkpoints.glob(".step-*"))
        if find_checkpoints(checkpoints):
            assert load_checkpoint(folder).notes == []
    assert killed == KILLS
    assert inside_a_write > 0, "no kill hit a checkpoint write: the test misses its point"

    train_tiny(folder, steps)
    train_tiny(tmp_path / "whole", steps)
    assert trace(folder) == trace(tmp_path / "whole")
    last = f"checkpoints/step-{steps:08d}/model.safetensors"
    assert (folder / last).read_bytes() == (tmp_path / "whole" / last).read_bytes()
    assert not list((folder / "checkpoints").glob(".step-*"))
