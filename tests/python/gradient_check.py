"""Gradients against central differences in f64: the whole Jacobian of small functions, random
projections of large ones."""

from collections.abc import Callable

import numpy as np

import tempra
from op_case import to_array
from tempra import Tensor
from tolerances import DIFFERENCE_STEP, DIFFERENCE_TOLERANCE, assert_close

Function = Callable[[list[Tensor]], list[Tensor]]

SMALL = 40  # inputs and outputs of a function whose whole Jacobian is formed


def evaluate(function: Function, arrays: list[np.ndarray]) -> np.ndarray:
    """All differentiable results, flat. Recording stays on: a result may be a gradient."""
    inputs = [tempra.tensor(a, "f64").requires_grad_(True) for a in arrays]
    return flatten([to_array(output) for output in function(inputs)])


def flatten(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([a.reshape(-1) for a in arrays]) if arrays else np.zeros(0)


def unflatten(flat: np.ndarray, like: list[np.ndarray]) -> list[np.ndarray]:
    ends = np.cumsum([a.size for a in like])
    return [
        piece.reshape(a.shape) for piece, a in zip(np.split(flat, ends[:-1]), like, strict=True)
    ]


def difference(function: Function, arrays: list[np.ndarray], direction: np.ndarray) -> np.ndarray:
    """Derivative of the results along a direction of the inputs."""
    base = flatten(arrays)
    ahead = evaluate(function, unflatten(base + DIFFERENCE_STEP * direction, arrays))
    behind = evaluate(function, unflatten(base - DIFFERENCE_STEP * direction, arrays))
    return (ahead - behind) / (2 * DIFFERENCE_STEP)


def pull_back(
    function: Function, arrays: list[np.ndarray], weights: np.ndarray, *, create_graph: bool
) -> np.ndarray:
    """Gradient of <weights, results> by tempra, flat over all inputs."""
    inputs = [tempra.tensor(a, "f64").requires_grad_(True) for a in arrays]
    outputs = function(inputs)
    pieces = unflatten(weights, [to_array(output) for output in outputs])
    gradients = tempra.grad(
        outputs,
        inputs,
        [tempra.tensor(piece, "f64") for piece in pieces],
        create_graph=create_graph,
        allow_unused=True,
    )
    return flatten(
        [
            np.zeros(a.shape) if g is None else to_array(g)
            for a, g in zip(arrays, gradients, strict=True)
        ]
    )


def check_gradients(
    function: Function, arrays: list[np.ndarray], *, create_graph: bool = False, full: bool = True
) -> None:
    """Raises AssertionError where tempra's gradients are not those of central differences."""
    size = sum(a.size for a in arrays)
    results = evaluate(function, arrays).size
    if size == 0 or results == 0:
        gradient = pull_back(function, arrays, np.zeros(results), create_graph=create_graph)
        assert gradient.size == size
        assert not gradient.any()
        return
    if full and size <= SMALL and results <= SMALL:
        columns = [difference(function, arrays, direction) for direction in np.eye(size)]
        rows = [
            pull_back(function, arrays, weights, create_graph=create_graph)
            for weights in np.eye(results)
        ]
        assert_close(np.stack(rows), np.stack(columns, 1), DIFFERENCE_TOLERANCE, "Jacobian")
        return
    random = np.random.default_rng(size * 31 + results)
    for _ in range(3):
        direction = random.standard_normal(size)
        weights = random.standard_normal(results)
        gradient = pull_back(function, arrays, weights, create_graph=create_graph)
        along = difference(function, arrays, direction)
        # Both sides are sums that may cancel: the error is held against the sum of sizes.
        scale = np.abs(weights * along).sum() + np.abs(gradient * direction).sum()
        error = abs(weights @ along - gradient @ direction) / max(scale, 1e-30)
        assert error <= DIFFERENCE_TOLERANCE, f"projected gradient: error {error:.3g}"
