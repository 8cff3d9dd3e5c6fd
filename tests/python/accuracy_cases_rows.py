"""Softmax, normalisation, losses of logits and matmul beside PyTorch's."""

from accuracy_case import LABELS, WIDTH, f32_or_f64, line, normal, z_loss
from op_case import Input, OpCase
from tempra import ops


def norm_lines(name: str, label: str, parameter: bool) -> OpCase:
    epsilon = 1e-5 if name == "layer_norm" else 1e-6
    parameters = [Input((WIDTH,), 0.5, 1.5, parameter=parameter)]
    if name == "layer_norm":
        parameters.append(Input((WIDTH,), -1, 1, parameter=parameter))
    return line(
        name,
        label,
        getattr(ops, name),
        lambda t, x, *p: getattr(t.nn.functional, name)(x, x.shape[-1:], *p, eps=epsilon),
        (Input((256, WIDTH), -3, 5), *parameters),
    )


LOSS_OPTIONS = (
    ("mean", {}),
    ("sum", {"reduction": "sum"}),
    ("none", {"reduction": "none"}),
    ("smoothing", {"label_smoothing": 0.1}),
)

CASES = [
    *[
        line(
            name,
            label,
            lambda x, name=name, dim=dim: getattr(ops, name)(x, dim),
            lambda t, x, name=name, dim=dim: getattr(t, name)(x, dim),
            (normal(256, WIDTH, deviation=2.0),),
        )
        for name in ("softmax", "log_softmax")
        for label, dim in (("last", 1), ("first", 0))
    ],
    *[
        norm_lines(name, label, parameter)
        for name in ("layer_norm", "rms_norm")
        for label, parameter in (("plain", False), ("f32-parameters", True))
    ],
    *[
        line(
            "cross_entropy",
            label,
            lambda x, y, options=options: ops.cross_entropy(x, y, **options),
            lambda t, x, y, options=options: t.nn.functional.cross_entropy(
                f32_or_f64(x), y, **options
            ),
            (normal(256, WIDTH, deviation=2.0),),
            (LABELS,),
        )
        for label, options in LOSS_OPTIONS
    ],
    line(
        "cross_entropy",
        "z-loss",
        lambda x, y: ops.cross_entropy(x, y, z_loss=0.01),
        lambda t, x, y: z_loss(t, f32_or_f64(x), y),
        (normal(256, WIDTH, deviation=2.0),),
        (LABELS,),
    ),
    *[
        line(
            "matmul",
            label,
            ops.matmul,
            lambda t, a, b: t.matmul(a, b),
            (normal(*a), normal(*b, deviation=b[-2] ** -0.5)),
        )
        for label, a, b in (
            ("matrix", (256, 384), (384, 512)),
            ("few-rows", (4, 1024), (1024, 512)),
            ("long", (64, 4096), (4096, 64)),
            ("batch", (8, 64, 128), (8, 128, 64)),
        )
    ],
]
