"""Joining, splitting and indexing beside PyTorch's."""

import numpy as np

from accuracy_case import ROWS, SHAPE, WIDTH, line, normal
from tempra import ops

# Draws with repetition, and an order of all.
TOKENS = np.random.default_rng(5).integers(0, 256, (8, 64))
ORDER = np.random.default_rng(6).permutation(WIDTH)
ELEMENTS = np.random.default_rng(7).integers(0, WIDTH, SHAPE)
CASES = [
    line(
        "concatenate",
        "columns",
        lambda a, b: ops.concatenate([a, b], 1),
        lambda t, a, b: t.cat([a, b], 1),
        (normal(ROWS, 256), normal(ROWS, 128)),
    ),
    line(
        "stack",
        "middle",
        lambda a, b: ops.stack([a, b], 1),
        lambda t, a, b: t.stack([a, b], 1),
        (normal(ROWS, 256), normal(ROWS, 256)),
    ),
    line(
        "split",
        "columns",
        lambda x: ops.split(x, [256, 768], 1),
        lambda t, x: t.split(x, [256, 768], 1),
        (normal(*SHAPE),),
    ),
    line(
        "gather",
        "last",
        lambda x, i: ops.gather(x, 1, i),
        lambda t, x, i: t.gather(x, 1, i),
        (normal(*SHAPE),),
        (ELEMENTS,),
    ),
    line(
        "scatter",
        "last",
        lambda x, s, i: ops.scatter(x, 1, i, s),
        lambda t, x, s, i: t.scatter(x, 1, i, s),
        (normal(*SHAPE), normal(*SHAPE)),
        (np.broadcast_to(ORDER, SHAPE).copy(),),
    ),
    line(
        "scatter_add",
        "last",
        lambda x, s, i: ops.scatter_add(x, 1, i, s),
        lambda t, x, s, i: t.scatter_add(x, 1, i, s),
        (normal(*SHAPE), normal(*SHAPE)),
        (ELEMENTS,),
    ),
    line(
        "index_select",
        "rows",
        lambda x, i: ops.index_select(x, 0, i),
        lambda t, x, i: t.index_select(x, 0, i),
        (normal(256, 128),),
        (TOKENS.reshape(-1),),
    ),
    *[
        line(
            "embedding",
            label,
            lambda w, i: ops.embedding(w, i, dtype="bf16"),
            lambda t, w, i: t.nn.functional.embedding(i, w),
            (normal(256, 128, parameter=parameter),),
            (TOKENS,),
        )
        for label, parameter in (("plain", False), ("f32-parameters", True))
    ],
]
