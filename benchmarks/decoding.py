"""Generating one token after the other with a key/value cache, against what memory allows.

python benchmarks/decoding.py

Every token reads each weight once, so that memory's bandwidth is the limit: the best that any of
several kernels which only read (sum, maximum, NumPy's "or" and, of two parts at a time, its inner
product, in as many threads) makes of a gigabyte, taking turns with decoding. A small model's
weights lie in the last caches in part, those of each thread in its own, and may be read faster than
that: `cached` is the best of the same kernels on an array of as many bytes as a token reads.
Greedy, weights at random; both rates are the best samples'. Of the embedding only the rows that are
looked up are read, and they are not counted; the output projection is.

`--contexts`: tokens in the cache before the first is generated; every later one reads their keys
and values, and these bytes are counted as well. `--rows`: tokens of one pass, as a prompt has.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from harness import add_dtypes_argument, append_rows, interleave, print_table
from tempra import _core
from tempra.benchmark.machine import identity
from tempra.benchmark.samples import spread
from tempra.models import (
    GenerationOptions,
    KeyValueCache,
    Transformer,
    TransformerConfig,
    generate_tokens,
)
from tempra.models.generation import choose_token

TOKENS = 64
BEYOND_CACHES = 2**30


def _readers(size: int, threads: int) -> dict[str, Callable[[], object]]:
    """Return kernels that read `size` bytes and do next to nothing with them."""
    weights = _core.ones((size // 4,))
    parts = np.array_split(weights.numpy().view(np.int32), threads)
    halves = [np.split(part[: len(part) // 2 * 2].view(np.float32), 2) for part in parts]
    pool = ThreadPoolExecutor(threads)
    return {
        "sum": weights.sum,
        "max": weights.max,
        "numpy or": lambda: list(pool.map(np.bitwise_or.reduce, parts)),
        "numpy dot": lambda: list(pool.map(np.vdot, *zip(*halves, strict=True))),
    }


def _repeated(reader: Callable[[], object]) -> Callable[[], object]:
    return lambda: [reader() for _ in range(TOKENS)]


def _model(preset: str, dtype: str, vocabulary: int) -> Transformer:
    config = TransformerConfig.from_preset(preset, vocabulary, dtype=dtype)
    model = Transformer(config, seed=0)
    model.place_matrices(model.dtype)
    model.eval()
    return model


def decoding(
    preset: str,
    dtype: str,
    vocabulary: int,
    context: int,
    rows: int,
    threads: int,
    seconds: float,
) -> dict[str, Any]:
    """Measure passes of `rows` tokens after `context` in the cache; rates in tokens a second."""
    _core.set_num_threads(threads)
    model = _model(preset, dtype, vocabulary)
    config = model.config
    size = 2 if config.dtype == "bf16" else 4
    keys_and_values = config.kv_cache_bytes(context)
    read = config.matrix_parameter_count() * size + keys_and_values
    cache = KeyValueCache(model, context + TOKENS * rows)
    options = GenerationOptions(max_tokens=TOKENS, temperature=0.0)
    generator = np.random.Generator(np.random.Philox(0))

    def fill() -> None:
        cache.clear()
        if context > 0:
            cache.next_logits([1] * context)

    def decode() -> None:
        token = 1
        for _ in range(TOKENS):
            token = choose_token(cache.next_logits([token] * rows), [token], options, generator)

    def whole() -> None:
        list(generate_tokens(model, [1], options))

    plain = context == 0 and rows == 1
    fill()
    (whole if plain else decode)()
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # before the arrays
    readers = _readers(read, threads)
    memory_readers = {f"memory {name}": r for name, r in _readers(BEYOND_CACHES, threads).items()}
    samples = interleave(
        {
            "decode": whole if plain else decode,
            **{name: _repeated(reader) for name, reader in readers.items()},
            **memory_readers,
        },
        seconds=seconds,
        before={} if plain else {"decode": fill},
    )
    best = min(samples["decode"])
    fastest = min(readers, key=lambda name: min(samples[name]))
    cached_limit = TOKENS * rows / min(samples[fastest])
    bandwidth = BEYOND_CACHES / min(min(samples[name]) for name in memory_readers)
    limit = bandwidth / read * rows
    rate = TOKENS * rows / best
    return {
        "unit": "tokens/s",
        "rate": rate,
        "spread": spread(samples["decode"]),
        "limit": limit,
        "limit_share": rate / limit,
        "cached_limit": cached_limit,
        "cached_limit_share": rate / cached_limit,
        "cached_limit_reader": fastest,
        "memory_bytes_per_second": bandwidth,
        "weight_bytes": read - keys_and_values,
        "cache_bytes": keys_and_values,
        "peak_bytes": peak_bytes,
        **identity(threads),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["small"])
    add_dtypes_argument(parser)
    parser.add_argument("--contexts", nargs="+", type=int, default=[0])
    parser.add_argument("--rows", nargs="+", type=int, default=[1])
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each case")
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    rows = []
    cases = itertools.product(options.presets, options.dtypes, options.contexts, options.rows)
    # A process for each: a peak is that of one case.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as processes:
        for preset, dtype, context, count in cases:
            case = f"decoding/{preset} {dtype}"
            case += f" after {context}" if context else ""
            case += f" by {count}" if count > 1 else ""
            arguments = (preset, dtype, options.vocabulary, context, count, options.threads)
            row = processes.submit(decoding, *arguments, options.seconds).result()
            rows.append({"case": case, **row})
    columns = {"case": "case", "unit": "unit", "rate": "rate", "spread": "spread"}
    columns |= {
        "limit": "limit",
        "limit_share": "of limit",
        "cached_limit": "cached",
        "cached_limit_share": "of cached",
        "cached_limit_reader": "by",
        "weight_bytes": "weights MB",
    }
    print_table(rows, {**columns, "peak_bytes": "peak MB"})
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
