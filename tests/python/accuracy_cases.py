"""The op table at realistic sizes, for comparing bf16 errors with PyTorch's: see bf16_accuracy.py.

Each line holds the operation as tempra spells it (`call`) and as somebody who uses PyTorch writes
it (`torch`), which in f64 is the reference too. Inputs and parameters are bf16 numbers on both
sides; `f32-parameters` lines hand them to tempra as f32 tensors, as training does.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import op_cases_elementwise
from op_case import Input, OpCase
from tempra import ops

ROWS, WIDTH = 64, 1024
SHAPE = (ROWS, WIDTH)


def enlarged(case: OpCase, label: str, *shapes: tuple[int, ...]) -> OpCase:
    """The line of the op table with inputs of these shapes."""
    inputs = tuple(
        replace(entry, shape=shape) for entry, shape in zip(case.inputs, shapes, strict=True)
    )
    return replace(case, label=label, inputs=inputs)


def line(
    op: str,
    label: str,
    call: Callable[..., Any],
    torch: Callable[..., Any],
    inputs: tuple[Input, ...],
    constants: tuple[np.ndarray, ...] = (),
    *,
    differentiable: bool = True,
) -> OpCase:
    return OpCase(
        op,
        label,
        call,
        lambda *_: (),  # the reference is PyTorch's in f64
        inputs,
        constants=constants,
        torch=torch,
        dtypes=("bf16",),
        differentiable=differentiable,
    )


def normal(*shape: int, deviation: float = 1.0, parameter: bool = False) -> Input:
    return Input(shape, deviation=deviation, parameter=parameter)


ELEMENTWISE = [
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

# Multiples of 1/4, which bf16 holds: no ties, whose gradients libraries divide differently.
DISTINCT = {"distinct": True, "low": -32.0, "high": 31.75}
REDUCTIONS = [
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

# Draws with repetition, and an order of all.
TOKENS = np.random.default_rng(5).integers(0, 256, (8, 64))
ORDER = np.random.default_rng(6).permutation(WIDTH)
ELEMENTS = np.random.default_rng(7).integers(0, WIDTH, SHAPE)
INDEXING = [
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


LABELS = np.random.default_rng(8).integers(0, WIDTH, 256)
LABELS[::9] = -100
LOSS_OPTIONS = (
    ("mean", {}),
    ("sum", {"reduction": "sum"}),
    ("none", {"reduction": "none"}),
    ("smoothing", {"label_smoothing": 0.1}),
)


def z_loss(t: Any, logits: Any, labels: Any) -> Any:
    squares = t.logsumexp(logits, -1)[labels >= 0] ** 2
    return t.nn.functional.cross_entropy(logits, labels) + 0.01 * squares.mean()


def f32_or_f64(x: Any) -> Any:
    """What `.float()` does to bf16, and nothing to the reference."""
    return x.float() if x.element_size() == 2 else x


ROW_OPERATIONS = [
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

ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "none": lambda t, x: x,
    "relu": lambda t, x: t.nn.functional.relu(x),
    "silu": lambda t, x: t.nn.functional.silu(x),
    "gelu": lambda t, x: t.nn.functional.gelu(x),
    "gelu_tanh": lambda t, x: t.nn.functional.gelu(x, approximate="tanh"),
}


def linear_line(
    label: str,
    activation: str = "none",
    *,
    residual: bool = False,
    parameter: bool = False,
    rows: int = 256,
) -> OpCase:
    width, out = 384, 512
    inputs = [
        normal(rows, width),
        normal(out, width, deviation=width**-0.5, parameter=parameter),
        normal(out, deviation=0.1, parameter=parameter),
    ]
    if residual:
        inputs.append(normal(rows, out))

    def torch(t: Any, x: Any, weight: Any, bias: Any, *rest: Any) -> Any:
        y = ACTIVATIONS[activation](t, t.nn.functional.linear(x, weight, bias))
        return rest[0] + y if residual else y

    return line(
        "linear",
        label,
        lambda x, weight, bias, *rest: ops.linear(
            x, weight, bias, activation=activation, residual=rest[0] if residual else None
        ),
        torch,
        tuple(inputs),
    )


def group_line(label: str, parameter: bool) -> OpCase:
    width, outs = 256, (256, 128, 128)

    def torch(t: Any, x: Any, *parameters: Any) -> Any:
        return t.nn.functional.linear(x, t.cat(parameters[:3]), t.cat(parameters[3:]))

    return line(
        "linear_group",
        label,
        lambda x, *parameters: ops.linear_group(x, list(parameters[:3]), list(parameters[3:])),
        torch,
        (
            normal(256, width),
            *[normal(out, width, deviation=width**-0.5, parameter=parameter) for out in outs],
            *[normal(out, deviation=0.1, parameter=parameter) for out in outs],
        ),
    )


def loss_line(label: str, *, bias: bool = False, parameter: bool = False, **options: Any) -> OpCase:
    width, vocabulary = 128, WIDTH
    inputs = [
        normal(256, width),
        normal(vocabulary, width, deviation=2 * width**-0.5, parameter=parameter),
    ]
    if bias:
        inputs.append(normal(vocabulary, parameter=parameter))

    def torch(t: Any, hidden: Any, weight: Any, *rest: Any) -> Any:
        logits = f32_or_f64(t.nn.functional.linear(hidden, weight, rest[0] if bias else None))
        if "z_loss" in options:
            return z_loss(t, logits, rest[-1])
        return t.nn.functional.cross_entropy(logits, rest[-1], **options)

    return line(
        "linear_cross_entropy",
        label,
        lambda hidden, weight, *rest: ops.linear_cross_entropy(
            hidden, weight, rest[-1], bias=rest[0] if bias else None, **options
        ),
        torch,
        tuple(inputs),
        (LABELS,),
    )


PRODUCTS = [
    linear_line("bias"),
    *[linear_line(name, name) for name in ACTIVATIONS if name != "none"],
    linear_line("residual", residual=True),
    linear_line("gelu-residual", "gelu_tanh", residual=True),
    linear_line("few-rows", rows=4),
    linear_line("f32-parameters", parameter=True),
    linear_line("gelu-f32-parameters", "gelu_tanh", parameter=True),
    group_line("plain", parameter=False),
    group_line("f32-parameters", parameter=True),
    loss_line("mean"),
    loss_line("bias", bias=True),
    loss_line("sum", reduction="sum"),
    loss_line("none", reduction="none"),
    loss_line("smoothing", label_smoothing=0.1),
    loss_line("z-loss", z_loss=0.01),
    loss_line("f32-parameters", bias=True, parameter=True),
]


def halves(t: Any, x: Any) -> Any:
    return x.chunk(2, -1)


LENGTH, HEADS, HEAD_DIM = 256, 4, 64
POSITIONS = np.arange(LENGTH)
ANGLES = POSITIONS[:, None] * 10000.0 ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM)[None]
TABLES = (np.cos(ANGLES).astype(np.float32), np.sin(ANGLES).astype(np.float32))


def turned(t: Any, x: Any, p: Any, c: Any, s: Any, interleaved: bool = False) -> Any:
    """Rotary embedding with one rounding at the end, as Meta's LLaMA does it."""
    wide = f32_or_f64(x)
    c, s = c[p][:, None, :], s[p][:, None, :]
    if interleaved:
        a, b = wide[..., 0::2], wide[..., 1::2]
        return t.stack([a * c - b * s, a * s + b * c], -1).flatten(-2).to(x.dtype)
    a, b = wide.chunk(2, -1)
    return t.cat([a * c - b * s, a * s + b * c], -1).to(x.dtype)


def turned_packed(t: Any, qkv: Any, p: Any, c: Any, s: Any) -> Any:
    split = qkv.unflatten(-1, (HEADS + 4, HEAD_DIM))
    queries_and_keys, values = split[:, : HEADS + 2], split[:, HEADS + 2 :]
    return t.cat([turned(t, queries_and_keys, p, c, s), values], 1).flatten(1)


def attend(t: Any, q: Any, k: Any, v: Any, causal: bool = True, window: int = 0) -> Any:
    """[..., length, heads, head size], as tempra has it."""
    mask = None
    if window:
        ones = t.ones(q.shape[-3], k.shape[-3], dtype=t.bool)
        mask = ones.tril() & ones.triu(1 - window)
    result = t.nn.functional.scaled_dot_product_attention(
        *[x.transpose(-3, -2) for x in (q, k, v)],
        attn_mask=mask,
        is_causal=causal and not window,
        enable_gqa=q.shape[-2] != k.shape[-2],
    )
    return result.transpose(-3, -2)


def attend_packed(t: Any, qkv: Any, kv_heads: int) -> Any:
    q, k, v = qkv.unflatten(-1, (HEADS + 2 * kv_heads, HEAD_DIM)).split(
        [HEADS, kv_heads, kv_heads], -2
    )
    return attend(t, q[None], k[None], v[None])[0].flatten(-2)


def attention_line(label: str, kv_heads: int, deviation: float = 1.0, **options: Any) -> OpCase:
    q, k = (1, LENGTH, HEADS, HEAD_DIM), (1, LENGTH, kv_heads, HEAD_DIM)
    return line(
        "attention",
        label,
        lambda q, k, v: ops.attention(q, k, v, **options),
        lambda t, q, k, v: attend(t, q, k, v, **options),
        tuple(normal(*shape, deviation=deviation) for shape in (q, k, k)),
    )


FUSED = [
    line(
        "swiglu",
        "rows",
        ops.swiglu,
        lambda t, g, u: t.nn.functional.silu(g) * u,
        (normal(*SHAPE, deviation=2.0), normal(*SHAPE)),
    ),
    line(
        "swiglu_packed",
        "rows",
        ops.swiglu_packed,
        lambda t, x: t.nn.functional.silu(halves(t, x)[0]) * halves(t, x)[1],
        (normal(ROWS, 2 * WIDTH),),
    ),
    *[
        line(
            "rotary",
            label,
            lambda x, p, c, s, i=i: ops.rotary(x, p, c, s, interleaved=i),
            lambda t, x, p, c, s, i=i: turned(t, x, p, c, s, i),
            (normal(LENGTH, HEADS, HEAD_DIM),),
            (POSITIONS, *TABLES),
        )
        for label, i in (("halves", False), ("interleaved", True))
    ],
    line(
        "rotary_qkv",
        "grouped",
        lambda x, p, c, s: ops.rotary_qkv(x, p, c, s, heads=HEADS, kv_heads=2, head_dim=HEAD_DIM),
        turned_packed,
        (normal(LENGTH, (HEADS + 4) * HEAD_DIM),),
        (POSITIONS, *TABLES),
    ),
    attention_line("causal", HEADS),
    attention_line("all-keys", HEADS, causal=False),
    attention_line("grouped", 2),
    attention_line("window", HEADS, window=32),
    attention_line("sharp", HEADS, deviation=2.0),
    *[
        line(
            "attention_qkv",
            label,
            lambda x, kv=kv: ops.attention_qkv(x, heads=HEADS, kv_heads=kv, head_dim=HEAD_DIM),
            lambda t, x, kv=kv: attend_packed(t, x, kv),
            (normal(LENGTH, (HEADS + 2 * kv) * HEAD_DIM),),
        )
        for label, kv in (("plain", HEADS), ("grouped", 2))
    ],
]

CASES = [*ELEMENTWISE, *REDUCTIONS, *INDEXING, *ROW_OPERATIONS, *PRODUCTS, *FUSED]

_NOT_ROUNDED = "gives truth values or indices; test_op_values.py holds them exactly"
_CREATED = "has no bf16 input; test_created_numbers_are_rounded_once holds it to the f32 result"
_RANDOM = "draws from a stream of its own; " + _CREATED.split("; ")[1]

# Operations without a line above, and why. None may be missing from both.
WITHOUT_COUNTERPART: dict[str, str] = {
    **dict.fromkeys(
        (
            *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"),
            *("logical_and", "logical_or", "logical_xor", "logical_not", "is_nan", "is_finite"),
            *("argmax", "argmin", "argsort", "categorical"),
        ),
        _NOT_ROUNDED,
    ),
    **dict.fromkeys(("zeros", "zeros_like", "ones", "full", "arange"), _CREATED),
    **dict.fromkeys(("empty", "empty_like"), "holds no values"),
    **dict.fromkeys(("uniform", "uniform_", "normal", "normal_"), _RANDOM),
    "dropout": "drops other elements than PyTorch's stream; "
    "test_dropout_is_rounded_once holds the kept ones to half a unit",
}
