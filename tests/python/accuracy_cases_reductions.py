"""Reductions, cumulative sums and orders beside PyTorch's."""

from accuracy_case import SHAPE, WIDTH, line, normal
from op_case import Input
from tempra import ops

# Multiples of 1/4, which bf16 holds: no ties, whose gradients libraries divide differently.
DISTINCT = {"distinct": True, "low": -32.0, "high": 31.75}
CASES = [
    *[
        line(
            name,
            label,
            lambda x, name=name, dim=dim: getattr(ops, name)(x, dim),
            lambda t, x, name=name, dim=dim: getattr(t, name)(x, dim),
            (normal(*SHAPE),),
        )
        for name in ("sum", "mean")
        for label, dim in (("last", 1), ("first", 0))
    ],
    *[
        line(
            name,
            "all",
            lambda x, name=name: getattr(ops, name)(x),
            lambda t, x, name=name: getattr(t, name)(x),
            (normal(*SHAPE),),
        )
        for name in ("sum", "mean")
    ],
    line(
        "prod",
        "last",
        lambda x: ops.prod(x, 1),
        lambda t, x: x.prod(1),
        (Input((1024, 64), 0.7, 1.4),),
    ),
    *[
        line(
            name,
            "last",
            lambda x, name=name: getattr(ops, name)(x, 1),
            lambda t, x, name=name: getattr(t, "a" + name)(x, 1),
            (Input((1, 256), **DISTINCT),),
        )
        for name in ("max", "min")
    ],
    line(
        "log_sum_exp",
        "last",
        lambda x: ops.log_sum_exp(x, 1),
        lambda t, x: t.logsumexp(x, 1),
        (normal(256, WIDTH, deviation=3.0),),
    ),
    *[
        line(
            "cumsum",
            label,
            lambda x, dim=dim: ops.cumsum(x, dim),
            lambda t, x, dim=dim: t.cumsum(x, dim),
            (normal(*SHAPE),),
        )
        for label, dim in (("last", 1), ("first", 0))
    ],
    line(
        "cumsum",
        "reverse",
        lambda x: ops.cumsum(x, 1, True),
        lambda t, x: t.flip(t.cumsum(t.flip(x, (1,)), 1), (1,)),
        (normal(*SHAPE),),
    ),
    *[
        line(
            "sort",
            label,
            lambda x, down=down: ops.sort(x, -1, descending=down)[0],
            lambda t, x, down=down: t.sort(x, descending=down)[0],
            (Input((1, 256), **DISTINCT),),
        )
        for label, down in (("ascending", False), ("descending", True))
    ],
    line(
        "topk",
        "last",
        lambda x: ops.topk(x, 16)[0],
        lambda t, x: t.topk(x, 16)[0],
        (Input((1, 256), **DISTINCT),),
    ),
]
