"""One library training one case in a process of its own.

So neither its threads nor its memory mix with the other's. Reads {"steps": n} per line, answers
with seconds per step; ends with the input, after reporting peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

LIBRARIES = ("tempra", "torch-eager", "torch-compile")


def peak_bytes() -> int:
    """Return the most memory this program held; not getrusage's, which a parent's size raises."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def build(library: str, sizes: dict[str, Any], threads: int) -> Any:
    """Return the library's trainer, which has `step(tokens, labels) -> loss`."""
    if library == "tempra":
        from tempra.benchmark.tempra_trainer import TempraTrainer
        from tempra.models import TransformerConfig

        return TempraTrainer(TransformerConfig(**sizes), threads=threads)
    from tempra.benchmark.torch_trainer import TorchTrainer

    # Our configuration's fields without its class, whose import would count as PyTorch's memory.
    plain: Any = SimpleNamespace(**sizes)
    return TorchTrainer(plain, compiled=library == "torch-compile", threads=threads)


def main() -> None:
    """Serve the process that started this one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=LIBRARIES, required=True)
    parser.add_argument("--case", type=json.loads, required=True, help="of TrainingCase")
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    # Whatever a library prints goes to stderr, so that it cannot be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    sizes, batch = options.case["transformer"], options.case["batch"]
    trainer = build(options.library, sizes, options.threads)
    random = np.random.default_rng(0)
    shape = (batch, sizes["context"] + 1)
    data = random.integers(0, sizes["vocab_size"], shape).astype(np.int32)
    tokens, labels = data[:, :-1].copy(), data[:, 1:].copy()
    answer(ready=True)
    for line in sys.stdin:
        seconds, loss = [], 0.0
        cpu_start = time.process_time()
        for _ in range(json.loads(line)["steps"]):
            start = time.perf_counter()
            loss = trainer.step(tokens, labels)
            seconds.append(time.perf_counter() - start)
        answer(seconds=seconds, cpu_seconds=time.process_time() - cpu_start, loss=loss)
    answer(peak_bytes=peak_bytes())


if __name__ == "__main__":
    main()
