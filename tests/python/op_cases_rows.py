"""Lines of the op table: softmax, normalisation, cross-entropy, matrix products."""

import numpy as np

import references
from op_case import Input, OpCase
from tempra import ops

SOFTMAX = [
    OpCase(
        name,
        label,
        lambda x, name=name, dim=dim: getattr(ops, name)(x, dim),
        lambda x, name=name, dim=dim: getattr(references, name)(x, dim),
        (Input(shape, -8, 8),),
        torch=lambda t, x, name=name, dim=dim: getattr(t, name)(x, dim),
        terms=max(shape[dim], 1),
        large=label == "large",
    )
    for name in ("softmax", "log_softmax")
    for label, shape, dim in (
        ("last", (5, 33), -1),
        ("first", (33, 4), 0),
        ("middle", (2, 7, 3), 1),
        ("vector", (9,), 0),
        ("one-column", (4, 1), 1),
        ("no-rows", (0, 8), 1),
        ("no-columns", (3, 0), 1),
        ("large", (300, 517), 1),
    )
]

ROWS = (
    ("tail", (5, 33)),
    ("three", (2, 3, 16)),
    ("one-row", (1, 7)),
    ("vector", (9,)),
    ("no-rows", (0, 8)),
    ("large", (300, 517)),
)


def normalised(name: str, label: str, shape: tuple[int, ...], parameter: bool) -> list[OpCase]:
    width = (shape[-1],)
    parameters = [Input(width, 0.5, 1.5, parameter=parameter)]
    if name == "layer_norm":
        parameters.append(Input(width, -1, 1, parameter=parameter))
    suffix = "-f32-parameters" if parameter else ""
    return [
        OpCase(
            name,
            label + suffix,
            getattr(ops, name),
            getattr(references, name),
            (Input(shape, -3, 5), *parameters),
            torch=lambda t, x, *p: getattr(t.nn.functional, name)(
                x, x.shape[-1:], *p, eps=1e-5 if name == "layer_norm" else 1e-6
            ),
            terms=shape[-1],
            gradient_terms=int(np.prod(shape)),
            large=label == "large",
            dtypes=("bf16",) if parameter else ("f32", "bf16", "f64"),
        )
    ]


NORMS = [
    *[
        case
        for name in ("layer_norm", "rms_norm")
        for label, shape in ROWS
        for parameter in (False, True)
        for case in normalised(name, label, shape, parameter)
    ],
    OpCase(
        "layer_norm",
        "plain",
        lambda x: ops.layer_norm(x, epsilon=0.1),
        lambda x: references.layer_norm(x, epsilon=0.1),
        (Input((3, 17)),),
        terms=17,
    ),
    OpCase(
        "layer_norm",
        "weight-only",
        lambda x, w: ops.layer_norm(x, w),
        lambda x, w: references.layer_norm(x, w),
        (Input((3, 17)), Input((17,))),
        terms=17,
    ),
    OpCase(
        "layer_norm",
        "bias-only",
        lambda x, b: ops.layer_norm(x, None, b),
        lambda x, b: references.layer_norm(x, 1.0, b),
        (Input((3, 17)), Input((17,))),
        terms=17,
    ),
    OpCase(
        "layer_norm",
        "large-mean",
        lambda x: ops.layer_norm(x + 1000.0),
        lambda x: references.layer_norm(x + 1000.0),
        (Input((3, 65)),),
        terms=65,
        dtypes=("f32", "f64"),
        slack=2000.0,
        slack_reason="x + 1000 itself is rounded to 1000 units of the result; the variance as "
        "E[x^2] - E[x]^2 would lose another 1000",
    ),
    OpCase(
        "rms_norm",
        "plain",
        lambda x: ops.rms_norm(x, epsilon=0.1),
        lambda x: references.rms_norm(x, epsilon=0.1),
        (Input((3, 17)),),
        terms=17,
    ),
]

LABELS = np.array([3, 0, -100, 6, 2])
LOSS_OPTIONS = (
    ("mean", {}),
    ("sum", {"reduction": "sum"}),
    ("none", {"reduction": "none"}),
    ("smoothing", {"label_smoothing": 0.1}),
    ("z-loss", {"z_loss": 0.01}),
    ("ignore-3", {"ignore_index": 3}),
)

# Where another label is ignored, every -100 must be a class.
LOSS_LABELS = {"ignore-3": np.array([3, 0, 1, 6, 3])}

LOSSES = [
    *[
        OpCase(
            "cross_entropy",
            label,
            lambda x, y, options=options: ops.cross_entropy(x, y, **options),
            lambda x, y, options=options: references.cross_entropy(x, y, **options),
            (Input((5, 7), -4, 4),),
            constants=(LOSS_LABELS.get(label, LABELS),),
            torch=None
            if "z_loss" in options
            else lambda t, x, y, options=options: t.nn.functional.cross_entropy(x, y, **options),
            terms=35,
        )
        for label, options in LOSS_OPTIONS
        if label != "smoothing"
    ],
    # With smoothing PyTorch normalises the ignored rows differently only under class weights.
    OpCase(
        "cross_entropy",
        "smoothing",
        lambda x, y: ops.cross_entropy(x, y, label_smoothing=0.1),
        lambda x, y: references.cross_entropy(x, y, label_smoothing=0.1),
        (Input((5, 7), -4, 4),),
        constants=(LABELS,),
        torch=lambda t, x, y: t.nn.functional.cross_entropy(x, y, label_smoothing=0.1),
        terms=35,
    ),
    OpCase(
        "cross_entropy",
        "all-ignored",
        lambda x, y: ops.cross_entropy(x, y),
        lambda x, y: references.cross_entropy(x, y),
        (Input((3, 7), -4, 4),),
        constants=(np.full(3, -100),),
    ),
]

PRODUCTS = [
    OpCase(
        "matmul",
        label,
        ops.matmul,
        np.matmul,
        (Input(a), Input(b)),
        torch=lambda t, a, b: t.matmul(a, b),
        terms=max(a[-1], 1),
        gradient_terms=200,
        large=label == "large",
    )
    for label, a, b in (
        ("small", (5, 7), (7, 3)),
        ("tail", (17, 33), (33, 19)),
        ("batch", (2, 3, 4), (2, 4, 5)),
        ("broadcast", (2, 1, 3, 4), (3, 4, 2)),
        ("shared", (2, 3, 4), (4, 5)),
        ("row", (6,), (6, 4)),
        ("column", (4, 6), (6,)),
        ("dot", (9,), (9,)),
        ("no-terms", (3, 0), (0, 4)),
        ("no-rows", (0, 4), (4, 3)),
        ("large", (130, 257), (257, 190)),
    )
]

CASES = [*SOFTMAX, *NORMS, *LOSSES, *PRODUCTS]
