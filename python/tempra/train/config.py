"""The configuration of a training run: its sections, and checks that concern several of them.

A value that is not given stays `None` in the file and is worked out by a `resolved_...` method, so
that writing a
configuration back never turns a default into a choice. Contradictions raise; nothing is silently
repaired.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, model_validator

from tempra._core import ConfigError
from tempra.models.presets import ModelSizes
from tempra.optim.lr_schedule import LearningRate, LearningRateSchedule
from tempra.train.config_data import DataConfig, TokenizerConfig
from tempra.train.config_model import ModelConfig
from tempra.train.config_section import Section
from tempra.train.config_sections import (
    CheckpointConfig,
    EvaluationConfig,
    LoggingConfig,
    OptimizerConfig,
    OptimizerType,
    SchedulerConfig,
    TrainSection,
)
from tempra.train.config_stages import (
    StageConfig,
    check_fields,
    check_names,
    share_context,
    values_of_stage,
)

__all__ = [
    "CheckpointConfig",
    "DataConfig",
    "EvaluationConfig",
    "LearningRateSchedule",
    "LlmTrainingConfig",
    "LoggingConfig",
    "ModelConfig",
    "OptimizerConfig",
    "OptimizerType",
    "SchedulerConfig",
    "StageConfig",
    "StageRun",
    "TokenizerConfig",
    "TrainSection",
    "TrainingConfig",
    "TrainingRunConfig",
]

# End-of-text beside the 256 bytes.
_BYTE_VOCABULARY = 257


class TrainingConfig(Section):
    """What every training run has, whatever it trains."""

    train: TrainSection = TrainSection()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: SchedulerConfig = SchedulerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    logging: LoggingConfig = LoggingConfig()

    @model_validator(mode="after")
    def _consistent_schedule(self) -> TrainingConfig:
        schedule = self.schedule
        steps = None if self.has_stages() else self.train.known_steps()
        warmup = 0 if steps is None else self.resolved_warmup_steps()
        if steps is not None and warmup > steps:
            raise ValueError(
                f"schedule.warmup_steps: got {warmup}, needs at most train.steps ({steps})"
            )
        if schedule.kind is LearningRateSchedule.CONSTANT:
            for name, value in (
                ("schedule.decay_steps", schedule.decay_steps),
                ("optimizer.min_lr", self.optimizer.min_lr),
            ):
                if value is not None:
                    raise ValueError(
                        f"{name}: got {value}, but schedule.kind constant never leaves "
                        "optimizer.lr; "
                        "remove it or use cosine or linear"
                    )
        elif schedule.decay_steps is not None and schedule.decay_steps <= warmup:
            raise ValueError(
                f"schedule.decay_steps: got {schedule.decay_steps}, needs more than "
                f"schedule.warmup_steps ({warmup})"
            )
        return self

    def has_stages(self) -> bool:
        """Return whether this stands for several stages, which have lengths of their own."""
        return False

    @property
    def steps(self) -> int:
        """Updates in all; ConfigError where the length of the text decides and is not known."""
        steps = self.train.known_steps()
        if steps is None:
            raise ConfigError(
                f"train.epochs: got {self.train.epochs}, whose steps are known only with the text"
            )
        return steps

    def resolved_warmup_steps(self) -> int:
        """Return the warm-up, worked out where it is not given."""
        if self.schedule.warmup_steps is not None:
            return self.schedule.warmup_steps
        return min((self.schedule.decay_steps or self.steps) // 20, 1000)

    def learning_rate(self) -> LearningRate:
        """Return the schedule with every number filled in."""
        constant = self.schedule.kind is LearningRateSchedule.CONSTANT
        return LearningRate(
            peak=self.optimizer.lr,
            minimum=self.optimizer.lr if constant else self.optimizer.resolved_min_lr(),
            warmup_steps=self.resolved_warmup_steps(),
            decay_steps=self.schedule.decay_steps or self.steps,
            kind=self.schedule.kind,
        )


@contextmanager
def named_stage(name: str | None) -> Iterator[None]:
    """Name the stage, where it has a name, in what is wrong with it."""
    try:
        yield
    except ConfigError as error:
        if name is None:
            raise
        raise ConfigError(f"stages, {name!r}: {error}") from None


@dataclass(frozen=True)
class StageRun:
    """A stage with every field filled in; a run without stages is one that has no name."""

    name: str | None
    config: LlmTrainingConfig
    reset_optimizer: bool = False


class LlmTrainingConfig(TrainingConfig):
    """The configuration of a language-model run, as `tempra train run` reads it."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    stages: Annotated[tuple[StageConfig, ...], Field(strict=False, max_length=100)] = Field(
        default=(),
        description="Stages one after the other, each with its own data, length and learning "
        "rate. Default: one, the whole run.",
    )

    @model_validator(mode="after")
    def _consistent_sequences(self) -> LlmTrainingConfig:
        if self.stages:
            self._check_stages()
            return self
        block, context = self.sequence_length, self.model_sizes().context
        if block > context:
            raise ValueError(f"train.block: got {block}, needs at most model.context ({context})")
        self._check_tokens_per_step()
        self._check_vocabulary()
        if self.evaluation.interval and not self.data.has_validation():
            raise ValueError(
                f"evaluation.interval: got {self.evaluation.interval}, but there is no "
                "validation text: give "
                "data.validation or a data.validation_fraction above 0"
            )
        return self

    def has_stages(self) -> bool:
        """Return whether the run has stages."""
        return bool(self.stages)

    def stage_runs(self) -> tuple[StageRun, ...]:
        """Return the stages in order, each a configuration of its own."""
        if not self.stages:
            return (StageRun(None, self),)
        above = self.model_dump(mode="json", exclude_none=True, exclude={"stages"})
        check_names(self.stages)
        values = []
        for stage in self.stages:
            check_fields(stage, type(self))
            with named_stage(stage.name):
                values.append(values_of_stage(above, stage))
        share_context(values)
        runs = []
        for stage, own in zip(self.stages, values, strict=True):
            with named_stage(stage.name):
                runs.append(
                    StageRun(stage.name, type(self).from_mapping(own), stage.reset_optimizer)
                )
        return tuple(runs)

    def with_sections(self, **sections: Any) -> LlmTrainingConfig:
        """Return a copy with other sections, checked anew."""
        values = self.model_dump(mode="json", exclude_none=True)
        for name, section in sections.items():
            plain = isinstance(section, Section)
            values[name] = section.model_dump(mode="json", exclude_none=True) if plain else section
        return type(self).from_mapping(values)

    @property
    def total_steps(self) -> int:
        """Updates of all stages; ConfigError where the length of the text decides."""
        return sum(stage.config.steps for stage in self.stage_runs())

    @property
    def has_epochs(self) -> bool:
        """Whether the length of the text decides how long the run, or one stage of it, is."""
        return any(run.config.train.epochs is not None for run in self.stage_runs())

    @property
    def sequence_length(self) -> int:
        """Tokens per sequence."""
        return self.train.block or self.model.sizes().context

    @property
    def gradient_accumulation(self) -> int:
        """Batches per update."""
        if self.train.tokens_per_step is not None:
            return self.train.tokens_per_step // (self.train.batch_size * self.sequence_length)
        return self.train.gradient_accumulation or 1

    @property
    def tokens_per_step(self) -> int:
        """Tokens per update."""
        return self.train.batch_size * self.sequence_length * self.gradient_accumulation

    @property
    def evaluation_interval(self) -> int:
        """Updates between measurements; 0 where nothing is measured."""
        if self.evaluation.interval is not None:
            return self.evaluation.interval
        return 250 if self.data.has_validation() else 0

    def model_sizes(self) -> ModelSizes:
        """Return every size of the model filled in."""
        return self.model.sizes(block=self.train.block)

    def check_vocabulary(self, tokenizer_size: int) -> int:
        """Return the rows of the token table, or raise when model and tokenizer contradict."""
        asked = self.model.vocab_size
        if asked is None:
            return tokenizer_size
        if asked < tokenizer_size:
            raise ConfigError(
                f"model.vocab_size: got {asked}, needs at least the {tokenizer_size} tokens of "
                "the tokenizer"
            )
        return asked

    def _check_tokens_per_step(self) -> None:
        train = self.train
        if train.tokens_per_step is None:
            return
        batch = train.batch_size * self.sequence_length
        if train.tokens_per_step % batch != 0:
            raise ValueError(
                f"train.tokens_per_step: got {train.tokens_per_step}, needs a multiple of "
                "train.batch_size x "
                f"sequence length ({train.batch_size} x {self.sequence_length} = {batch})"
            )
        derived = train.tokens_per_step // batch
        if train.gradient_accumulation not in (None, derived):
            raise ValueError(
                f"train.gradient_accumulation: got {train.gradient_accumulation}, but "
                "train.tokens_per_step "
                f"{train.tokens_per_step} means {derived}; give one of the two"
            )

    def _check_stages(self) -> None:
        try:
            runs = self.stage_runs()
        except ConfigError as error:
            raise ValueError(str(error)) from None
        for run in runs[:-1]:
            patience = run.config.evaluation.patience
            if patience is not None:
                raise ValueError(
                    f"stages, {run.name!r}: evaluation.patience: got {patience}, which would end "
                    "the run before its last stage; give it to the last stage alone"
                )

    def _check_vocabulary(self) -> None:
        known = {"byte": _BYTE_VOCABULARY, "bpe": self.tokenizer.vocab_size}.get(
            self.tokenizer.resolved_kind()
        )
        asked = self.model.vocab_size
        if known is not None and asked is not None and asked < known:
            raise ValueError(
                f"model.vocab_size: got {asked}, needs at least the {known} tokens of the "
                f"{self.tokenizer.resolved_kind()} tokenizer"
            )


TrainingRunConfig = LlmTrainingConfig
