"""Measuring in turns: which samples count, who fails how, what rows say. Workers are fakes here."""

from __future__ import annotations

import sys
import time
from typing import Any, ClassVar

import pytest

from tempra.benchmark import training_benchmark
from tempra.benchmark.reference_configs import REFERENCE_CONFIGS, TrainingCase
from tempra.benchmark.samples import Samples, spread
from tempra.benchmark.time_estimate import TimeEstimate
from tempra.benchmark.training_benchmark import CaseResult, measure_case, with_limit
from tempra.benchmark.worker_process import WorkerError, WorkerProcess
from tempra.models import TransformerConfig

NANO = REFERENCE_CONFIGS["ref-nano"].case("f32")
TINY = TrainingCase(
    "train/tiny",
    TransformerConfig.for_family("llama", vocab_size=31, width=32, layers=1, heads=2, context=16),
    batch=2,
)


def samples(*shares: float) -> Samples:
    taken = Samples()
    for i, share in enumerate(shares):
        taken.add(1.0 + i, share)
    return taken


def test_samples_under_the_least_share_are_dropped_and_counted():
    judged = samples(0.97, 0.95, 0.99, 0.5, 0.96).judged()
    assert sorted(judged.seconds) == [1.0, 3.0, 5.0]
    assert min(judged.shares) == 0.96
    assert (judged.dropped, judged.below, judged.too_few) == (2, 0, False)


def test_too_few_good_samples_are_filled_with_the_closest_and_said_so():
    judged = samples(0.7, 0.97, 0.95, 0.2, 0.9).judged()
    assert sorted(judged.seconds) == [2.0, 3.0, 5.0]
    assert (judged.dropped, judged.below, judged.too_few) == (2, 2, True)


def test_spread_is_the_median_deviation():
    assert spread([1.0, 2.0, 10.0]) == 0.5
    assert spread([3.0]) == 0.0


class FakeWorker:
    """Answers at once; what it says is a table by library."""

    seconds: ClassVar[dict[str, float]] = {"tempra": 0.01, "torch-eager": 0.02}
    shares: ClassVar[dict[str, list[float]]] = {}
    failing: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []
    killed: ClassVar[list[str]] = []

    def __init__(self, library: str, case: TrainingCase, threads: int, environment: Any) -> None:
        self.library, self.threads = library, threads

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def kill(self) -> None:
        self.killed.append(self.library)

    def start(self, timeout: float) -> None:
        if self.library in self.failing:
            raise WorkerError(self.failing[self.library])

    def run(self, steps: int, timeout: float = 0) -> dict[str, Any]:
        self.asked.append(self.library)
        each = self.seconds[self.library]
        shares = self.shares.get(self.library, [])
        share = shares.pop(0) if shares else 1.0
        cpu = share * each * steps * self.threads
        return {"seconds": [each] * steps, "cpu_seconds": cpu, "loss": 1.0}

    def finish(self) -> int:
        extra = {"tempra": 100, "torch-eager": 400}[self.library]
        return 16 * NANO.transformer.parameter_count() + extra


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> type[FakeWorker]:
    monkeypatch.setattr(training_benchmark, "WorkerProcess", FakeWorker)
    for name, value in (("shares", {}), ("failing", {}), ("asked", []), ("killed", [])):
        monkeypatch.setattr(FakeWorker, name, value)
    return FakeWorker


def test_libraries_take_turns_and_the_first_compares(fakes):
    result = measure_case(NANO, ["tempra", "torch-eager"], 2, seconds=0)
    ours, peer = result.rows
    assert fakes.asked[:4] == ["tempra"] * 2 + ["torch-eager"] * 2  # warm-up
    assert fakes.asked[4:] == [
        *("tempra", "torch-eager"),
        *("torch-eager", "tempra"),
        *("tempra", "torch-eager"),
    ]
    assert ours["tokens_per_second"] == pytest.approx(12 * 64 / 0.01)
    assert ours["ratio"] == pytest.approx(2.0)
    assert ours["memory_ratio"] == pytest.approx(0.25)
    assert "ratio" not in peer
    assert ours["samples"] == peer["samples"] == 3
    assert sorted(set(fakes.killed)) == ["tempra", "torch-eager"]


def test_a_disturbed_sample_is_dropped_and_measuring_goes_on(fakes):
    fakes.shares = {"tempra": [1.0, 1.0, 0.5]}  # two of the warm-up, then one of a busy machine
    rows = measure_case(NANO, ["tempra", "torch-eager"], 2, seconds=0, longest=5).rows
    assert (rows[0]["samples"], rows[0]["dropped"], rows[0]["below_least_cpu"]) == (3, 1, 0)
    assert (rows[1]["samples"], rows[1]["dropped"]) == (4, 0)


def test_a_library_that_never_fills_its_threads_is_marked(fakes):
    fakes.shares = {"torch-eager": [0.9] * 1000}
    rows = measure_case(NANO, ["tempra", "torch-eager"], 2, seconds=0).rows
    assert rows[0]["below_least_cpu"] == 0
    assert (rows[1]["samples"], rows[1]["below_least_cpu"]) == (3, 3)
    assert rows[1]["cpu_share"] == pytest.approx(0.9)


def test_a_peer_that_fails_is_reported_and_ours_is_raised(fakes):
    fakes.failing = {"torch-eager": "ended with 1: no compiler"}
    result = measure_case(NANO, ["tempra", "torch-eager"], 2, seconds=0)
    assert [row["library"] for row in result.rows] == ["tempra"]
    assert result.rows[0]["ratio"] is None
    assert result.failures == {"torch-eager": "starting: ended with 1: no compiler"}
    fakes.failing = {"tempra": "ended with 1"}
    with pytest.raises(WorkerError, match="train/ref-nano/f32: tempra ended with 1"):
        measure_case(NANO, ["tempra"], 2, seconds=0)


def test_an_interruption_ends_the_workers(fakes, monkeypatch):
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training_benchmark, "sample_in_turns", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure_case(NANO, ["tempra", "torch-eager"], 2, seconds=0)
    assert sorted(fakes.killed) == ["tempra", "torch-eager"]


def test_the_limit_is_what_the_matrix_peak_allows(fakes):
    rows = measure_case(NANO, ["tempra"], 2, seconds=0).rows
    with_limit(rows, NANO, peak=200e9)
    limit = 200e9 / NANO.transformer.flops_per_token()
    assert rows[0]["limit_tokens_per_second"] == pytest.approx(limit)
    assert rows[0]["peak_share"] == pytest.approx(rows[0]["tokens_per_second"] / limit)


def test_time_estimates_learn_from_what_cases_took():
    estimate = TimeEstimate({"f32": 100e9})
    guessed = estimate.starting(NANO, ["tempra", "torch-compile"])
    rows = [
        {"library": "tempra", "seconds": 0.01, "peak_share": 0.5},
        {"library": "torch-compile", "seconds": 0.02, "peak_share": 0.25},
    ]
    estimate.learn(CaseResult(rows, {}, {"tempra": 0.5, "torch-compile": 4.0}))
    assert estimate.starting(NANO, ["tempra", "torch-compile"]) < guessed / 4
    step = NANO.step_flops / (0.85 * 0.5 * 100e9)
    assert estimate.step(NANO, "tempra") == pytest.approx(step)
    assert estimate.sampling(NANO, ["tempra"]) == pytest.approx(3 * max(step, 0.5))


def test_a_worker_trains_and_reports_the_memory_of_its_own_program():
    ballast = bytearray(300 << 20)  # of the parent, which getrusage would count for the child
    ballast[:: 1 << 12] = b"x" * len(ballast[:: 1 << 12])
    with WorkerProcess("tempra", TINY, threads=1) as worker:
        worker.start(60)
        answer = worker.run(3)
        peak = worker.finish()
    assert len(answer["seconds"]) == 3
    assert 0 < answer["cpu_seconds"] < 60
    assert 2.0 < answer["loss"] < 5.0  # about ln 31
    assert 20 << 20 < peak < 250 << 20


@pytest.mark.torch
def test_pytorch_runs_the_same_case():
    case = TrainingCase(
        "train/tiny",
        TransformerConfig.for_family(
            "gpt2", vocab_size=31, width=32, layers=1, heads=2, context=16
        ),
        batch=2,
    )
    rows = measure_case(case, ["tempra", "torch-eager"], 1, seconds=0).rows
    assert [row["library"] for row in rows] == ["tempra", "torch-eager"]
    assert rows[0]["ratio"] > 0


def test_a_case_survives_the_way_to_another_process():
    assert TrainingCase.from_json(TINY.to_json()) == TINY


def test_a_worker_that_dies_says_its_last_words():
    with WorkerProcess("nonsense", TINY, threads=1) as worker:
        with pytest.raises(WorkerError, match=r"ended with 2: .*invalid choice: 'nonsense'"):
            worker.start(60)
        with pytest.raises(WorkerError, match="ended with 2"):
            worker.run(1)


def test_waiting_for_a_worker_has_an_end():
    with WorkerProcess("tempra", TINY, threads=1) as worker:
        started = time.monotonic()
        with pytest.raises(WorkerError, match="no answer within 0 s"):
            worker.start(0.01)
        assert time.monotonic() - started < 5


def test_nothing_imports_pytorch_before_it_is_asked_for():
    import subprocess

    program = (
        "import sys; import tempra.cli.bench, tempra.benchmark.machine_benchmark; "
        "import tempra.benchmark.training_worker; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_worker_of_pytorch_carries_nothing_of_ours():
    import subprocess

    program = (
        "import sys; import tempra.benchmark.training_worker; "
        "assert not {'pydantic', 'tempra.models'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
