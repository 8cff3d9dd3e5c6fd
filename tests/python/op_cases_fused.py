"""Lines of the op table: fused operations. tempra.composed() is a second oracle for each."""

import numpy as np

import references
from op_case import Input, OpCase
from tempra import ops


def linear_case(
    label: str, x: tuple[int, ...], out: int, bias: bool, residual: bool, activation: str
) -> OpCase:
    width = x[-1]
    inputs = [Input(x), Input((out, width), -0.5, 0.5, parameter=True)]
    if bias:
        inputs.append(Input((out,), -0.5, 0.5, parameter=True))
    if residual:
        inputs.append(Input((*x[:-1], out)))

    def unpack(rest: tuple[object, ...]) -> tuple[object, object]:
        entries = list(rest)
        return entries.pop(0) if bias else None, entries.pop(0) if residual else None

    def call(x: object, weight: object, *rest: object) -> object:
        b, r = unpack(rest)
        return ops.linear(x, weight, b, activation=activation, residual=r)

    def reference(x: np.ndarray, weight: np.ndarray, *rest: np.ndarray) -> np.ndarray:
        b, r = unpack(rest)
        return references.linear(
            x, weight, 0.0 if b is None else b, 0.0 if r is None else r, activation
        )

    return OpCase(
        "linear",
        label,
        call,
        reference,
        tuple(inputs),
        fused=True,
        terms=width,
        gradient_terms=max(width, int(np.prod(x[:-1])), out),
        large=label == "large",
    )


LINEAR = [
    linear_case("plain", (5, 7), 3, False, False, "none"),
    linear_case("bias", (5, 7), 3, True, False, "none"),
    linear_case("residual", (5, 7), 3, True, True, "none"),
    *[
        linear_case(name, (5, 7), 3, True, name == "gelu", name)
        for name in ("relu", "silu", "gelu", "gelu_tanh")
    ],
    linear_case("three", (2, 3, 17), 19, True, True, "none"),
    linear_case("vector", (6,), 4, True, False, "none"),
    linear_case("no-rows", (0, 6), 4, True, True, "gelu"),
    linear_case("large", (150, 257), 130, True, True, "gelu_tanh"),
    OpCase(
        "linear_group",
        "biases",
        lambda x, a, b, c, d, e, f: ops.linear_group(x, [a, b, c], [d, e, f]),
        lambda x, a, b, c, d, e, f: references.linear(
            x, np.concatenate([a, b, c]), np.concatenate([d, e, f])
        ),
        (
            Input((5, 6)),
            *[Input((n, 6), parameter=True) for n in (4, 2, 3)],
            *[Input((n,), parameter=True) for n in (4, 2, 3)],
        ),
        fused=True,
        terms=6,
    ),
    OpCase(
        "linear_group",
        "plain",
        lambda x, a, b: ops.linear_group(x, [a, b]),
        lambda x, a, b: references.linear(x, np.concatenate([a, b])),
        (Input((2, 3, 17)), Input((8, 17), parameter=True), Input((5, 17), parameter=True)),
        fused=True,
        terms=17,
    ),
]

TOKENS = np.array([[4, 0, 4], [1, 4, 2]])
ROWS = [
    OpCase(
        "embedding",
        "repeats",
        ops.embedding,
        lambda w, i: w[i],
        (Input((5, 9)),),
        constants=(TOKENS,),
        torch=lambda t, w, i: t.nn.functional.embedding(i, w),
        fused=True,
        exact=True,
        terms=3,
    ),
    OpCase(
        "embedding",
        "empty",
        ops.embedding,
        lambda w, i: w[i],
        (Input((5, 9)),),
        constants=(np.zeros(0, np.int32),),
        fused=True,
        exact=True,
    ),
    OpCase(
        "embedding",
        "to-bf16",
        lambda w, i: ops.embedding(w, i, dtype="bf16" if w.dtype.name == "f32" else None),
        lambda w, i: w[i],
        (Input((5, 9), parameter=True),),
        constants=(TOKENS.astype(np.int32),),
        fused=True,
        dtypes=("bf16",),
    ),
    OpCase(
        "embedding",
        "large",
        ops.embedding,
        lambda w, i: w[i],
        (Input((50, 70)),),
        constants=((np.arange(900) ** 2) % 50,),
        fused=True,
        exact=True,
        terms=100,
        large=True,
    ),
    *[
        OpCase(
            "swiglu",
            label,
            ops.swiglu,
            lambda g, u: references.silu(g) * u,
            (Input(shape), Input(shape)),
            torch=lambda t, g, u: t.nn.functional.silu(g) * u,
            fused=True,
            large=label == "large",
        )
        for label, shape in (
            ("tail", (3, 37)),
            ("three", (2, 3, 5)),
            ("empty", (0, 4)),
            ("large", (129, 517)),
        )
    ],
    OpCase(
        "swiglu_packed",
        "tail",
        ops.swiglu_packed,
        lambda x: references.silu(x[..., :19]) * x[..., 19:],
        (Input((3, 38)),),
        fused=True,
    ),
]

ANGLES = np.random.default_rng(7).uniform(0, 6, (12, 3))
POSITIONS = np.array([0, 5, 11, 2, 2])
ROTARY = [
    OpCase(
        "rotary",
        f"{label}-{'interleaved' if interleaved else 'halves'}",
        lambda x, p, c, s, interleaved=interleaved: ops.rotary(x, p, c, s, interleaved=interleaved),
        lambda x, p, c, s, interleaved=interleaved: references.rotary(x, p, c, s, interleaved),
        (Input(shape),),
        constants=(
            positions,
            np.cos(ANGLES).astype(np.float32),
            np.sin(ANGLES).astype(np.float32),
        ),
        fused=True,
        large=label == "large",
    )
    for label, shape, positions in (
        ("whole", (5, 2, 6), POSITIONS),
        ("partial", (5, 2, 9), POSITIONS.astype(np.int32)),
        ("empty", (0, 2, 6), np.zeros(0, np.int64)),
        ("large", (700, 8, 6), np.arange(700) % 12),
    )
    for interleaved in (False, True)
]


def packed_rotary_reference(
    qkv: np.ndarray, p: np.ndarray, c: np.ndarray, s: np.ndarray, heads: int, kv_heads: int
) -> np.ndarray:
    all_heads = heads + 2 * kv_heads
    result = qkv.reshape(len(qkv), all_heads, qkv.shape[1] // all_heads).copy()
    result[:, : heads + kv_heads] = references.rotary(result[:, : heads + kv_heads], p, c, s)
    return result.reshape(qkv.shape)


ROTARY += [
    OpCase(
        "rotary_qkv",
        label,
        lambda x, p, c, s, heads=heads, kv_heads=kv_heads, dim=dim: ops.rotary_qkv(
            x, p, c, s, heads=heads, kv_heads=kv_heads, head_dim=dim
        ),
        lambda x, p, c, s, heads=heads, kv_heads=kv_heads: packed_rotary_reference(
            x, p, c, s, heads, kv_heads
        ),
        (Input((len(positions), (heads + 2 * kv_heads) * dim)),),
        constants=(
            positions,
            np.cos(ANGLES).astype(np.float32),
            np.sin(ANGLES).astype(np.float32),
        ),
        fused=True,
        large=label == "large",
    )
    for label, positions, heads, kv_heads, dim in (
        ("whole", POSITIONS, 2, 1, 6),
        ("partial", POSITIONS.astype(np.int32), 6, 3, 9),
        ("empty", np.zeros(0, np.int64), 2, 2, 6),
        ("large", np.arange(700) % 12, 8, 2, 6),
    )
]


def offsets(*lengths: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def attention_case(
    label: str,
    q: tuple[int, ...],
    k: tuple[int, ...],
    constants: tuple[np.ndarray, ...] = (),
    **options: object,
) -> OpCase:
    def call(q: object, k: object, v: object, *at: object) -> object:
        where: dict[str, object] = {}
        if at:
            longest_q, longest_k = (int(np.diff(each).max()) for each in constants)
            where = {"offsets_q": at[0], "offsets_k": at[1]}
            where |= {"longest_q": longest_q, "longest_k": longest_k}
        return ops.attention(q, k, v, **where, **options)

    return OpCase(
        "attention",
        label,
        call,
        lambda q, k, v, *at: references.attention(q, k, v, *at, **options),
        (Input(q), Input(k), Input(k)),
        constants=constants,
        fused=True,
        terms=max(k[-3], q[-1]),
        gradient_terms=max(k[-3], q[-3]) * q[-2] // k[-2],
        large=label == "large",
    )


PACKED = offsets(3, 1, 5)
ATTENTION = [
    attention_case("causal", (6, 2, 8), (6, 2, 8)),
    attention_case("all-keys", (6, 2, 8), (7, 2, 8), causal=False),
    attention_case("fewer-queries", (3, 2, 8), (7, 2, 8)),
    attention_case("more-queries", (5, 2, 8), (3, 2, 8)),
    attention_case("grouped", (6, 4, 8), (6, 2, 8)),
    attention_case("one-kv-head", (6, 3, 8), (6, 1, 8), scale=0.7),
    attention_case("window", (9, 2, 8), (9, 2, 8), window=3),
    attention_case("odd-width", (5, 1, 5), (5, 1, 5)),
    attention_case("batch", (2, 4, 2, 8), (2, 4, 2, 8)),
    attention_case("batch-grouped", (2, 4, 4, 8), (2, 6, 2, 8), causal=False),
    attention_case("packed", (9, 4, 8), (9, 2, 8), (PACKED, PACKED)),
    attention_case("packed-cross", (9, 2, 8), (10, 2, 8), (PACKED, offsets(4, 0, 6)), causal=False),
    attention_case("large", (300, 4, 64), (300, 2, 64), (offsets(130, 1, 169),) * 2),
    OpCase(
        "attention_qkv",
        "grouped",
        lambda x: ops.attention_qkv(x, heads=4, kv_heads=2, head_dim=8),
        lambda x: references.attention_qkv(x, None, 4, 2, 8),
        (Input((6, 64)),),
        fused=True,
        terms=8,
        gradient_terms=12,
    ),
    OpCase(
        "attention_qkv",
        "packed",
        lambda x, at: ops.attention_qkv(x, at, heads=2, kv_heads=2, head_dim=8, longest=5),
        lambda x, at: references.attention_qkv(x, at, 2, 2, 8),
        (Input((9, 48)),),
        constants=(PACKED,),
        fused=True,
        terms=8,
        gradient_terms=12,
    ),
]

LABELS = np.array([3, 0, -100, 10, 2])


def loss_case(label: str, bias: bool = False, parameter: bool = False, **options: object) -> OpCase:
    rows, width, vocabulary = (260, 33, 300) if label == "large" else (5, 6, 11)
    labels = np.arange(rows) * 7 % vocabulary if label == "large" else LABELS
    if options.get("ignore_index") == 3:
        labels = np.where(labels < 0, 5, labels)
    inputs = [Input((rows, width)), Input((vocabulary, width), parameter=parameter)]
    if bias:
        inputs.append(Input((vocabulary,), parameter=parameter))

    def call(hidden: object, weight: object, *rest: object) -> object:
        extra = {"bias": rest[0]} if bias else {}
        return ops.linear_cross_entropy(hidden, weight, rest[-1], **extra, **options)

    def reference(hidden: np.ndarray, weight: np.ndarray, *rest: np.ndarray) -> np.ndarray:
        logits = hidden @ weight.T + (rest[0] if bias else 0.0)
        return references.cross_entropy(logits, rest[-1], **options)

    return OpCase(
        "linear_cross_entropy",
        label,
        call,
        reference,
        tuple(inputs),
        constants=(labels,),
        fused=True,
        terms=width * 4,
        gradient_terms=max(width, vocabulary),
        dtypes=("bf16",) if parameter else ("f32", "bf16", "f64"),
        large=label == "large",
    )


LOSSES = [
    loss_case("mean"),
    loss_case("bias", bias=True),
    loss_case("sum", reduction="sum"),
    loss_case("none", reduction="none", bias=True),
    loss_case("smoothing", label_smoothing=0.1),
    loss_case("z-loss", z_loss=0.01),
    loss_case("everything-none", bias=True, label_smoothing=0.1, z_loss=0.01, reduction="none"),
    loss_case("ignore-3", ignore_index=3),
    loss_case("f32-parameters", bias=True, parameter=True),
    loss_case("large", label_smoothing=0.1),
]

CASES = [*LINEAR, *ROWS, *ROTARY, *ATTENTION, *LOSSES]
