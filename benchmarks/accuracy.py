"""Errors of bf16 operations and their gradients against f64, beside PyTorch's (which is needed).

The cases and the measurement are those of tests/python/test_bf16_accuracy.py, with more draws. A
row is an operation at one size and tells of the part (result or gradient) that compares worst.

    python benchmarks/accuracy.py --operations attention linear --isas avx512_bf16 avx2
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from harness import append_rows, print_table
from tempra import _core
from tempra.benchmark.machine import identity

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "python"))

from accuracy_cases import CASES
from bf16_accuracy import Comparison, compare


def ratio(ours: float, theirs: float) -> float:
    return 1.0 if ours == theirs else ours / max(theirs, sys.float_info.min)


def row_of(comparisons: list[Comparison]) -> dict[str, Any]:
    """Return the part whose root mean square error is largest beside PyTorch's."""
    worst = max(comparisons, key=lambda part: ratio(part.ours.rms, part.theirs.rms))
    return {
        "part": worst.part,
        "rms": worst.ours.rms,
        "torch_rms": worst.theirs.rms,
        "rounded_rms": worst.rounded.rms,
        "rms_ratio": ratio(worst.ours.rms, worst.theirs.rms),
        "largest_ratio": ratio(worst.ours.largest, worst.theirs.largest),
        "shortfalls": [text for part in comparisons if (text := part.shortfall())],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    operations = sorted({case.op for case in CASES})
    parser.add_argument("--operations", nargs="+", choices=operations, default=operations)
    supported = _core.supported_isas()
    parser.add_argument("--isas", nargs="+", choices=supported, default=[_core.current_isa()])
    parser.add_argument("--draws", type=int, default=10, help="of the inputs")
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    rows = []
    for case in CASES:
        if case.op not in options.operations:
            continue
        for isa, comparisons in compare(case, tuple(options.isas), options.draws).items():
            machine = {**identity(_core.get_num_threads()), "isa": isa}
            rows.append({"case": f"accuracy/{case.id}/bf16", **row_of(comparisons), **machine})
    keys = ("case", "isa", "part", "rms_ratio", "largest_ratio")
    permille = {f"{name} x 1000": name for name in ("rms", "torch_rms", "rounded_rms")}
    print_table(
        [
            {key: row[key] for key in keys} | {k: 1e3 * row[name] for k, name in permille.items()}
            for row in rows
        ],
        {key: key for key in (*keys, *permille)},
    )
    shortfalls = [text for row in rows for text in row["shortfalls"]]
    print("\n".join(shortfalls) or "no error is larger than PyTorch's")
    append_rows(options.output, rows)
    return 1 if shortfalls else 0


if __name__ == "__main__":
    sys.exit(main())
