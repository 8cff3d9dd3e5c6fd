"""A model of two matrices and a source of patterned tokens: enough to train in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tempra import _core
from tempra._core import Tensor
from tempra.nn import Parameter
from tempra.optim.adamw import AdamW
from tempra.train.objective import AutoregressiveObjective
from tempra.train.train_state import TrainState

VOCABULARY, WIDTH, BLOCK = 11, 6, 8


@dataclass(frozen=True)
class TinyBatch:
    """The fields of a batch that training reads."""

    tokens: np.ndarray
    labels: np.ndarray
    valid_tokens: int
    padding: int = 0


class TinyModel:
    """logits = embedding(token) @ head: a bigram model."""

    def __init__(self, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.parameters: dict[str, Tensor] = {}
        for name, shape in (("embedding", (VOCABULARY, WIDTH)), ("head", (VOCABULARY, WIDTH))):
            value = generator.normal(scale=0.3, size=shape).astype(np.float32)
            self.parameters[name] = Parameter(_core.from_numpy(value))
        self.training = True

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        return list(self.parameters.items())

    def train(self, mode: bool = True) -> TinyModel:
        self.training = mode
        return self

    def loss(self, batch: Any) -> Tensor:
        hidden = _core.embedding(self.parameters["embedding"], _core.from_numpy(batch.tokens))
        return _core.linear_cross_entropy(
            hidden, self.parameters["head"], _core.from_numpy(batch.labels), reduction="sum"
        )

    def hugging_face_config(self) -> dict[str, Any]:
        return {"model_type": "tiny"}

    def to_hugging_face(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {f"model.{name}": tensor for name, tensor in tensors.items()}

    def from_hugging_face(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


class TinySource:
    """Batches of counting sequences with some noise, a pure function of seed and index."""

    def __init__(self, seed: int = 0, batches_per_epoch: int = 5, rows: int = 3) -> None:
        self.seed, self.rows = seed, rows
        self.batches_per_epoch = batches_per_epoch
        self.served: list[int] = []

    def batch(self, index: int) -> Any:
        self.served.append(index)
        generator = np.random.default_rng((self.seed, index))
        start = generator.integers(VOCABULARY, size=(self.rows, 1))
        rows = (start + np.arange(BLOCK + 1)) % VOCABULARY
        noise = generator.random(rows.shape) < 0.1
        rows = np.where(noise, generator.integers(VOCABULARY, size=rows.shape), rows)
        labels = rows[:, 1:].astype(np.int32).reshape(-1)
        # Some tokens are not trained, and not equally many in each batch.
        labels[: index % 4] = -100
        return TinyBatch(
            rows[:, :-1].astype(np.int32).reshape(-1), labels, int((labels >= 0).sum())
        )

    def epochs(self, batches: int) -> float:
        return batches / self.batches_per_epoch

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.seed, "rows": self.rows, "batches_per_epoch": self.batches_per_epoch}


def make_state(seed: int = 0) -> TrainState:
    """A fresh state of a fresh tiny model."""
    model = TinyModel(seed)
    optimizer = AdamW(model.named_parameters(), weight_decay=0.01)
    return TrainState(AutoregressiveObjective(model), {"adamw": optimizer}, _core.Generator(seed))


def weights(state: TrainState) -> dict[str, bytes]:
    """The bits of all parameters and moments."""
    tensors = dict(state.model.named_parameters())
    for optimizer in state.optimizers.values():
        tensors.update(optimizer.state_tensors())
    return {name: tensor.detach().numpy().tobytes() for name, tensor in tensors.items()}
