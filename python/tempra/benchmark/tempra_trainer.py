"""Our side of the training benchmark: full steps, as the peer takes them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from tempra import _core
from tempra._core import Tensor
from tempra.models import Transformer, TransformerConfig
from tempra.optim.adamw import AdamW

TokenArray = NDArray[np.int32]  # [rows, block]


class TempraTrainer:
    """Full training steps: forward, backward, clip, AdamW."""

    def __init__(self, config: TransformerConfig, *, threads: int, device: str = "cpu") -> None:
        _core.set_num_threads(threads)
        self.model = Transformer(config, seed=0)
        self.model.to(device)
        self.optimizer = AdamW(
            self.model.named_parameters(),
            betas=(0.9, 0.95),
            weight_decay=0.1,
            low_precision=config.dtype if device != "cpu" and config.dtype != "f32" else None,
        )

    def step(self, tokens: TokenArray, labels: TokenArray) -> float:
        """Train on rows of tokens and what follows each; return the mean loss."""
        return float(self.run(tokens, labels).item()) / tokens.size

    def run(self, tokens: TokenArray, labels: TokenArray) -> Tensor:
        """Do the same without waiting; return the summed loss."""
        rows, block = tokens.shape
        batch = SimpleNamespace(
            tokens=tokens.reshape(-1),
            labels=labels.reshape(-1),
            offsets=np.arange(rows + 1, dtype=np.int32) * np.int32(block),
            positions=np.tile(np.arange(block, dtype=np.int32), rows),
            longest=block,
            even=True,
        )
        self.optimizer.zero_gradients()
        loss = self.model.loss(batch, deferred=True)
        loss.backward()
        self.optimizer.step(
            learning_rate=1e-3, gradient_scale=1.0 / tokens.size, max_gradient_norm=1.0
        )
        return loss
