"""The error lines of the op table: bad calls, the exception, and what its message must name."""

import tempra
from op_case import ErrorCase
from tempra import ConfigError, DtypeError, ShapeError, ops


def f(*shape: int) -> tempra.Tensor:
    return tempra.zeros(shape)


def i(*values: int) -> tempra.Tensor:
    return tempra.tensor(list(values), "i64")


BINARY = ("add", "subtract", "multiply", "divide", "power", "maximum", "minimum")
COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
REDUCTIONS = ("sum", "mean", "prod", "max", "min", "log_sum_exp")

CASES = [
    *[
        ErrorCase(
            name,
            "shapes",
            lambda name=name: getattr(ops, name)(f(2, 3), f(4)),
            ShapeError,
            ("[2, 3]", "[4]"),
        )
        for name in (*BINARY, *COMPARISONS)
    ],
    *[
        ErrorCase(
            name,
            "dimension",
            lambda name=name: getattr(ops, name)(f(2, 3), 2),
            ShapeError,
            (name.replace("log_sum_exp", ""), "2"),
        )
        for name in (*REDUCTIONS, "argmax", "argmin", "cumsum", "softmax", "log_softmax", "sort")
    ],
    *[
        ErrorCase(
            name,
            "dimension-twice",
            lambda name=name: getattr(ops, name)(f(2, 3), (1, -1)),
            ShapeError,
            ("twice",),
        )
        for name in REDUCTIONS
    ],
    *[
        ErrorCase(
            name,
            "empty",
            lambda name=name: getattr(ops, name)(f(2, 0), 1),
            ShapeError,
            (name, "[2, 0]", "empty"),
        )
        for name in ("max", "min", "argmax", "argmin")
    ],
    ErrorCase("where", "shapes", lambda: ops.where(f(2) > 0, f(3), f(3)), ShapeError, ("where",)),
    ErrorCase(
        "clamp", "bounds", lambda: ops.clamp(f(2), 1.0, -1.0), ShapeError, ("clamp", "1", "-1")
    ),
    ErrorCase(
        "gelu",
        "approximation",
        lambda: ops.gelu(f(2), approximate="fast"),
        ConfigError,
        ("gelu", "fast", "tanh"),
    ),
    ErrorCase(
        "matmul", "inner", lambda: ops.matmul(f(2, 3), f(4, 5)), ShapeError, ("[2, 3]", "[4, 5]")
    ),
    ErrorCase(
        "matmul", "batch", lambda: ops.matmul(f(2, 3, 4), f(3, 4, 5)), ShapeError, ("matmul",)
    ),
    ErrorCase("matmul", "0-d", lambda: ops.matmul(f(), f(3)), ShapeError, ("0-d",)),
    ErrorCase(
        "matmul", "integers", lambda: ops.matmul(i(1, 2), i(3, 4)), DtypeError, ("matmul", "i64")
    ),
    ErrorCase(
        "concatenate",
        "shapes",
        lambda: ops.concatenate([f(2, 3), f(2, 4)]),
        ShapeError,
        ("[2, 3]", "[2, 4]"),
    ),
    ErrorCase("concatenate", "none", lambda: ops.concatenate([]), ShapeError, ("no tensors",)),
    ErrorCase(
        "concatenate",
        "dtypes",
        lambda: ops.concatenate([f(2), i(1)]),
        DtypeError,
        ("f32", "i64"),
    ),
    ErrorCase("stack", "shapes", lambda: ops.stack([f(2), f(3)]), ShapeError, ("[2]", "[3]")),
    ErrorCase("split", "lengths", lambda: ops.split(f(5), [2, 2]), ShapeError, ("4", "5")),
    ErrorCase("split", "negative", lambda: ops.split(f(5), [6, -1]), ShapeError, ("-1",)),
    ErrorCase(
        "gather", "float-index", lambda: ops.gather(f(3), 0, f(2)), DtypeError, ("gather", "f32")
    ),
    ErrorCase(
        "gather",
        "shape",
        lambda: ops.gather(f(3, 2), 0, tempra.zeros((2, 3), "i64")),
        ShapeError,
        ("[2, 3]", "[3, 2]"),
    ),
    ErrorCase("gather", "range", lambda: ops.gather(f(3), 0, i(0, 3)), ShapeError, ("gather",)),
    ErrorCase("gather", "below", lambda: ops.gather(f(3), 0, i(-4)), ShapeError, ("gather",)),
    ErrorCase(
        "scatter", "range", lambda: ops.scatter(f(3), 0, i(3), f(1)), ShapeError, ("scatter",)
    ),
    ErrorCase(
        "scatter_add",
        "source",
        lambda: ops.scatter_add(f(3), 0, i(1), f(2)),
        ShapeError,
        ("scatter_add", "[2]"),
    ),
    ErrorCase(
        "index_select",
        "range",
        lambda: ops.index_select(f(3, 2), 0, i(5)),
        ShapeError,
        ("index",),
    ),
    ErrorCase("topk", "count", lambda: ops.topk(f(2, 3), 4), ShapeError, ("topk", "4", "3")),
    ErrorCase("topk", "negative", lambda: ops.topk(f(2, 3), -1), ShapeError, ("topk", "-1")),
    ErrorCase("softmax", "integers", lambda: ops.softmax(i(1, 2)), DtypeError, ("softmax", "i64")),
    ErrorCase(
        "softmax",
        "f16",
        lambda: ops.softmax(tempra.zeros(3, "f16")),
        DtypeError,
        ("softmax", "f16"),
    ),
    ErrorCase(
        "layer_norm",
        "weight",
        lambda: ops.layer_norm(f(2, 3), f(4)),
        ShapeError,
        ("layer_norm", "weight", "[4]", "[3]"),
    ),
    ErrorCase(
        "layer_norm",
        "bias",
        lambda: ops.layer_norm(f(2, 3), f(3), f(3, 1)),
        ShapeError,
        ("bias", "[3, 1]"),
    ),
    ErrorCase("layer_norm", "0-d", lambda: ops.layer_norm(f()), ShapeError, ("0-d",)),
    ErrorCase(
        "rms_norm",
        "weight",
        lambda: ops.rms_norm(f(2, 3), f(2)),
        ShapeError,
        ("rms_norm", "[2]", "[3]"),
    ),
    ErrorCase(
        "rms_norm",
        "epsilon",
        lambda: ops.rms_norm(f(2, 3), epsilon=-1.0),
        ConfigError,
        ("epsilon", "-1"),
    ),
    ErrorCase("rms_norm", "integers", lambda: ops.rms_norm(i(1, 2)), DtypeError, ("i64",)),
    ErrorCase(
        "dropout",
        "probability",
        lambda: ops.dropout(f(3), 1.0),
        ConfigError,
        ("dropout", "1", "probability"),
    ),
    ErrorCase("dropout", "integers", lambda: ops.dropout(i(1), 0.5), DtypeError, ("i64",)),
    ErrorCase("uniform", "bounds", lambda: ops.uniform(3, 2, 1), ConfigError, ("2", "1")),
    ErrorCase(
        "uniform", "infinite", lambda: ops.uniform(3, 0, float("inf")), ConfigError, ("inf",)
    ),
    ErrorCase(
        "uniform", "integers", lambda: ops.uniform(3, dtype="i32"), DtypeError, ("uniform", "i32")
    ),
    ErrorCase("normal", "deviation", lambda: ops.normal(3, 0, -1), ConfigError, ("normal", "-1")),
    ErrorCase("categorical", "0-d", lambda: ops.categorical(f()), ShapeError, ("categorical",)),
    ErrorCase(
        "categorical", "no-classes", lambda: ops.categorical(f(2, 0)), ShapeError, ("[2, 0]",)
    ),
    ErrorCase("arange", "step", lambda: ops.arange(0, 3, 0), ShapeError, ("arange", "0")),
    *[
        ErrorCase(
            "cross_entropy",
            label,
            lambda labels=labels, options=options: ops.cross_entropy(f(2, 3), labels, **options),
            error,
            words,
        )
        for label, labels, options, error, words in (
            ("shape", i(0), {}, ShapeError, ("[1]", "[2, 3]")),
            ("label", i(0, 3), {}, ShapeError, ("3", "2")),
            ("negative-label", i(0, -5), {}, ShapeError, ("-5",)),
            ("float-labels", f(2), {}, DtypeError, ("f32",)),
            ("smoothing", i(0, 1), {"label_smoothing": 1.5}, ConfigError, ("1.5",)),
            ("reduction", i(0, 1), {"reduction": "average"}, ConfigError, ("average", "mean")),
        )
    ],
    *[
        ErrorCase(
            "linear_cross_entropy",
            label,
            lambda w=w, labels=labels, options=options: ops.linear_cross_entropy(
                f(2, 4), w, labels, **options
            ),
            error,
            words,
        )
        for label, w, labels, options, error, words in (
            ("weight", f(3, 5), i(0, 1), {}, ShapeError, ("[2, 4]", "[3, 5]")),
            ("labels", f(3, 4), i(0), {}, ShapeError, ("[1]",)),
            ("label", f(3, 4), i(0, 3), {}, ShapeError, ("label", "3")),
            ("negative-label", f(3, 4), i(0, -5), {}, ShapeError, ("label",)),
            ("bias", f(3, 4), i(0, 1), {"bias": f(4)}, ShapeError, ("bias", "[4]")),
            ("reduction", f(3, 4), i(0, 1), {"reduction": "max"}, ConfigError, ("max", "sum")),
        )
    ],
    ErrorCase(
        "linear", "weight", lambda: ops.linear(f(2, 3), f(4, 5)), ShapeError, ("[2, 3]", "[4, 5]")
    ),
    ErrorCase(
        "linear", "bias", lambda: ops.linear(f(2, 3), f(4, 3), f(3)), ShapeError, ("bias", "[3]")
    ),
    ErrorCase(
        "linear",
        "bias dtype",
        lambda: ops.linear(f(2, 3), f(4, 3), f(4).to("bf16")),
        DtypeError,
        ("f32", "bf16", "bias"),
    ),
    ErrorCase(
        "linear",
        "activation",
        lambda: ops.linear(f(2, 3), f(4, 3), activation="swish"),
        ConfigError,
        ("swish", "silu"),
    ),
    ErrorCase(
        "linear",
        "residual",
        lambda: ops.linear(f(2, 3), f(4, 3), residual=f(2, 3)),
        ShapeError,
        ("residual", "[2, 3]"),
    ),
    ErrorCase(
        "linear_group", "none", lambda: ops.linear_group(f(2, 3), []), ShapeError, ("linear_group",)
    ),
    ErrorCase(
        "embedding", "range", lambda: ops.embedding(f(3, 2), i(3)), ShapeError, ("embedding", "3")
    ),
    ErrorCase(
        "embedding", "negative", lambda: ops.embedding(f(3, 2), i(-1)), ShapeError, ("embedding",)
    ),
    ErrorCase(
        "embedding", "float-index", lambda: ops.embedding(f(3, 2), f(1)), DtypeError, ("f32",)
    ),
    ErrorCase(
        "swiglu", "shapes", lambda: ops.swiglu(f(2, 3), f(2, 4)), ShapeError, ("[2, 3]", "[2, 4]")
    ),
    ErrorCase("swiglu_packed", "odd", lambda: ops.swiglu_packed(f(2, 3)), ShapeError, ("3",)),
    *[
        ErrorCase(
            "rotary",
            label,
            lambda x=x, p=p, c=c, s=s: ops.rotary(x, p, c, s),
            ShapeError,
            words,
        )
        for label, x, p, c, s, words in (
            ("dimensions", f(2, 4), i(0, 1), f(3, 2), f(3, 2), ("[2, 4]",)),
            ("positions", f(2, 1, 4), i(0), f(3, 2), f(3, 2), ("[1]",)),
            ("position", f(2, 1, 4), i(0, 3), f(3, 2), f(3, 2), ("3",)),
            ("tables", f(2, 1, 4), i(0, 1), f(3, 2), f(3, 1), ("[3, 2]", "[3, 1]")),
            ("width", f(2, 1, 4), i(0, 1), f(3, 3), f(3, 3), ("[3, 3]",)),
        )
    ],
    *[
        ErrorCase(
            "rotary_qkv",
            label,
            lambda x=x, p=p, c=c: ops.rotary_qkv(x, p, c, c, heads=2, kv_heads=1, head_dim=4),
            ShapeError,
            words,
        )
        for label, x, p, c, words in (
            ("dimensions", f(2, 4, 4), i(0, 1), f(3, 2), ("[2, 4, 4]",)),
            ("columns", f(2, 12), i(0, 1), f(3, 2), ("[2, 12]", "(2 + 2 * 1) * 4")),
            ("positions", f(2, 16), i(0), f(3, 2), ("rotary_qkv", "[1]")),
            ("width", f(2, 16), i(0, 1), f(3, 3), ("[3, 3]",)),
        )
    ],
    *[
        ErrorCase(
            "attention",
            label,
            lambda q=q, k=k, v=v, options=options: ops.attention(q, k, v, **options),
            error,
            words,
        )
        for label, q, k, v, options, error, words in (
            ("dimensions", f(4, 8), f(4, 8), f(4, 8), {}, ShapeError, ("[4, 8]",)),
            ("keys-values", f(4, 2, 8), f(4, 2, 8), f(5, 2, 8), {}, ShapeError, ("[5, 2, 8]",)),
            ("heads", f(4, 3, 8), f(4, 2, 8), f(4, 2, 8), {}, ShapeError, ("3", "2")),
            ("width", f(4, 2, 8), f(4, 2, 4), f(4, 2, 4), {}, ShapeError, ("[4, 2, 4]",)),
            (
                "probability",
                f(4, 2, 8),
                f(4, 2, 8),
                f(4, 2, 8),
                {"dropout_probability": 1.0},
                ConfigError,
                ("dropout_probability", "1"),
            ),
            (
                "offsets",
                f(4, 2, 8),
                f(4, 2, 8),
                f(4, 2, 8),
                {
                    "offsets_q": tempra.tensor([0, 3], "i32"),
                    "offsets_k": tempra.tensor([0, 4], "i32"),
                },
                ShapeError,
                ("offsets", "3", "4"),
            ),
            (
                "offsets-order",
                f(4, 2, 8),
                f(4, 2, 8),
                f(4, 2, 8),
                {
                    "offsets_q": tempra.tensor([0, 3, 2, 4], "i32"),
                    "offsets_k": tempra.tensor([0, 3, 2, 4], "i32"),
                },
                ShapeError,
                ("offsets",),
            ),
        )
    ],
    ErrorCase(
        "attention_qkv",
        "width",
        lambda: ops.attention_qkv(f(4, 30), heads=2, kv_heads=1, head_dim=8),
        ShapeError,
        ("[4, 30]", "(2 + 2 * 1) * 8"),
    ),
]
