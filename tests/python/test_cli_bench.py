"""`tempra bench`: the table, its files, wrong usage, and that nothing stays behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from tempra.benchmark import machine_benchmark
from tempra.benchmark.bar_chart import training_chart
from tempra.benchmark.machine_benchmark import BenchmarkOptions, MachineBenchmark
from tempra.benchmark.reference_configs import REFERENCE_CONFIGS
from tempra.benchmark.report import BenchmarkReport, CaseRows
from tempra.benchmark.report_table import print_report
from tempra.benchmark.training_benchmark import CaseResult, Peers
from tempra.cli.main import main

MACHINE = {"processor": "Test <1>", "cpus": 2, "threads": 2, "isa": "avx2", "tempra": "0"}
SVG = "{http://www.w3.org/2000/svg}"


def row(library: str, speed: float, **fields: Any) -> dict[str, Any]:
    return {
        "case": "train/ref-nano/f32",
        "library": library,
        "tokens_per_second": speed,
        "seconds": 0.03,
        "spread": 0.01,
        "samples": 3,
        "dropped": 0,
        "below_least_cpu": 0,
        "cpu_share": 0.98,
        "flops": speed * 1e6,
        "peak_bytes": 90 << 20,
        "parameter_bytes": 12 << 20,
        **fields,
    }


def filled_report() -> BenchmarkReport:
    rows = [
        row("tempra", 30000.0, ratio=1.5, memory_ratio=0.3, peak_share=0.6, dropped=2),
        row("torch-eager", 20000.0, peak_share=0.4, below_least_cpu=1, cpu_share=0.91),
    ]
    report = BenchmarkReport(MACHINE, {"f32": {"tempra": 200e9, "torch": 190e9}})
    report.cases.append(CaseRows("ref-nano", "f32", rows, 50000.0))
    return report


def bench(*arguments: str) -> int:
    return main(["bench", *arguments])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--configs", "ref-nan"], 2, "--configs: got 'ref-nan'"),
        (["--configs", "ref-nano", "--dtypes", "f16"], 2, "--dtypes: got 'f16'"),
        (["--threads", "100000"], 2, "--threads: got 100000, needs 1 to"),
        (["--threads", "0"], 2, "--threads: got 0"),
        (["--seconds", "nan"], 2, "--seconds: got nan"),
        (["--isa", "mmx"], 2, "--isa: got 'mmx'"),
        (["--frobnicate"], 2, "Unknown option"),
        (["--json", "/no/such/folder/x"], 1, "--json: /no/such/folder/x: the folder"),
        (["--chart", "/proc/chart.svg"], 1, "--chart: /proc/chart.svg cannot be written"),
        (["--chart", "."], 1, "--chart: . is a folder"),
    ],
)
def test_wrong_usage_is_told_before_anything_runs(arguments, code, said, monkeypatch, capsys):
    monkeypatch.setattr(MachineBenchmark, "run", lambda self: pytest.fail("it ran"))
    assert bench(*arguments) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_small_run_writes_table_json_and_chart(tmp_path, capfd):
    result, chart = tmp_path / "result.json", tmp_path / "chart.svg"
    arguments = ["--configs", "ref-nano", "--dtypes", "fp32", "--no-torch", "--seconds", "1"]
    assert bench(*arguments, "--threads", "1", "--json", str(result), "--chart", str(chart)) == 0
    out = capfd.readouterr().out
    assert "ref-nano fp32" in out
    assert "limit" in out
    assert "PyTorch eager" not in out
    found = json.loads(result.read_text())
    (only,) = found["rows"]
    assert (only["config"], only["dtype"], only["library"]) == ("ref-nano", "f32", "tempra")
    assert 0.01 < only["peak_share"] < 1.2
    assert only["tokens_per_second"] > 100
    assert found["matrix_peaks"]["f32"]["tempra"] > 1e9
    assert "torch" not in found["matrix_peaks"]["f32"]
    assert found["machine"]["threads"] == 1
    assert not found["interrupted"]
    assert ElementTree.fromstring(chart.read_text()).tag == f"{SVG}svg"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chart.svg", "result.json"]


def test_json_can_be_the_output(monkeypatch, capsys):
    monkeypatch.setattr(MachineBenchmark, "run", lambda self: None)
    assert bench("--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == []


def workers_of(mark: str) -> list[int]:
    """Return processes whose environment has the mark, this test's own apart."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def start_bench(mark: str, until: str, *arguments: str) -> subprocess.Popen[str]:
    """Start the command, its processes marked, and wait until it measures that model."""
    # SIGINT may be ignored here, as in the background of a shell; a child would inherit that.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from tempra.cli.main import main; raise SystemExit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "bench", "--no-torch", "--dtypes", "fp32", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TEMPRA_TEST_MARK": mark},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(until):
            break
    time.sleep(0.5)
    assert len(workers_of(mark)) == 2  # the command and a worker
    return process


def test_an_interruption_keeps_rows_and_leaves_no_process(tmp_path):
    result, mark = tmp_path / "result.json", uuid.uuid4().hex
    arguments = ["--configs", "ref-nano", "ref-gpt2", "--seconds", "1", "--json", str(result)]
    process = start_bench(mark, "ref-gpt2", *arguments)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 3, error
    assert "interrupted: the cases above are complete" in out
    assert "Traceback" not in error
    found = json.loads(result.read_text())
    assert [each["config"] for each in found["rows"]] == ["ref-nano"]
    assert found["interrupted"]
    assert workers_of(mark) == []


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 3), (signal.SIGKILL, -9)])
def test_a_command_that_is_ended_leaves_no_process(sent, code):
    mark = uuid.uuid4().hex
    process = start_bench(mark, "ref-mid", "--configs", "ref-mid")
    process.send_signal(sent)
    process.communicate(timeout=60)
    assert process.returncode == code
    until = time.monotonic() + 60  # killed, it cannot end its worker, which ends after its step
    while sent == signal.SIGKILL and workers_of(mark) and time.monotonic() < until:
        time.sleep(0.1)
    assert workers_of(mark) == []


def test_the_table_says_what_to_keep_in_mind(capsys):
    report = filled_report()
    report.interrupted = True
    print_report(report)
    out = capsys.readouterr().out
    assert "30,000" in out
    assert "3 (-2)" in out  # used, dropped
    assert "78 (0.30x)" in out  # MiB beyond 16 bytes a parameter
    assert "91 % *" in out
    assert "PyTorch eager: too few samples had 96 % of the threads' time; 1 of the 3 used" in out
    assert "interrupted" in out


def test_the_chart_is_sound_xml_with_bars_as_long_as_shares():
    report = filled_report()
    tree = ElementTree.fromstring(training_chart(report.cases, MACHINE))
    texts = [element.text for element in tree.iter(f"{SVG}text")]
    assert any("Test <1>" in (text or "") for text in texts)
    assert "30,000  (1.50x PyTorch)" in texts
    assert "50,000" in texts  # the limit

    def bar(colour: str) -> float:
        widths = [
            float(r.get("width", 0)) for r in tree.iter(f"{SVG}rect") if r.get("class") == colour
        ]
        return max(widths)

    assert bar("first") / bar("second") == pytest.approx(0.6 / 0.4, rel=0.01)


def test_the_better_of_two_measured_peaks_is_the_limit_of_all_rows():
    report = filled_report()
    report.add_peaks({"f32": {"tempra": 300e9, "torch": 100e9}})
    assert report.peaks == {"f32": {"tempra": 300e9, "torch": 190e9}}
    (case,) = report.cases
    limit = 300e9 / REFERENCE_CONFIGS["ref-nano"].case("f32").transformer.flops_per_token()
    assert case.limit == pytest.approx(limit)
    assert case.rows[1]["peak_share"] == pytest.approx(case.rows[1]["flops"] / 300e9)


def run_with_fakes(monkeypatch, options: BenchmarkOptions, case_seconds: float) -> BenchmarkReport:
    """Run the plan on a clock that moves by `case_seconds` with each case."""
    clock = [0.0]
    monkeypatch.setattr(machine_benchmark.time, "monotonic", lambda: clock[0])
    peaks = {dtype: {"tempra": 200e9} for dtype in options.dtypes}
    monkeypatch.setattr(machine_benchmark, "measured_peaks", lambda *a, **k: peaks)
    monkeypatch.setattr(Peers, "libraries", lambda self: ["tempra", "torch-eager", "torch-compile"])

    def measured(case, libraries, threads, **more):
        clock[0] += case_seconds
        rows = [row(library, 100.0, ratio=1.0, peak_share=0.5, flops=1e11) for library in libraries]
        return CaseResult(rows, {}, dict.fromkeys(libraries, 5.0))

    monkeypatch.setattr(machine_benchmark, "measure_case", measured)
    report = BenchmarkReport(MACHINE)
    MachineBenchmark(options, report, lambda line: None).run()
    return report


def test_what_does_not_fit_the_time_is_left_out_and_named(monkeypatch):
    report = run_with_fakes(monkeypatch, BenchmarkOptions(seconds=100), case_seconds=50)
    assert [case.config for case in report.cases] == ["ref-nano", "ref-nano"]
    assert {entry.case for entry in report.left_out if entry.library is None} >= {
        "ref-mid fp32",
        "ref-gpt2 bf16",
        "ref-baby fp32",
    }
    assert "s are left" in str(report.left_out[-1])


def test_compiling_is_left_out_before_a_case_is(monkeypatch):
    report = run_with_fakes(monkeypatch, BenchmarkOptions(seconds=30), case_seconds=20)
    assert [entry["library"] for entry in report.cases[0].rows] == ["tempra", "torch-eager"]
    assert str(report.left_out[0]).startswith("ref-nano fp32, PyTorch compiled: compiling would")


def test_named_models_are_measured_whatever_the_time(monkeypatch):
    options = BenchmarkOptions(configs=("ref-gpt2", "ref-baby"), dtypes=("f32",), seconds=1)
    report = run_with_fakes(monkeypatch, options, case_seconds=100)
    assert [case.config for case in report.cases] == ["ref-gpt2", "ref-baby"]
    assert report.left_out == []
