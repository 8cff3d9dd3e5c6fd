"""Odd shapes beside their neighbours, to find numbers that divide nothing and fall off a cliff.

Every series is measured in turns, best of its rounds, as operations per second. A case is flagged
when it is over 25 % below a neighbour; where neighbours may honestly differ (few rows: a product
that waits for memory takes as long with two as with one), when it takes over 25 % longer than a
larger one.

    python benchmarks/shapes.py --series width vocabulary --dtypes f32 bf16
    python benchmarks/shapes.py --level kernels
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness import add_dtypes_argument, append_rows, print_table
from tempra import _core
from tempra.benchmark.machine import identity
from tempra.benchmark.tempra_trainer import TempraTrainer
from tempra.models import TransformerConfig

CLIFF = 0.25  # below a neighbour by more: flagged
SAMPLE_SECONDS = 0.02  # a sample repeats short cases for about this long


@dataclass
class Case:
    """One point of a series: what runs, and the operations it counts as (design: FLOPs)."""

    name: str
    run: Callable[[], object]
    flops: float
    seconds: float = float("inf")
    repeats: int = 1

    def sample(self) -> None:
        start = time.perf_counter()
        for _ in range(self.repeats):
            self.run()
        self.seconds = min(self.seconds, (time.perf_counter() - start) / self.repeats)


Make = Callable[[], Case]
Series = tuple[str, list[Make]]


def training(name: str, dtype: str, rows: int, block: int, **sizes: Any) -> Case:
    """Full steps of a transformer: forward, backward, clip, AdamW."""
    family = sizes.pop("family", "gpt2")
    usual = {"vocab_size": 256, "width": 256, "layers": 2, "heads": 4, "context": block}
    config = TransformerConfig.for_family(family, dtype=dtype, **{**usual, **sizes})
    trainer = TempraTrainer(config, threads=_core.get_num_threads())
    random = np.random.default_rng(0)
    data = random.integers(0, config.vocab_size, (rows, block + 1)).astype(np.int32)
    tokens, labels = data[:, :-1].copy(), data[:, 1:].copy()
    return Case(
        name,
        lambda: trainer.step(tokens, labels),
        float(config.flops_per_token(block) * rows * block),
    )


def training_series(dtype: str) -> Iterator[Series]:
    def steps(**choices: tuple[Any, Any]) -> list[Make]:
        return [
            partial(training, name.replace("_", " ").strip(), dtype, *shape, **sizes)
            for name, (shape, sizes) in choices.items()
        ]

    def each(values: tuple[int, ...], shape: Any, sizes: Any) -> list[Make]:
        return steps(**{f"{n}": (shape(n), sizes(n)) for n in values})

    yield "step/width", each((192, 200, 208), lambda n: (4, 128), lambda n: {"width": n})
    large = {"width": 192, "layers": 1}
    yield (
        "step/vocabulary",
        each((50257, 50304), lambda n: (1, 256), lambda n: {"vocab_size": n, **large}),
    )
    yield "step/sequence", each((320, 333, 336), lambda n: (2, n), lambda n: {})
    yield "step/batch", each((1, 2, 3, 4), lambda n: (n, 333), lambda n: {})
    grouped = {"family": "llama", "width": 384, "heads": 12}
    yield (
        "step/key and value heads of 12",
        each((2, 3, 4, 6), lambda n: (2, 256), lambda n: {"kv_heads": n, **grouped}),
    )
    yield (
        "step/head size",
        each((32, 40, 48, 64, 80, 96, 128), lambda n: (2, 256), lambda n: {"width": 4 * n}),
    )
    tokens = {"width": 128}
    yield (
        "step/tokens",
        steps(
            **{f"{n} x {t}": ((n, t), tokens) for n, t in ((11, 64), (12, 63), (12, 64), (13, 61))}
        ),
    )
    llama = {"family": "llama", "vocab_size": 50257}
    yield (
        "step/all",
        steps(
            round=((1, 336), {**llama, "vocab_size": 50304, "width": 192, "heads": 6}),
            odd=((1, 333), {**llama, "width": 200, "heads": 4, "kv_heads": 2}),
            odd_3_kv_heads=((1, 333), {**llama, "width": 204, "heads": 6, "kv_heads": 3}),
        ),
    )


def _tensor(dtype: str, *shape: int) -> _core.Tensor:
    return _core.normal(shape).to(dtype)


def product(kind: str, name: str, dtype: str, m: int, n: int, k: int) -> Case:
    """Forward, input gradient or weight gradient that multiplies [m, k] by [k, n]."""
    run: Callable[[], object]
    if kind == "forward":
        x, weight = _tensor(dtype, m, k), _tensor(dtype, n, k)
        run = lambda: _core.linear(x, weight)  # noqa: E731
    elif kind == "input":
        x, weight = _tensor(dtype, m, k), _tensor(dtype, k, n)
        run = lambda: _core.matmul(x, weight)  # noqa: E731
    else:
        x, weight = _tensor(dtype, k, m), _tensor(dtype, k, n)
        run = lambda: _core.matmul(x.T, weight)  # noqa: E731
    return Case(name, run, 2.0 * m * n * k)


def attention(
    name: str, dtype: str, length: int, heads: int, kv_heads: int, head_dim: int, rows: int = 2
) -> Case:
    """Forward and backward of one layer, causal, with rotary positions left out."""
    columns = (heads + 2 * kv_heads) * head_dim
    qkv = _tensor(dtype, rows * length, columns).requires_grad_()
    grad = _tensor(dtype, rows * length, heads * head_dim)
    offsets = _core.from_numpy(np.arange(rows + 1, dtype=np.int32) * np.int32(length))

    def run() -> None:
        out = _core.attention_qkv(qkv, offsets, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        _core.grad(out, qkv, grad)

    return Case(name, run, 7.0 * rows * length * length * heads * head_dim)


def loss(name: str, dtype: str, tokens: int, vocabulary: int, width: int) -> Case:
    """Head projection with cross-entropy and its gradients."""
    hidden = _tensor(dtype, tokens, width).requires_grad_()
    weight = _tensor(dtype, vocabulary, width).requires_grad_()
    random = np.random.default_rng(0)
    labels = _core.from_numpy(random.integers(0, vocabulary, tokens).astype(np.int32))
    return Case(
        name,
        lambda: _core.linear_cross_entropy(hidden, weight, labels),
        6.0 * tokens * vocabulary * width,
    )


def row_kernel(kind: str, name: str, dtype: str, rows: int, columns: int) -> Case:
    """Return a norm or activation, forward and backward; counts elements."""
    x = _tensor(dtype, rows, columns).requires_grad_()
    other = _tensor(dtype, rows, columns).requires_grad_()
    weight = _core.ones((columns,)).requires_grad_()
    bias = _core.zeros((columns,)).requires_grad_()
    grad = _tensor(dtype, rows, columns)
    if kind == "layer_norm":
        run = lambda: _core.grad(_core.layer_norm(x, weight, bias), [x, weight, bias], grad)  # noqa: E731
    elif kind == "rms_norm":
        run = lambda: _core.grad(_core.rms_norm(x, weight), [x, weight], grad)  # noqa: E731
    else:
        run = lambda: _core.grad(_core.swiglu(x, other), [x, other], grad)  # noqa: E731
    return Case(name, run, float(rows * columns))


def kernel_series(dtype: str) -> Iterator[Series]:
    def each(values: Iterable[int], make: Any, *before: Any, shape: Any) -> list[Make]:
        return [partial(make, *before, f"{n}", dtype, *shape(n)) for n in values]

    few = (*range(1, 18), 24, 25, 32, 33, 48, 49, 64)
    for kind in ("forward", "input", "weight"):
        yield f"few rows/{kind}", each(few, product, kind, shape=lambda n: (n, 512, 768))
        yield f"product/{kind} m", each(SIZES, product, kind, shape=lambda n: (n, 512, 512))
        yield f"product/{kind} n", each(SIZES, product, kind, shape=lambda n: (512, n, 512))
        yield f"product/{kind} k", each(SIZES, product, kind, shape=lambda n: (512, 512, n))
    heads = (32, 40, 48, 50, 64, 80, 96, 112, 128)
    lengths = (63, 64, 65, 96, 128, 320, 333, 336)
    yield "attention/head size", each(heads, attention, shape=lambda n: (256, 6, 6, n))
    yield "attention/length", each(lengths, attention, shape=lambda n: (n, 6, 6, 64))
    yield (
        "attention/key and value heads of 12",
        each((1, 2, 3, 4, 6, 12), attention, shape=lambda n: (256, 12, n, 64)),
    )
    yield "loss/vocabulary", each((8192, 8193, 50257, 50304), loss, shape=lambda n: (333, n, 200))
    yield "loss/tokens", each((256, 320, 333, 336, 512), loss, shape=lambda n: (n, 8192, 256))
    columns = (192, 199, 200, 208, 333, 384)
    for kind in ("layer_norm", "rms_norm", "swiglu"):
        yield f"{kind}/columns", each(columns, row_kernel, kind, shape=lambda n: (1024, n))


SIZES = (64, 65, 192, 199, 200, 208, 320, 333, 336)
GROWING = ("few rows/", "product/", "attention/length")  # small sizes honestly have lower rates


def measure(cases: list[Case], seconds: float) -> None:
    """Sample the cases in turn for `seconds` in all, at least three times each."""
    for case in cases:
        case.run()
        case.sample()
        case.repeats = max(1, min(1000, int(SAMPLE_SECONDS / case.seconds)))
    started = time.perf_counter()
    rounds = 0
    while rounds < 3 or time.perf_counter() - started < seconds:
        for case in cases:
            case.sample()
        rounds += 1


def cliff(series: str, cases: list[Case], index: int) -> float:
    """Return how far a case lies below its worse neighbour, as a share; 0 where it does not."""
    case = cases[index]
    shares = [0.0]
    for other in (index - 1, index + 1):
        if not 0 <= other < len(cases):
            continue
        neighbour = cases[other]
        if series.startswith(GROWING) and neighbour.flops > case.flops:
            shares.append(1 - neighbour.seconds / case.seconds)
        else:
            shares.append(1 - (case.flops / case.seconds) / (neighbour.flops / neighbour.seconds))
    return max(shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--level", choices=["steps", "kernels", "both"], default="both")
    parser.add_argument("--series", nargs="+", default=[""], help="those that contain one of these")
    add_dtypes_argument(parser)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0, help="per series")
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    _core.set_num_threads(options.threads)
    makers = {"steps": [training_series], "kernels": [kernel_series]}
    makers["both"] = makers["steps"] + makers["kernels"]
    rows = []
    for dtype in options.dtypes:
        for maker in makers[options.level]:
            for series, makes in maker(dtype):
                if not any(part in series for part in options.series):
                    continue
                cases = [make() for make in makes]
                measure(cases, options.seconds)
                for index, case in enumerate(cases):
                    below = cliff(series, cases, index)
                    rows.append(
                        {
                            "case": f"shapes/{series} {case.name}/{dtype}",
                            "unit": "Gelement/s" if series.endswith("columns") else "GFLOP/s",
                            "rate": case.flops / case.seconds / 1e9,
                            "milliseconds": case.seconds * 1e3,
                            "below_neighbour_share": below,
                            "flag": "CLIFF" if below > CLIFF else "",
                            **identity(options.threads),
                        }
                    )
    columns = {
        "case": "case",
        "unit": "unit",
        "rate": "rate",
        "milliseconds": "ms",
        "below_neighbour_share": "below neighbour",
        "flag": "",
    }
    print_table(rows, columns)
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
