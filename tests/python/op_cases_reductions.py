"""Lines of the op table: reductions, running sums, order, extremes."""

from collections.abc import Callable
from typing import Any

import numpy as np

import references
from op_case import Input, OpCase
from tempra import ops

# Label, shape, dim.
REDUCTIONS = (
    ("all", (3, 37), None),
    ("last", (5, 33), -1),
    ("first", (33, 5), 0),
    ("middle", (2, 7, 3), 1),
    ("pair", (2, 7, 3), (0, 2)),
    ("one", (4, 1), 1),
    ("scalar", (), None),
    ("large", (300, 517), 1),
    ("columns", (517, 70), 0),
)


def count(shape: tuple[int, ...], dim: Any) -> int:
    axes = range(len(shape)) if dim is None else np.atleast_1d(dim)
    return int(np.prod([shape[axis] for axis in axes]))


def reduction(
    name: str,
    reference: Callable[..., Any],
    torch: Callable[..., Any] | None = None,
    keep: Callable[[tuple[int, ...]], bool] = lambda shape: True,
    **domain: Any,
) -> list[OpCase]:
    return [
        OpCase(
            name,
            f"{label}{'-kept' if kept else ''}",
            lambda x, dim=dim, kept=kept: getattr(ops, name)(x, dim, kept),
            lambda x, dim=dim, kept=kept: reference(x, dim, kept),
            (Input(shape, **domain),),
            torch=(
                None
                if torch is None or not shape
                else lambda t, x, dim=dim, kept=kept: torch(
                    t, x, tuple(range(x.ndim)) if dim is None else dim, kept
                )
            ),
            terms=count(shape, dim),
            large=label in ("large", "columns"),
        )
        for label, shape, dim in REDUCTIONS
        for kept in (False, True)
        if keep(shape) and not (kept and label not in ("last", "all"))
    ]


def small(shape: tuple[int, ...]) -> bool:
    return int(np.prod(shape)) < 200


# No zero, one zero and two zeros in a row: the product rule must not divide by the element.
ZEROS = np.ones((3, 5), np.int64)
ZEROS[1, 2] = ZEROS[2, 0] = ZEROS[2, 4] = 0

DISTINCT = {"distinct": True, "low": -40, "high": 40}
VALUES = [
    *reduction("sum", lambda x, d, k: x.sum(d, keepdims=k), lambda t, x, d, k: x.sum(d, k)),
    *reduction("mean", lambda x, d, k: x.mean(d, keepdims=k), lambda t, x, d, k: x.mean(d, k)),
    *reduction("prod", lambda x, d, k: x.prod(d, keepdims=k), keep=small, low=0.7, high=1.4),
    *reduction(
        "max", lambda x, d, k: x.max(d, keepdims=k), lambda t, x, d, k: x.amax(d, k), **DISTINCT
    ),
    *reduction(
        "min", lambda x, d, k: x.min(d, keepdims=k), lambda t, x, d, k: x.amin(d, k), **DISTINCT
    ),
    *reduction(
        "log_sum_exp",
        lambda x, d, k: references.log_sum_exp(x, d, k),
        lambda t, x, d, k: t.logsumexp(x, d, k),
        low=-20,
        high=20,
    ),
    OpCase("sum", "empty", lambda x: ops.sum(x, 0), lambda x: x.sum(0), (Input((0, 3)),)),
    OpCase("prod", "empty", lambda x: ops.prod(x, 0), lambda x: x.prod(0), (Input((0, 3)),)),
    OpCase(
        "prod",
        "zeros",
        lambda x, zeros: ops.prod(x * zeros, 1),
        lambda x, zeros: (x * zeros).prod(1),
        (Input((3, 5)),),
        constants=(ZEROS,),
    ),
    OpCase(
        "sum",
        "integers",
        lambda x: ops.sum(x, 1),
        lambda x: x.sum(1),
        (),
        constants=(np.arange(12, dtype=np.int32).reshape(3, 4),),
        differentiable=False,
        dtypes=("f32",),
    ),
]

CUMULATIVE = [
    OpCase(
        "cumsum",
        f"{label}{'-reverse' if reverse else ''}",
        lambda x, dim=dim, reverse=reverse: ops.cumsum(x, dim, reverse),
        lambda x, dim=dim, reverse=reverse: references.cumsum(x, dim, reverse),
        (Input(shape),),
        torch=None if reverse else lambda t, x, dim=dim: t.cumsum(x, dim),
        terms=shape[dim],
        large=label == "large",
    )
    for label, shape, dim in (
        ("last", (3, 37), -1),
        ("first", (7, 5), 0),
        ("empty", (0, 3), 0),
        ("large", (129, 517), 1),
    )
    for reverse in (False, True)
]

ORDERS = [
    *[
        OpCase(
            "sort",
            f"{label}{'-descending' if descending else ''}",
            lambda x, dim=dim, down=descending: ops.sort(x, dim, descending=down),
            lambda x, dim=dim, down=descending: references.sort(x, dim, down),
            (Input(shape, **DISTINCT),),
            torch=lambda t, x, dim=dim, down=descending: tuple(t.sort(x, dim=dim, descending=down)),
            exact=True,
            large=label == "large",
        )
        for label, shape, dim in (
            ("last", (3, 37), -1),
            ("first", (9, 4), 0),
            ("empty", (0, 3), 0),
            ("one", (3, 1), 1),
            ("large", (40, 997), 1),
        )
        for descending in (False, True)
    ],
    *[
        OpCase(
            "topk",
            label,
            lambda x, k=k, dim=dim, largest=largest: ops.topk(x, k, dim, largest=largest),
            lambda x, k=k, dim=dim, largest=largest: references.sort(x, dim, largest, k),
            (Input(shape, **DISTINCT),),
            torch=lambda t, x, k=k, dim=dim, largest=largest: tuple(
                t.topk(x, k, dim, largest=largest)
            ),
            exact=True,
            large=label == "large",
        )
        for label, shape, k, dim, largest in (
            ("last", (3, 37), 5, -1, True),
            ("first-smallest", (9, 4), 3, 0, False),
            ("none", (3, 4), 0, 1, True),
            ("large", (40, 997), 10, 1, True),
        )
    ],
    OpCase(
        "argsort",
        "ties",
        lambda x: ops.argsort(ops.round(x)),
        lambda x: np.argsort(np.round(x), axis=-1, kind="stable"),
        (Input((3, 37)),),
        differentiable=False,
    ),
    *[
        OpCase(
            name,
            label,
            lambda x, dim=dim, name=name: getattr(ops, name)(ops.round(x), dim),
            lambda x, dim=dim, function=function: function(np.round(x), axis=dim),
            (Input(shape),),
            differentiable=False,
            large=label == "large",
        )
        for name, function in (("argmax", np.argmax), ("argmin", np.argmin))
        for label, shape, dim in (
            ("last", (3, 37), -1),
            ("first", (9, 4), 0),
            ("large", (129, 517), 1),
        )
    ],
]

CASES = [*VALUES, *CUMULATIVE, *ORDERS]
