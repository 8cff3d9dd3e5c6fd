"""The run configuration: what it accepts, what it refuses, and in which words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tempra
from tempra._core import ConfigError
from tempra.models.presets import PRESETS
from tempra.train.config import (
    LearningRateSchedule,
    LlmTrainingConfig,
    OptimizerConfig,
    OptimizerType,
    SchedulerConfig,
    TrainingConfig,
    TrainingRunConfig,
)
from tempra.train.config_section import known_keys, sections_of


def build(**sections: Any) -> TrainingRunConfig:
    return TrainingRunConfig(**sections)


def test_defaults_are_consistent_and_every_field_explains_itself() -> None:
    config = build()
    assert config.sequence_length == config.model_sizes().context
    assert config.tokens_per_step == config.train.batch_size * config.sequence_length
    for name, section in sections_of(TrainingRunConfig).items():
        assert section.__doc__, name
        for field, info in section.model_fields.items():
            assert (info.description or "").endswith("."), f"{name}.{field}"


def test_public_names_are_found_at_the_top_level() -> None:
    assert tempra.LlmTrainingConfig is LlmTrainingConfig
    assert tempra.OptimizerType is OptimizerType
    for name in tempra._LAZY:
        assert getattr(tempra, name).__name__ == name


@pytest.mark.parametrize("given", [3, "train", None])
def test_what_is_no_configuration_is_said_to_be_none(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"LlmTrainingConfig: got .*, needs a mapping"):
        LlmTrainingConfig.from_mapping(given)
    with pytest.raises(ConfigError, match=r"train: config: \w+ given; needs a LlmTrainingConfig"):
        tempra.train(given)


def test_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        build().train.steps = 3  # type: ignore[misc]


def test_names_of_the_source_systems_are_the_types_in_use() -> None:
    config = build(optimizer={"type": "adamw"}, schedule={"kind": "linear"})
    assert isinstance(config, LlmTrainingConfig)
    assert isinstance(config, TrainingConfig)
    assert isinstance(config.optimizer, OptimizerConfig)
    assert config.optimizer.type is OptimizerType.ADAMW
    assert isinstance(config.schedule, SchedulerConfig)
    assert config.schedule.kind is LearningRateSchedule.LINEAR


SIZES = {"width": 128, "layers": 2, "heads": 4}

REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"train": {"batch_size": 32.5}}, ["train.batch_size", "32.5", "whole number"]),
    ({"train": {"batch_size": 32.0}}, ["train.batch_size", "32.0", "whole number"]),
    ({"train": {"batch_size": True}}, ["train.batch_size", "True", "whole number"]),
    ({"train": {"batch_size": "32"}}, ["train.batch_size", "'32'", "whole number"]),
    ({"train": {"batch_size": 0}}, ["train.batch_size", "got 0", "at least 1"]),
    ({"train": {"steps": 2**70}}, ["train.steps", "at most"]),
    ({"train": {"deterministic": 1}}, ["train.deterministic", "true or false"]),
    ({"train": {"dtype": "fp8"}}, ["train.dtype", "'fp8'", "'fp32', 'bf16' or 'fp16'"]),
    ({"optimizer": {"lr": float("nan")}}, ["optimizer.lr", "nan", "finite"]),
    ({"optimizer": {"lr": float("inf")}}, ["optimizer.lr", "inf", "finite"]),
    ({"optimizer": {"lr": -1.0}}, ["optimizer.lr", "-1.0", "more than 0"]),
    ({"optimizer": {"lr": "0.1"}}, ["optimizer.lr", "'0.1'", "finite number"]),
    ({"optimizer": {"weight_decay": float("nan")}}, ["optimizer.weight_decay", "finite"]),
    ({"optimizer": {"betas": [0.9]}}, ["optimizer.betas", "entry 2 is missing"]),
    ({"optimizer": {"betas": [0.9, 1.0]}}, ["optimizer.betas", "1.0", "below 1"]),
    ({"optimizer": {"type": "sgdd"}}, ["optimizer.type", "'sgdd'", "'adamw'"]),
    (
        {"optimizer": {"lr": 1e-3, "min_lr": 1e-2}},
        ["optimizer.min_lr", "0.01", "optimizer.lr (0.001)"],
    ),
    ({"schedule": {"kind": "cos"}}, ["schedule.kind", "'cos'", "cosine"]),
    (
        {"train": {"steps": 10}, "schedule": {"warmup_steps": 11}},
        ["schedule.warmup_steps", "11", "train.steps (10)"],
    ),
    (
        {"schedule": {"warmup_steps": 50, "decay_steps": 50}},
        ["schedule.decay_steps", "warmup_steps (50)"],
    ),
    ({"schedule": {"kind": "constant", "decay_steps": 50}}, ["schedule.decay_steps", "constant"]),
    (
        {"schedule": {"kind": "constant"}, "optimizer": {"min_lr": 0.0}},
        ["optimizer.min_lr", "constant"],
    ),
    ({"model": {**SIZES, "heads": 3}}, ["model.heads", "got 3", "model.width (128)"]),
    ({"model": {**SIZES, "kv_heads": 3}}, ["model.kv_heads", "got 3", "model.heads (4)"]),
    ({"model": {**SIZES, "family": "gpt2", "kv_heads": 2}}, ["model.kv_heads", "gpt2"]),
    ({"model": {"width": 12, "layers": 1, "heads": 4}}, ["model.heads", "even"]),
    ({"model": {"width": 128}}, ["model.layers", "model.heads", "must be given"]),
    ({"model": {"family": "gpt2"}}, ["model.family", "gpt2", "preset"]),
    ({"model": {"preset": "nano", "width": 256}}, ["model.width", "256", "nano", "128"]),
    ({"model": {"preset": "nano", "family": "gpt2"}}, ["model.family", "gpt2", "nano", "llama"]),
    ({"model": {"preset": "nanno"}}, ["model.preset", "'nanno'", "did you mean 'nano'"]),
    ({"model": {"preset": "gpt2", "rope_theta": 5.0}}, ["model.rope_theta", "gpt2"]),
    ({"model": {"preset": "nano", "bias": True}}, ["model.bias", "llama"]),
    ({"model": {"dropout": 1.0}}, ["model.dropout", "less than 1"]),
    (
        {"model": {"preset": "nano"}, "train": {"block": 257}},
        ["train.block", "257", "model.context (256)"],
    ),
    (
        {"train": {"tokens_per_step": 1000, "block": 64, "batch_size": 8}},
        ["train.tokens_per_step", "1000", "512"],
    ),
    (
        {
            "train": {
                "tokens_per_step": 1024,
                "block": 64,
                "batch_size": 8,
                "gradient_accumulation": 3,
            }
        },
        ["train.gradient_accumulation", "got 3", "means 2"],
    ),
    ({"tokenizer": {"kind": "byte", "vocab_size": 300}}, ["tokenizer.vocab_size", "300", "byte"]),
    (
        {"tokenizer": {"kind": "bpe", "vocab_size": 257}},
        ["tokenizer.vocab_size", "257", "at least 258"],
    ),
    ({"tokenizer": {"kind": "file"}}, ["tokenizer.path", "missing"]),
    ({"tokenizer": {"kind": "bpe", "path": "x.json"}}, ["tokenizer.path", "'x.json'", "kind=file"]),
    (
        {"tokenizer": {"kind": "byte"}, "model": {"vocab_size": 256}},
        ["model.vocab_size", "256", "257"],
    ),
    (
        {"tokenizer": {"vocab_size": 4096}, "model": {"vocab_size": 4095}},
        ["model.vocab_size", "4095", "4096"],
    ),
    (
        {"data": {"validation": ["v"], "validation_fraction": 0.1}},
        ["data.validation_fraction", "data.validation"],
    ),
    ({"data": {"validation_fraction": 1.0}}, ["data.validation_fraction", "less than 1"]),
    ({"data": {"suffixes": ["txt"]}}, ["data.suffixes", "'txt'", "dot"]),
    ({"data": {"train": [1]}}, ["data.train.0", "got 1", "text"]),
    (
        {"data": {"validation_fraction": 0.0}, "evaluation": {"interval": 5}},
        ["evaluation.interval", "validation"],
    ),
    ({"evaluation": {"sample_prompt": "Once"}}, ["evaluation.sample_prompt", "sample_tokens"]),
    *(
        ({"train": {"device": device}}, ["train.device", device, "needs cpu, cuda or cuda:N"])
        for device in ("gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0")
    ),
    ({"train": {"dtype": "fp16"}}, ["train.dtype", "fp16", "train.device=cuda"]),
    ({"model": 3}, ["model", "got 3", "section"]),
    ({"modle": {}}, ["'modle'", "did you mean 'model'"]),
    ({"train": {"bach_size": 3}}, ["'train.bach_size'", "did you mean 'train.batch_size'"]),
    (
        {"train": {"weight_decay": 0.1}},
        ["'train.weight_decay'", "did you mean 'optimizer.weight_decay'"],
    ),
    ({"train": {"zzz": 1}}, ["'train.zzz'", "batch_size"]),
]


@pytest.mark.parametrize(("sections", "words"), REFUSED, ids=lambda value: str(value)[:60])
def test_refused_with_field_given_and_needed(sections: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build(**sections)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_several_problems_are_all_named() -> None:
    with pytest.raises(ConfigError, match=r"train\.steps.*; .*optimizer\.eps"):
        build(train={"steps": -1}, optimizer={"eps": 0.0})


def test_a_section_built_alone_raises_config_error_too() -> None:
    with pytest.raises(ConfigError, match=r"lr.*finite"):
        OptimizerConfig(lr=float("nan"))


def test_sections_can_be_given_as_objects() -> None:
    config = build(optimizer=OptimizerConfig(lr=0.5))
    assert config.optimizer.lr == 0.5


def test_presets_are_consistent_and_can_be_repeated_in_words() -> None:
    for name, sizes in PRESETS.items():
        same = {
            "preset": name,
            "width": sizes.width,
            "layers": sizes.layers,
            "context": sizes.context,
        }
        assert build(model=same).model_sizes() == sizes


def test_preset_sizes_match_the_published_tables() -> None:
    nano, xxl, gpt2 = PRESETS["nano"], PRESETS["xxl"], PRESETS["gpt2"]
    assert (nano.width, nano.layers, nano.heads, nano.kv_heads, nano.context) == (128, 4, 4, 2, 256)
    assert nano.feed_forward == 384  # 341.3 rounded up to a multiple of 64
    assert (xxl.width, xxl.layers, xxl.heads, xxl.kv_heads, xxl.context) == (2048, 32, 32, 8, 8192)
    assert xxl.feed_forward == 5504
    assert (gpt2.width, gpt2.layers, gpt2.heads, gpt2.feed_forward) == (768, 12, 12, 3072)


def test_own_sizes_take_their_defaults_from_the_family() -> None:
    sizes = build(model={**SIZES, "family": "gpt2"}, train={"block": 32}).model_sizes()
    assert (sizes.kv_heads, sizes.feed_forward, sizes.context) == (4, 512, 32)


def test_tokens_per_step_gives_the_accumulation() -> None:
    config = build(train={"tokens_per_step": 4096, "batch_size": 8, "block": 64})
    assert config.gradient_accumulation == 8
    assert config.tokens_per_step == 4096


def test_padded_vocabulary_is_allowed_smaller_is_not() -> None:
    assert build(model={"vocab_size": 50304}).check_vocabulary(50257) == 50304
    assert build().check_vocabulary(65) == 65
    with pytest.raises(ConfigError, match=r"model\.vocab_size: got 50304.*50305"):
        build(model={"vocab_size": 50304}).check_vocabulary(50305)


def test_learning_rate_with_every_number_filled_in() -> None:
    rate = build(
        train={"steps": 2000}, optimizer={"lr": 1e-3}, schedule={"warmup_steps": 100}
    ).learning_rate()
    assert (rate.peak, rate.minimum, rate.warmup_steps, rate.decay_steps) == (1e-3, 1e-4, 100, 2000)
    constant = build(schedule={"kind": "constant"}).learning_rate()
    assert constant(10**9) == constant.peak


def test_few_steps_need_no_schedule_settings() -> None:
    assert build(train={"steps": 1}).learning_rate().warmup_steps == 0


def test_no_validation_text_means_no_evaluation() -> None:
    assert build(data={"validation_fraction": 0.0}).evaluation_interval == 0
    assert build().evaluation_interval > 0


@given(st.sampled_from([key for key in known_keys(TrainingRunConfig) if "." in key]), st.data())
def test_a_misspelt_key_is_always_refused_by_name(key: str, data: st.DataObject) -> None:
    section, _, name = key.partition(".")
    position = data.draw(st.integers(0, len(name)))
    wrong = name[:position] + "q" + name[position:]
    with pytest.raises(ConfigError) as caught:
        build(**{section: {wrong: 1}})
    assert f"{section}.{wrong}" in str(caught.value)
