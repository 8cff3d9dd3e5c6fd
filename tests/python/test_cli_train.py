"""`tempra train` as people use it: outputs, files, exit codes, and every mistake in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import tempra
from tempra.checkpoint import load_checkpoint
from tempra.cli.main import main
from tempra.models import TransformerConfig
from tempra.train.metrics import read_metrics

TEXT = "The quick brown fox jumps over the lazy dog. Pack my box with five dozen jugs.\n" * 80

CONFIG: dict[str, dict[str, Any]] = {
    "model": {"width": 16, "layers": 1, "heads": 2, "context": 16},
    "data": {"train": ["text.txt"]},
    "tokenizer": {"kind": "byte"},
    "train": {"steps": 12, "batch_size": 4, "block": 16},
    "evaluation": {"interval": 5, "batches": 2},
    "checkpoint": {"interval": 4, "dir": "out"},
    "logging": {"interval": 2},
}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command in a folder with a text and a configuration; (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["train", *arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


def start(run: Run, *overrides: str) -> tuple[int, str, str]:
    return run("run", "--config", "config.yaml", *overrides)


def losses(folder: str) -> list[tuple[str, int, str]]:
    return [
        (record["kind"], record["step"], float(record["loss"]).hex())
        for record in read_metrics(Path(folder) / "metrics.jsonl")
    ]


def one_line(text: str) -> str:
    """The message; before it, only the phases of tokenizing may have been reported."""
    *before, message = text.splitlines()
    assert all(line.endswith("MB of text") for line in before), text
    assert message.startswith("tempra: "), text
    return message


def test_run_writes_the_folder_and_says_what_runs(run: Run) -> None:
    code, out, err = start(run)
    assert code == 0, err
    for word in ("device", "threads", "numbers", "fp32", "64 tokens", "parameters", "memory"):
        assert word in out, word
    assert "finished: step 12 of 12" in out
    assert {path.name for path in Path("out").iterdir()} == {
        "checkpoints",
        "config.yaml",
        "lock",
        "metrics.jsonl",
    }
    steps = [step for kind, step, _ in losses("out") if kind == "step"]
    assert steps == list(range(1, 13))
    assert [step for kind, step, _ in losses("out") if kind == "validation"] == [5, 10, 12]


def test_checkpoint_is_complete_and_self_contained(run: Run) -> None:
    start(run)
    checkpoint = load_checkpoint("out")
    assert checkpoint.step == 12
    assert set(os.listdir("out/checkpoints/step-00000012")) == {
        "model.safetensors",
        "config.json",
        "optimizer.safetensors",
        "state.json",
        "config.yaml",
        "tokenizer.tempra.json",
        "manifest.json",
    }
    config = yaml.safe_load(checkpoint.run_config)
    assert config["schedule"]["decay_steps"] == 12
    assert config["train"]["steps"] == 12


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_resumed_run_repeats_the_whole_one(run: Run, family: str, dtype: str) -> None:
    options = [f"model.family={family}", f"train.dtype={dtype}", "model.dropout=0.1"]
    options += ["train.gradient_accumulation=2"]
    assert start(run, "checkpoint.dir=whole", *options)[0] == 0
    assert start(run, "checkpoint.dir=cut", *options)[0] == 0
    code, _, err = run("resume", "--checkpoint", "cut/checkpoints/step-00000008")
    assert code == 0, err
    assert losses("cut") == losses("whole")
    for name in ("model.safetensors", "optimizer.safetensors"):
        path = f"checkpoints/step-00000012/{name}"
        assert Path("cut", path).read_bytes() == Path("whole", path).read_bytes()
    assert Path("cut/checkpoints/step-00000012.set-aside-1").is_dir()


def test_resumed_run_does_not_depend_on_threads(run: Run) -> None:
    from tempra import _core

    before = _core.get_num_threads()
    try:
        start(run, "checkpoint.dir=whole", "train.threads=2")
        start(run, "checkpoint.dir=cut", "train.threads=2")
        step = "cut/checkpoints/step-00000008"
        assert run("resume", "--checkpoint", step, "train.threads=1")[0] == 0
    finally:
        _core.set_num_threads(before)
    assert losses("cut") == losses("whole")


def test_checkpoint_copied_out_of_its_run_continues_beside_itself(run: Run) -> None:
    start(run)
    Path("elsewhere").mkdir()
    Path("out/checkpoints/step-00000008").rename("elsewhere/step-00000008")
    code, _, err = run("resume", "--checkpoint", "elsewhere/step-00000008")
    assert code == 0, err
    assert load_checkpoint("elsewhere").step == 12
    assert losses("elsewhere") == [record for record in losses("out") if record[1] > 8]


def test_another_instruction_set_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempra.train.resume

    start(run)
    monkeypatch.setattr(tempra.train.resume, "current_isa", lambda: "abacus")
    code, out, err = run("resume", "--checkpoint", "out", "train.steps=14")
    assert code == 0, err
    assert "here they are abacus" in out


def test_finished_run_says_how_to_extend_it_and_extends(run: Run) -> None:
    start(run)
    code, out, _ = run("resume", "--checkpoint", "out")
    assert code == 0
    assert "finished at step 12" in out
    assert "train.steps=" in out
    code, out, err = run("resume", "--checkpoint", "out", "train.steps=20")
    assert code == 0, err
    assert "reaches 0.0001 at step 12 and stays" in out
    records = [r for r in read_metrics("out/metrics.jsonl") if r["kind"] == "step"]
    assert [record["step"] for record in records] == list(range(1, 21))
    assert [record["learning_rate"] for record in records[12:]] == [1e-4] * 8


def test_extension_may_move_the_decay(run: Run) -> None:
    start(run)
    code, out, err = run(
        "resume", "--checkpoint", "out", "train.steps=20", "schedule.decay_steps=20"
    )
    assert code == 0, err
    assert "reaches 0.0001 at step 20" in out
    records = [r for r in read_metrics("out/metrics.jsonl") if r["kind"] == "step"]
    assert records[13]["learning_rate"] > 1e-4


@pytest.mark.parametrize(
    "override",
    [
        "train.batch_size=8",
        "optimizer.lr=0.1",
        "model.width=32",
        "train.seed=2",
        "train.dtype=bf16",
    ],
)
def test_resume_refuses_what_would_change_the_numbers(run: Run, override: str) -> None:
    start(run)
    code, _, err = run("resume", "--checkpoint", "out", override)
    assert code == 2
    assert override.partition("=")[0] in one_line(err)


def test_resume_on_changed_text_is_refused(run: Run) -> None:
    start(run)
    Path("text.txt").write_text(TEXT + "More text than before.\n" * 50)
    code, _, err = run("resume", "--checkpoint", "out", "train.steps=20")
    assert code == 1
    assert "the data is not what the checkpoint was trained on" in one_line(err)
    assert load_checkpoint("out").step == 12  # nothing was set aside


def test_resume_on_other_text_of_the_same_length_is_refused(run: Run) -> None:
    start(run)
    Path("text.txt").write_text(TEXT.replace("brown", "green"))
    code, _, err = run("resume", "--checkpoint", "out", "train.steps=20")
    assert code == 1
    assert "checksum was" in one_line(err)


def test_damaged_newest_checkpoint_falls_back_and_says_so(run: Run) -> None:
    start(run)
    path = Path("out/checkpoints/step-00000012/optimizer.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    code, out, err = run("resume", "--checkpoint", "out")
    assert code == 0, err
    assert "fell back to" in out
    assert "optimizer.safetensors is damaged" in out
    assert load_checkpoint("out").step == 12


def test_run_killed_before_its_first_checkpoint_starts_anew(run: Run) -> None:
    start(run, "checkpoint.dir=whole")
    Path("out").mkdir()
    Path("out/config.yaml").write_bytes(Path("whole/config.yaml").read_bytes())
    code, out, err = run("resume", "--checkpoint", "out")
    assert code == 0, err
    assert "starting from the beginning" in out
    assert losses("out") == losses("whole")


def test_fine_tuning_takes_weights_only(run: Run) -> None:
    start(run)
    code, _, err = start(run, "checkpoint.dir=tuned", "train.init_from=out", "train.seed=7")
    assert code == 0, err
    first = next(r for r in read_metrics("tuned/metrics.jsonl") if r["kind"] == "step")
    last = [r for r in read_metrics("out/metrics.jsonl") if r["kind"] == "step"][-1]
    assert first["step"] == 1
    assert first["tokens"] == 64
    assert abs(first["loss"] - last["loss"]) < 0.5


def test_fine_tuning_from_another_shape_is_refused(run: Run) -> None:
    start(run)
    code, _, err = start(run, "checkpoint.dir=b", "train.init_from=out", "model.width=32")
    assert code == 1
    assert "has shape" in one_line(err)


def test_sample_is_printed_and_recorded(run: Run) -> None:
    code, out, err = start(run, "evaluation.sample_tokens=5", "evaluation.sample_prompt=The")
    assert code == 0, err
    assert "the model writes:\nThe" in out
    samples = [r for r in read_metrics("out/metrics.jsonl") if r["kind"] == "sample"]
    assert [sample["step"] for sample in samples] == [5, 10, 12]
    assert all(sample["text"].startswith("The") for sample in samples)


def test_early_stop(run: Run) -> None:
    code, out, err = start(
        run, "evaluation.patience=1", "evaluation.interval=1", "optimizer.lr=1e-9"
    )
    assert code == 0, err
    assert "stopped: no better validation loss" in out


def test_info_shows_runs_and_damage(run: Run) -> None:
    start(run)
    code, out, _ = run("info", "out")
    assert code == 0
    assert "step-00000012" in out
    assert "verified" in out
    assert "latest" in out
    Path("out/checkpoints/step-00000008/state.json").unlink()
    assert "state.json is missing" in run("info", "out")[1]
    assert "instruction set" in run("info")[1]
    code, _, err = run("info", ".")
    assert code == 1
    assert "is no run" in one_line(err)


def test_plan_runs_nothing(run: Run) -> None:
    code, out, err = run("plan", "--config", "config.yaml")
    assert code == 0, err
    assert "parameters" in out
    assert "expected at the peak" in out
    assert not Path("out").exists()
    code, out, _ = run("plan", "model.preset=xxl", "tokenizer.vocab_size=32000")
    assert code == 0
    count = TransformerConfig.from_preset("xxl", 32000).parameter_count()
    assert f"parameters  {count:,}" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train.stesp=5"], 2, ["train.stesp", "train.steps"]),
        (["train.batch_size=32.5"], 2, ["train.batch_size", "32.5"]),
        (["optimizer.lr=nan"], 2, ["optimizer.lr"]),
        (["data.train=absent.txt"], 2, ["absent.txt"]),
        (["train.block=64"], 2, ["train.block"]),
        (["model.vocab_size=100"], 2, ["model.vocab_size"]),
        (["train.init_from=absent"], 1, ["absent"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(run: Run, arguments: list[str], code: int, words: list[str]) -> None:
    found, _, err = start(run, *arguments)
    assert found == code, err
    for word in words:
        assert word in one_line(err)
    assert not any(Path("out").glob("checkpoints/step-*"))


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"", "empty"), (b"\xff\xfe\x00bad", "text.txt"), (b"short", "train")],
    ids=["empty", "binary", "short"],
)
def test_unusable_text_is_one_line(run: Run, content: bytes, word: str) -> None:
    Path("text.txt").write_bytes(content)
    code, _, err = start(run)
    assert code in (1, 2)
    assert word in one_line(err)
    assert not Path("out").exists()  # a run that never began leaves no folder


def test_run_in_a_used_folder_is_refused(run: Run) -> None:
    start(run)
    code, _, err = start(run)
    assert code == 1
    assert "already holds a run" in one_line(err)
    assert load_checkpoint("out").step == 12


def test_a_file_in_place_of_the_run_folder_is_named_as_one(run: Run) -> None:
    code, _, err = run("run", "--config", "config.yaml", "checkpoint.dir=text.txt")
    assert code == 1
    assert "run folder text.txt: is a file, needs a folder" in one_line(err)


def test_an_empty_configuration_is_not_taken_for_the_quickstart(run: Run) -> None:
    Path("empty.yaml").write_text("# nothing\n")
    code, _, err = run("run", "--config", "empty.yaml")
    assert code == 2
    assert "empty.yaml: is empty, needs sections" in one_line(err)


def test_malformed_lines_are_left_out_by_the_setting_that_the_error_names(run: Run) -> None:
    good = [f'{{"instruction": "add {n}", "output": "is {n}"}}' for n in range(400)]
    Path("some.jsonl").write_text("\n".join([*good, '{"instruction": "a"}']))
    settings = ("data.train=some.jsonl", "tokenizer.kind=byte", "train.steps=1", "train.block=64")
    code, _, err = run("run", *settings)
    assert code == 1
    setting = one_line(err.splitlines()[-1] + "\n").split()[-1]
    assert setting == "data.skip_bad_lines=1"
    assert run("run", *settings, setting)[0] == 0


def test_nothing_to_resume_is_one_line(run: Run) -> None:
    code, _, err = run("resume", "--checkpoint", "absent")
    assert code == 1
    assert "does not exist" in one_line(err)
    Path("empty").mkdir()
    code, _, err = run("resume", "--checkpoint", "empty")
    assert code == 1
    assert "holds no checkpoint" in one_line(err)


def test_interrupted_command_exits_3_and_resumes_exactly(run: Run) -> None:
    start(run, "checkpoint.dir=whole", "train.steps=200")
    command = [sys.executable, "-m", "tempra", "train"]
    process = subprocess.Popen(
        [*command, "run", "--config", "config.yaml", "train.steps=200"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(tempra.__file__).parents[1])},
    )
    assert process.stdout is not None
    while "loss" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert "interrupted by SIGINT at step" in out
    assert "tempra train resume --checkpoint out" in out
    assert run("resume", "--checkpoint", "out")[0] == 0
    assert losses("out") == losses("whole")


def test_second_signal_stops_at_once_and_loses_no_checkpoint(run: Run) -> None:
    start(run, "checkpoint.dir=whole", "train.steps=40")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tempra",
            "train",
            "run",
            "--config",
            "config.yaml",
            "train.steps=40",
            "evaluation.interval=0",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(tempra.__file__).parents[1])},
    )
    assert process.stdout is not None
    while "memory" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (0, 3), err
    code, _, err = run("resume", "--checkpoint", "out")
    assert code == 0, err
    steps = [record for record in losses("whole") if record[0] == "step"]
    assert [record for record in losses("out") if record[0] == "step"] == steps


def test_undefined_numbers_end_the_run_with_a_report(run: Run) -> None:
    start(run)
    checkpoint = Path("out/checkpoints/step-00000012")
    broken = Path("broken")
    broken.mkdir()
    content = bytearray((checkpoint / "model.safetensors").read_bytes())
    content[-4:] = b"\x00\x00\xc0\x7f"  # a NaN as the last weight
    (broken / "model.safetensors").write_bytes(bytes(content))
    code, _, err = start(
        run, "checkpoint.dir=second", "train.init_from=broken", "train.non_finite_limit=3"
    )
    assert code == 1
    message = one_line(err)
    assert "3 updates in a row" in message or "4 updates in a row" in message
    assert "first not finite: parameter" in message


def test_quickstart_settings_are_valid_and_join_overrides(run: Run) -> None:
    from tempra.train.quickstart import load_run_config

    assert load_run_config(None).tokenizer.vocab_size == 1024
    joined = load_run_config(None, ["tokenizer.kind=char", "train.steps=5"])
    assert joined.tokenizer.vocab_size is None
    assert joined.train.steps == 5


def test_epochs_take_the_place_of_the_quickstarts_steps(run: Run) -> None:
    from tempra.train.quickstart import load_run_config

    config = load_run_config(None, ["train.epochs=2", "data.train=text.txt"])
    assert (config.train.steps, config.train.epochs) == (None, 2.0)
    code, _, err = start(run, "train.epochs=2")
    assert code == 2
    assert "train.epochs: got 2.0 beside train.steps (12)" in err
    values = {**CONFIG, "train": {"epochs": 0.5, "batch_size": 4, "block": 16}}
    Path("epochs.yaml").write_text(yaml.safe_dump(values))
    code, _, err = run("run", "--config", "epochs.yaml")
    assert code == 0, err
    last = [each for each in read_metrics(Path("out/metrics.jsonl")) if "epoch" in each][-1]
    assert 0.5 <= last["epoch"] < 0.52
    recorded = yaml.safe_load(Path("out/config.yaml").read_text())
    assert recorded["train"]["steps"] == last["step"]
    assert recorded["schedule"]["decay_steps"] == last["step"]
    code, _, err = run("run", "stages.one.train.steps=3")
    assert code == 2
    assert "there is no stage 'one'; there are: none" in err


def test_metrics_are_json_lines(run: Run) -> None:
    start(run)
    for line in Path("out/metrics.jsonl").read_text().splitlines():
        assert isinstance(json.loads(line), dict)
