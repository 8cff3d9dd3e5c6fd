"""Runs of several stages: what they do, what they say, and that they resume exactly anywhere."""

from __future__ import annotations

import copy
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from staged_run import CONFIG, STEPS, records, write_text
from tempra.checkpoint import CheckpointStore, load_checkpoint
from tempra.cli.main import main
from tempra.train.config import LlmTrainingConfig
from tempra.train.language_model import train_with_result

Run = Callable[..., tuple[int, str, str]]
FILES = ("model.safetensors", "optimizer.safetensors", "state.json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the whole run was made, in one go."""
    folder = tmp_path_factory.mktemp("stages")
    write_text(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    command = [sys.executable, "-m", "tempra", "train", "run", "--config", "config.yaml"]
    outcome = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    (folder / "output.txt").write_text(outcome.stdout)
    return folder


@pytest.fixture
def run(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Run:
    """`tempra train ...` in a copy of that folder, where the text is tokenized already."""
    shutil.copytree(finished, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["train", *arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


def write_config(name: str = "config.yaml", **stages: dict[str, Any]) -> None:
    """The configuration with sections of some stages changed."""
    config = copy.deepcopy(CONFIG)
    for stage in config["stages"]:
        for section, fields in stages.get(stage["name"], {}).items():
            stage[section] = {**stage.get(section, {}), **fields}
    Path(name).write_text(yaml.safe_dump(config))


def same_end(one: str, other: str = "whole", step: int = STEPS) -> None:
    for name in FILES:
        path = f"checkpoints/step-{step:08d}/{name}"
        assert Path(one, path).read_bytes() == Path(other, path).read_bytes(), name


@pytest.mark.parametrize("step", [0, 1, 6, 8, 9, 10, 12, 15, 16, 17, 20, 21])
def test_resume_at_any_step_of_any_stage(run: Run, step: int) -> None:
    """Within stages, with half an epoch of a mixture read, and at both boundaries (9 and 16)."""
    shutil.copytree("whole", "cut")
    code, _, err = run("resume", "--checkpoint", f"cut/checkpoints/step-{step:08d}")
    assert code == 0, err
    assert records("cut") == records("whole")
    same_end("cut")


def test_a_run_that_is_killed_again_and_again(run: Run) -> None:
    """SIGKILL wherever it hits; what is resumed ends with the same bits."""
    choose = random.Random(1)
    command = [sys.executable, "-m", "tempra", "train"]
    arguments = ["run", "--config", "config.yaml", "checkpoint.dir=cut"]
    kills, stages = 0, set()
    while True:
        process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        goal = max((record["step"] for record in read(Path("cut"))), default=0)
        goal += choose.randint(2, 5)
        while process.poll() is None:
            if any(record["step"] >= goal for record in read(Path("cut"))):
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL
        kills += 1
        stages.add(load_checkpoint(Path("cut")).state["stage"]["number"])
        arguments = ["resume", "--checkpoint", "cut"]
        assert kills < 40
    assert kills >= 3
    assert stages == {0, 1, 2}
    assert records("cut") == records("whole")
    same_end("cut")


def read(folder: Path) -> list[dict[str, Any]]:
    """The complete lines of metrics that are there by now."""
    file = folder / "metrics.jsonl"
    text = file.read_text() if file.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def test_stages_are_named_in_records_and_output(finished: Path) -> None:
    found = records(finished / "whole")
    assert [record["stage"] for record in found if record["kind"] == "step"] == (
        ["pretrain"] * 9 + ["instruct"] * 7 + ["anneal"] * 6
    )
    begun = [record for record in found if record["kind"] == "stage"]
    assert [(record["stage"], record["step"], record["steps"]) for record in begun] == [
        ("pretrain", 1, 9),
        ("instruct", 10, 7),
        ("anneal", 17, 6),
    ]
    shares = [[source["share"] for source in record["sources"]] for record in begun]
    assert shares[0] == [0.75, 0.25]
    assert shares[1] == [1.0]
    assert sum(shares[2]) == 1.0
    # How often each source is read is announced, and is what has been read in the end.
    for record in begun:
        last = [r for r in found if r["kind"] == "step" and r["stage"] == record["stage"]][-1]
        names = [source["name"] for source in record["sources"]]
        announced = [source["epochs"] for source in record["sources"]]
        if len(names) > 1:
            assert last["source_epochs"] == dict(zip(names, announced, strict=True))
        else:
            assert last["epoch"] == announced[0]
    output = (finished / "output.txt").read_text()
    for words in (
        "stage       pretrain: 9 steps of 48 tokens (2 x 24), 432 tokens",
        "stage       instruct: 7 steps of 160 tokens (2 x 40 x 2 batches)",
        "linear, warm-up 2, fresh optimizer",
        f"run         {STEPS} steps",
        "source      pretrain: web: ",
        "75.0 % of the sequences",
        "packing     streaming, shortest_first",
        "stage anneal from step 17",
        "instruct  step 16/22  validation loss",
    ):
        assert words in output, words


def test_each_stage_has_its_own_schedule(finished: Path) -> None:
    rates = [
        (record["stage"], record["learning_rate"])
        for record in records(finished / "whole")
        if record["kind"] == "step"
    ]
    pretrain = [rate for stage, rate in rates if stage == "pretrain"]
    instruct = [rate for stage, rate in rates if stage == "instruct"]
    assert pretrain[0] == 0.01
    assert pretrain[-1] < 0.002
    assert instruct[:3] == pytest.approx([0.004 / 3, 0.008 / 3, 0.004])
    assert instruct[-1] == pytest.approx(0.0004 + (0.004 - 0.0004) / 5)
    assert [rate for stage, rate in rates if stage == "anneal"] == [0.01] * 6


def test_checkpoints_say_where_in_which_stage(finished: Path) -> None:
    def stage(step: int) -> dict[str, int]:
        folder = finished / f"whole/checkpoints/step-{step:08d}"
        return json.loads((folder / "state.json").read_text())["stage"]  # type: ignore[no-any-return]

    assert stage(9) == {"number": 0, "first_step": 0, "first_batch": 0}
    assert stage(10) == {"number": 1, "first_step": 9, "first_batch": 9}
    assert stage(22) == {"number": 2, "first_step": 16, "first_batch": 9 + 14}


def test_an_optimizer_is_reset_where_asked(finished: Path) -> None:
    def count(step: int) -> int:
        folder = finished / f"whole/checkpoints/step-{step:08d}"
        return int(
            json.loads((folder / "state.json").read_text())["optimizers"]["adamw"]["step_count"]
        )

    assert [count(9), count(10), count(16), count(17)] == [9, 1, 7, 8]


def test_best_is_that_of_the_stage(finished: Path) -> None:
    """Losses on other data say nothing about each other: a new stage begins anew."""
    state = json.loads((finished / "whole/checkpoints/step-00000022/state.json").read_text())
    validations = [r for r in records(finished / "whole") if r["kind"] == "validation"]
    assert {record["stage"] for record in validations} == {"pretrain", "instruct", "anneal"}
    last = [record for record in validations if record["stage"] == "anneal"]
    best = min(last, key=lambda record: record["loss"])
    assert state["best"]["step"] == best["step"]
    assert state["best"]["loss"] == best["loss"]
    assert CheckpointStore(finished / "whole/checkpoints").best() == best["step"]
    for stage in ("pretrain", "instruct"):
        of_stage = [record for record in validations if record["stage"] == stage]
        lowest = [min(r["loss"] for r in of_stage[: i + 1]) for i in range(len(of_stage))]
        assert [record["best_loss"] for record in of_stage] == lowest


def test_a_worse_stage_still_has_its_own_best(run: Run) -> None:
    """Also where every loss of the new stage is above those of the one before."""
    write_config(
        "long.yaml",
        pretrain={"train": {"steps": 40}},
        instruct={"optimizer": {"lr": 1e-9}, "train": {"steps": 4}},
        anneal={"train": {"steps": 1}, "optimizer": {"lr": 1e-9}},
    )
    code, _, err = run("run", "--config", "long.yaml", "checkpoint.dir=long")
    assert code == 0, err
    validations = [record for record in records("long") if record["kind"] == "validation"]
    before = min(r["loss"] for r in validations if r["stage"] == "pretrain")
    instruct = [r for r in validations if r["stage"] == "instruct"]
    assert min(r["loss"] for r in instruct) > before
    assert all(r["best_loss"] > before for r in instruct)


def test_the_end_of_every_stage_is_saved(run: Run) -> None:
    code, _, err = run(
        "run",
        "--config",
        "config.yaml",
        "checkpoint.interval=1000",
        "checkpoint.keep_best=false",
        "checkpoint.dir=few",
    )
    assert code == 0, err
    assert CheckpointStore(Path("few/checkpoints")).steps() == [0, 9, 16, STEPS]
    code, _, err = run("resume", "--checkpoint", "few/checkpoints/step-00000009")
    assert code == 0, err
    same_end("few")


def test_validation_of_a_mixture_weighs_sources_by_their_shares(finished: Path) -> None:
    found = [r for r in records(finished / "whole") if r["kind"] == "validation"]
    for record in found:
        if record["stage"] == "pretrain":
            losses = record["source_losses"]
            assert record["loss"] == pytest.approx(0.75 * losses["web"] + 0.25 * losses["books"])
        if record["stage"] == "instruct":
            assert "source_losses" not in record


def test_info_names_the_stage(run: Run) -> None:
    code, out, _ = run("info", "whole")
    assert code == 0
    for words in (
        "last step   22 (anneal), loss",
        "stage       pretrain: 9 steps from 1 on, read web ",
        "stage       instruct: 7 steps from 10 on, read the text ",
        "validation  step 22 (anneal), loss",
        "            chat: loss",
    ):
        assert words in out, words


def test_plan_shows_all_stages_and_the_largest(run: Run) -> None:
    code, out, _ = run("plan", "--config", "config.yaml")
    assert code == 0
    lines = [line for line in out.splitlines() if line.startswith("stage ")]
    assert [line.split()[1] for line in lines] == ["pretrain:", "instruct:", "anneal:"]
    total = 9 * 48 + 7 * 160 + 6 * 48
    assert f"run         22 steps, {total:,} tokens" in out
    assert "expected at the peak of stage instruct" in out


def test_epochs_decide_the_steps_and_are_recorded_as_such(run: Run) -> None:
    write_config("epochs.yaml", instruct={"train": {"epochs": 1.5, "steps": None}})
    config = yaml.safe_load(Path("epochs.yaml").read_text())
    config["stages"][1]["train"].pop("steps")
    Path("epochs.yaml").write_text(yaml.safe_dump(config))
    code, out, _ = run("plan", "--config", "epochs.yaml")
    assert code == 0
    assert "stage       instruct: " in out
    code, out, err = run("run", "--config", "epochs.yaml", "checkpoint.dir=out")
    assert code == 0, err
    last = [r for r in records("out") if r["kind"] == "step" and r["stage"] == "instruct"][-1]
    assert 1.5 <= last["epoch"] < 1.7
    stages = yaml.safe_load(Path("out/config.yaml").read_text())["stages"]
    steps = last["step"] - 9
    assert stages[1]["train"]["steps"] == steps
    assert "epochs" not in stages[1]["train"]
    assert f"stage       instruct: {steps} steps of" in out


def test_the_last_stage_can_become_longer_and_others_cannot_change(run: Run) -> None:
    code, out, _ = run("resume", "--checkpoint", "whole")
    assert code == 0
    assert "stages.anneal.train.steps=12" in out
    code, out, err = run("resume", "--checkpoint", "whole", "stages.anneal.train.steps=8")
    assert code == 0, err
    assert "to step 8 of stage anneal" in out
    assert records("whole")[-1]["step"] == STEPS + 2
    for override, words in (
        (
            "stages.pretrain.train.steps=10",
            "began at step 16, but the stages before it now have 17",
        ),
        ("stages.anneal.optimizer.lr=1", "optimizer.lr: cannot change when a run is resumed"),
        ("stages.pretrian.train.steps=8", "no stage 'pretrian'; there are: pretrain, instruct"),
        ("stages.anneal.train.stpes=8", "did you mean 'train.steps'"),
        ("stages.anneal=8", "a field of a stage is written stages.NAME.section.field=value"),
        ("stages.anneal.train.steps=5", "step 24; resume an earlier one"),
    ):
        code, _, err = run("resume", "--checkpoint", "whole", override)
        assert code in (1, 2)
        assert words in err, err


def test_an_earlier_stage_can_become_longer_before_it_ends(run: Run) -> None:
    checkpoint = "whole/checkpoints/step-00000006"
    code, _, err = run("resume", "--checkpoint", checkpoint, "stages.pretrain.train.steps=11")
    assert code == 0, err
    assert records("whole")[-1]["step"] == STEPS + 2
    # The learning rate keeps to the nine steps of the beginning.
    rates = [
        r["learning_rate"]
        for r in records("whole")
        if r.get("stage") == "pretrain" and r["kind"] == "step"
    ]
    assert rates[-2:] == pytest.approx([0.001, 0.001])
    code, _, err = run(
        "resume", "--checkpoint", "whole/checkpoints/step-00000008", "stages.pretrain.train.steps=7"
    )
    assert code == 1
    assert "has had 8 steps, but is to have 7" in err


def test_other_data_is_no_continuation(run: Run) -> None:
    Path("chat.jsonl").write_text(Path("chat.jsonl").read_text().replace("quick", "slick"))
    code, _, err = run("resume", "--checkpoint", "whole/checkpoints/step-00000012")
    assert code == 1
    assert "the data is not what the checkpoint was trained on" in err


def test_patience_ends_the_last_stage_only(run: Run) -> None:
    settings = {"patience": 1, "interval": 1}
    config = copy.deepcopy(CONFIG)
    # The first stage learns nothing either, and is not ended by it.
    config["stages"][0] |= {"evaluation": {"interval": 1}, "optimizer": {"lr": 1e-12}}
    config["stages"][2]["evaluation"] = settings
    config["stages"][2]["optimizer"] = {"lr": 1e-12}
    config["stages"][2]["train"] = {"steps": 50}
    config["checkpoint"]["dir"] = "patient"
    result = train_with_result(LlmTrainingConfig.from_mapping(config))
    assert result.report.status == "stopped"
    assert 16 < result.report.step < 30


def test_stages_share_the_context_of_the_longest() -> None:
    config = LlmTrainingConfig.from_mapping(CONFIG)
    assert [stage.config.model_sizes().context for stage in config.stage_runs()] == [40] * 3
    assert [stage.config.sequence_length for stage in config.stage_runs()] == [24, 40, 24]


def test_stages_read_the_same_text_in_different_orders(run: Run) -> None:
    """The web pages come twice; another stage does not repeat the order of the first."""
    from tempra.train.run_text import open_run_text
    from tempra.train.stage_data import StageBatches

    config = LlmTrainingConfig.from_mapping(CONFIG)
    runs, text = config.stage_runs(), open_run_text(config)
    one = StageBatches(runs[0].config, text.stages[0], stage=0)
    other = StageBatches(runs[0].config, text.stages[0], stage=1)
    assert one.batch(0).tokens.tolist() != other.batch(0).tokens.tolist()
