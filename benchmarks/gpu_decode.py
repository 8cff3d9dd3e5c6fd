"""Time decoding with a key/value cache on this machine's GPU, beside what its memory allows.

Every token reads each weight once, and the keys and values before it; `limit` is the bandwidth of a
copy of a gigabyte (bytes read and written) over these bytes. Greedy, one sequence, weights at
random, bf16. Prints a line of JSON for the copy and for each model and length of the cache.

    python benchmarks/gpu_decode.py [--models small llama-1b] [--contexts 0 2048] [--tokens 64]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from tempra import _core, cuda
from tempra.benchmark.reference_configs import ALL_CASES
from tempra.models import GenerationOptions, KeyValueCache, Transformer, TransformerConfig
from tempra.models.generation import choose_token
from tempra.models.presets import PRESETS

_ROUNDS = 5
_VOCABULARY = 8192  # of a preset, as in decoding.py
_GREEDY = GenerationOptions(temperature=0.0)


def _seconds(run: Callable[[], object]) -> list[float]:
    run()
    times = []
    for _ in range(_ROUNDS):
        cuda.synchronize()
        begin = time.perf_counter()
        run()
        cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return times


def _copy_bandwidth(size: int) -> float:
    source = _core.ones((size // 4,), device="cuda")
    destination = _core.zeros((size // 4,), device="cuda")
    repeats = 10

    def copy() -> None:
        for _ in range(repeats):
            destination.copy_(source)

    with _core.no_grad():
        return 2 * size * repeats / statistics.median(_seconds(copy))


def _config(name: str) -> TransformerConfig:
    if name in PRESETS:
        return TransformerConfig.from_preset(name, _VOCABULARY, dtype="bf16")
    return ALL_CASES[name]("bf16").transformer


def _decode(model: Transformer, context: int, tokens: int, bandwidth: float) -> dict[str, object]:
    config = model.config
    cache = KeyValueCache(model, context + tokens)
    generator = np.random.default_rng(0)

    def fill() -> None:
        cache.clear()
        if context:
            cache.next_logits([1] * context)

    def decode() -> None:
        token = 1
        for _ in range(tokens):
            token = choose_token(cache.next_logits([token]), [token], _GREEDY, generator)

    times = []
    for _ in range(_ROUNDS + 1):  # the first is the warm-up
        fill()
        cuda.synchronize()
        begin = time.perf_counter()
        decode()
        times.append(time.perf_counter() - begin)
    times = times[1:]
    median = statistics.median(times) / tokens
    weights = config.matrix_parameter_count() * 2
    held = config.kv_cache_bytes(context + tokens // 2)  # of the token in the middle
    limit = bandwidth / (weights + held)
    return {
        "context": context,
        "tokens_per_second": round(1 / median, 1),
        "spread": round((max(times) - min(times)) / statistics.median(times), 3),
        "weight_bytes": weights,
        "cache_bytes": held,
        "limit": round(limit, 1),
        "limit_share": round(1 / median / limit, 4),
    }


def main() -> int:
    """Time each model; 77 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted([*PRESETS, *ALL_CASES])
    parser.add_argument("--models", nargs="+", choices=names, default=["small", "llama-1b"])
    parser.add_argument("--contexts", nargs="+", type=int, default=[0, 2048])
    parser.add_argument("--tokens", type=int, default=64, help="of a round")
    parser.add_argument("--copy-bytes", type=int, default=2**30)
    given = parser.parse_args()
    if not cuda.is_available():
        print(f"SKIPPED: {cuda.status().unavailable}")
        return 77
    bandwidth = _copy_bandwidth(given.copy_bytes)
    device = cuda.status().devices[0].name
    row = {"device": device, "copy_bytes": given.copy_bytes, "bytes_per_second": round(bandwidth)}
    print(json.dumps(row), flush=True)
    for name in given.models:
        config = _config(name)
        model = Transformer(config, seed=0)
        model.to("cuda")
        model.place_matrices(model.dtype)
        model.eval()
        for context in given.contexts:
            if context + given.tokens > config.context:
                continue
            result = _decode(model, context, given.tokens, bandwidth)
            print(json.dumps({"decode": name, "device": device, **result}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
