"""Wrong arguments of the core's functions: one line says which, what was given, what is needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tempra
from tempra import Tensor, _core, ops

X = tempra.zeros((2, 3))

WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "dimension": (
        lambda: X.sum("a"),
        "sum: dim: 'a' (str) given; needs an integer, a sequence of integers or None",
    ),
    "element": (
        lambda: X.mean([0, 1.5]),
        "mean: dim: 1.5 (float) given; needs an integer, a sequence of integers or None",
    ),
    "shape": (
        lambda: tempra.zeros("ab"),
        "zeros: shape: 'ab' (str) given; needs an integer or a sequence of integers",
    ),
    "number": (lambda: tempra.full((2,), "a"), "full: value: 'a' (str) given; needs a number"),
    "sizes": (
        lambda: X.reshape(2, "a"),
        "reshape: sizes: 'a' (str) given; needs integers or one sequence of integers",
    ),
    "integer": (
        lambda: X.transpose("a", 1),
        "transpose: dim0: 'a' (str) given; needs an integer",
    ),
    "none": (lambda: X.size(None), "size: dim: None given; needs an integer"),
    "large": (
        lambda: X.size(1 << 70),
        "size: dim: 1180591620717411303424 (int) given; needs an integer nearer to 0",
    ),
    "large beside a small one": (
        lambda: X.transpose(0, 1 << 70),
        "transpose: dim1: 1180591620717411303424 (int) given; needs an integer nearer to 0",
    ),
    "dlpack": (
        lambda: X.__dlpack__(max_version=5),
        "__dlpack__: max_version needs (major, minor), dl_device (type, index), "
        "copy True, False or None",
    ),
    "tensor": (lambda: ops.matmul(X, 3), "matmul: b: 3 (int) given; needs a Tensor"),
    "array": (lambda: ops.exp(np.zeros(3)), "exp: x: ndarray given; needs a Tensor"),
    "tensors": (
        lambda: ops.stack([X, "a"]),
        "stack: tensors: 'a' (str) given; needs a sequence of Tensors",
    ),
    "operand": (lambda: ops.add(X, "a"), "add: b: 'a' (str) given; needs a Tensor or a number"),
    "operator": (lambda: X @ 3, "matmul: other: 3 (int) given; needs a Tensor"),
    "keyword": (
        lambda: ops.softmax(X, dimm=1),
        "softmax: unknown argument dimm given; needs one of x, dim",
    ),
    "missing": (lambda: X.narrow(0, 0), "narrow: length is missing; needs an integer"),
    "many": (
        lambda: X.transpose(0, 1, 2),
        "transpose: 3 arguments by position given; needs at most 2: dim0, dim1",
    ),
    "twice": (lambda: ops.softmax(X, 1, dim=1), "softmax: dim given twice; needs it once"),
    "overloads": (
        lambda: X.to(3),
        "to: dtype: 3 (int) given; needs a dtype such as float32, or a string",
    ),
    "constructor": (
        lambda: tempra.Generator("a"),
        "Generator: seed: 'a' (str) given; needs an integer",
    ),
    "negative": (
        lambda: tempra.manual_seed(-1),
        "manual_seed: seed: -1 (int) given; needs an integer that is not negative, or nearer to 0",
    ),
    "gradients": (
        lambda: tempra.grad(X, [3]),
        "grad: inputs: 3 (int) given; needs a Tensor or a sequence of Tensors",
    ),
    "attribute": (
        lambda: setattr(X, "requires_grad", "a"),
        "requires_grad: value: 'a' (str) given; needs True or False",
    ),
    "data": (
        lambda: tempra.tensor([1, "a"]),
        "tensor: data: 'a' (str) given; needs numbers, nested lists of numbers or an array",
    ),
    "long": (
        lambda: X.sum("a" * 100),
        f"sum: dim: '{'a' * 56}... (str) given; needs an integer, a sequence of integers or None",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_line_says_what_is_wrong(name: str) -> None:
    call, said = WRONG[name]
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value) == said


def arguments_of(function: object) -> bool:
    return "(self: " in (getattr(function, "__doc__", None) or "")


def refusal_of(function: Callable[..., object]) -> str:
    try:
        function(no_such_argument=object())
    except Exception as error:
        return str(error)
    return ""


def test_a_keyword_that_is_no_text_is_an_error() -> None:
    with pytest.raises((TypeError, UnicodeError)):
        X.narrow(0, 0, **{"\ud800": 1})


def test_no_function_answers_with_signatures() -> None:
    """Whatever is bound: given what nothing takes, by a name that nothing has."""
    functions = [value for value in vars(_core).values() if callable(value)]
    functions += [value for value in vars(Tensor).values() if arguments_of(value)]
    assert len(functions) > 200
    for function in functions:
        said = refusal_of(function)
        assert "The following argument types" not in said, function
        assert "\n" not in said, function


def test_errors_from_within_a_function_stay_as_they_are() -> None:
    class Index:
        def __index__(self) -> int:
            raise TypeError("from within")

    with pytest.raises(TypeError, match=r"^from within$"):
        X[Index()]
