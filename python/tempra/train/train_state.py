"""Everything a run is at one moment. What is not in `TrainState` does not exist after a resume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tempra._core import (
    CheckpointError,
    ConfigError,
    Generator,
    Tensor,
    current_isa,
    no_grad,
)
from tempra.checkpoint import Checkpoint
from tempra.train.moving_average import ExponentialMovingAverage
from tempra.train.objective import Objective, PhasedObjective
from tempra.train.protocols import BatchSource, Optimizer, Stateful, TrainableModel

_STATE_FORMAT = 1
_MOVING_AVERAGE = "moving_average."


@dataclass
class BestValidation:
    """The lowest validation loss of a stage; losses on other data cannot be compared with it."""

    loss: float | None = None
    step: int | None = None
    evaluations_since: int = 0
    stage: int = 0

    def improve(self, loss: float, step: int, stage: int) -> bool:
        """Take a measurement in; a new stage begins anew. Return whether it is the best."""
        improved = self.loss is None or stage != self.stage or loss < self.loss
        self.evaluations_since = 0 if improved else self.evaluations_since + 1
        if improved:
            self.loss, self.step, self.stage = loss, step, stage
        return improved


@dataclass(frozen=True)
class StagePosition:
    """The stage that a run is in, and with which of the run's steps and batches it began."""

    number: int = 0
    first_step: int = 0
    first_batch: int = 0


@dataclass
class TrainState:
    """Step, stage, tokens, parameters, optimizers, randomness, data cursors, callbacks, objective.

    `cursors` counts, per source, the batches that *finished* steps have consumed.
    """

    objective: Objective | PhasedObjective
    optimizers: Mapping[str, Optimizer]
    generator: Generator
    step: int = 0
    epoch: int = 0
    tokens: int = 0
    cursors: dict[str, int] = field(default_factory=lambda: {"train": 0})
    evaluated_step: int = -1
    best: BestValidation = field(default_factory=BestValidation)
    stage: StagePosition = StagePosition()
    average: ExponentialMovingAverage | None = None
    callbacks: Sequence[object] = ()
    # What decided the batches so far: a resume on other data would repeat nothing of this run.
    data_fingerprint: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> TrainableModel:
        """The model whose weights are saved."""
        return self.objective.model

    def to_checkpoint(
        self, run_config: str = "", tokenizer_files: Mapping[str, bytes] | None = None
    ) -> Checkpoint:
        """Return a checkpoint that refers to this state's tensors; it copies none of them."""
        parameters = {name: tensor.detach() for name, tensor in self.model.named_parameters()}
        optimizer_tensors = {
            f"{name}.{key}": tensor
            for name, optimizer in self.optimizers.items()
            for key, tensor in optimizer.state_tensors().items()
        }
        if self.average is not None:
            for name, tensor in self.average.averages.items():
                optimizer_tensors[_MOVING_AVERAGE + name] = tensor
        return Checkpoint(
            step=self.step,
            model=self.model.to_hugging_face(parameters),
            optimizer=optimizer_tensors,
            state=self._scalars(),
            model_config=self.model.hugging_face_config(),
            run_config=run_config,
            tokenizer_files=dict(tokenizer_files or {}),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint, to the last bit; raises CheckpointError where it can't."""
        state = checkpoint.state
        try:
            self._restore_scalars(state, checkpoint.step)
            load_weights_into(self.model, self.model.from_hugging_face(checkpoint.model))
            self._restore_optimizers(checkpoint.optimizer, state["optimizers"])
            if self.average is not None:
                self.average.load(_with_prefix(checkpoint.optimizer, _MOVING_AVERAGE))
            _restore_stateful(self._stateful(), state["stateful"])
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            RuntimeError,
            ConfigError,
        ) as error:
            place = checkpoint.path or f"of step {checkpoint.step}"
            raise CheckpointError(
                f"checkpoint {place}: state.json does not fit this version: "
                f"{type(error).__name__}: {error}"
            ) from error

    def check_data(self, source: BatchSource) -> None:
        """Raise CheckpointError where a source would not continue the batches of this state."""
        current = dict(source.state_dict())
        for key in sorted({*current, *self.data_fingerprint}):
            was, now = self.data_fingerprint.get(key), current.get(key)
            if self.data_fingerprint and was != now:
                raise CheckpointError(
                    f"resume: the data is not what the checkpoint was trained on: {key} was "
                    f"{was!r} and is {now!r} now; restore the data, or start a new run from the "
                    "weights alone with train.init_from"
                )
        self.data_fingerprint = current

    def _scalars(self) -> dict[str, Any]:
        return {
            "format": _STATE_FORMAT,
            "step": self.step,
            "epoch": self.epoch,
            "tokens": self.tokens,
            "isa": current_isa(),
            "device": next((p.device for _, p in self.model.named_parameters()), "cpu"),
            "generator": dict(self.generator.state()),
            "cursors": dict(self.cursors),
            "data": self.data_fingerprint,
            "evaluated_step": self.evaluated_step,
            "best": asdict(self.best),
            "stage": asdict(self.stage),
            "optimizers": {
                name: optimizer.state_dict() for name, optimizer in self.optimizers.items()
            },
            "stateful": {name: part.state_dict() for name, part in self._stateful().items()},
        }

    def _restore_scalars(self, state: Mapping[str, Any], step: int) -> None:
        if state["format"] != _STATE_FORMAT:
            raise ValueError(f"format {state['format']!r}, this version reads {_STATE_FORMAT}")
        if state["step"] != step:
            raise ValueError(f"step {state['step']!r} in a checkpoint of step {step}")
        self.step = step
        self.epoch, self.tokens = _count(state, "epoch"), _count(state, "tokens")
        self.cursors = {name: _count(state["cursors"], name) for name in self.cursors}
        self.evaluated_step = int(state["evaluated_step"])
        self.best = BestValidation(**state["best"])
        # Runs of versions without stages are in their first.
        place = state.get("stage", asdict(StagePosition()))
        self.stage = StagePosition(
            *(_count(place, name) for name in ("number", "first_step", "first_batch"))
        )
        self.data_fingerprint = dict(state["data"])
        self.generator.set_state(state["generator"])

    def _restore_optimizers(
        self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Mapping[str, Any]]
    ) -> None:
        if set(scalars) != set(self.optimizers):
            raise CheckpointError(
                f"resume: the checkpoint has the optimizers {sorted(scalars)}, "
                f"this run has {sorted(self.optimizers)}"
            )
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_tensors(_with_prefix(tensors, name + "."))
            optimizer.load_state_dict(scalars[name])

    def _stateful(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = {}
        for part in (self.objective, *self.callbacks):
            if isinstance(part, Stateful):
                name = type(part).__name__
                if name in parts:
                    raise CheckpointError(f"train state: two parts with state are named {name}")
                parts[name] = part
        return parts


def load_weights_into(model: TrainableModel, tensors: Mapping[str, Tensor]) -> None:
    """Copy weights by name; raises CheckpointError listing every missing, extra or unlike one."""
    parameters = dict(model.named_parameters())
    problems = [f"{name} is missing" for name in parameters if name not in tensors]
    problems += [f"{name} is not in the model" for name in tensors if name not in parameters]
    problems += [
        f"{name} has shape {tuple(tensors[name].shape)}, the model needs {tuple(parameter.shape)}"
        for name, parameter in parameters.items()
        if name in tensors and tuple(tensors[name].shape) != tuple(parameter.shape)
    ]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" * (len(problems) > 8))
        raise CheckpointError(f"weights do not fit the model: {shown}")
    with no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def _restore_stateful(
    parts: Mapping[str, Stateful], states: Mapping[str, Mapping[str, Any]]
) -> None:
    if not isinstance(states, Mapping):
        raise TypeError(f"stateful is {states!r}, needs an object")
    # A callback may be new in a resumed run; it then starts afresh. Objectives are never new.
    for name, part in parts.items():
        if name in states:
            part.load_state_dict(states[name])


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _count(values: Mapping[str, Any], name: str) -> int:
    value = values[name]
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {value!r}, needs a count")
    return value
