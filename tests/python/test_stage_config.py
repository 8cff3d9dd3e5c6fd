"""The configuration of stages: what is taken from around them, and every contradiction."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempra._core import ConfigError
from tempra.train.config import LlmTrainingConfig
from tempra.train.config_section import sections_of
from tempra.train.config_stages import STAGE_FIELDS
from tempra.train.overrides import dump_config, load_config, parse_config, with_overrides
from tempra.train.resume import with_recorded_schedule


def stage(name: str = "one", **sections: Any) -> dict[str, Any]:
    return {"name": name, "train": {"steps": 30}, **sections}


def build(*stages: Any, **sections: Any) -> LlmTrainingConfig:
    return LlmTrainingConfig.from_mapping({**sections, "stages": list(stages)})


def test_a_field_that_is_not_given_is_that_of_the_configuration_around() -> None:
    above = {
        "data": {"train": ["a"], "validation": ["b"], "separator": "#"},
        "train": {"batch_size": 3, "block": 32, "tokens_per_step": 192},
        "optimizer": {"lr": 0.01, "min_lr": 0.002},
        "schedule": {"warmup_steps": 2, "decay_steps": 20},
    }
    config = build(
        stage("same", train={}),
        stage("steps"),
        stage("epochs", train={"epochs": 2.0, "gradient_accumulation": 4, "block": 64}),
        stage("text", data={"train": "c"}),
        stage("sources", data={"sources": [{"name": "x", "train": "d"}]}),
        stage("fraction", data={"validation_fraction": 0.3}),
        stage("constant", schedule={"kind": "constant"}),
        stage("null", optimizer={"min_lr": None}, data={"separator": None}),
        **{**above, "train": {**above["train"], "steps": 40}},
    )
    runs = {run.name: run.config for run in config.stage_runs()}
    assert runs["same"].steps == 40
    assert runs["same"].schedule.decay_steps == 20
    assert runs["steps"].steps == 30
    assert runs["steps"].schedule.decay_steps is None
    assert runs["steps"].schedule.warmup_steps == 2
    assert runs["steps"].gradient_accumulation == 2
    assert runs["epochs"].train.steps is None
    assert runs["epochs"].train.tokens_per_step is None
    assert runs["epochs"].sequence_length == 64
    assert {run.model_sizes().context for run in runs.values()} == {256}
    assert runs["text"].data.train == ("c",)
    assert runs["text"].data.validation == ()
    assert runs["text"].data.separator == "#"
    assert runs["sources"].data.train == ()
    assert runs["fraction"].data.train == ("a",)
    assert runs["fraction"].data.validation == ()
    assert runs["constant"].learning_rate()(29) == 0.01
    assert runs["null"].optimizer.resolved_min_lr() == 0.001
    assert runs["null"].data.separator is None


def test_every_field_of_a_stage_exists() -> None:
    sections = sections_of(LlmTrainingConfig)
    for section, fields in STAGE_FIELDS.items():
        assert fields <= set(sections[section].model_fields), section


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([{"name": "a"}], "stages, 'a': train.steps: is missing; a stage needs train.steps or"),
        ([{"train": {"steps": 3}}], "stages.0.name: is missing"),
        ([stage(), stage()], "'one' names two stages"),
        ([stage(train={"stpes": 3})], "unknown key 'train.stpes'; did you mean 'train.steps'?"),
        ([stage(data={"trainn": "x"})], "unknown key 'data.trainn'; did you mean 'data.train'?"),
        ([stage(optimiser={"lr": 1})], "'optimiser' in stages.0; did you mean 'optimizer'?"),
        ([stage(model={"width": 8})], "unknown key 'model' in stages.0"),
        ([stage(train={"steps": 3, "seed": 1})], "train.seed is the same in all stages"),
        ([stage(data={"template": "qa"})], "data.template is the same in all stages"),
        ([stage(optimizer={"betas": [0.9, 0.9]})], "optimizer.betas is the same in all stages"),
        ([stage(train={"steps": 3, "epochs": 1.0})], "train.epochs: got 1.0 beside train.steps"),
        ([stage(train={"steps": "x"})], "stages, 'one': train.steps: got 'x' (str)"),
        ([stage(train={"steps": 3, "block": 9999})], "train.block: got 9999, needs at most"),
        ([stage(schedule={"warmup_steps": 31})], "warmup_steps: got 31, needs at most"),
        ([stage(data={"train": "x", "sources": [{"name": "y", "train": "z"}]})], "beside"),
        ([stage(data=3)], "stages.0.data: got 3"),
        ([stage("a", evaluation={"patience": 2}), stage("b")], "give it to the last stage alone"),
        (["a"], "stages.0: got 'a'"),
    ],
)
def test_contradictions_name_the_stage(stages: list[Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(*stages)
    assert words in str(caught.value)


@given(
    steps=st.lists(st.integers(1, 2000), min_size=1, max_size=4),
    rates=st.lists(st.floats(1e-6, 1.0), min_size=4, max_size=4),
    kinds=st.lists(st.sampled_from(["cosine", "linear", "constant"]), min_size=4, max_size=4),
)
def test_a_configuration_is_read_back_as_it_was_written(
    steps: list[int], rates: list[float], kinds: list[str]
) -> None:
    config = build(
        *(
            stage(
                f"s{number}",
                train={"steps": count},
                optimizer={"lr": rates[number], "min_lr": None},
                schedule={"kind": kinds[number]},
            )
            for number, count in enumerate(steps)
        )
    )
    assert parse_config(LlmTrainingConfig, dump_config(config), "config.yaml") == config
    assert config.total_steps == sum(steps)
    recorded = with_recorded_schedule(config)
    for before, after in zip(config.stage_runs(), recorded.stage_runs(), strict=True):
        assert before.config.learning_rate() == after.config.learning_rate()
        # Extending a stage moves nothing of what it has done.
        longer = with_overrides(
            recorded, [f"stages.{after.name}.train.steps={after.config.steps + 100}"]
        )
        run = next(run for run in longer.stage_runs() if run.name == after.name)
        assert run.config.learning_rate()(0) == before.config.learning_rate()(0)
        assert run.config.steps == before.config.steps + 100


def test_fields_of_stages_from_the_command_line(tmp_path: Any) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("stages:\n- {name: one, train: {steps: 3}}\n- {name: two, train: {steps: 4}}\n")
    config = load_config(
        LlmTrainingConfig,
        file,
        ["stages.two.train.steps=9", "stages.two.data.train=book.txt", "train.batch_size=2"],
    )
    one, two = config.stage_runs()
    assert (one.config.steps, two.config.steps) == (3, 9)
    assert two.config.data.train == ("book.txt",)
    assert two.config.train.batch_size == 2
    for override, words in (
        ("stages.three.train.steps=9", "there is no stage 'three'; there are: one, two"),
        ("stages.two.train=9", "'train' is a section"),
        ("stages=9", "a field of a stage is written stages.NAME.section.field=value"),
        ("stages.two.model.width=9", "unknown key 'model' in stages.1"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(LlmTrainingConfig, file, [override])
        assert words in str(caught.value)
    with pytest.raises(ConfigError, match="is given twice"):
        load_config(LlmTrainingConfig, file, ["stages.two.train.steps=9"] * 2)
