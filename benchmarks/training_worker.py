"""One library training one configuration in a process of its own, so that neither its threads nor
its memory mix with the other's. Reads {"steps": n} per line, answers with seconds per step; ends
with the input, after reporting peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from typing import Any

import numpy as np

from reference_configs import REFERENCE_CONFIGS


def build(library: str, name: str, dtype: str, threads: int) -> tuple[Any, int, int]:
    reference = REFERENCE_CONFIGS[name]
    config = reference.transformer(dtype)
    trainer: Any
    if library == "tempra":
        from tempra_gpt import TempraTrainer

        trainer = TempraTrainer(config, threads=threads)
    else:
        from torch_gpt import TorchTrainer

        trainer = TorchTrainer(config, compiled=library == "torch-compile", threads=threads)
    return trainer, reference.batch, config.context


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=["tempra", "torch-eager", "torch-compile"])
    parser.add_argument("--config", choices=list(REFERENCE_CONFIGS))
    parser.add_argument("--dtype", choices=["f32", "bf16"])
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    trainer, rows, block = build(options.library, options.config, options.dtype, options.threads)
    random = np.random.default_rng(0)
    vocabulary = REFERENCE_CONFIGS[options.config].vocabulary
    data = random.integers(0, vocabulary, (rows, block + 1)).astype(np.int32)
    tokens, labels = data[:, :-1].copy(), data[:, 1:].copy()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        seconds, loss = [], 0.0
        cpu_start = time.process_time()
        for _ in range(json.loads(line)["steps"]):
            start = time.perf_counter()
            loss = trainer.step(tokens, labels)
            seconds.append(time.perf_counter() - start)
        answer = {"seconds": seconds, "cpu_seconds": time.process_time() - cpu_start, "loss": loss}
        print(json.dumps(answer), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak_bytes": peak}), flush=True)


if __name__ == "__main__":
    main()
