"""Generating one token after the other with a key/value cache, against what memory allows.

python benchmarks/decoding.py

Every token reads each weight once, so no decoder is faster than reading those bytes: the limit is
our sum over an array of as many bytes, taking turns with decoding. Greedy, weights at random. Of
the embedding only the rows that are looked up are read, and they are not counted; the output
projection is.
"""

from __future__ import annotations

import argparse
import resource
from pathlib import Path
from typing import Any

from harness import append_rows, interleave, print_table
from tempra import _core
from tempra.benchmark.machine import identity
from tempra.benchmark.samples import spread
from tempra.models import GenerationOptions, Transformer, TransformerConfig, generate_tokens

TOKENS = 64


def decoding(preset: str, dtype: str, vocabulary: int, threads: int, seconds: float) -> Any:
    """Measure one model; rate in tokens a second."""
    config = TransformerConfig.from_preset(preset, vocabulary, dtype=dtype)
    model = Transformer(config, seed=0)
    model.place_matrices(model.dtype)
    model.eval()
    size = 2 if dtype == "bf16" else 4
    read = config.matrix_parameter_count() * size
    weights = _core.zeros((read // 4,))
    options = GenerationOptions(max_tokens=TOKENS, temperature=0.0)
    samples = interleave(
        {
            "decode": lambda: list(generate_tokens(model, [1], options)),
            "read": lambda: [weights.sum() for _ in range(TOKENS)],
        },
        seconds=seconds,
    )
    best = min(samples["decode"])
    return {
        "case": f"decoding/{preset} {dtype}",
        "unit": "tokens/s",
        "rate": TOKENS / best,
        "spread": spread(samples["decode"]),
        "limit": TOKENS / min(samples["read"]),
        "limit_share": min(samples["read"]) / best,
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
    columns |= {"limit": "limit", "limit_share": "of limit", "weight_bytes": "weights MB"}
    print_table(rows, {**columns, "peak_bytes": "peak MB"})
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
