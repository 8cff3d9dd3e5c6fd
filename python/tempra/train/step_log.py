"""Steps since the last log point, read together so that the steps between never wait."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from tempra.train.protocols import Optimizer
from tempra.train.train_step import StepResult


class StepLog:
    """Collects step results and turns them into records, one per step."""

    def __init__(self, optimizers: Mapping[str, Optimizer], flops_per_token: int | None = None):
        self._optimizers = optimizers
        self.flops_per_token = flops_per_token
        self._pending: list[tuple[int, int, StepResult]] = []
        self._since = time.monotonic()
        self._pauses = 0

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, step: int, tokens: int, result: StepResult) -> None:
        """Keep the result of a finished step; `tokens` counts those of the run so far."""
        self._pending.append((step, tokens, result))

    def pause(self) -> float:
        """Note that what follows is not training time; pass the result to `resume`."""
        self._pauses += 1
        return time.monotonic()

    def resume(self, paused_at: float) -> None:
        """Leave the time since `pause` out of the speed."""
        self._pauses -= 1
        if self._pauses == 0:  # a pause within a pause is over already
            self._since += time.monotonic() - paused_at

    def read(self) -> list[dict[str, Any]]:
        """Wait for the pending steps and return their records; the last one has norm and speed."""
        if not self._pending:
            return []
        records: list[dict[str, Any]] = [
            {
                "kind": "step",
                "step": step,
                "loss": result.loss(),
                "learning_rate": result.learning_rate,
                "tokens": tokens,
            }
            for step, tokens, result in self._pending
        ]
        now = time.monotonic()
        trained = sum(result.tokens for _, _, result in self._pending)
        rate = trained / max(now - self._since, 1e-9)
        for name, optimizer in self._optimizers.items():
            prefix = "" if len(self._optimizers) == 1 else f"{name}_"
            records[-1][f"{prefix}gradient_norm"] = optimizer.gradient_norm
            records[-1][f"{prefix}skipped"] = optimizer.skipped_total
        records[-1]["tokens_per_second"] = round(rate, 1)
        if self.flops_per_token is not None:
            records[-1]["gflops_per_second"] = round(rate * self.flops_per_token / 1e9, 2)
        self._pending.clear()
        self._since = now
        return records
