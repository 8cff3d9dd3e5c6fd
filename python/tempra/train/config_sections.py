"""The sections of a training run that do not depend on what is trained."""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tempra.optim.lr_schedule import LearningRateSchedule
from tempra.train.config_section import Section
from tempra.train.config_values import Count, CountOrZero, NotNegative, Pair, Positive


class OptimizerType(str, Enum):
    """The rule that turns gradients into updates."""

    ADAMW = "adamw"


class TrainSection(Section):
    """How long, how much at a time, and with which numbers."""

    steps: Count | None = Field(
        default=None, description="Updates of the model in all. Default: 1000."
    )
    epochs: Positive | None = Field(
        default=None,
        description="How often the text is read, instead of steps. Sources are read so often "
        "together: in an epoch as many sequences are read as they all have.",
    )
    batch_size: Count = Field(
        default=8, description="Sequences computed at a time; lower it when memory runs out."
    )
    block: Count | None = Field(
        default=None, description="Tokens per sequence. Default: model.context."
    )
    gradient_accumulation: Count | None = Field(
        default=None,
        description="Batches added up before each update; a larger batch in the memory of a "
        "small one. Default: 1.",
    )
    tokens_per_step: Count | None = Field(
        default=None,
        description="Tokens per update, instead of gradient_accumulation; a multiple of "
        "batch_size x block.",
    )
    dtype: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32",
        description="Numbers the model computes with; bf16 is faster on CPUs that support it. fp16 "
        "is for CUDA devices, with losses scaled as its range needs.",
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        default=1337, description="Start of all randomness: the same seed gives the same run."
    )
    deterministic: bool = Field(
        default=True,
        description="Same seed, same machine type, same result to the last bit. Off, "
        "attention's gradients on a GPU may add up in any order, which can be faster.",
    )
    init_from: str | None = Field(
        default=None,
        min_length=1,
        description="Checkpoint folder whose weights are the starting point (fine-tuning).",
    )
    max_gradient_norm: NotNegative = Field(
        default=1.0,
        description="Longer gradients are scaled down to this length; 0 switches it off.",
    )
    non_finite_limit: Count = Field(
        default=10,
        description="Updates in a row skipped for infinite or undefined numbers before the run "
        "stops.",
    )
    recompute: bool = Field(
        default=False,
        description="Compute activations twice instead of keeping them: less memory, slower.",
    )
    device: str = Field(
        default="cpu",
        description="Where the model is computed: cpu, cuda, or cuda:N for the N-th device.",
    )
    cuda_graph: bool = Field(
        default=False,
        description="On a CUDA device, record a training step once as a graph and launch that: the "
        "same numbers to the last bit, with less work for the host.",
    )
    threads: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None, description="CPU threads. Default: one per core."
    )

    @field_validator("device")
    @classmethod
    def _names_a_device(cls, value: str) -> str:
        if re.fullmatch(r"cpu|cuda(:\d{1,2})?", value) is None:
            raise ValueError(f"train.device: got {value!r}, needs cpu, cuda or cuda:N")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> TrainSection:
        if self.steps is not None and self.epochs is not None:
            raise ValueError(
                f"train.epochs: got {self.epochs} beside train.steps ({self.steps}); give one of "
                "the two"
            )
        if self.dtype == "fp16" and self.device == "cpu":
            raise ValueError(
                "train.dtype: got fp16 on the CPU, which has no kernels for it; give bf16, or "
                "train.device=cuda"
            )
        if self.cuda_graph and self.device == "cpu":
            raise ValueError(
                "train.cuda_graph: got true with train.device=cpu, which has no graphs; give "
                "train.device=cuda, or train.cuda_graph=false"
            )
        return self

    def known_steps(self) -> int | None:
        """Return the updates; None where the length of the text decides."""
        if self.epochs is not None:
            return None
        return 1000 if self.steps is None else self.steps


class OptimizerConfig(Section):
    """The rule that turns gradients into updates."""

    type: Annotated[OptimizerType, Field(strict=False)] = Field(
        default=OptimizerType.ADAMW, description="adamw."
    )
    lr: Positive = Field(
        default=1e-3, description="Highest learning rate: how far one update moves the weights."
    )
    min_lr: NotNegative | None = Field(
        default=None, description="Learning rate at the end of the schedule. Default: lr / 10."
    )
    betas: Pair = Field(
        default=(0.9, 0.95),
        description="How much of the past the running means of gradient and squared gradient keep.",
    )
    eps: Positive = Field(default=1e-8, description="Added to the denominator of an update.")
    weight_decay: NotNegative = Field(
        default=0.1, description="Pull of weight matrices towards zero."
    )

    @model_validator(mode="after")
    def _consistent(self) -> OptimizerConfig:
        for beta in self.betas:
            if not 0.0 <= beta < 1.0:
                raise ValueError(
                    f"optimizer.betas: got {list(self.betas)}, needs two numbers from 0 to below 1"
                )
        if self.min_lr is not None and self.min_lr > self.lr:
            raise ValueError(
                f"optimizer.min_lr: got {self.min_lr}, needs at most optimizer.lr ({self.lr})"
            )
        return self

    def resolved_min_lr(self) -> float:
        """Return the learning rate at the end of the schedule."""
        return self.lr / 10.0 if self.min_lr is None else self.min_lr


class SchedulerConfig(Section):
    """How the learning rate moves over the run."""

    kind: Annotated[LearningRateSchedule, Field(strict=False)] = Field(
        default=LearningRateSchedule.COSINE,
        description="After the warm-up: cosine or linear fall to min_lr, or constant.",
    )
    warmup_steps: CountOrZero | None = Field(
        default=None,
        description="Updates over which the rate rises from near 0 to lr. Default: steps / 20, "
        "at most 1000.",
    )
    decay_steps: Count | None = Field(
        default=None,
        description="Update at which min_lr is reached; the rate stays there. Default: "
        "train.steps.",
    )


class EvaluationConfig(Section):
    """Measuring the model on text it does not learn from."""

    interval: CountOrZero | None = Field(
        default=None,
        description="Updates between measurements; 0 means never. Default: 250, if there is "
        "validation text.",
    )
    batches: Count | None = Field(
        default=None, description="Batches per measurement. Default: the whole validation text."
    )
    patience: Count | None = Field(
        default=None,
        description="Measurements in a row without a better loss before the run stops early. "
        "Default: it never does.",
    )
    sample_prompt: str | None = Field(
        default=None,
        description="Beginning of the text the model writes at each measurement; a model of "
        "conversations answers it. Default: an empty line.",
    )
    sample_tokens: CountOrZero = Field(
        default=0, description="Tokens the model writes at each measurement; 0 means none."
    )

    @model_validator(mode="after")
    def _consistent(self) -> EvaluationConfig:
        if self.sample_prompt is not None and self.sample_tokens == 0:
            raise ValueError(
                "evaluation.sample_prompt: is given, but evaluation.sample_tokens is 0; give both"
            )
        return self


class CheckpointConfig(Section):
    """Saving the run so that it can be resumed."""

    dir: str | None = Field(
        default=None,
        min_length=1,
        description="Folder of the run. Default: a new folder under runs/.",
    )
    interval: Count = Field(
        default=250, description="Updates between saves; the last update is always saved."
    )
    keep_last: Count = Field(default=3, description="How many of the newest saves are kept.")
    keep_best: bool = Field(
        default=True, description="Also keep the save with the lowest validation loss."
    )
    asynchronous: bool = Field(
        default=False, description="Save in the background while training goes on."
    )


class LoggingConfig(Section):
    """What is written down while training."""

    interval: Count = Field(
        default=10, description="Updates between lines of loss, speed and learning rate."
    )
