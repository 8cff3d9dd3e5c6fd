"""Numbers given for integer dtypes: what one cannot hold is an error, or takes a wider dtype."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tempra
from tempra import DtypeError, ops

RANGES = {
    "i64": (-(2**63), 2**63 - 2**10),  # the highest that is a double
    "i32": (-(2**31), 2**31 - 1),
    "u32": (0, 2**32 - 1),
    "u16": (0, 2**16 - 1),
    "u8": (0, 2**8 - 1),
}
MAKERS = {
    "full": lambda value, dtype: tempra.full((2,), value, dtype=dtype),
    "fill_": lambda value, dtype: tempra.zeros((2,), dtype=dtype).fill_(value),
    "tensor": lambda value, dtype: tempra.tensor([value, value], dtype=dtype),
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("dtype", RANGES)
def test_integers_hold_their_whole_range_and_nothing_else(maker: str, dtype: str) -> None:
    lowest, highest = RANGES[dtype]
    for value in (lowest, highest, 2.75):
        assert MAKERS[maker](value, dtype).tolist() == [math.trunc(value)] * 2
    for value in (math.nan, math.inf, -math.inf, 2.0 * lowest - 2, 2.0 * (highest + 1)):
        with pytest.raises(DtypeError, match=rf"{maker}: .* given; {dtype} holds whole numbers"):
            MAKERS[maker](value, dtype)


@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16", "bool"])
def test_floating_dtypes_and_bool_take_every_number(dtype: str) -> None:
    assert bool(tempra.full((), math.inf, dtype=dtype))
    assert bool(tempra.tensor(math.nan, dtype=dtype) != 0)


def test_arange_stays_within_its_dtype() -> None:
    assert tempra.arange(2**31 - 2, 2**31, dtype="i32").tolist() == [2**31 - 2, 2**31 - 1]
    with pytest.raises(DtypeError, match=r"arange: .* given; i32 holds"):
        tempra.arange(0, 2**40, 2**38, dtype="i32")


def test_a_number_beside_a_tensor_keeps_its_value() -> None:
    x = tempra.tensor([1, 200], dtype="u8")
    assert (x < 300).tolist() == [True, True]
    assert (x < math.inf).tolist() == [True, True]
    assert (x + 300).tolist() == [301, 500]
    assert (x * -1).tolist() == [-1, -200]
    assert bool(ops.is_nan(x * math.nan)[0])


def test_what_has_a_dtype_is_converted_as_by_numpy() -> None:
    array = np.array([300, -1], np.int64)
    wrapped = array.astype(np.uint8).tolist()
    assert tempra.tensor(array, dtype="u8").tolist() == wrapped
    assert tempra.tensor(array).to("u8").tolist() == wrapped
    assert tempra.tensor([2.9, -2.9]).to("i32").tolist() == [2, -2]
