"""Generating one token after the other with a key/value cache, against what memory allows.

python benchmarks/decoding.py

Every token reads each weight once, so no decoder is faster than reading those bytes: the limit is
the best that any of several kernels which only read (sum, maximum, and NumPy's "or" in as many
threads) makes of an array of as many bytes, taking turns with decoding. Where part of the weights
stays in the last cache, that of the array does, too. Greedy, weights at random; both rates are the
best samples'. Of the embedding only the rows that are looked up are read, and they are not counted;
the output projection is.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from harness import append_rows, interleave, print_table
from tempra import _core
from tempra.benchmark.machine import identity
from tempra.benchmark.samples import spread
from tempra.models import GenerationOptions, Transformer, TransformerConfig, generate_tokens

TOKENS = 64


def _readers(size: int, threads: int) -> dict[str, Callable[[], object]]:
    """Return kernels that read `size` bytes and do next to nothing with them."""
    weights = _core.ones((size // 4,))
    parts = np.array_split(weights.numpy().view(np.int32), threads)
    pool = ThreadPoolExecutor(threads)
    return {
        "sum": weights.sum,
        "max": weights.max,
        "numpy or": lambda: list(pool.map(np.bitwise_or.reduce, parts)),
    }


def _repeated(reader: Callable[[], object]) -> Callable[[], object]:
    return lambda: [reader() for _ in range(TOKENS)]


def decoding(preset: str, dtype: str, vocabulary: int, threads: int, seconds: float) -> Any:
    """Measure one model; rate in tokens a second."""
    config = TransformerConfig.from_preset(preset, vocabulary, dtype=dtype)
    model = Transformer(config, seed=0)
    model.place_matrices(model.dtype)
    model.eval()
    size = 2 if dtype == "bf16" else 4
    read = config.matrix_parameter_count() * size
    readers = _readers(read, threads)
    options = GenerationOptions(max_tokens=TOKENS, temperature=0.0)
    samples = interleave(
        {
            "decode": lambda: list(generate_tokens(model, [1], options)),
            **{name: _repeated(reader) for name, reader in readers.items()},
        },
        seconds=seconds,
    )
    best = min(samples["decode"])
    fastest = min(readers, key=lambda name: min(samples[name]))
    limit = TOKENS / min(samples[fastest])
    return {
        "case": f"decoding/{preset} {dtype}",
        "unit": "tokens/s",
        "rate": TOKENS / best,
        "spread": spread(samples["decode"]),
        "limit": limit,
        "limit_share": TOKENS / best / limit,
        "limit_reader": fastest,
        "read_bytes_per_second": read * limit,
        "weight_bytes": read,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        **identity(threads),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["small"])
    parser.add_argument("--dtypes", nargs="+", default=["f32", "bf16"])
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each model")
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    _core.set_num_threads(options.threads)
    rows = [
        decoding(preset, dtype, options.vocabulary, options.threads, options.seconds)
        for preset in options.presets
        for dtype in options.dtypes
    ]
    columns = {"case": "case", "unit": "unit", "rate": "rate", "spread": "spread"}
    columns |= {
        "limit": "limit",
        "limit_share": "of limit",
        "limit_reader": "by",
        "weight_bytes": "weights MB",
    }
    print_table(rows, {**columns, "peak_bytes": "peak MB"})
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
