"""Continuing a run: its configuration, what of it may change, and its folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tempra._core import CheckpointError, ConfigError, current_isa
from tempra.checkpoint import Checkpoint, load_checkpoint
from tempra.checkpoint.load import (
    CHECKPOINTS_FOLDER,
    checkpoints_root,
    find_checkpoints,
    is_checkpoint_folder,
)
from tempra.train.config import LearningRateSchedule, LlmTrainingConfig
from tempra.train.overrides import (
    load_config,
    parse_config,
    parse_override,
    stage_of,
    with_overrides,
    with_stage_values,
)
from tempra.train.run_folder import CONFIG_FILE

# Fields that change when and what is written, how long the run is, or where the same data lies.
# Everything else decides the numbers, and a resumed run continues those.
CHANGEABLE = frozenset(
    {
        "train.steps",
        "train.device",
        "train.cuda_graph",
        "train.threads",
        "train.non_finite_limit",
        "schedule.decay_steps",
        "data.sources",
        "data.train",
        "data.validation",
        "data.cache",
        "evaluation.interval",
        "evaluation.batches",
        "evaluation.patience",
        "evaluation.sample_prompt",
        "evaluation.sample_tokens",
        "checkpoint.interval",
        "checkpoint.keep_last",
        "checkpoint.keep_best",
        "checkpoint.asynchronous",
        "logging.interval",
    }
)


@dataclass(frozen=True)
class Resumption:
    """A run to be continued; `checkpoint` is None where it was killed before its first save."""

    folder: Path
    config: LlmTrainingConfig
    checkpoint: Checkpoint | None
    notes: tuple[str, ...] = ()


def prepare_resume(path: Path, overrides: Iterable[str] = ()) -> Resumption:
    """Load the checkpoint at `path` (a run, or one of its steps) and the configuration it had."""
    overrides = tuple(overrides)
    _check_changeable(overrides)
    folder = run_folder_of(path)
    if path.resolve() == folder.resolve() and not find_checkpoints(checkpoints_root(folder)):
        return _not_started(folder, overrides)
    checkpoint = load_checkpoint(path)
    if not checkpoint.run_config:
        raise CheckpointError(
            f"{checkpoint.path} has no config.yaml: it holds weights, not a run; "
            "start a new run from them with train.init_from"
        )
    recorded = parse_config(LlmTrainingConfig, checkpoint.run_config, f"{path}/{CONFIG_FILE}")
    config = with_overrides(recorded, overrides)
    notes = [
        *checkpoint.notes,
        *_machine_notes(checkpoint, config),
        *_schedule_notes(recorded, config),
    ]
    if config.total_steps < checkpoint.step:
        raise ConfigError(
            f"train.steps: got {config.total_steps}, but the checkpoint is of step "
            f"{checkpoint.step}; resume an earlier one by naming its folder"
        )
    return Resumption(folder, config, checkpoint, tuple(notes))


def run_folder_of(path: Path) -> Path:
    """Run folder of a path that is the folder itself, its checkpoints, or one of those."""
    if not path.exists():
        raise CheckpointError(f"checkpoint {path} does not exist")
    path = path.resolve()
    if path.name == CHECKPOINTS_FOLDER:
        return path.parent
    if path.parent.name == CHECKPOINTS_FOLDER:
        return path.parent.parent
    # A checkpoint that was copied out of its run continues beside itself.
    return path.parent if is_checkpoint_folder(path) else path


def with_recorded_schedule(config: LlmTrainingConfig) -> LlmTrainingConfig:
    """Fix warm-up and decay at the first start, so that extending the run moves neither."""
    changes: dict[str | None, dict[str, int]] = {}
    for run in config.stage_runs():
        if run.config.train.epochs is not None:
            continue  # its length is not known before the text
        rate = run.config.learning_rate()
        changes[run.name] = {"warmup_steps": rate.warmup_steps}
        if run.config.schedule.kind is not LearningRateSchedule.CONSTANT:
            changes[run.name]["decay_steps"] = rate.decay_steps
    return with_stage_values(config, "schedule", changes)


def _check_changeable(overrides: tuple[str, ...]) -> None:
    for override in overrides:
        section, field, _ = parse_override(LlmTrainingConfig, stage_of(override)[1])
        if f"{section}.{field}" not in CHANGEABLE:
            raise ConfigError(
                f"{section}.{field}: cannot change when a run is resumed, as it continues the same "
                "numbers; start a new run from its weights with train.init_from"
            )


def _not_started(folder: Path, overrides: tuple[str, ...]) -> Resumption:
    file = folder / CONFIG_FILE
    if not file.exists():
        raise CheckpointError(
            f"{folder} holds no checkpoint: expected a run folder, or a folder named step-..."
        )
    config = with_overrides(load_config(LlmTrainingConfig, file), overrides)
    note = f"{folder} has no checkpoint yet; starting from the beginning"
    return Resumption(folder, config, None, (note,))


def _machine_notes(checkpoint: Checkpoint, config: LlmTrainingConfig) -> list[str]:
    place = checkpoint.state.get("device", "cpu").partition(":")[0]
    if place != config.train.device.partition(":")[0]:
        return [
            f"the run was on {place}, now it is on {config.train.device}: numbers may differ in "
            "the last bits"
        ]
    if place != "cpu":
        return []
    before, now = checkpoint.state.get("isa"), current_isa()
    if before == now:
        return []
    return [
        f"the run used {before} kernels, here they are {now}: numbers may differ in the last bits "
        f"(TEMPRA_ISA={before} gives the same ones where the machine has them)"
    ]


def _schedule_notes(recorded: LlmTrainingConfig, config: LlmTrainingConfig) -> list[str]:
    notes: list[str] = []
    for was, now in zip(recorded.stage_runs(), config.stage_runs(), strict=True):
        steps = now.config.steps
        if steps == was.config.steps and now.config.schedule == was.config.schedule:
            continue
        of_stage = "" if now.name is None else f" of stage {now.name}"
        rate = now.config.learning_rate()
        if rate.minimum == rate.peak:
            notes.append(f"the learning rate stays at {rate.peak:g} to step {steps}{of_stage}")
        elif rate.decay_steps < steps:
            notes.append(
                f"the learning rate reaches {rate.minimum:g} at step {rate.decay_steps}{of_stage} "
                f"and stays there to step {steps}; schedule.decay_steps=N decays to step N instead"
            )
        else:
            notes.append(
                f"the learning rate reaches {rate.minimum:g} at step {rate.decay_steps}{of_stage}"
            )
    return notes
