"""Gated units, rotary embeddings and attention beside PyTorch's."""

from typing import Any

import numpy as np

from accuracy_case import ROWS, SHAPE, WIDTH, f32_or_f64, line, normal
from op_case import OpCase
from tempra import ops


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


CASES = [
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
