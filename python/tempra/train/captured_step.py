"""Training steps as CUDA graphs: recorded once for a shape of batch, launched with other numbers.

There are two graphs: forward and backward pass of a micro-batch, launched once for each of a step,
and the update (norm, clipping, AdamW, weight copy). So the size of a recording does not grow with
gradient accumulation, and a step may have any number of micro-batches. What varies lies in device
memory: tokens and the position in the random numbers in a `BatchBuffer`, learning rate, 1 / valid
tokens and the limit of the norm in the optimizer's `StepScalars`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from tempra import _core, cuda
from tempra._core import ConfigError, DeviceError, DType, Generator, Tensor, no_grad
from tempra.data.batch import Batch
from tempra.train.objective import Objective, PhasedObjective
from tempra.train.protocols import CapturableOptimizer, CapturableUpdate, Optimizer
from tempra.train.train_step import (
    StepResult,
    backward,
    count_tokens,
    loss_scale,
    only_optimizer,
    train_step,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ALIGNED = 64  # numbers between the beginnings of two arrays of a buffer: 256 bytes
_SOME_LABELS = 1_000_003  # more than none, and nothing that an objective would count otherwise


@dataclass(frozen=True)
class BatchShape:
    """What a recording is tied to: tokens, places for sequences, the longest there may be.

    `even`: see `Batch.even`; attention has kernels for it.
    """

    tokens: int
    sequences: int
    longest: int
    even: bool


@dataclass(frozen=True)
class DeviceBatch:
    """A micro-batch in device memory, as models read it; how many labels there are varies."""

    tokens: Tensor
    labels: Tensor
    positions: Tensor
    offsets: Tensor
    longest: int
    even: bool
    valid_tokens: int = _SOME_LABELS


class BatchBuffer:
    """Device memory that holds one micro-batch after another, each brought by one copy."""

    def __init__(self, shape: BatchShape, device: str) -> None:
        sizes = [shape.tokens] * 3 + [shape.sequences + 1, 1]
        starts = np.cumsum([0] + [-(-size // _ALIGNED) * _ALIGNED for size in sizes])
        self._host: NDArray[np.int32] = np.zeros(starts[-1], np.int32)
        self._device = device
        self._all = _core.zeros([int(starts[-1])], DType.i32, device)
        places = [(int(start), size) for start, size in zip(starts, sizes, strict=False)]
        self._parts = [self._host[start : start + size] for start, size in places]
        tokens, labels, positions, offsets, self.random_step = (
            self._all.narrow(0, start, size) for start, size in places
        )
        self.batch = DeviceBatch(tokens, labels, positions, offsets, shape.longest, shape.even)

    def fill(self, batch: Batch, random_step: int) -> None:
        """Bring a batch, beside what the device is doing, and from there into its place."""
        arrays = (batch.tokens, batch.labels, batch.positions, batch.offsets)
        for part, array in zip(self._parts, arrays, strict=False):
            part[:] = array
        self._parts[-1].view(np.uint32)[0] = random_step
        with no_grad():
            self._all.copy_(_core.from_numpy(self._host).to(self._device))


class StepGraphs:
    """The two graphs of a step of batches of one shape; the memory they use stays theirs."""

    def __init__(
        self,
        shape: BatchShape,
        objective: Objective,
        optimizer: CapturableOptimizer,
        generator: Generator,
        device: str,
    ) -> None:
        self.shape = shape
        self._objective, self._optimizer, self._generator = objective, optimizer, generator
        self._buffer = BatchBuffer(shape, device)
        generator.set_step(0)
        generator.read_step_from(self._buffer.random_step)
        try:
            with cuda.capture(device) as self._pass:
                scale, self._unit = loss_scale(optimizer, shape.tokens)
                batch = cast("Batch", self._buffer.batch)  # the same fields, as tensors
                loss = backward(objective, batch, scale)
        finally:
            generator.read_step_from(None)
        if loss.terms != _SOME_LABELS:
            raise ConfigError(
                f"train.cuda_graph: {type(objective).__name__} averages over something else than "
                "the batch's labels, whose number varies; give train.cuda_graph=false"
            )
        self._total = loss.total
        self._nothing = _core.zeros(self._total.shape, self._total.dtype, device)
        self._draws = generator.state()["ordinal"]
        with cuda.capture(device) as self._update:
            optimizer.run_step()

    def are_of(self, objective: Objective, optimizer: CapturableOptimizer) -> bool:
        """Return whether these are what was recorded."""
        return self._objective is objective and self._optimizer is optimizer

    def run(
        self,
        batches: Sequence[Batch],
        *,
        learning_rate: float,
        max_gradient_norm: float,
        first_batch: int,
    ) -> StepResult:
        """Run a step over batches of this shape, as `train_step` does."""
        optimizer = self._optimizer
        optimizer.refresh_copy()
        optimizer.zero_gradients()
        totals = []
        for offset, batch in enumerate(batches):
            if batch.valid_tokens == 0:  # nothing is to come of it, infinite numbers included
                totals.append(self._nothing)
                continue
            self._buffer.fill(batch, first_batch + offset)
            self._pass.launch()
            totals.append(self._total.clone())  # the next launch writes it again
        step = first_batch + len(batches) - 1
        state = self._generator.state()
        self._generator.set_state({**state, "step": step, "ordinal": self._draws})
        terms = sum(int(batch.valid_tokens) for batch in batches)
        if terms > 0:
            optimizer.begin_step(
                learning_rate=learning_rate,
                gradient_scale=self._unit / terms,
                max_gradient_norm=max_gradient_norm,
            )
            self._update.launch()
        return StepResult(learning_rate, totals, terms, count_tokens(batches))


class CapturedStep:
    """`train_step` by graphs. The first step of a shape runs as it is and the next is recorded.

    So a single batch of another shape costs no recording, and what is recorded has been run before.
    Packed batches have one shape where they are padded to it (`StageBatches`). What is
    recorded is repeated as it is: a callback that changes which kernels a step runs, by freezing
    parameters or exchanging modules, is not seen, nor is what a loss of your own computes on the
    host or draws from another generator. Weights and optimizer state may be written.
    """

    def __init__(self) -> None:
        self._graphs: StepGraphs | None = None
        self._ran: BatchShape | None = None  # the shape of the last step

    def __call__(
        self,
        objective: Objective | PhasedObjective,
        optimizers: Mapping[str, Optimizer],
        batches: Sequence[Batch],
        *,
        learning_rate: float,
        max_gradient_norm: float,
        generator: Generator,
        first_batch: int,
    ) -> StepResult:
        """Run one step; ConfigError where something in it cannot be captured."""
        loss, optimizer, device = _capturable(objective, optimizers)
        shapes = {_shape_of(batch) for batch in batches}
        shape = shapes.pop() if len(shapes) == 1 else None
        if self._graphs is not None and not self._graphs.are_of(loss, optimizer):
            self.release()
        if shape is not None and shape == self._ran and not self._has_graphs_of(shape):
            self._record(shape, loss, optimizer, generator, device)
        # Without a label there is no backward pass, and what a recording needs was not run.
        learned = any(batch.valid_tokens > 0 for batch in batches)
        self._ran = shape if learned or shape == self._ran else None
        if self._graphs is not None and self._has_graphs_of(shape):
            return self._graphs.run(
                batches,
                learning_rate=learning_rate,
                max_gradient_norm=max_gradient_norm,
                first_batch=first_batch,
            )
        return train_step(
            loss,
            optimizers,
            batches,
            learning_rate=learning_rate,
            max_gradient_norm=max_gradient_norm,
            generator=generator,
            first_batch=first_batch,
        )

    def _has_graphs_of(self, shape: BatchShape | None) -> bool:
        return self._graphs is not None and self._graphs.shape == shape

    def release(self) -> None:
        """Let go of the graphs and the memory of a step that they hold; a later step records anew.

        For what needs memory of its own beside the steps.
        """
        self._graphs = self._ran = None

    def _record(
        self,
        shape: BatchShape,
        objective: Objective,
        optimizer: CapturableOptimizer,
        generator: Generator,
        device: str,
    ) -> None:
        # What the last step used lies free, and a recording takes as much again.
        self._graphs = None
        optimizer.refresh_copy()  # else doing so would become a part of every launch
        cuda.release_free_memory(device)
        try:
            self._graphs = StepGraphs(shape, objective, optimizer, generator, device)
        except DeviceError as error:
            raise ConfigError(
                f"train.cuda_graph: the step of {type(objective).__name__} cannot be captured: "
                f"{error}; give train.cuda_graph=false"
            ) from error


def _capturable(
    objective: Objective | PhasedObjective, optimizers: Mapping[str, Optimizer]
) -> tuple[Objective, CapturableOptimizer, str]:
    """Return both and their device; ConfigError, with its name, for what no graph can hold."""

    def refuse(what: str) -> ConfigError:
        return ConfigError(f"train.cuda_graph: {what}; give train.cuda_graph=false")

    if isinstance(objective, PhasedObjective):
        raise refuse(f"{type(objective).__name__} makes its step of phases, which are not captured")
    optimizer = only_optimizer(optimizers)
    # By its methods alone: looking at an optimizer's numbers would wait for the device.
    if not isinstance(optimizer, CapturableUpdate):
        raise refuse(f"{type(optimizer).__name__} has no update that can be captured")
    _, parameter = next(iter(objective.model.named_parameters()))
    if parameter.device == "cpu":
        raise refuse("the model is on the CPU, which has no graphs")
    return objective, optimizer, parameter.device


def _longest(batch: Batch) -> int:
    return batch.longest or int(np.diff(batch.offsets).max(initial=0))


def _shape_of(batch: Batch) -> BatchShape:
    return BatchShape(batch.tokens.size, batch.offsets.size - 1, _longest(batch), batch.even)
