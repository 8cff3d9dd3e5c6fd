"""Training steps over growing contexts with the same number of tokens: speed, and peak memory.

A step of ref-mid over 4,096 tokens, as sequences of 512 up to one of 4,096. Memory that is linear
in the length stays the same from row to row; a T x T matrix anywhere would show.

    python benchmarks/context_length.py --blocks 1024 2048 4096 --dtypes f32 bf16
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness import add_dtypes_argument, append_rows, print_table
from tempra.benchmark.machine import identity
from tempra.benchmark.reference_configs import REFERENCE_CONFIGS, TrainingCase
from tempra.benchmark.training_benchmark import Peers, measure_case


def case_of(config: str, dtype: str, block: int, tokens: int) -> TrainingCase:
    """Return a reference configuration with another context and `tokens` to a step."""
    transformer = REFERENCE_CONFIGS[config].transformer(dtype)
    longer = transformer.model_copy(update={"context": block})
    return TrainingCase(f"context/{config} {block}/{dtype}", longer, max(1, tokens // block))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", choices=list(REFERENCE_CONFIGS), default="ref-mid")
    parser.add_argument("--blocks", nargs="+", type=int, default=[512, 1024, 2048, 4096])
    parser.add_argument("--tokens", type=int, default=4096, help="of a step, whatever the block")
    add_dtypes_argument(parser)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="per case, all libraries")
    parser.add_argument("--torch", action="store_true", help="beside PyTorch, eager and compiled")
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    libraries = Peers(torch=options.torch).libraries()
    rows = []
    for dtype in options.dtypes:
        for block in options.blocks:
            case = case_of(options.config, dtype, block, options.tokens)
            result = measure_case(case, libraries, options.threads, seconds=options.seconds)
            for library, reason in result.failures.items():
                print(f"{case.name}: {library} left out, {reason}", flush=True)
            for row in result.rows:
                activations = row["peak_bytes"] - row["parameter_bytes"]
                about = {"block": block, "batch": case.batch, "activation_bytes": activations}
                rate = {"rate": row["flops"] / 1e9, "unit": "GFLOP/s"}
                rows.append({**row, **about, **rate, **identity(options.threads)})
    columns = {"case": "case", "library": "library", "batch": "batch"}
    columns |= {"tokens_per_second": "tokens/s", "rate": "GFLOP/s", "cpu_share": "cpu/wall"}
    columns |= {"peak_bytes": "peak MB", "activation_bytes": "less 16 B a parameter"}
    print_table(rows, {**columns, "ratio": "x best peer", "memory_ratio": "x its memory"})
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
