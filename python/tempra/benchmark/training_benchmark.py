"""Full training steps of several libraries in turn, and the rows that come of it.

Interleaved, A B C B C A ...: what else happens on the machine meets all of them. Each has a process
of its own, the same sizes, dtype, threads and batch.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from tempra.benchmark.reference_configs import TrainingCase
from tempra.benchmark.samples import FEWEST_SAMPLES, Samples, spread
from tempra.benchmark.worker_process import WorkerError, WorkerProcess

Row = dict[str, Any]
# The first compiles, and meets fresh memory.
WARM_UP_STEPS = 2
# What a sample should last at least: shorter ones say little about processor time.
SAMPLE_SECONDS = 0.5
MOST_STEPS = 50


class Peers(NamedTuple):
    """Whom to compare with."""

    torch: bool = True
    compiled: bool = True

    def libraries(self) -> list[str]:
        """Return the libraries that are there, ours first."""
        if not self.torch or importlib.util.find_spec("torch") is None:
            return ["tempra"]
        return ["tempra", "torch-eager", *(["torch-compile"] if self.compiled else [])]


class CaseResult(NamedTuple):
    """A row per library that ran; why the others did not; how long starting took, warm-up too."""

    rows: list[Row]
    failures: dict[str, str]
    start_seconds: dict[str, float]


def measure_case(
    case: TrainingCase,
    libraries: Sequence[str],
    threads: int,
    *,
    seconds: float,
    longest: float | None = None,
    start_timeout: float = 600.0,
    environment: Mapping[str, str] | None = None,
) -> CaseResult:
    """Measure for `seconds`, all libraries together, start-up and compiling apart.

    Goes on for up to `longest`, by default twice as long, while a library has too few samples.
    `start_timeout` is for starting and compiling of all of them. A failure of ours is raised, a
    peer's is reported.
    """
    until = time.monotonic() + start_timeout
    failures: dict[str, str] = {}
    start_seconds: dict[str, float] = {}
    with ExitStack() as stack:
        workers: dict[str, WorkerProcess] = {}
        step_seconds: dict[str, float] = {}
        for library in libraries:
            started = time.monotonic()
            worker = stack.enter_context(WorkerProcess(library, case, threads, environment))
            try:
                step_seconds[library] = warm_up(worker, until)
            except WorkerError as error:
                worker.kill()
                if library == "tempra":
                    raise WorkerError(f"{case.name}: tempra {error}") from error
                failures[library] = f"starting: {error}"
                continue
            workers[library] = worker
            start_seconds[library] = time.monotonic() - started
        longest = 2 * seconds if longest is None else longest
        samples = sample_in_turns(workers, step_seconds, seconds, longest)
        rows = [
            case_row(case, library, samples[library], workers[library].finish())
            for library in workers
        ]
    _compare(rows)
    return CaseResult(rows, failures, start_seconds)


def warm_up(worker: WorkerProcess, until: float) -> float:
    """Run steps until they take what they will take from now on; return the seconds of one."""
    worker.start(max(until - time.monotonic(), 1.0))
    for _ in range(WARM_UP_STEPS):
        seconds: float = worker.run(1, max(until - time.monotonic(), 1.0))["seconds"][0]
    return seconds


def sample_in_turns(
    workers: Mapping[str, WorkerProcess],
    step_seconds: Mapping[str, float],
    seconds: float,
    longest: float,
) -> dict[str, Samples]:
    """Return samples of each worker, by the same names; for how long, says `measure_case`."""
    steps = {
        library: max(1, min(MOST_STEPS, round(SAMPLE_SECONDS / max(each, 1e-6))))
        for library, each in step_seconds.items()
    }
    samples = {library: Samples() for library in workers}
    order = list(workers)
    started = time.monotonic()
    while True:
        for library in order:
            answer = workers[library].run(steps[library])
            share = answer["cpu_seconds"] / sum(answer["seconds"]) / workers[library].threads
            samples[library].add(statistics.median(answer["seconds"]), share)
        order.append(order.pop(0))
        elapsed = time.monotonic() - started
        rounds = len(samples[order[0]].seconds)
        enough = all(each.undisturbed >= FEWEST_SAMPLES for each in samples.values())
        if rounds >= FEWEST_SAMPLES and elapsed >= (seconds if enough else longest):
            return samples


def case_row(case: TrainingCase, library: str, samples: Samples, peak: int) -> Row:
    """Return what the samples come to; `peak` is the most memory the process held, in bytes."""
    judged = samples.judged()
    seconds = statistics.median(judged.seconds)
    parameter_bytes = 16 * case.transformer.parameter_count()
    return {
        "case": case.name,
        "library": library,
        "tokens_per_second": case.tokens / seconds,
        "seconds": seconds,
        "spread": spread(judged.seconds),
        "samples": len(judged.seconds),
        "dropped": judged.dropped,
        "below_least_cpu": judged.below,
        "cpu_share": statistics.median(judged.shares),
        "flops": case.step_flops / seconds,
        "peak_bytes": peak,
        "parameter_bytes": parameter_bytes,
    }


def _compare(rows: list[Row]) -> None:
    """State in our row how much faster and leaner it is than the better of the peers."""
    ours, peers = rows[0], rows[1:]
    ours["ratio"] = ours["memory_ratio"] = None
    if peers:
        best = max(row["tokens_per_second"] for row in peers)
        ours["ratio"] = ours["tokens_per_second"] / best
        least = min(row["peak_bytes"] - row["parameter_bytes"] for row in peers)
        ours["memory_ratio"] = (ours["peak_bytes"] - ours["parameter_bytes"]) / least


def with_limit(rows: Sequence[Row], case: TrainingCase, peak: float) -> None:
    """Enter into each row the share of the measured matrix peak, and the limit it sets."""
    for row in rows:
        row["peak_share"] = row["flops"] / peak
        row["limit_tokens_per_second"] = peak * case.tokens / case.step_flops
