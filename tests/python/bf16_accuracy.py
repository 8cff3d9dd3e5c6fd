"""Errors of bf16 operations and their gradients against f64, tempra's beside PyTorch's.

Both get the same bf16 numbers and the same bf16 gradient of the result; the reference is PyTorch's
operation in f64 on those numbers. Errors are collected over several draws of the inputs:

    rms      root mean square of the errors over that of the results
    largest  largest |error| / (|result| + root mean square of the results), mean over the draws
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

import tempra
from op_case import OpCase, as_list, to_array

DRAWS = 3

# How much larger ours may be. Where both libraries round at the same places, errors are equal to
# the last digit; where they do not, they are samples of the same size. The root mean square of the
# smallest results compared here (192 sums) then varies by 3 %, of most (over 10,000) by under 1 %;
# the largest of 10^5 errors by 10 %, the mean of three such maxima by 6 %.
RMS_MARGIN = 1.02
LARGEST_MARGIN = 1.25
# Results in f32 (losses, parameters' gradients) whose errors are those of f32 sums: 4 roundoffs.
NEGLIGIBLE = 2.0**-22


@dataclass
class ErrorSums:
    """Errors of one result (or one gradient) so far."""

    squared_error: float = 0.0
    squared_size: float = 0.0
    largest_sum: float = 0.0
    draws: int = 0

    def add(self, actual: np.ndarray, exact: np.ndarray) -> None:
        assert actual.shape == exact.shape, (actual.shape, exact.shape)
        difference = np.abs(actual - exact)
        squared = np.square(exact)
        self.squared_error += float(np.square(difference).sum())
        self.squared_size += float(squared.sum())
        size = np.abs(exact) + np.sqrt(squared.mean())
        worst = np.divide(difference, size, out=np.zeros_like(size), where=difference != 0)
        self.largest_sum += float(worst.max())
        self.draws += 1

    @property
    def rms(self) -> float:
        return float(np.sqrt(self.squared_error / (self.squared_size or 1.0)))

    @property
    def largest(self) -> float:
        return self.largest_sum / self.draws


@dataclass(frozen=True)
class Comparison:
    """Errors of one part of a case (`value`, `value 1`, `gradient 0`, ...).

    `rounded` are those of the f64 result rounded once to bf16: no bf16 result can be closer.
    """

    case: OpCase
    part: str
    ours: ErrorSums = field(default_factory=ErrorSums)
    theirs: ErrorSums = field(default_factory=ErrorSums)
    rounded: ErrorSums = field(default_factory=ErrorSums)

    def shortfall(self) -> str | None:
        """Say where ours is worse than theirs, or nothing."""
        for name, ours, theirs, margin in (
            ("rms", self.ours.rms, self.theirs.rms, RMS_MARGIN),
            ("largest", self.ours.largest, self.theirs.largest, LARGEST_MARGIN),
        ):
            if not ours <= max(margin * theirs, NEGLIGIBLE):  # NaN too
                return (
                    f"{self.case.id}, {self.part}: {name} error {ours:.3g} above {margin} x "
                    f"PyTorch's {theirs:.3g}"
                )
        return None


def bf16(values: np.ndarray) -> np.ndarray:
    """Round to bf16, in f64."""
    return to_array(tempra.tensor(np.asarray(values), "f64").to("bf16"))


def seeds_of(results: list[np.ndarray], draw: int) -> list[np.ndarray]:
    """Gradients of the results: 1 for a single number such as a loss, else drawn."""
    random = np.random.default_rng(1000 + draw)
    return [np.ones(()) if r.ndim == 0 else bf16(random.standard_normal(r.shape)) for r in results]


def parts(values: list[np.ndarray], gradients: list[np.ndarray]) -> dict[str, np.ndarray]:
    kinds = {"value": values, "gradient": gradients}
    return {f"{kind} {i}": array for kind, all_ in kinds.items() for i, array in enumerate(all_)}


def with_torch(
    case: OpCase, arrays: list[np.ndarray], dtype: str, draw: int
) -> dict[str, np.ndarray]:
    """Results and gradients of PyTorch's operation in `dtype`, as f64."""
    import torch

    leaves = [torch.tensor(a, dtype=getattr(torch, dtype), requires_grad=True) for a in arrays]
    constants = [torch.tensor(constant) for constant in case.constants]
    results = as_list(case.torch(torch, *leaves, *constants))
    values = [result.detach().double().numpy() for result in results]
    seeds = [
        torch.tensor(seed, dtype=result.dtype)
        for seed, result in zip(seeds_of(values, draw), results, strict=True)
    ]
    gradients = torch.autograd.grad(results, leaves, seeds)
    return parts(values, [gradient.double().numpy() for gradient in gradients])


def with_tempra(case: OpCase, arrays: list[np.ndarray], draw: int) -> dict[str, np.ndarray]:
    """The same of ours in bf16."""
    leaves = case.tensors(arrays, "bf16", requires_grad=True)
    results = case.run(leaves)
    values = [to_array(result) for result in results]
    seeds = [
        tempra.tensor(seed, result.dtype)
        for seed, result in zip(seeds_of(values, draw), results, strict=True)
    ]
    gradients = tempra.grad(results, leaves, seeds)
    return parts(values, [to_array(gradient) for gradient in gradients])


def compare(case: OpCase, isas: tuple[str, ...], draws: int = DRAWS) -> dict[str, list[Comparison]]:
    """Return the comparisons of all parts for each of the instruction sets."""
    made: dict[str, dict[str, Comparison]] = {isa: {} for isa in isas}
    for draw in range(draws):
        arrays = [bf16(a) for a in case.arrays(draw)]
        exact = with_torch(case, arrays, "float64", draw)
        theirs = with_torch(case, arrays, "bfloat16", draw)
        for isa in isas:
            tempra.set_isa(isa)
            ours = with_tempra(case, arrays, draw)
            assert ours.keys() == theirs.keys() == exact.keys()
            for part, reference in exact.items():
                comparison = made[isa].setdefault(part, Comparison(case, part))
                comparison.ours.add(ours[part], reference)
                comparison.theirs.add(theirs[part], reference)
                comparison.rounded.add(bf16(reference), reference)
    return {isa: list(comparisons.values()) for isa, comparisons in made.items()}
