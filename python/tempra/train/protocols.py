"""What training needs of a model, an optimizer and a data source, and nothing more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tempra._core import Tensor

if TYPE_CHECKING:
    from tempra.data import Batch


class TrainableModelConfig(Protocol):
    """Configuration of a model: what it takes to build it again."""

    def model_dump(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        ...


class TrainableModel(Protocol):
    """A model the trainer can train: parameters by name, modes, and names for the file."""

    def named_parameters(self) -> Iterable[tuple[str, Tensor]]:
        """Return every parameter once, in definition order."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Switch dropout and the like on (or off)."""
        ...

    def hugging_face_config(self) -> dict[str, Any]:
        """Return the content of config.json."""
        ...

    def to_hugging_face(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors under the names and in the layout that model.safetensors has."""
        ...

    def from_hugging_face(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Invert `to_hugging_face`, bit for bit."""
        ...


class LanguageModel(TrainableModel, Protocol):
    """A model with the loss of the next token."""

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss summed over the batch's `valid_tokens`."""
        ...


class DeferringLanguageModel(TrainableModel, Protocol):
    """A language model whose loss can be computed by its backward pass."""

    def loss(self, batch: Batch, *, deferred: bool = False) -> Tensor:
        """Return the summed loss; a `deferred` one has no value until `backward()` has run."""
        ...


class Optimizer(Protocol):
    """One update rule over all parameters of one arena; its reads are the only points that wait."""

    @property
    def gradient_norm(self) -> float:
        """Norm of the last step's gradient, before clipping."""
        ...

    @property
    def skipped_in_a_row(self) -> int:
        """Updates skipped since the last that was made."""
        ...

    @property
    def skipped_total(self) -> int:
        """Updates skipped in all."""
        ...

    @property
    def loss_scale(self) -> Tensor | None:
        """What losses are multiplied by before `backward`, on the device; None: they are not."""
        ...

    def zero_gradients(self) -> None:
        """Clear the gradients before a step."""
        ...

    def step(
        self, *, learning_rate: float, gradient_scale: float, max_gradient_norm: float
    ) -> None:
        """Scale, clip (0: not) and apply the gradients; skip where they are not finite."""
        ...

    def reset(self) -> None:
        """Forget all moments, as before the first step."""
        ...

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradient of each parameter by name."""
        ...

    def state_tensors(self) -> dict[str, Tensor]:
        """Return views of the state by name, independent of the arena's layout."""
        ...

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the state back; raises CheckpointError on missing or extra names."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the scalar state."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the scalar state."""
        ...


@runtime_checkable
class CapturableUpdate(Protocol):
    """A step of an optimizer in two halves: the host's, and one that a CUDA graph can hold."""

    def begin_step(
        self, *, learning_rate: float, gradient_scale: float, max_gradient_norm: float
    ) -> None:
        """Leave the numbers of a step where the device reads them."""
        ...

    def run_step(self) -> None:
        """Apply the gradients by the numbers that lie there."""
        ...

    def refresh_copy(self) -> None:
        """Bring copies of the parameters up to date, where others wrote these meanwhile."""
        ...


class CapturableOptimizer(Optimizer, CapturableUpdate, Protocol):
    """An optimizer whose steps can be launched as graphs."""


class BatchSource(Protocol):
    """Batches as a pure function of their index, so that a cursor is one integer."""

    def batch(self, index: int) -> Batch:
        """Return the batch of an index, counted from the start of the run over all epochs."""
        ...

    def epochs(self, batches: int) -> float:
        """Return how often the data has been read after that many batches."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """Return what decides the batches: sizes and seed of the data."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """Whatever has state that a checkpoint must keep: callbacks and objectives may."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON can hold it."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state."""
        ...
