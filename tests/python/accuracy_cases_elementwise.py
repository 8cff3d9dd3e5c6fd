"""Elementwise operations beside PyTorch's."""

import numpy as np

import op_cases_elementwise
from accuracy_case import ROWS, SHAPE, WIDTH, enlarged, line, normal
from tempra import ops

CASES = [
    *[
        enlarged(case, case.label.replace("tail", "rows"), SHAPE)
        for case in op_cases_elementwise.UNARY
        if case.label == "tail" or (case.op, case.label) == ("gelu", "tanh")
    ],
    *[
        enlarged(case, label, SHAPE, shape)
        for case in op_cases_elementwise.BINARY
        for label, shape in (("same", SHAPE), ("row", (WIDTH,)), ("column", (ROWS, 1)))
        if case.label == label
    ],
    line(
        "where",
        "same",
        lambda a, b, c: ops.where(c, a, b),
        lambda t, a, b, c: t.where(c, a, b),
        (normal(*SHAPE), normal(*SHAPE)),
        (np.arange(ROWS * WIDTH).reshape(SHAPE) % 3 == 0,),
    ),
    line(
        "where",
        "broadcast",
        lambda a, b, c: ops.where(c, a, b),
        lambda t, a, b, c: t.where(c, a, b),
        (normal(*SHAPE), normal(WIDTH)),
        (np.arange(ROWS * WIDTH).reshape(SHAPE) % 3 == 0,),
    ),
]
