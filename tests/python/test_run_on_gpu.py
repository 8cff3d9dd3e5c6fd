"""The script for machines with a GPU: its summary tells the truth, and nothing of it gets lost.

Its steps are replaced by ones that pass, fail, hang or find something missing; no GPU is needed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

STEPS = """
step_good() { echo '{"value": 1}' | keep_rows; remark cudnn "cuDNN was tested"; }
step_bad() { echo 'no row {'; printf '{"value": 2}\\n{"value": ' | keep_rows; false; echo on; }
step_missing() { echo "no tool"; return 77; }
step_after_bad() { echo never; }
step_after_missing() { echo never; }
step_hanging() { echo '{"value": 3}' | keep_rows; bash -c 'trap "" TERM; exec sleep 60' &
    echo $! > "$FOLDER/child"; sleep 60; }
step_late() { echo never; }
"""
RUN = """
run_step good 5
run_step missing 5
run_step bad 5 good
run_step after_bad 5 bad
run_step after_missing 5 missing
run_step hanging 1
run_step late 5 good
"""


def script(folder: Path, *, deadline: int = 20, run: str = RUN, wanted: str = "") -> Path:
    file = folder / "steps.sh"
    file.write_text(
        f"set -euo pipefail\nsource {BENCHMARKS}/timed_steps.sh\nexport FOLDER={folder}\n{STEPS}\n"
        f"begin_steps {deadline} {folder}/rows.jsonl {folder} {wanted}\n"
        f"remark cudnn 'cuDNN was NOT tested'\n{run}\nend_steps\n"
    )
    return file


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def verdicts(folder: Path) -> dict[str, str]:
    found = rows(next(folder.glob("*.jsonl")))
    return {row["step"]: row["status"] for row in found if "status" in row}


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_the_summary_says_what_became_of_each_step(tmp_path: Path) -> None:
    finished = subprocess.run(
        ["bash", script(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 1, finished.stderr
    assert finished.stderr == ""
    assert verdicts(tmp_path) == {
        "good": "passed",
        "missing": "skipped: no tool",
        "bad": "FAILED (status 1)",
        "after_bad": "skipped: needs bad, which was FAILED (status 1)",
        "after_missing": "skipped: needs missing, which was skipped",
        "hanging": "TIMED OUT after 1 s",
        "late": "passed",
    }
    # Rows are there whole, of steps that failed and hung too; what is half a line is not.
    values = [
        (row["step"], row["value"]) for row in rows(tmp_path / "rows.jsonl") if "value" in row
    ]
    assert values == [("good", 1), ("bad", 2), ("hanging", 3)]
    summary = (tmp_path / "summary.txt").read_text()
    lines = [line.split(maxsplit=3) for line in summary.splitlines()]
    assert {line[0]: line[3] for line in lines[:7]} == verdicts(tmp_path)
    assert "cuDNN was tested" in summary
    assert "NOT tested" not in summary
    assert finished.stdout.endswith(summary)
    with tarfile.open(tmp_path / "logs.tar.gz") as logs:
        names = sorted(Path(name).stem for name in logs.getnames() if name.endswith(".log"))
        assert names == ["bad", "good", "hanging", "late", "missing"]
        text = logs.extractfile("logs/bad.log")
        assert text is not None
        assert b"no row {" in text.read()
    assert not is_running(int((tmp_path / "child").read_text())), "a step's children go with it"


def test_nothing_runs_beyond_the_deadline(tmp_path: Path) -> None:
    run = "least_seconds=1\nrun_step good 5\nrun_step hanging 50\nrun_step late 5\n"
    began = time.monotonic()
    finished = subprocess.run(
        ["bash", script(tmp_path, deadline=3, run=run)], capture_output=True, text=True, check=False
    )
    assert time.monotonic() - began < 8
    assert finished.returncode == 1
    found = verdicts(tmp_path)
    assert found["good"] == "passed"
    assert found["hanging"].startswith("TIMED OUT after")
    assert found["late"] == "skipped: no time left of 3 s"


def test_a_script_that_is_cut_off_says_so(tmp_path: Path) -> None:
    run = "run_step good 5\nrun_step hanging 50\nrun_step late 5\n"
    with subprocess.Popen(
        ["bash", script(tmp_path, run=run)], stdout=subprocess.PIPE, text=True
    ) as process:
        child = tmp_path / "child"
        while not child.exists() or not child.read_text().strip():
            time.sleep(0.05)
        # Killed at once, all of this would be there.
        summary = (tmp_path / "summary.txt").read_text()
        assert summary.splitlines()[1].split()[0] == "hanging"
        assert "was running when this was written" in summary
        assert [row["value"] for row in rows(tmp_path / "rows.jsonl") if "value" in row] == [1, 3]
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 143
    assert verdicts(tmp_path) == {"good": "passed", "hanging": "CUT OFF from outside"}
    assert output.endswith((tmp_path / "summary.txt").read_text())
    deadline = time.monotonic() + 5
    while is_running(int(child.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(int(child.read_text()))


@pytest.mark.parametrize(
    ("run", "wanted", "status"),
    [
        ("run_step good 5", "", 0),
        ("run_step good 5\nrun_step missing 5", "", 0),
        ("run_step missing 5", "", 77),
        ("run_step bad 5", "", 1),
        ("run_step good 5\nrun_step bad 5", "good", 0),
        ("run_step good 5", "godo", 1),
    ],
)
def test_the_status(run: str, wanted: str, status: int, tmp_path: Path) -> None:
    finished = subprocess.run(
        ["bash", script(tmp_path, run=run, wanted=wanted)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == status
    assert ("no step is called godo" in finished.stderr) == (wanted == "godo")


def run_on_gpu(folder: Path, steps: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    every = 'for f in $(compgen -A function step_); do eval "$f() { echo in $f; }"; done\n'
    (folder / "steps.sh").write_text(every + steps)
    out = folder / "out"
    return subprocess.run(
        ["bash", BENCHMARKS / "run_on_gpu.sh", *arguments],
        env={**os.environ, "OUT": str(out), "TEMPRA_GPU_STEPS": str(folder / "steps.sh")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_what_matters_most_is_run_first(tmp_path: Path) -> None:
    finished = run_on_gpu(tmp_path, 'step_trace() { echo "{\\"a\\": 1}" | keep_rows; exit 3; }')
    assert finished.returncode == 1, finished.stderr
    found = verdicts(tmp_path / "out")
    assert list(found) == [
        *("machine", "packages", "build", "device", "parity", "cudnn", "module", "trace", "gpt2"),
        *("gpt2_peer", "kernels", "decode", "operations", "memcheck", "racecheck", "llama"),
        *("llama_peer", "gpt2_own", "graphs"),
    ]
    assert found.pop("trace") == "FAILED (status 3)"
    assert set(found.values()) == {"passed"}, "a failure stops nothing that does not need it"
    summary = (tmp_path / "out" / "summary.txt").read_text()
    assert "cuDNN was NOT tested: it did not come to that" in summary
    written = list((tmp_path / "out").iterdir())
    assert len(written) == 3, "no more files than can be brought back"
    for row in rows(next((tmp_path / "out").glob("*.jsonl"))):
        assert {"step", "gpu", "driver", "commit"} <= set(row)


def test_without_a_gpu_nothing_has_been_shown(tmp_path: Path) -> None:
    missing = "step_device() { echo 'SKIPPED: nothing was compared: no driver'; return 77; }"
    finished = run_on_gpu(tmp_path, missing)
    assert finished.returncode == 77, finished.stderr
    found = verdicts(tmp_path / "out")
    assert found["device"] == "skipped: nothing was compared: no driver"
    assert found["parity"] == "skipped: needs device, which was skipped"
    assert {name for name, verdict in found.items() if verdict == "passed"} == {
        *("machine", "packages", "build", "module")
    }


def test_a_build_that_failed_is_a_failure(tmp_path: Path) -> None:
    finished = run_on_gpu(tmp_path, "step_build() { false; }")
    assert finished.returncode == 1, finished.stderr
    found = verdicts(tmp_path / "out")
    assert found["device"] == "skipped: needs build, which was FAILED (status 1)"
    assert found["trace"] == "skipped: needs device, which was skipped"


def test_a_few_steps_alone(tmp_path: Path) -> None:
    finished = run_on_gpu(tmp_path, "", "memcheck", "racecheck")
    assert finished.returncode == 0, finished.stderr
    assert list(verdicts(tmp_path / "out")) == [
        *("machine", "packages", "build", "device", "module", "memcheck", "racecheck")
    ]


@pytest.mark.parametrize(
    ("status", "table", "said"),
    [
        (
            0,
            "attention by cuDNN bf16 packed ok 1e-3\nattention: cuDNN 9.18 (x)",
            "was tested: 1 ca",
        ),
        (
            0,
            "attention bf16 packed ok 1e-3\nattention: our own kernels: none",
            "NOT tested: our own",
        ),
        (1, "attention by cuDNN bf16 packed MISMATCH 1\n", "was tested: 1 cases"),
        (
            0,
            "attention by cuDNN bf16 packed ok 1e-3\nattention: cuDNN 9.18 (x); 0 plans, 9 left",
            "NOT tested: cuDNN 9.18 (x); 0 plans",
        ),
        (9, "attention bf16 packed ok 1e-3", "NOT tested: the suite did not end"),
    ],
)
def test_what_is_said_of_cudnn(status: int, table: str, said: str, tmp_path: Path) -> None:
    """By the step as it is, of a suite that prints this."""
    suite = tmp_path / "cuda" / "tests" / "parity"
    suite.parent.mkdir(parents=True)
    suite.write_text(f"#!/bin/sh\ncat <<'END'\n{table}\nEND\nexit {status}\n")
    suite.chmod(0o755)
    own = "".join((BENCHMARKS / "run_on_gpu.sh").read_text().partition("compare_kernels() {")[1:])
    steps = own[: own.index("step_trace")] + f"export BUILD={tmp_path}\n"
    finished = run_on_gpu(tmp_path, steps, "parity")
    assert finished.returncode == (0 if status == 0 else 1)
    assert said in (tmp_path / "out" / "summary.txt").read_text()
    (row,) = (r for r in rows(next((tmp_path / "out").glob("*.jsonl"))) if "cases" in r)
    assert (row["cases"], row["mismatches"]) == (1, int("MISMATCH" in table))


@pytest.mark.parametrize(
    ("configured", "built", "status", "said"),
    [
        ("true", "true", 0, "it did not come to that"),
        ("[[ $* == *OFF* ]] || { echo 'attention by cuDNN needs x.h'; false; }", "true", 0, "x.h"),
        (
            "made=$*; [[ $* != *OFF* ]] || touch off",
            "[[ -e off ]] || { echo error: y; false; }",
            0,
            "y",
        ),
        ("true", "echo error: z; false", 1, "that failed: error: z"),
    ],
)
def test_a_build_without_cudnn_is_named(
    configured: str, built: str, status: int, said: str, tmp_path: Path
) -> None:
    own = "".join((BENCHMARKS / "run_on_gpu.sh").read_text().partition("step_build() {")[1:])
    steps = own[: own.index("\n}\n") + 3] + (
        f"export BUILD={tmp_path}/build LIBRARY={tmp_path}/steps.sh\n"
        f"configure() {{ cd {tmp_path}; {configured}; }}\nbuild_all() {{ {built}; }}\n"
    )
    finished = run_on_gpu(tmp_path, steps, "build")
    assert finished.returncode == status, finished.stdout + finished.stderr
    (line,) = (
        line
        for line in (tmp_path / "out" / "summary.txt").read_text().splitlines()
        if line.startswith("cuDNN was NOT tested: ")
    )
    assert said in line
