"""Judge two files of results: case by case, refusing different machines.

python benchmarks/compare.py before.jsonl after.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from harness import print_table

# A change smaller than this many spreads is noise.
SPREADS = 3.0


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the last row of each case and library."""
    rows = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        rows[f"{row['case']} {row.get('library', '')}".strip()] = row
    return rows


def cost(row: dict[str, Any]) -> float:
    """Return what a case takes, in milliseconds."""
    return float(row["milliseconds"] if "milliseconds" in row else 1e3 * row["seconds"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args()
    before, after = read(options.before), read(options.after)
    shared = [case for case in before if case in after]
    machines = {rows[case]["machine"] for rows in (before, after) for case in shared}
    if len(machines) > 1:
        print(f"compare: the results are from different machines: {', '.join(sorted(machines))}")
        return 2
    table, worse = [], 0
    for case in shared:
        ratio = cost(after[case]) / cost(before[case])
        noise = SPREADS * max(before[case]["spread"], after[case]["spread"], 0.01)
        verdict = "same" if abs(ratio - 1.0) <= noise else ("slower" if ratio > 1.0 else "faster")
        worse += verdict == "slower"
        table.append(
            {
                "case": case,
                "verdict": verdict,
                "before": cost(before[case]),
                "after": cost(after[case]),
                "ratio": ratio,
            }
        )
    print_table(table, {key: key for key in ("case", "verdict", "before", "after", "ratio")})
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
