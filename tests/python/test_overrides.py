"""Configuration files and command-line overrides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tempra._core import ConfigError
from tempra.train.config import LearningRateSchedule, TrainingRunConfig
from tempra.train.overrides import dump_config, load_config, read_config_file, with_overrides


def load(*overrides: str, path: Path | None = None) -> TrainingRunConfig:
    return load_config(TrainingRunConfig, path, overrides)


def test_values_get_the_type_of_their_field(tmp_path: Path) -> None:
    config = load(
        "train.steps=500",
        "optimizer.lr=3e-4",
        "optimizer.betas=[0.9, 0.99]",
        "train.deterministic=false",
        "schedule.kind=linear",
        "checkpoint.dir=123",
        "data.train=456",
        "evaluation.sample_prompt=1e3",
        "evaluation.sample_tokens=4",
    )
    assert config.train.steps == 500
    assert config.train.deterministic is False
    assert config.optimizer.lr == 3e-4
    assert config.optimizer.betas == (0.9, 0.99)
    assert config.schedule.kind is LearningRateSchedule.LINEAR
    assert config.checkpoint.dir == "123"
    assert config.data.train == ("456",)
    assert config.evaluation.sample_prompt == "1e3"
    assert load("data.train=[a.txt, 'b c.txt']").data.train == ("a.txt", "b c.txt")
    assert load("checkpoint.dir=null").checkpoint.dir is None


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.steps", ["section.field=value"]),
        ("=3", ["section.field=value"]),
        ("train=3", ["is a section", "train.steps"]),
        ("train.stepz=3", ["'train.stepz'", "did you mean 'train.steps'"]),
        ("steps=3", ["'steps'", "did you mean 'train.steps'"]),
        ("lr=3", ["'lr'", "did you mean 'optimizer.lr'"]),
        ("nothing.alike=3", ["'nothing.alike'", "optimizer"]),
        ("train.steps=", ["train.steps", "needs a value"]),
        ("train.steps=many", ["train.steps", "'many'", "whole number"]),
        ("train.steps=[", ["train.steps", "line 1"]),
        ("optimizer.lr=nan", ["optimizer.lr", "nan", "finite"]),
        ("optimizer.lr=.inf", ["optimizer.lr", "inf", "finite"]),
    ],
)
def test_refused(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(override)
    for word in words:
        assert word in str(caught.value)


def test_the_same_field_twice_is_a_contradiction() -> None:
    with pytest.raises(ConfigError, match=r"train\.steps: is given twice.*=1.*=2"):
        load("train.steps=1", "train.steps=2")


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("train:\n  steps: 10\n  batch_size: 2\noptimizer:\n  lr: 1e-3\nmodel:\n")
    config = load("train.steps=20", path=file)
    assert (config.train.steps, config.train.batch_size, config.optimizer.lr) == (20, 2, 1e-3)


def test_json_and_yaml_mean_the_same(tmp_path: Path) -> None:
    values = {"train": {"steps": 7}, "data": {"train": ["a"]}, "optimizer": {"betas": [0.8, 0.9]}}
    (tmp_path / "run.json").write_text(json.dumps(values))
    (tmp_path / "run.yml").write_text(
        "{train: {steps: 7}, data: {train: [a]}, optimizer: {betas: [0.8, 0.9]}}"
    )
    assert load(path=tmp_path / "run.json") == load(path=tmp_path / "run.yml")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("run.txt", b"", [".yaml", ".txt"]),
        ("run.yaml", b"train:\n  steps: 1\n  steps: 2\n", ["line 3", "'steps'", "twice"]),
        ("run.json", b'{"train": {"steps": 1, "steps": 2}}', ["'steps'", "twice"]),
        ("run.json", b'{"train": }', ["line 1", "column 11"]),
        ("run.yaml", b"train: [1\n", ["line 2"]),
        ("run.yaml", b"- 1\n", ["list", "sections"]),
        ("run.yaml", b"\xff\xfe", ["UTF-8"]),
        ("run.yaml", b"train: !!python/object/apply:os.system [true]\n", ["line 1"]),
        ("run.yaml", b"1: 2\n", ["line 1", "not text"]),
        ("run.json", b'{"optimizer": {"lr": NaN}}', ["optimizer.lr", "finite"]),
        ("run.json", b'{"a":' * 100_000, ["run.json"]),
        ("run.yaml", b"x" * (1 << 20) + b"x", ["1048577", "at most"]),
    ],
)
def test_bad_files_are_named_with_the_place(
    tmp_path: Path, name: str, content: bytes, words: list[str]
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path=file)
    for word in words:
        assert word in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml: cannot be read: No such file"):
        read_config_file(tmp_path / "no.yaml")


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("train.max_gradient_norm=0", "model.preset=gpt2", "tokenizer.kind=byte"),
        ("data.train=[ä.txt]", "schedule.kind=constant", "data.validation_fraction=0.0"),
        ("optimizer.lr=1e-05", "optimizer.eps=1e-12", "evaluation.interval=0"),
    ],
)
def test_written_and_read_back_it_is_the_same(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    config = load(*overrides)
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(config), encoding="utf-8")
    assert load(path=file) == config
    assert dump_config(load(path=file)) == dump_config(config)


def test_with_overrides_checks_again() -> None:
    config = load("train.steps=100", "schedule.warmup_steps=50")
    assert with_overrides(config, ["train.steps=60"]).train.steps == 60
    with pytest.raises(ConfigError, match="warmup_steps"):
        with_overrides(config, ["train.steps=40"])
