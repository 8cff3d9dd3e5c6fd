"""Results do not depend on the number of threads, to the last bit."""

import numpy as np
import pytest

import tempra
from op_case import OpCase, to_array
from op_cases import CASES, with_dtypes

LARGE = with_dtypes([case for case in CASES if case.large], ("f32", "bf16"))


def bits(case: OpCase, dtype: str) -> list[np.ndarray]:
    """Values and gradients, widened without rounding."""
    inputs = case.tensors(case.arrays(), dtype, requires_grad=True)
    outputs = case.run(inputs)
    followed = [output for output in outputs if output.requires_grad]
    gradients = []
    if followed:
        random = np.random.default_rng(8)
        seeds = [tempra.tensor(random.standard_normal(o.shape)).to(o.dtype) for o in followed]
        gradients = tempra.grad(followed, inputs, seeds)
    return [to_array(tensor) for tensor in [*outputs, *gradients]]


@pytest.mark.parametrize("isa", tempra.supported_isas())
@pytest.mark.parametrize(
    ("case", "dtype"), LARGE, ids=[f"{case.id}-{dtype}" for case, dtype in LARGE]
)
def test_one_two_and_three_threads_agree(case: OpCase, dtype: str, isa: str) -> None:
    tempra.set_isa(isa)
    tempra.set_num_threads(1)
    expected = bits(case, dtype)
    for threads in (2, 3):
        tempra.set_num_threads(threads)
        assert tempra.get_num_threads() == threads
        for i, (one, several) in enumerate(zip(expected, bits(case, dtype), strict=True)):
            np.testing.assert_array_equal(one, several, err_msg=f"{threads} threads, result {i}")


@pytest.mark.parametrize("fill", ["uniform", "normal"])
@pytest.mark.parametrize("dtype", ["f32", "bf16", "f64"])
def test_random_fills_do_not_depend_on_threads(fill: str, dtype: str) -> None:
    results = []
    for threads in (1, 2, 3):
        tempra.set_num_threads(threads)
        make = getattr(tempra, fill)
        filled = make((300, 1001), dtype=dtype, generator=tempra.Generator(9))
        results.append(to_array(filled))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
