"""How far a result may be from the f64 result: one table, by dtype and number of terms.

The error of an element is measured against its own size plus the mean size of all elements, so that
results near zero, which cancellation makes, are held to the scale they came from.
"""

import math

import numpy as np

from op_case import OpCase

# Unit roundoff: half the distance from 1 to the next number.
ROUNDOFF = {"f64": 2.0**-53, "f32": 2.0**-24, "bf16": 2.0**-8}


def value_tolerance(dtype: str, terms: int = 1) -> float:
    """Rounding grows with the square root of the number of terms when errors are independent."""
    if dtype == "bf16":
        # Sums are in f32: one rounding at the store, one unit more for a value that sits at a tie.
        return 2 * ROUNDOFF["bf16"] + value_tolerance("f32", terms)
    # Vector exp, log, erf and tanh are within some units; chains of them lose a few more.
    return ROUNDOFF[dtype] * (16 + 4 * math.sqrt(terms))


def gradient_tolerance(dtype: str, terms: int = 1) -> float:
    """Gradients are made of rounded results: softmax, sigmoid and attention keep theirs in bf16,
    and differences such as 1 - y or dy - sum(dy y) lose up to two bits of them."""
    return (6 if dtype == "bf16" else 4) * value_tolerance(dtype, terms)


# Central differences in f64 with a step of 1e-6: truncation about 1e-12, cancellation about 1e-10.
DIFFERENCE_STEP = 1e-6
DIFFERENCE_TOLERANCE = 1e-7


def normalised_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest |actual - expected| / (|expected| + mean |expected|); 0 where both agree exactly."""
    if expected.size == 0:
        return 0.0
    finite = np.isfinite(expected)
    same = np.array_equal(actual[~finite], expected[~finite], equal_nan=True)
    if not same or not np.all(np.isfinite(actual[finite])):
        return math.inf
    if not finite.any():
        return 0.0
    difference = np.abs(actual[finite] - expected[finite])
    size = np.abs(expected[finite])
    scale = size + size.mean()
    return float(np.max(np.where(difference == 0, 0.0, difference / np.where(scale > 0, scale, 1))))


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float, what: str) -> None:
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, needs {expected.shape}"
    error = normalised_error(actual, expected)
    assert error <= tolerance, f"{what}: normalised error {error:.3g} above {tolerance:.3g}"


def assert_results_agree(
    case: OpCase, dtype: str, expected: list[np.ndarray], actual: list[np.ndarray]
) -> None:
    """Of two implementations: each may be off by the tolerance."""
    tolerance = 2 * value_tolerance(dtype, case.terms) * case.slack
    for i, (one, other) in enumerate(zip(expected, actual, strict=True)):
        assert_close(other, one, tolerance, f"output {i}")


def assert_gradients_agree(
    case: OpCase, dtype: str, expected: list[np.ndarray], actual: list[np.ndarray]
) -> None:
    """As `assert_results_agree`."""
    tolerance = 2 * gradient_tolerance(dtype, case.gradient_terms or case.terms) * case.slack
    for i, (one, other) in enumerate(zip(expected, actual, strict=True)):
        assert_close(other, one, tolerance, f"gradient {i}")
