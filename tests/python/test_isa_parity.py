"""Every instruction set this machine runs gives the baseline's values and gradients."""

import numpy as np
import pytest

import tempra
from op_case import OpCase, is_float, to_array
from op_cases import CASES, with_dtypes
from tolerances import assert_gradients_agree, assert_results_agree

ISAS = [isa for isa in tempra.supported_isas() if isa != "baseline"]
RUNS = [
    (isa, case, dtype)
    for isa in ISAS
    for case, dtype in with_dtypes([case for case in CASES if case.inputs], ("f32", "bf16"))
]


def outputs_and_gradients(case: OpCase, dtype: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    inputs = case.tensors(case.arrays(), dtype, requires_grad=True)
    outputs = case.run(inputs)
    values = [to_array(o) if is_float(o) else o.numpy().astype(np.float64) for o in outputs]
    followed = [o for o in outputs if o.requires_grad]
    if not followed:
        return values, []
    random = np.random.default_rng(4)
    seeds = [tempra.tensor(random.integers(-4, 5, o.shape) * 1.0).to(o.dtype) for o in followed]
    return values, [to_array(g) for g in tempra.grad(followed, inputs, seeds)]


@pytest.mark.parametrize(
    ("isa", "case", "dtype"), RUNS, ids=[f"{isa}-{case.id}-{dtype}" for isa, case, dtype in RUNS]
)
def test_isa_equals_baseline(isa: str, case: OpCase, dtype: str) -> None:
    tempra.set_isa("baseline")
    values, gradients = outputs_and_gradients(case, dtype)
    tempra.set_isa(isa)
    assert tempra.current_isa() == isa
    other_values, other_gradients = outputs_and_gradients(case, dtype)
    assert_results_agree(case, dtype, values, other_values)
    assert_gradients_agree(case, dtype, gradients, other_gradients)


def test_an_unknown_isa_is_refused() -> None:
    with pytest.raises(tempra.TempraError, match="sse9"):
        tempra.set_isa("sse9")


def test_the_baseline_is_always_supported() -> None:
    assert tempra.supported_isas()[0] == "baseline"
