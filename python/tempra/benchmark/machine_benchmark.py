"""The reference models on the user's machine, within a time: what `tempra bench` runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tempra.benchmark.isa_environment import isa_environment
from tempra.benchmark.matrix_peak import measured_peaks
from tempra.benchmark.reference_configs import REFERENCE_CONFIGS, TrainingCase
from tempra.benchmark.report import DTYPE_NAMES, BenchmarkReport, LeftOut, library_name
from tempra.benchmark.time_estimate import TimeEstimate
from tempra.benchmark.training_benchmark import Peers, measure_case

# Most telling first: later ones are measured where the time allows it.
BY_DEFAULT = (
    ("ref-nano", "f32"),
    ("ref-nano", "bf16"),
    ("ref-mid", "bf16"),
    ("ref-mid", "f32"),
    ("ref-gpt2", "bf16"),
    ("ref-gpt2", "f32"),
    ("ref-baby", "bf16"),
    ("ref-baby", "f32"),
)
# Sampling one of them takes no longer than this, so that there is time for the next.
LONGEST_SAMPLING = 8.0


@dataclass(frozen=True)
class BenchmarkOptions:
    """What to measure; without `configs`, what fits into the time."""

    configs: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("f32", "bf16")
    threads: int = 2
    seconds: float = 170.0
    peers: Peers = field(default_factory=Peers)
    isa: str | None = None

    def cases(self) -> list[tuple[str, str]]:
        """Return configurations and dtypes in the order of measuring."""
        if self.configs:
            return [(config, dtype) for config in self.configs for dtype in self.dtypes]
        return [(config, dtype) for config, dtype in BY_DEFAULT if dtype in self.dtypes]


class MachineBenchmark:
    """Fills a report case by case; an interruption leaves what is done in it."""

    def __init__(
        self, options: BenchmarkOptions, report: BenchmarkReport, announce: Callable[[str], None]
    ) -> None:
        self._options, self._report, self._announce = options, report, announce
        self._environment = isa_environment(options.isa)
        self._started = time.monotonic()

    def run(self) -> None:
        """Measure everything that the options ask for and the time allows."""
        options, report = self._options, self._report
        try:
            self._measure_peaks()
            estimate = TimeEstimate({dtype: report.peak(dtype) for dtype in report.peaks})
            cases = options.cases()
            for position, (config, dtype) in enumerate(cases):
                self._case(config, dtype, estimate, len(cases) - position)
            self._measure_peaks()  # the machine may have been busy the first time
        finally:
            report.seconds = time.monotonic() - self._started

    def _measure_peaks(self) -> None:
        self._announce("the limit: matrix products")
        peaks = measured_peaks(
            self._options.dtypes,
            self._options.threads,
            torch=self._options.peers.torch,
            environment=self._environment,
        )
        self._report.add_peaks(peaks)

    def _case(self, config: str, dtype: str, estimate: TimeEstimate, cases_left: int) -> None:
        case = REFERENCE_CONFIGS[config].case(dtype)
        name = f"{config} {DTYPE_NAMES[dtype]}"
        left = self._options.seconds - (time.monotonic() - self._started)
        libraries = self._libraries(case, name, estimate, left)
        if not libraries:
            return
        self._announce(f"{name}: {', '.join(map(library_name, libraries))}")
        fewest = estimate.sampling(case, libraries)
        after_start = left - estimate.starting(case, libraries)
        if self._options.configs:  # all of them are wanted: an equal share of the time for each
            seconds = max(fewest, left / cases_left - (left - after_start))
            longest = 2 * seconds
        else:
            seconds, longest = max(fewest, LONGEST_SAMPLING), after_start
        result = measure_case(
            case,
            libraries,
            self._options.threads,
            seconds=seconds,
            longest=longest,
            start_timeout=600.0 if self._options.configs else left,
            environment=self._environment,
        )
        self._report.add(config, dtype, case, result)
        estimate.learn(result)

    def _libraries(
        self, case: TrainingCase, name: str, estimate: TimeEstimate, left: float
    ) -> list[str]:
        """Return who takes part: all, or without the compiler, or nobody where time is short."""
        libraries = self._options.peers.libraries()
        if self._options.configs:
            return libraries
        without = [library for library in libraries if library != "torch-compile"]
        for candidates in (libraries, without):
            needed = estimate.starting(case, candidates) + estimate.sampling(case, candidates)
            if needed <= left:
                break
        else:
            reason = f"needs about {needed:.0f} s, and {max(left, 0):.0f} s are left"
            self._report.left_out.append(LeftOut(name, None, reason))
            return []
        if candidates != libraries:
            reason = "compiling would take longer than the time left"
            self._report.left_out.append(LeftOut(name, "torch-compile", reason))
        return candidates
