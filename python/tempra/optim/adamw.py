"""AdamW with decoupled decay over one arena of parameters; the arithmetic is in the core."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tempra import _core
from tempra._core import CheckpointError, DType, Tensor, no_grad
from tempra.optim.param_groups import decay_groups

_FIRST, _SECOND = "first_moment.", "second_moment."


class AdamW:
    """Moves the parameters into an arena of its own and updates all of them in one call.

    State is known by parameter name, not by place: it survives another order or layout.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]],
        *,
        betas: tuple[float, float] = (0.9, 0.95),
        epsilon: float = 1e-8,
        weight_decay: float = 0.1,
        frozen: Iterable[str] = (),
        low_precision: DType | str | None = None,
        scale_losses: bool = False,
    ) -> None:
        parameters = list(named_parameters)
        groups, group_of = decay_groups(parameters, weight_decay)
        for group in groups:
            group.update(learning_rate_scale=1.0, beta1=betas[0], beta2=betas[1], epsilon=epsilon)
        frozen_names = set(frozen)
        copy = DType(low_precision) if isinstance(low_precision, str) else low_precision
        self.arena = _core.ParameterArena(parameters, low_precision=copy)
        self._update = _core.AdamW(
            self.arena,
            groups=groups,
            group_of=group_of,
            frozen=[name in frozen_names for name, _ in parameters],
        )
        if scale_losses:
            self._update.scale_losses()

    @property
    def gradient_norm(self) -> float:
        """Norm of the last step's scaled gradient, before clipping; reading it waits."""
        return self._update.gradient_norm

    @property
    def step_count(self) -> int:
        """Updates made; a skipped one does not count."""
        return self._update.step_count

    @property
    def skipped_in_a_row(self) -> int:
        """Updates skipped since the last that was made."""
        return self._update.skipped_in_a_row

    @property
    def skipped_total(self) -> int:
        """Updates skipped in all."""
        return self._update.skipped_total

    @property
    def loss_scale(self) -> Tensor | None:
        """What losses are multiplied by before `backward`, on the device; None: they are not."""
        return self._update.loss_scale

    def zero_gradients(self) -> None:
        """Clear the gradients before a step."""
        self.arena.zero_gradients()

    def step(
        self, *, learning_rate: float, gradient_scale: float, max_gradient_norm: float
    ) -> None:
        """Scale, clip (0: not) and apply the gradients; an update that is not finite is skipped."""
        self._update.step(
            learning_rate=learning_rate,
            gradient_scale=gradient_scale,
            max_gradient_norm=max_gradient_norm,
        )

    def begin_step(
        self, *, learning_rate: float, gradient_scale: float, max_gradient_norm: float
    ) -> None:
        """Leave the numbers of a step where the device reads them: the host's half of `step`."""
        self._update.begin_step(
            learning_rate=learning_rate,
            gradient_scale=gradient_scale,
            max_gradient_norm=max_gradient_norm,
        )

    def run_step(self) -> None:
        """Scale, clip and apply by the numbers that lie there: the half that a graph can hold."""
        self._update.run_step()

    def refresh_copy(self) -> None:
        """Bring the bf16 or fp16 weights up to date, where others wrote parameters meanwhile."""
        self.arena.refresh_low_precision_copy()

    def reset(self) -> None:
        """Forget the moments and the steps that corrected their bias, not what was skipped."""
        with no_grad():
            for moments in (self._update.first_moments, self._update.second_moments):
                moments.zero_()
        self.load_state_dict({**self.state_dict(), "step_count": 0})

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradient of each parameter by name, as views."""
        return self._by_name("", self.arena.gradients)

    def state_tensors(self) -> dict[str, Tensor]:
        """Return both moments of each parameter by name, as flat views."""
        return {
            **self._by_name(_FIRST, self._update.first_moments),
            **self._by_name(_SECOND, self._update.second_moments),
        }

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the moments back by name; raises CheckpointError on missing or extra ones."""
        own = self.state_tensors()
        missing, extra = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
        if missing or extra:
            raise CheckpointError(
                f"AdamW: the state does not fit: missing {missing[:4]}, not expected {extra[:4]}"
            )
        with no_grad():
            for name, view in own.items():
                if tuple(tensors[name].shape) != tuple(view.shape):
                    raise CheckpointError(
                        f"AdamW: {name} has {tensors[name].shape} elements, needs {view.shape}"
                    )
                view.copy_(tensors[name])

    def state_dict(self) -> dict[str, Any]:
        """Return the counters; the last norm is a report, and may not be a number."""
        state = dict(self._update.state_dict())
        del state["gradient_norm"]
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the scalar state."""
        self._update.load_state_dict({**state, "gradient_norm": 0.0})

    def _by_name(self, prefix: str, flat: Tensor) -> dict[str, Tensor]:
        return {
            prefix + name: flat.narrow(0, offset, length)
            for name, offset, length in self.arena.segments
        }
