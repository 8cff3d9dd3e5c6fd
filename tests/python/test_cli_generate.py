"""`tempra generate` and `tempra eval`: what they print, and one line for each mistake."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tempra.cli.main import main

TEXT = "the quick brown fox jumps over the lazy dog. " * 120


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a very small model for a few steps."""
    folder = tmp_path_factory.mktemp("run")
    text = folder / "text.txt"
    text.write_text(TEXT)
    settings = {
        "data.train": text,
        "data.cache": folder / "cache",
        "tokenizer.kind": "char",
        "model.family": "gpt2",
        "model.width": 32,
        "model.layers": 1,
        "model.heads": 2,
        "train.block": 16,
        "train.batch_size": 4,
        "train.steps": 4,
        "schedule.warmup_steps": 0,
        "checkpoint.dir": folder / "run",
    }
    assert main(["train", "run", *(f"{key}={value}" for key, value in settings.items())]) == 0
    return folder


def test_generate_repeats_with_a_seed(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["generate", "--checkpoint", str(run_folder / "run"), "--prompt", "the "]
    texts = []
    for seed in ("1", "1", "2"):
        assert main([*command, "--seed", seed, "--max-tokens", "40"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("the ")
    assert len(texts[0]) == len("the ") + 40 + 1


def test_generate_stops_before_a_stop_string(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["generate", "--checkpoint", str(run_folder / "run"), "--prompt", "the "]
    command += ["--seed", "1", "--max-tokens", "40"]
    assert main(command) == 0
    free = capsys.readouterr().out[len("the ") : -1]
    stop = free[20:23]
    assert main([*command, "--stop", stop]) == 0
    assert capsys.readouterr().out == "the " + free[: free.index(stop)] + "\n"


def test_eval_measures_the_whole_text(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = str(run_folder / "text.txt")
    command = ["eval", "--checkpoint", str(run_folder / "run"), "--data", text, "--json"]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["tokens"] >= len(TEXT) - 1
    assert result["perplexity"] == pytest.approx(math.exp(result["loss"]))
    assert main([*command, "--batch-size", "3"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["loss"] == pytest.approx(result["loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["generate", "--checkpoint", "nowhere"], 1, "nowhere does not exist"),
        (["generate", "--checkpoint", "RUN", "--temperature", "-1"], 2, "temperature"),
        (["generate", "--checkpoint", "RUN", "--top-p", "0"], 2, "top_p"),
        (["generate", "--checkpoint", "RUN", "--samples", "0"], 2, "--samples"),
        (["generate", "--checkpoint", "RUN", "--prompt", "\u2603"], 1, "\u2603"),
        (["generate"], 2, "--checkpoint"),
        (["eval", "--checkpoint", "RUN", "--data", "nofile.txt"], 2, "nofile.txt"),
        (["eval", "--checkpoint", "RUN", "--data", "x", "--block", "17"], 2, "--block"),
    ],
)
def test_a_mistake_gets_one_line(
    run_folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    given = [str(run_folder / "run") if word == "RUN" else word for word in arguments]
    assert main(given) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1


def test_eval_of_a_folder_without_text_names_its_own_option(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["eval", "--checkpoint", str(run_folder / "run"), "--data", str(tmp_path)])
    err = capsys.readouterr().err
    assert code == 2
    assert err.startswith(f"tempra: --data: folder {tmp_path} has no file")
    assert "data.suffixes" not in err
