"""Kernels against the machine's limits: matrix rate for products, attention and the loss; copy
bandwidth for norms; for the optimizer the bandwidth of plain loops that read and write as it does.

    python benchmarks/kernels.py --dtypes f32 bf16

cpu/wall: the share of its threads' time that the process got. Where it is under 96 %, other work
had a processor: a product whose second processor is taken runs at half its rate.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness import add_dtypes_argument, append_rows, interleave, print_table
from tempra import _core
from tempra.benchmark.machine import identity
from tempra.benchmark.matrix_peak import measured_peak
from tempra.benchmark.reference_configs import REFERENCE_CONFIGS
from tempra.benchmark.samples import spread


@dataclass(frozen=True)
class Case:
    """One kernel call: what it computes (flops) or moves (bytes that must cross memory)."""

    name: str
    run: Callable[[], object]
    flops: float = 0.0
    bytes_moved: float = 0.0
    # Plain loops with this mix of reading and writing, in turns with it, and the bytes they move.
    same_mix: Callable[[], object] | None = None
    same_mix_bytes: float = 0.0


def _tensor(dtype: str, *shape: int) -> _core.Tensor:
    return _core.normal(shape).to(dtype)


def products(dtype: str) -> Iterator[Case]:
    """Forward, input gradient and weight gradient of the largest product of each config."""
    for name, reference in REFERENCE_CONFIGS.items():
        config = reference.transformer(dtype)
        rows = reference.batch * config.context
        x = _tensor(dtype, rows, config.width)
        weight = _tensor(dtype, config.feed_forward, config.width)
        grad = _tensor(dtype, rows, config.feed_forward)
        flops = 2.0 * rows * config.width * config.feed_forward
        yield Case(f"product/{name}/forward", lambda x=x, w=weight: _core.linear(x, w), flops)
        yield Case(f"product/{name}/input", lambda g=grad, w=weight: _core.matmul(g, w), flops)
        yield Case(f"product/{name}/weight", lambda g=grad, x=x: _core.matmul(g.T, x), flops)


def attention(dtype: str) -> Iterator[Case]:
    """Forward and backward of one layer, causal operations counted at half the square."""
    for name, reference in REFERENCE_CONFIGS.items():
        config = reference.transformer(dtype)
        rows, length = reference.batch, config.context
        qkv = _tensor(dtype, rows * length, 3 * config.width)
        offsets = _core.from_numpy(np.arange(rows + 1, dtype=np.int32) * np.int32(length))
        options = {"heads": config.heads, "kv_heads": config.heads, "head_dim": config.head_dim}
        forward = 2.0 * rows * length * length * config.width
        yield Case(
            f"attention/{name}/forward",
            lambda q=qkv, o=offsets, k=options: _core.attention_qkv(q, o, **k),
            forward,
        )
        leaf = qkv.detach().requires_grad_()
        grad = _tensor(dtype, rows * length, config.width)

        def both(leaf=leaf, grad=grad, offsets=offsets, options=options) -> None:
            _core.grad(_core.attention_qkv(leaf, offsets, **options), leaf, grad)

        yield Case(f"attention/{name}/both", both, 3.5 * forward)


def loss(dtype: str) -> Iterator[Case]:
    """Head projection with cross-entropy and its gradients."""
    for name in ("ref-mid", "ref-gpt2"):
        reference = REFERENCE_CONFIGS[name]
        config = reference.transformer(dtype)
        rows = reference.batch * config.context
        hidden = _tensor(dtype, rows, config.width).requires_grad_()
        weight = _tensor(dtype, config.vocab_size, config.width).requires_grad_()
        labels = _core.from_numpy(
            np.random.default_rng(0).integers(0, config.vocab_size, rows).astype(np.int32)
        )
        yield Case(
            f"loss/{name}",
            lambda h=hidden, w=weight, y=labels: _core.linear_cross_entropy(h, w, y),
            6.0 * rows * config.vocab_size * config.width,
        )


def norms(dtype: str) -> Iterator[Case]:
    """Tensors of 64 MB and more: each element is read once and written once."""
    element = 2 if dtype == "bf16" else 4
    x = _tensor(dtype, 32768, 1024)
    weight, bias = _core.ones((1024,)), _core.zeros((1024,))
    moved = 2.0 * x.numel() * element
    yield Case("layer_norm", lambda: _core.layer_norm(x, weight, bias), bytes_moved=moved)
    yield Case("rms_norm", lambda: _core.rms_norm(x, weight), bytes_moved=moved)
    yield Case("gelu_tanh", lambda: _core.gelu(x, approximate="tanh"), bytes_moved=moved)
    yield Case("add", lambda: x + x, bytes_moved=moved)


def optimizer(dtype: str) -> Iterator[Case]:
    """AdamW at 64 M parameters: 28 bytes each, 4 more where the norm is read, 2 for a bf16 copy.

    Of the 32, 20 are read and 12 written in place, as by two additions and one scaling in place.
    """
    count = 1 << 26
    parameter = _core.zeros((count // 1024, 1024)).requires_grad_()
    arena = _core.ParameterArena(
        [("weight", parameter)], low_precision="bf16" if dtype == "bf16" else None
    )
    arena.gradients.fill_(1e-3)
    update = _core.AdamW(arena, [{"weight_decay": 0.1}], [0], [False])
    per_parameter = 28 + 4 + (2 if dtype == "bf16" else 0)
    threads = _core.get_num_threads()
    pool = ThreadPoolExecutor(threads)
    values = np.array_split(np.ones(count, dtype=np.float32), threads)
    others = np.array_split(np.ones(count, dtype=np.float32), threads)

    def same_mix() -> None:
        one = np.float32(1.0)
        for _ in range(2):
            list(pool.map(lambda x, y: np.subtract(x, y, out=x), values, others))
        list(pool.map(lambda x: np.multiply(x, one, out=x), values))

    yield Case(
        "adamw",
        lambda: update.step(learning_rate=1e-3, gradient_scale=1.0, max_gradient_norm=1.0),
        bytes_moved=float(per_parameter * count),
        same_mix=same_mix,
        same_mix_bytes=32.0 * count,
    )


def copy_bandwidth() -> float:
    """Return bytes per second, read plus written, of copying 256 MB: the measured limit."""
    source = _core.zeros((1 << 26,))
    target = _core.zeros((1 << 26,))
    samples = interleave({"copy": lambda: target.copy_(source)}, seconds=1.0)["copy"]
    return 2.0 * source.nbytes / min(samples)


FAMILIES = {
    "product": products,
    "attention": attention,
    "loss": loss,
    "norm": norms,
    "optimizer": optimizer,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    add_dtypes_argument(parser)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0, help="per case")
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    _core.set_num_threads(options.threads)
    bandwidth = copy_bandwidth()
    rows = []
    for dtype in options.dtypes:
        peak = measured_peak(dtype, options.threads)
        for family in options.families:
            for case in FAMILIES[family](dtype):
                _core.reset_peak_memory()
                turns: dict[str, Callable[[], object]] = {"run": case.run}
                if case.same_mix is not None:
                    turns["same mix"] = case.same_mix
                began, processor_time = time.perf_counter(), time.process_time()
                samples = interleave(turns, seconds=options.seconds)
                share = time.process_time() - processor_time
                share /= (time.perf_counter() - began) * options.threads
                times = samples["run"]
                seconds = float(np.median(times))
                if case.same_mix is not None:
                    memory = case.same_mix_bytes / float(np.median(samples["same mix"]))
                else:
                    memory = bandwidth
                rate, limit = (
                    (case.flops / seconds, peak)
                    if case.flops
                    else (case.bytes_moved / seconds, memory)
                )
                rows.append(
                    {
                        "case": f"{case.name}/{dtype}",
                        "unit": "GFLOP/s" if case.flops else "GB/s",
                        "rate": rate / 1e9,
                        "limit": limit / 1e9,
                        "limit_share": rate / limit,
                        "milliseconds": seconds * 1e3,
                        "spread": spread(times),
                        "cpu_share": share,
                        "peak_bytes": _core.memory_statistics()["peak_bytes_in_use"],
                        **identity(options.threads),
                    }
                )
    columns = {
        "case": "case",
        "unit": "unit",
        "rate": "rate",
        "limit": "limit",
        "limit_share": "of limit",
        "milliseconds": "ms",
        "spread": "spread",
        "cpu_share": "cpu/wall",
        "peak_bytes": "peak MB",
    }
    print_table(rows, columns)
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
