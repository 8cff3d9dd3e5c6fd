"""The stages of a run: what each does otherwise than the configuration around it.

A stage is the whole configuration with some fields changed, and is checked as such. So whatever can
be said of a run can be said of a stage, in the same words, and nothing has to be kept in step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from tempra._core import ConfigError
from tempra.train.config_section import Section, sections_of, unknown_key
from tempra.train.config_source import EntryName

# What may differ between stages. One model, one optimizer state and one tokenizer go through all
# of them, and the run as a whole is saved and logged in one way.
STAGE_FIELDS: dict[str, frozenset[str]] = {
    "train": frozenset(
        {
            "steps",
            "epochs",
            "batch_size",
            "block",
            "gradient_accumulation",
            "tokens_per_step",
            "max_gradient_norm",
        }
    ),
    "data": frozenset(
        {
            "train",
            "sources",
            "temperature",
            "validation",
            "validation_fraction",
            "text_field",
            "suffixes",
            "separator",
            "format",
            "train_on",
            "skip_bad_lines",
            "mode",
            "order",
            "packing",
            "overlong",
        }
    ),
    "optimizer": frozenset({"lr", "min_lr"}),
    "schedule": frozenset({"kind", "warmup_steps", "decay_steps"}),
    "evaluation": frozenset({"interval", "batches", "patience"}),
}

# A field given in a stage says otherwise than these, which are then not taken from above.
_REPLACED: dict[str, tuple[str, ...]] = {
    "train.steps": ("train.epochs", "schedule.decay_steps"),
    "train.epochs": ("train.steps", "schedule.decay_steps"),
    "train.gradient_accumulation": ("train.tokens_per_step",),
    "train.tokens_per_step": ("train.gradient_accumulation",),
    "data.train": ("data.sources", "data.temperature", "data.validation"),
    "data.sources": ("data.train", "data.temperature", "data.validation"),
    "data.validation": ("data.validation_fraction",),
    "data.validation_fraction": ("data.validation",),
}
_REPLACED_BY_CONSTANT = ("schedule.decay_steps", "optimizer.min_lr")

_CHANGES = "Fields of {} that are other in this stage; null takes one back to its default."


class StageConfig(Section):
    """One stage; every field that is not given here is that of the configuration around it."""

    name: EntryName = Field(description="Its name in reports: letters, digits, - and _.")
    reset_optimizer: bool = Field(
        default=False,
        description="Begin with empty moments of the optimizer; the weights stay as they are.",
    )
    train: dict[str, Any] = Field(default={}, description=_CHANGES.format("train"))
    data: dict[str, Any] = Field(default={}, description=_CHANGES.format("data"))
    optimizer: dict[str, Any] = Field(default={}, description=_CHANGES.format("optimizer"))
    schedule: dict[str, Any] = Field(default={}, description=_CHANGES.format("schedule"))
    evaluation: dict[str, Any] = Field(default={}, description=_CHANGES.format("evaluation"))

    def changes(self) -> dict[str, dict[str, Any]]:
        """Return the fields that are given, by section."""
        return {section: dict(getattr(self, section)) for section in STAGE_FIELDS}


def check_names(stages: Sequence[StageConfig]) -> None:
    """Raise ConfigError where two stages have one name."""
    names = [stage.name for stage in stages]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"stages: {min(twice)!r} names two stages; names must differ")


def check_fields(stage: StageConfig, model: type[Section]) -> None:
    """Raise ConfigError for a field that does not exist, or that all stages share."""
    known = sections_of(model)
    for section, fields in stage.changes().items():
        for field in fields:
            if field not in known[section].model_fields:
                raise ConfigError(
                    f"stages, {stage.name!r}: {unknown_key(model, f'{section}.{field}')}"
                )
            if field not in STAGE_FIELDS[section]:
                allowed = ", ".join(sorted(STAGE_FIELDS[section]))
                raise ConfigError(
                    f"stages, {stage.name!r}: {section}.{field} is the same in all stages; set it "
                    f"outside of them (a stage may set {section}: {allowed})"
                )


def values_of_stage(above: Mapping[str, Any], stage: StageConfig) -> dict[str, Any]:
    """Return the values of a stage as a configuration of its own; `above` are those around it."""
    values = {
        section: dict(fields)
        for section, fields in above.items()
        if section != "stages" and isinstance(fields, Mapping)
    }
    changes = stage.changes()
    for section, fields in changes.items():
        for field, value in fields.items():
            if value is not None:
                for other in _replaced_by(f"{section}.{field}", value):
                    at, _, name = other.partition(".")
                    values.get(at, {}).pop(name, None)
    for section, fields in changes.items():
        into = values.setdefault(section, {})
        for field, value in fields.items():
            into[field] = value
            if value is None:
                del into[field]
    train = values["train"]
    if "steps" not in train and "epochs" not in train:
        raise ConfigError("train.steps: is missing; a stage needs train.steps or train.epochs")
    return values


def share_context(stages: Sequence[dict[str, Any]]) -> None:
    """Give the model of all stages one context: where none is named, the longest block."""
    blocks = [values["train"]["block"] for values in stages if values["train"].get("block")]
    for values in stages:
        model = values.setdefault("model", {})
        own_sizes = model.get("preset") is None and model.get("width") is not None
        if blocks and own_sizes and model.get("context") is None:
            whole = [block for block in blocks if isinstance(block, int)]
            model["context"] = max(whole, default=None)


def _replaced_by(key: str, value: Any) -> tuple[str, ...]:
    if key == "schedule.kind":
        return _REPLACED_BY_CONSTANT if value == "constant" else ()
    return _REPLACED.get(key, ())
