"""Lines of the op table: making tensors, joining, splitting, indexing; random numbers."""

import numpy as np

import references
import tempra
from op_case import Input, OpCase
from tempra import Generator, ops

INDEX = np.array([[2, 0, 0, 1], [1, 1, 2, 2]])  # repeats
UNIQUE = np.array([[2, 0], [1, 3], [0, 1]])  # no repeats within a row

JOINS = [
    OpCase(
        "concatenate",
        "rows",
        lambda a, b, c: ops.concatenate([a, b, c]),
        lambda a, b, c: np.concatenate([a, b, c]),
        (Input((2, 5)), Input((0, 5)), Input((3, 5))),
        torch=lambda t, a, b, c: t.cat([a, b, c]),
        exact=True,
    ),
    OpCase(
        "concatenate",
        "columns",
        lambda a, b: ops.concatenate([a, b], 1),
        lambda a, b: np.concatenate([a, b], 1),
        (Input((3, 17)), Input((3, 2))),
        torch=lambda t, a, b: t.cat([a, b], 1),
        exact=True,
    ),
    OpCase(
        "stack",
        "middle",
        lambda a, b: ops.stack([a, b], 1),
        lambda a, b: np.stack([a, b], 1),
        (Input((3, 5)), Input((3, 5))),
        torch=lambda t, a, b: t.stack([a, b], 1),
        exact=True,
    ),
    OpCase(
        "split",
        "columns",
        lambda x: ops.split(x, [2, 0, 5], 1),
        lambda x: np.split(x, [2, 2], 1),
        (Input((3, 7)),),
        torch=lambda t, x: t.split(x, [2, 0, 5], 1),
        exact=True,
    ),
    OpCase(
        "split",
        "one-used",
        lambda x: ops.split(x, [2, 3], 0)[1],
        lambda x: x[2:],
        (Input((5, 3)),),
        exact=True,
    ),
]

INDEXING = [
    OpCase(
        "gather",
        "last",
        lambda x, i: ops.gather(x, 1, i),
        lambda x, i: np.take_along_axis(x, i, 1),
        (Input((2, 3)),),
        constants=(INDEX,),
        torch=lambda t, x, i: t.gather(x, 1, i),
        exact=True,
    ),
    OpCase(
        "gather",
        "first-i32-negative",
        lambda x, i: ops.gather(x, 0, i),
        lambda x, i: np.take_along_axis(x, i, 0),
        (Input((5, 4)),),
        constants=(INDEX.astype(np.int32) - 3,),
        exact=True,
    ),
    OpCase(
        "gather",
        "empty",
        lambda x, i: ops.gather(x, 0, i),
        lambda x, i: np.take_along_axis(x, i, 0),
        (Input((5, 4)),),
        constants=(np.zeros((0, 4), np.int64),),
        exact=True,
    ),
    OpCase(
        "scatter",
        "last",
        lambda x, s, i: ops.scatter(x, 1, i, s),
        lambda x, s, i: references.scatter(x, 1, i, s, add=False),
        (Input((3, 4)), Input((3, 2))),
        constants=(UNIQUE,),
        torch=lambda t, x, s, i: t.scatter(x, 1, i, s),
        exact=True,
    ),
    OpCase(
        "scatter",
        "repeats",
        lambda x, s, i: ops.scatter(x, 1, i, s),
        lambda x, s, i: references.scatter(x, 1, i, s, add=False),
        (Input((2, 3)), Input((2, 4))),
        constants=(INDEX,),
        exact=True,
    ),
    OpCase(
        "scatter_add",
        "repeats",
        lambda x, s, i: ops.scatter_add(x, 1, i, s),
        lambda x, s, i: references.scatter(x, 1, i, s, add=True),
        (Input((2, 3)), Input((2, 4))),
        constants=(INDEX,),
        torch=lambda t, x, s, i: t.scatter_add(x, 1, i, s),
        terms=3,
    ),
    OpCase(
        "index_select",
        "rows",
        lambda x, i: ops.index_select(x, 0, i),
        lambda x, i: np.take(x, i, 0),
        (Input((5, 9)),),
        constants=(INDEX,),
        exact=True,
    ),
    OpCase(
        "index_select",
        "columns",
        lambda x, i: ops.index_select(x, 1, i),
        lambda x, i: np.take(x, i, 1),
        (Input((3, 5)),),
        constants=(np.array([-1, 0, 4, 4]),),
        exact=True,
    ),
]


def creation(op: str, label: str, call: object, reference: object) -> OpCase:
    return OpCase(op, label, call, reference, (), differentiable=False, dtypes=("f32",))


CREATION = [
    creation("zeros", "f32", lambda: ops.zeros((2, 3)), lambda: np.zeros((2, 3))),
    creation("zeros", "empty", lambda: ops.zeros((2, 0)), lambda: np.zeros((2, 0))),
    creation("ones", "f64", lambda: ops.ones(4, "f64"), lambda: np.ones(4)),
    creation("full", "f32", lambda: ops.full((2, 3), 1.5), lambda: np.full((2, 3), 1.5)),
    creation(
        "full",
        "i64",
        lambda: ops.full((), 2**40, "i64"),
        lambda: np.full((), 2**40, np.int64),
    ),
    creation("arange", "stop", lambda: ops.arange(5), lambda: np.arange(5)),
    creation("arange", "down", lambda: ops.arange(9, 2, -3), lambda: np.arange(9, 2, -3)),
    creation("arange", "f32", lambda: ops.arange(0, 2, 0.25, "f32"), lambda: np.arange(0, 2, 0.25)),
    creation("arange", "none", lambda: ops.arange(3, 1), lambda: np.arange(3, 1)),
    # What is in an uninitialised tensor means nothing; its shape and dtype do.
    creation("empty", "shape", lambda: ops.empty((2, 0, 3)), lambda: np.zeros((2, 0, 3))),
    creation(
        "empty_like",
        "shape",
        lambda: ops.empty_like(tempra.zeros((0, 3), "f64")),
        lambda: np.zeros((0, 3)),
    ),
    creation(
        "zeros_like", "i32", lambda: ops.zeros_like(ops.ones(3, "i32")), lambda: np.zeros(3, "i4")
    ),
]

KEY = {"seed": 0x1234_5678_9ABC, "step": 7, "ordinal": 3, "row_offset": 5}


def generator() -> Generator:
    made = Generator()
    made.set_state(KEY)
    return made


RANDOM = [
    *[
        case
        for shape_label, shape in (
            ("rows", (5, 37)),
            ("vector", (11,)),
            ("three", (3, 5, 7)),
            ("empty", (0, 4)),
            ("large", (130, 1111)),
        )
        for case in (
            creation(
                "uniform",
                shape_label,
                lambda shape=shape: ops.uniform(shape, -1, 3, generator=generator()),
                lambda shape=shape: references.uniform(shape, -1, 3, **KEY),
            ),
            creation(
                "normal",
                shape_label,
                lambda shape=shape: ops.normal(shape, 1, 2, generator=generator()),
                lambda shape=shape: references.normal(shape, 1, 2, **KEY),
            ),
            OpCase(
                "dropout",
                shape_label,
                lambda x: ops.dropout(x, 0.3, generator=generator()),
                lambda x: references.dropout(x, 0.3, **KEY),
                (Input(shape),),
                large=shape_label == "large",
            ),
        )
    ],
    creation(
        "uniform_",
        "rows",
        lambda: ops.uniform_(ops.zeros((3, 9)), 2, 3, generator=generator()),
        lambda: references.uniform((3, 9), 2, 3, **KEY),
    ),
    creation(
        "normal_",
        "transposed",
        lambda: ops.normal_(ops.zeros((9, 3)).transpose(0, 1), generator=generator()),
        lambda: references.normal((3, 9), 0, 1, **KEY),
    ),
    OpCase(
        "categorical",
        "rows",
        lambda x: ops.categorical(x, generator=generator()),
        lambda x: references.categorical(x, **KEY),
        (Input((40, 33)),),
        differentiable=False,
        dtypes=("f32", "f64"),
    ),
    OpCase(
        "categorical",
        "three",
        lambda x: ops.categorical(x, generator=generator()),
        lambda x: references.categorical(x, **KEY),
        (Input((2, 3, 5)),),
        differentiable=False,
        dtypes=("f32", "f64"),
    ),
]

CASES = [*JOINS, *INDEXING, *CREATION, *RANDOM]
