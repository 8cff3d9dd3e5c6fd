"""A whole training run beside the same recipe in PyTorch: from process start to its end.

nanoGPT's small character model (`quality_anchor.py` has the recipe), with the evaluations, log
lines and checkpoints that nanoGPT makes: every 250 steps 40 batches without gradients and a
checkpoint. Ours is the command a user types; the peer is `whole_run_peer.py`, eager and compiled.
The models that the runs leave are judged afterwards, outside the time, over the whole validation
tenth.

    python benchmarks/whole_run.py --text tinyshakespeare.txt --dtypes f32 bf16
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from harness import add_dtypes_argument, append_rows, print_table
from quality_anchor import our_config
from tempra.benchmark.machine import identity

HERE = Path(__file__).resolve().parent
EVALUATION_STEPS, EVALUATION_BATCHES = 250, 40


class Run:
    """One library's run in a folder of its own; `start`, `finish`, then `judge`."""

    def __init__(self, library: str, text: Path, dtype: str, seed: int, threads: int) -> None:
        self.library, self.text, self.dtype = library, text, dtype
        self.folder = Path(tempfile.mkdtemp(prefix="tempra-whole-run-"))
        self.environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        if library == "tempra":
            config = our_config(text, seed, dtype)
            config["evaluation"] = {"interval": EVALUATION_STEPS, "batches": EVALUATION_BATCHES}
            config["checkpoint"] = {"dir": "run", "interval": EVALUATION_STEPS}
            (self.folder / "config.yaml").write_text(yaml.safe_dump(config))
            self.command = [sys.executable, "-m", "tempra", "train", "run", "--config"]
            self.command += ["config.yaml"]
        else:
            self.command = [sys.executable, str(HERE / "whole_run_peer.py"), "--text", str(text)]
            self.command += ["--folder", ".", "--dtype", dtype, "--threads", str(threads)]
            self.command += ["--seed", str(seed)]

    def train(self) -> dict[str, Any]:
        """Run to the end; return wall and processor seconds, start-up included."""
        compiled = ["--compile"] if self.library == "torch-compile" else []
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        self._call([*self.command, *compiled])
        seconds = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"seconds": seconds, "cpu_seconds": used}

    def judge(self) -> float:
        """Return the last model's loss over the validation tenth."""
        if self.library != "tempra":
            return float(self._call([*self.command, "--judge"]).split()[-1])
        characters = self.text.read_text(encoding="utf-8")
        part = self.folder / "validation.txt"
        part.write_text(characters[int(len(characters) * 0.9) :], encoding="utf-8")
        command = [sys.executable, "-m", "tempra", "eval", "--checkpoint", "run", "--json"]
        return float(json.loads(self._call([*command, "--data", str(part)]))["loss"])

    def remove(self) -> None:
        """Delete what the run wrote."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _call(self, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{self.library}: {done.stderr or done.stdout}")
        return done.stdout


def compare(options: argparse.Namespace, dtype: str) -> list[dict[str, Any]]:
    """Return a row per library: the runs in turn, each the best of its repetitions."""
    rows = []
    for library in options.libraries:
        rows.append({"case": f"whole_run/{dtype}", "library": library, "seconds": float("inf")})
    for _ in range(options.repeats):
        for row in rows:
            run = Run(row["library"], options.text, dtype, options.seed, options.threads)
            try:
                taken = run.train()
                if taken["seconds"] < row["seconds"]:
                    row.update(taken)
                if "loss" not in row:
                    row["loss"] = run.judge()
            finally:
                run.remove()
    peers = [row for row in rows if row["library"] != "tempra"]
    for row in rows:
        row["cpu_share"] = row["cpu_seconds"] / row["seconds"] / options.threads
        if row["library"] == "tempra" and peers:
            row["time_ratio"] = row["seconds"] / min(peer["seconds"] for peer in peers)
            row["above_peer"] = row["loss"] - min(peer["loss"] for peer in peers)
    return [{**row, **identity(options.threads)} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="Tiny Shakespeare, one file")
    libraries = ["tempra", "torch-eager", "torch-compile"]
    parser.add_argument("--libraries", nargs="+", choices=libraries, default=libraries)
    add_dtypes_argument(parser)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1, help="runs of each, the best counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    options.text = options.text.resolve()
    rows = [row for dtype in options.dtypes for row in compare(options, dtype)]
    columns = {"case": "case", "library": "library", "seconds": "seconds"}
    columns |= {"cpu_share": "cpu/wall", "loss": "loss", "time_ratio": "of best peer's time"}
    print_table(rows, {**columns, "above_peer": "loss above it"})
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
