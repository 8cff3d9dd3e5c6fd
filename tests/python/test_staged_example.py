"""examples/staged_training does what it says, here with a few steps of each stage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from staged_run import records
from tempra.cli.main import main

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "staged_training"


def test_the_example_runs_through_its_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, str(EXAMPLE / "write_data.py"), str(tmp_path)], check=True)
    values = yaml.safe_load((EXAMPLE / "config.yaml").read_text())
    stages = [stage["name"] for stage in values["stages"]]
    assert stages == ["pretrain", "instruct", "anneal"]
    # What the configuration gives by epochs is given by steps here.
    (instruct,) = [stage for stage in values["stages"] if "epochs" in stage["train"]]
    instruct["train"] = {"steps": 2, "block": instruct["train"]["block"]}
    Path("config.yaml").write_text(yaml.safe_dump(values))
    small = [
        "model.width=16",
        "model.layers=1",
        "train.batch_size=2",
        "evaluation.batches=1",
        "checkpoint.dir=out",
        "stages.pretrain.train.steps=3",
        "stages.anneal.train.steps=2",
        "stages.instruct.schedule.warmup_steps=1",
        "logging.interval=1",
    ]
    code = main(["train", "plan", "--config", str(EXAMPLE / "config.yaml")])
    captured = capfd.readouterr()
    assert code == 0, captured.err
    assert captured.out.count("\nstage  ") == 3
    code = main(["train", "run", "--config", "config.yaml", *small])
    captured = capfd.readouterr()
    assert code == 0, captured.err
    assert "finished: step 7 of 7" in captured.out
    steps = [record for record in records("out") if record["kind"] == "step"]
    assert [record["stage"] for record in steps] == (
        ["pretrain"] * 3 + ["instruct"] * 2 + ["anneal"] * 2
    )
    assert set(steps[0]["source_epochs"]) == {"numbers", "sums"}
