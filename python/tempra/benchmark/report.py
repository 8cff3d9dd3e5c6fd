"""What a benchmark found on this machine: rows by case, what was left out and why; as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tempra.benchmark.reference_configs import REFERENCE_CONFIGS, TrainingCase
from tempra.benchmark.training_benchmark import CaseResult, Row, with_limit

LIBRARY_NAMES = {
    "tempra": "tempra",
    "torch-eager": "PyTorch eager",
    "torch-compile": "PyTorch compiled",
}
DTYPE_NAMES = {"f32": "fp32", "bf16": "bf16"}


def library_name(library: str) -> str:
    """Return what people call it."""
    return LIBRARY_NAMES.get(library, library)


class CaseRows(NamedTuple):
    """The rows of one case, ours first, and the tokens per second that the limit allows."""

    config: str
    dtype: str
    rows: list[Row]
    limit: float

    @property
    def dtype_name(self) -> str:
        """The dtype as configurations write it."""
        return DTYPE_NAMES[self.dtype]


class LeftOut(NamedTuple):
    """A case, or one library of it, that was not measured, and why."""

    case: str
    library: str | None
    reason: str

    def __str__(self) -> str:
        """Return a line for a reader."""
        who = "" if self.library is None else f", {library_name(self.library)}"
        return f"{self.case}{who}: {self.reason}"


@dataclass
class BenchmarkReport:
    """Filled as cases are done, so that what is measured is there after an interruption."""

    machine: Mapping[str, Any]
    peaks: dict[str, dict[str, float]] = field(default_factory=dict)
    cases: list[CaseRows] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    def add_peaks(self, peaks: Mapping[str, Mapping[str, float]]) -> None:
        """Take in matrix rates measured once more; the best of each library counts, for all rows.

        A busy moment makes a rate too low, and with it the limit.
        """
        for dtype, rates in peaks.items():
            known = self.peaks.setdefault(dtype, {})
            for library, rate in rates.items():
                known[library] = max(rate, known.get(library, 0.0))
        for position, case in enumerate(self.cases):
            reference = REFERENCE_CONFIGS[case.config].case(case.dtype)
            with_limit(case.rows, reference, self.peak(case.dtype))
            limit = case.rows[0]["limit_tokens_per_second"]
            self.cases[position] = case._replace(limit=limit)

    def peak(self, dtype: str) -> float:
        """Return the best matrix rate of any library, in operations per second."""
        return max(self.peaks[dtype].values())

    def add(self, config: str, dtype: str, case: TrainingCase, result: CaseResult) -> None:
        """Take in the result of a case."""
        with_limit(result.rows, case, self.peak(dtype))
        limit = result.rows[0]["limit_tokens_per_second"]
        entry = CaseRows(config, dtype, result.rows, limit)
        self.cases.append(entry)
        for library, reason in result.failures.items():
            self.left_out.append(LeftOut(f"{config} {entry.dtype_name}", library, reason))

    def to_json(self) -> str:
        """Return everything as one JSON object; rates are per second, sizes bytes."""
        return json.dumps(
            {
                "machine": dict(self.machine),
                "matrix_peaks": self.peaks,
                "rows": [
                    {"config": case.config, "dtype": case.dtype, **row}
                    for case in self.cases
                    for row in case.rows
                ],
                "left_out": [entry._asdict() for entry in self.left_out],
                "seconds": self.seconds,
                "interrupted": self.interrupted,
            },
            indent=2,
        )
