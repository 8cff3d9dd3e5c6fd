"""The op table on a CUDA device beside the CPU: values, gradients, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import tempra
from cuda_device import REFUSED_DTYPES
from op_case import OpCase, is_float, to_array
from op_cases import CASES, with_dtypes
from tempra import Tensor, _core, ops
from tolerances import assert_gradients_agree, assert_results_agree

pytestmark = pytest.mark.any_cuda

# Cases without a tensor to put on the device: test_cuda_tensors.py makes tensors there.
CASES_WITH_TENSORS = [case for case in CASES if case.inputs or case.constants]
RUNS = with_dtypes(CASES_WITH_TENSORS, ("f32", "bf16"))
NAMES = [f"{case.id}-{dtype}" for case, dtype in RUNS]


def results_on(
    device: str, case: OpCase, dtype: str
) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
    """Values and gradients of a random projection, and where they were."""
    inputs = [each.to(device) for each in case.tensors(case.arrays(), dtype)]
    if case.differentiable:
        for each in inputs:
            each.requires_grad_(True)
    constants = [each.to(device) for each in case.constant_tensors()]
    outputs = case.run(inputs, constants)
    places = [output.device for output in outputs]
    values = [host_array(output) for output in outputs]
    followed = [output for output in outputs if output.requires_grad]
    if not followed:
        return values, [], places
    random = np.random.default_rng(4)
    seeds = [
        tempra.tensor(random.integers(-4, 5, o.shape) * 1.0).to(o.dtype).to(device)
        for o in followed
    ]
    gradients = tempra.grad(followed, inputs, seeds)
    places += [gradient.device for gradient in gradients]
    return values, [to_array(gradient.cpu()) for gradient in gradients], places


def host_array(tensor: Tensor) -> np.ndarray:
    here = tensor.detach().cpu()
    return to_array(here) if is_float(here) else here.numpy().astype(np.float64)


@pytest.mark.parametrize(("case", "dtype"), RUNS, ids=NAMES)
def test_the_device_equals_the_cpu(case: OpCase, dtype: str) -> None:
    values, gradients, _ = results_on("cpu", case, dtype)
    before = _core.cuda_traffic()["waits"]
    other_values, other_gradients, places = results_on("cuda:0", case, dtype)
    assert set(places) <= {"cuda:0"}
    # Each result that is not empty is copied here once; nothing else waits.
    fetched = sum(result.size > 0 for result in [*other_values, *other_gradients])
    assert _core.cuda_traffic()["waits"] - before == fetched, "the operation waited for the device"
    assert_results_agree(case, dtype, values, other_values)
    assert_gradients_agree(case, dtype, gradients, other_gradients)


@pytest.mark.parametrize("dtype", REFUSED_DTYPES)
def test_what_is_refused_says_so(dtype: str) -> None:
    x = tempra.ones((3, 4), dtype, device="cuda")
    with pytest.raises(tempra.DtypeError, match=f"softmax: dtype {dtype} is not supported on cuda"):
        ops.softmax(x)
