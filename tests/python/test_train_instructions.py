"""Training on the answers of conversations: fine-tuning from files, packing, resuming."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tempra.checkpoint import load_checkpoint
from tempra.cli.main import main
from tempra.data.batch import Batch
from tempra.data.batch_source import DataLoader
from tempra.data.chat_template import CHAT_TEMPLATE_FILE, load_saved_template
from tempra.train.config import LlmTrainingConfig
from tempra.train.language_model import LanguageModelTrainer
from tempra.train.metrics import read_metrics


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


SETTINGS = {
    "tokenizer.kind": "byte",
    "model.width": 32,
    "model.layers": 1,
    "model.heads": 2,
    "train.block": 48,
    "train.batch_size": 4,
    "optimizer.lr": 0.01,
    "schedule.warmup_steps": 0,
    "logging.interval": 1,
    "evaluation.sample_tokens": 0,
}


def train(folder: Path, **settings: Any) -> list[str]:
    chosen = {**SETTINGS, "data.cache": folder / "cache", "checkpoint.dir": folder / "run"}
    given = {name.replace("__", "."): value for name, value in settings.items()}
    return ["train", "run", *(f"{name}={value}" for name, value in {**chosen, **given}.items())]


@pytest.mark.parametrize("kind", ["alpaca", "questions"])
def test_fine_tuning_on_answers_alone(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    file = request.getfixturevalue(kind)
    arguments = train(tmp_path, data__train=file, data__validation_fraction=0.25, train__steps=60)
    code, out, err = command(capsys, *arguments)
    assert code == 0, err
    assert "template    " in out
    assert "learning responses: " in out
    losses = [
        record["loss"]
        for record in read_metrics(tmp_path / "run/metrics.jsonl")
        if record["kind"] == "step"
    ]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    template = load_saved_template(load_checkpoint(tmp_path / "run").path or tmp_path)
    assert template is not None
    assert template.name == {"alpaca": "alpaca", "questions": "qa"}[kind]


def test_only_answers_move_the_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Questions of noise, answers all alike: the loss of the answers alone goes to nothing."""
    random = np.random.default_rng(0)
    noise = ["".join(chr(97 + letter) for letter in random.integers(0, 26, 20)) for _ in range(80)]
    file = tmp_path / "a.txt"
    file.write_text("".join(f"Q: {letters}\nA: yes\n" for letters in noise))
    final = {}
    for train_on in ("responses", "all"):
        folder = tmp_path / train_on
        arguments = train(
            folder, data__train=file, data__train_on=train_on, data__validation_fraction=0.1,
            train__steps=150,
        )  # fmt: skip
        assert command(capsys, *arguments)[0] == 0
        final[train_on] = [
            record["loss"]
            for record in read_metrics(folder / "run/metrics.jsonl")
            if record["kind"] == "validation"
        ][-1]
    assert final["responses"] < 0.2
    assert final["all"] > 1.5  # 20 of 29 tokens are noise of log(26) each


def test_a_resumed_run_repeats_the_losses(
    tmp_path: Path, alpaca: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = {}
    for name, steps in (("whole", 20), ("parts", 9)):
        folder = tmp_path / name
        arguments = train(
            folder, data__train=alpaca, train__steps=steps, schedule__kind="constant",
            checkpoint__interval=5, data__validation_fraction=0.25,
        )  # fmt: skip
        code, _, err = command(capsys, *arguments)
        assert code == 0, err
        if name == "parts":
            again = ["train", "resume", "--checkpoint", folder / "run", "train.steps=20"]
            code, _, err = command(capsys, *again)
            assert code == 0, err
        losses[name] = [
            (record["step"], record["loss"])
            for record in read_metrics(folder / "run/metrics.jsonl")
            if record["kind"] == "step"
        ]
    assert len(losses["whole"]) == 20
    assert losses["whole"] == losses["parts"]


def test_fine_tuning_keeps_the_tokenizer_of_the_weights(
    tmp_path: Path, alpaca: Path, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From text to answers: the same tokenizer, a template of its own, resumable by itself."""

    def without_tokenizer(name: str, **settings: Any) -> list[str]:
        arguments = train(tmp_path / name, data__validation_fraction=0.25, **settings)
        return [argument for argument in arguments if "tokenizer" not in argument]

    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a number, and it was even. " * 100)
    base = without_tokenizer("base", data__train=text, train__steps=4)
    assert command(capsys, *base, "tokenizer.vocab_size=280")[0] == 0
    start = tmp_path / "base/run"
    tuned = without_tokenizer(
        "tuned", data__train=questions, train__init_from=start, train__steps=4
    )
    code, _, err = command(capsys, *tuned)
    assert code == 0, err
    first, second = (load_checkpoint(path) for path in (start, tmp_path / "tuned/run"))
    for name, content in first.tokenizer_files.items():
        assert second.tokenizer_files[name] == content
    assert set(second.tokenizer_files) - set(first.tokenizer_files) == {CHAT_TEMPLATE_FILE}
    # The run's own checkpoint is enough to go on, and a run's folder names a tokenizer.
    moved = start.rename(tmp_path / "moved")
    code, _, err = command(
        capsys, "train", "resume", "--checkpoint", tmp_path / "tuned/run", "train.steps=6"
    )
    assert code == 0, err
    other = without_tokenizer("other", data__train=alpaca, train__steps=1)
    chosen = ["tokenizer.kind=file", f"tokenizer.path={moved}"]
    code, _, err = command(capsys, *other, *chosen)
    assert code == 0, err
    files = load_checkpoint(tmp_path / "other/run").tokenizer_files
    assert files["tokenizer.json"] == first.tokenizer_files["tokenizer.json"]


def test_conversations_are_packed_whole(
    tmp_path: Path, questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every document of every batch of training and validation begins as a question does."""
    monkeypatch.chdir(tmp_path)
    values = {
        "data": {"train": [str(questions)], "validation_fraction": 0.25},
        "tokenizer": {"kind": "byte"},
        "model": {"width": 32, "layers": 1, "heads": 2},
        "train": {"block": 48, "batch_size": 2, "steps": 1},
    }
    trainer = LanguageModelTrainer(LlmTrainingConfig.from_mapping(values))
    source = trainer.source
    assert isinstance(source, DataLoader)
    batches = [source.batch(index) for index in range(6)]
    seen: list[Batch] = []
    monkeypatch.setattr(
        "tempra.train.stage_data.evaluate", lambda objective, given, **_: seen.extend(given)
    )
    evaluator = trainer.run.current.evaluator
    assert evaluator is not None
    evaluator(lambda: False)
    assert len(seen) == 1
    for batch in [*batches, *seen]:
        for begin, end in pairwise(batch.offsets.tolist()):
            if batch.tokens[end - 1] == 256:  # rows of packed documents hold their end mark, too
                end -= 1
                assert batch.labels[end] == -100
            text = bytes(batch.tokens[begin:end].tolist()).decode()
            assert re.fullmatch(r"Q: What is (\d+) and \1\?\nA: \d+", text)
            answer = text[text.index("A:") + 2 :]
            learned = batch.labels[begin:end]
            assert learned[: -len(answer) - 1].tolist() == [-100] * (len(text) - len(answer) - 1)
            assert learned[-len(answer) - 1 :].tolist() == [*answer.encode(), 256]
