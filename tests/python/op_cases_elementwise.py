"""Lines of the op table: elementwise operations, comparisons, conditions."""

from collections.abc import Callable
from typing import Any

import numpy as np

import references
from op_case import Input, OpCase
from tempra import ops

# Label and shape: a vector tail, three dimensions, one element without dimensions, no elements.
SHAPES = (("tail", (3, 37)), ("three", (2, 3, 5)), ("scalar", ()), ("empty", (0, 4)))
LARGE = (("large", (129, 517)),)


def unary(
    name: str,
    reference: Callable[..., Any],
    torch: Callable[..., Any] | None = None,
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = SHAPES,
    **domain: Any,
) -> list[OpCase]:
    call = getattr(ops, name)
    exact = name in ("negative", "absolute", "sign", "floor", "ceil", "round", "relu")
    return [
        OpCase(
            name,
            label,
            call,
            reference,
            (Input(shape, **domain),),
            torch=torch,
            exact=exact,
            large=label == "large",
        )
        for label, shape in shapes
    ]


WHOLE = tuple(float(i) for i in range(-3, 4))
HALVES = tuple(i + 0.5 for i in range(-3, 3))

UNARY = [
    *unary("negative", lambda x: -x, lambda t, x: -x),
    *unary("absolute", np.abs, lambda t, x: t.abs(x), away_from=(0.0,)),
    *unary("exp", np.exp, lambda t, x: t.exp(x), (*SHAPES, *LARGE), low=-5, high=5),
    *unary("log", np.log, lambda t, x: t.log(x), low=0.05, high=9),
    *unary("log1p", np.log1p, lambda t, x: t.log1p(x), low=-0.8, high=3),
    *unary("expm1", np.expm1, lambda t, x: t.expm1(x)),
    *unary("sqrt", np.sqrt, lambda t, x: t.sqrt(x), low=0.05, high=9),
    *unary("rsqrt", lambda x: 1 / np.sqrt(x), lambda t, x: t.rsqrt(x), low=0.05, high=9),
    *unary("reciprocal", lambda x: 1 / x, lambda t, x: t.reciprocal(x), low=0.2, high=4),
    *unary("square", np.square, lambda t, x: t.square(x)),
    *unary("sin", np.sin, lambda t, x: t.sin(x), low=-9, high=9),
    *unary("cos", np.cos, lambda t, x: t.cos(x), low=-9, high=9),
    *unary("tanh", np.tanh, lambda t, x: t.tanh(x)),
    *unary("erf", references.erf, lambda t, x: t.erf(x)),
    *unary("sigmoid", references.sigmoid, lambda t, x: t.sigmoid(x), low=-6, high=6),
    *unary("relu", lambda x: np.maximum(x, 0), lambda t, x: t.relu(x), away_from=(0.0,)),
    *unary("silu", references.silu, lambda t, x: t.nn.functional.silu(x), low=-6, high=6),
    *unary(
        "softplus",
        lambda x: np.logaddexp(x, 0),
        lambda t, x: t.nn.functional.softplus(x, threshold=100),
        low=-6,
        high=6,
    ),
    *unary("gelu", references.gelu, lambda t, x: t.nn.functional.gelu(x), (*SHAPES, *LARGE)),
    *unary("sign", np.sign, lambda t, x: t.sign(x), away_from=(0.0,)),
    *unary("floor", np.floor, lambda t, x: t.floor(x), away_from=WHOLE),
    *unary("ceil", np.ceil, lambda t, x: t.ceil(x), away_from=WHOLE),
    *unary("round", np.round, lambda t, x: t.round(x), away_from=HALVES),
    OpCase(
        "gelu",
        "tanh",
        lambda x: ops.gelu(x, approximate="tanh"),
        references.gelu_tanh,
        (Input((3, 37), -4, 4),),
        torch=lambda t, x: t.nn.functional.gelu(x, approximate="tanh"),
    ),
    OpCase(
        "clamp",
        "tail",
        lambda x: ops.clamp(x, -0.5, 1.0),
        lambda x: np.clip(x, -0.5, 1.0),
        (Input((3, 37), away_from=(-0.5, 1.0)),),
        torch=lambda t, x: t.clamp(x, -0.5, 1.0),
        exact=True,
    ),
]

# Label, shape of a, shape of b.
PAIRS = (
    ("same", (3, 37), (3, 37)),
    ("row", (4, 33), (33,)),
    ("column", (4, 33), (4, 1)),
    ("both", (3, 1, 5), (4, 1)),
    ("scalar", (2, 3), ()),
    ("empty", (0, 3), (3,)),
)


def binary(
    name: str,
    reference: Callable[..., Any],
    torch: Callable[..., Any],
    a: dict[str, float] | None = None,
    b: dict[str, float] | None = None,
    pairs: tuple[Any, ...] = PAIRS,
    exact: bool = False,
) -> list[OpCase]:
    return [
        OpCase(
            name,
            label,
            getattr(ops, name),
            reference,
            (Input(left, **(a or {})), Input(right, **(b or {}))),
            torch=torch,
            large=label == "large",
            exact=exact,
            gradient_terms=40,
        )
        for label, left, right in pairs
    ]


POSITIVE = {"low": 0.2, "high": 3.0}
BINARY = [
    *binary(
        "add",
        np.add,
        lambda t, a, b: a + b,
        pairs=(*PAIRS, ("large", (257, 513), (257, 1))),
        exact=True,
    ),
    *binary("subtract", np.subtract, lambda t, a, b: a - b, exact=True),
    *binary("multiply", np.multiply, lambda t, a, b: a * b, exact=True),
    *binary("divide", np.divide, lambda t, a, b: a / b, b=POSITIVE),
    *binary("power", np.power, lambda t, a, b: a**b, a=POSITIVE),
    *binary("maximum", np.maximum, lambda t, a, b: t.maximum(a, b), exact=True),
    *binary("minimum", np.minimum, lambda t, a, b: t.minimum(a, b), exact=True),
]


def whole(name: str) -> Callable[..., Any]:
    """The comparison on rounded inputs, so that equal values occur."""
    return lambda a, b: getattr(ops, name)(ops.round(a), ops.round(b))


COMPARISONS = [
    OpCase(
        name,
        label,
        whole(name),
        lambda a, b, function=function: function(np.round(a), np.round(b)),
        (Input(left), Input(right)),
        differentiable=False,
    )
    for name, function in (
        ("equal", np.equal),
        ("not_equal", np.not_equal),
        ("less", np.less),
        ("less_equal", np.less_equal),
        ("greater", np.greater),
        ("greater_equal", np.greater_equal),
    )
    for label, left, right in (("same", (3, 37), (3, 37)), ("both", (3, 1, 5), (4, 1)))
]

TRUTH = (np.array([[True, False, True, False]]), np.array([[True], [False]]))
INTEGERS = (np.arange(-6, 9, dtype=np.int64).reshape(3, 5), np.array([3, -2, 7, 1, -5]))


def on_constants(
    name: str, function: Callable[..., Any], constants: tuple[np.ndarray, ...], label: str
) -> OpCase:
    return OpCase(
        name,
        label,
        getattr(ops, name),
        function,
        (),
        constants=constants,
        differentiable=False,
        dtypes=("f32",),
    )


LOGIC = [
    on_constants("logical_and", np.logical_and, TRUTH, "broadcast"),
    on_constants("logical_or", np.logical_or, TRUTH, "broadcast"),
    on_constants("logical_xor", np.logical_xor, TRUTH, "broadcast"),
    on_constants("logical_not", np.logical_not, TRUTH[:1], "bool"),
    on_constants("add", np.add, INTEGERS, "integers"),
    on_constants("subtract", np.subtract, INTEGERS, "integers"),
    on_constants("multiply", np.multiply, INTEGERS, "integers"),
    on_constants("maximum", np.maximum, INTEGERS, "integers"),
    on_constants("minimum", np.minimum, INTEGERS, "integers"),
    on_constants("less", np.less, INTEGERS, "integers"),
    on_constants("equal", np.equal, INTEGERS, "integers"),
    on_constants("negative", np.negative, INTEGERS[:1], "integers"),
    OpCase(
        "is_nan",
        "tail",
        lambda x: ops.is_nan(ops.log(x)),
        lambda x: x < 0,
        (Input((3, 37), away_from=(0.0,)),),
        differentiable=False,
    ),
    OpCase(
        "is_finite",
        "tail",
        lambda x: ops.is_finite(ops.log(x)),
        lambda x: x > 0,
        (Input((3, 37), away_from=(0.0,)),),
        differentiable=False,
    ),
    *[
        OpCase(
            "where",
            label,
            lambda a, b, c: ops.where(c, a, b),
            lambda a, b, c: np.where(c, a, b),
            (Input(left), Input(right)),
            constants=(np.arange(int(np.prod(condition))).reshape(condition) % 3 == 0,),
            torch=lambda t, a, b, c: t.where(c, a, b),
            exact=True,
            gradient_terms=40,
            large=label == "large",
        )
        for label, condition, left, right in (
            ("same", (3, 37), (3, 37), (3, 37)),
            ("broadcast", (4, 1), (4, 5), (5,)),
            ("empty", (0, 2), (0, 2), (2,)),
            ("large", (129, 517), (129, 517), ()),
        )
    ],
]

CASES = [*UNARY, *BINARY, *COMPARISONS, *LOGIC]
