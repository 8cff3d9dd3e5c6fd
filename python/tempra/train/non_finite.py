"""Finding where an infinite or undefined number came from, by computing a step again.

Skipped updates leave the weights as they were, so the replay meets the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tempra._core import DType, Generator, Tensor
from tempra.train.errors import TrainError
from tempra.train.objective import Objective, PhasedObjective
from tempra.train.protocols import Optimizer
from tempra.train.stage import StagedRun
from tempra.train.train_state import TrainState
from tempra.train.train_step import backward, loss_scale
from tempra.train.trainer_settings import TrainerSettings

if TYPE_CHECKING:
    from tempra.data import Batch


@dataclass(frozen=True)
class NonFiniteOrigin:
    """The first thing found to be not finite."""

    batch: int | None
    what: str


def stop_if_not_finite(
    run: StagedRun,
    settings: TrainerSettings,
    folder: Path | None,
    *,
    before_replay: Callable[[], None],
) -> None:
    """Raise TrainError after too many updates in a row that were skipped.

    `before_replay` is called before the step is computed again, which takes a step's memory.
    """
    count = settings.batches_per_step
    for name, optimizer in run.state.optimizers.items():
        if optimizer.skipped_in_a_row >= settings.non_finite_limit:
            before_replay()
            batches = [
                run.current.source.batch(index)
                for index in range(run.first_batch - count, run.first_batch)
            ]
            first = run.state.cursors["train"] - count
            raise TrainError(describe_non_finite(run.state, name, batches, first, folder=folder))


def describe_non_finite(
    state: TrainState,
    optimizer_name: str,
    batches: Sequence[Batch],
    first_batch: int,
    *,
    folder: Path | None,
) -> str:
    """Return the report of a run that stops: step, batch, layer and how to replay it."""
    optimizer = state.optimizers[optimizer_name]
    skipped = optimizer.skipped_in_a_row
    origin = find_origin(
        state.objective,
        optimizer,
        batches,
        generator=state.generator,
        first_batch=first_batch,
    )
    last = first_batch + len(batches) - 1
    where = f"batch {first_batch}" + (f" to {last}" if last > first_batch else "")
    if origin is not None and origin.batch is not None:
        where = f"batch {origin.batch}"
    what = "nothing found when the step was computed again" if origin is None else origin.what
    replay = f"; to replay, `tempra train resume --checkpoint {folder}`" if folder else ""
    return (
        f"step {state.step}: {skipped} updates in a row were skipped for infinite or undefined "
        f"numbers, the first at step {state.step - skipped + 1}; {where} of epoch {state.epoch}, "
        f"first not finite: {what}{replay}; a lower optimizer.lr often helps"
    )


def find_origin(
    objective: Objective | PhasedObjective,
    optimizer: Optimizer,
    batches: Sequence[Batch],
    *,
    generator: Generator,
    first_batch: int,
) -> NonFiniteOrigin | None:
    """Return the first non-finite parameter, activation, loss or gradient of a step."""
    for name, parameter in objective.model.named_parameters():
        if not is_finite(parameter):
            return NonFiniteOrigin(None, f"parameter {name}")
    if isinstance(objective, PhasedObjective):
        return None  # its updates have side effects: computing them again would change the run
    for offset, batch in enumerate(batches):
        generator.set_step(first_batch + offset)
        what = _first_of_batch(objective, optimizer, batch)
        if what is not None:
            return NonFiniteOrigin(first_batch + offset, what)
    return None


def _first_of_batch(objective: Objective, optimizer: Optimizer, batch: Batch) -> str | None:
    optimizer.zero_gradients()
    with _watched(objective.model) as found:
        scale, _ = loss_scale(optimizer, int(batch.tokens.size))
        loss = backward(objective, batch, scale)
    try:
        if found:
            return found[0]
        if not is_finite(loss.total):
            return "the loss (every layer's output was finite)"
        # Backward meets the parameters in reverse: the last one is where it began.
        for name, gradient in reversed(list(optimizer.gradients().items())):
            if not is_finite(gradient):
                return f"gradient of {name}"
        return None
    finally:
        optimizer.zero_gradients()


@contextmanager
def _watched(model: Any) -> Iterator[list[str]]:
    """Check every layer's output where the model can list its layers."""
    found: list[str] = []
    modules = list(model.named_modules()) if hasattr(model, "named_modules") else []
    try:
        for name, module in modules:
            object.__setattr__(module, "forward", _checking(module.forward, name, found))
        yield found
    finally:
        for _, module in modules:
            module.__dict__.pop("forward", None)


def _checking(forward: Callable[..., Any], name: str, found: list[str]) -> Callable[..., Any]:
    def checked(*arguments: Any, **options: Any) -> Any:
        result = forward(*arguments, **options)
        if isinstance(result, Tensor) and not is_finite(result):
            found.append(f"output of layer {name or 'model'}")
        return result

    return checked


def is_finite(tensor: Tensor) -> bool:
    """Whether every element is a finite number."""
    return bool(np.isfinite(tensor.detach().to(DType.f32).cpu().numpy()).all())
