"""How long a training benchmark will take: a guess first, then what earlier cases took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tempra.benchmark.reference_configs import TrainingCase
from tempra.benchmark.samples import FEWEST_SAMPLES
from tempra.benchmark.training_benchmark import SAMPLE_SECONDS, WARM_UP_STEPS, CaseResult


class TimeEstimate:
    """Seconds that a case needs, from the matrix peaks and the cases before it."""

    def __init__(self, peaks: Mapping[str, float]) -> None:
        self._peaks = peaks
        # Before the first step: PyTorch's compiler is slow where its cache is empty.
        self._start = {"tempra": 1.0, "torch-eager": 5.0, "torch-compile": 35.0}
        self._share = {"tempra": 0.4, "torch-eager": 0.2, "torch-compile": 0.2}
        self._seen: set[str] = set()

    def learn(self, result: CaseResult) -> None:
        """Take in what a case took."""
        for row in result.rows:
            library = row["library"]
            start = max(result.start_seconds[library] - WARM_UP_STEPS * row["seconds"], 0.0)
            if library in self._seen:
                start = max(start, self._start[library])
            self._start[library] = start
            # The next case is larger, and comes nearer to the limit; but nothing promises that.
            self._share[library] = 0.85 * row["peak_share"]
            self._seen.add(library)

    def step(self, case: TrainingCase, library: str) -> float:
        """Return about how long a step takes."""
        return case.step_flops / (self._share[library] * self._peaks[case.transformer.dtype])

    def starting(self, case: TrainingCase, libraries: Sequence[str]) -> float:
        """Return about how long it takes until everything is warm."""
        return sum(self._start[name] + WARM_UP_STEPS * self.step(case, name) for name in libraries)

    def sampling(self, case: TrainingCase, libraries: Sequence[str]) -> float:
        """Return about how long the fewest samples take."""
        steps = (max(self.step(case, name), SAMPLE_SECONDS) for name in libraries)
        return FEWEST_SAMPLES * sum(steps)
