"""Whole training steps: loss traces of small models equal PyTorch's; one batch is learned."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tempra import _core
from tempra.models import Transformer, TransformerConfig
from tempra.optim.adamw import AdamW

STEPS, ROWS, BLOCK, VOCABULARY = 20, 4, 24, 67
# Relative; the loss of a step is a mean over 96 tokens, and errors grow with the steps taken.
TOLERANCE = {"f32": 1e-5, "bf16": 1e-2}


def small_config(family: str, dtype: str) -> TransformerConfig:
    options = {"vocab_size": VOCABULARY, "width": 48, "layers": 2, "context": BLOCK, "dtype": dtype}
    if family == "gpt2":
        return TransformerConfig.for_family("gpt2", heads=4, **options)
    return TransformerConfig.for_family("llama", heads=6, kv_heads=2, **options)


def batches(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [
        random.integers(0, VOCABULARY, (ROWS, BLOCK + 1)).astype(np.int32) for _ in range(count)
    ]


def as_batch(data: np.ndarray) -> SimpleNamespace:
    rows, length = data.shape
    return SimpleNamespace(
        tokens=data[:, :-1].reshape(-1).copy(),
        labels=data[:, 1:].reshape(-1).copy(),
        offsets=np.arange(rows + 1, dtype=np.int32) * np.int32(length - 1),
        positions=np.tile(np.arange(length - 1, dtype=np.int32), rows),
    )


def train(model: Transformer, data: list[np.ndarray], lr: float = 3e-3) -> list[float]:
    optimizer = AdamW(
        model.named_parameters(),
        betas=(0.9, 0.95),
        weight_decay=0.1,
    )
    losses = []
    for step in data:
        count = step[:, 1:].size
        optimizer.zero_gradients()
        loss = model.loss(as_batch(step))
        loss.backward()
        optimizer.step(learning_rate=lr, gradient_scale=1 / count, max_gradient_norm=1.0)
        losses.append(loss.item() / count)
    return losses


def torch_trace(model: Transformer, data: list[np.ndarray], lr: float = 3e-3) -> list[float]:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from torch_transformer import torch_loss, torch_parameters

    parameters = torch_parameters(model)
    matrices = [p for p in parameters.values() if p.dim() >= 2]
    vectors = [p for p in parameters.values() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))
    losses = []
    for step in data:
        tokens = torch.from_numpy(step[:, :-1].copy()).long()
        labels = torch.from_numpy(step[:, 1:].copy()).long()
        optimizer.zero_grad()
        loss = torch_loss(model.config, parameters, tokens, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.torch
@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_loss_trace_equals_pytorch(family: str, dtype: str) -> None:
    model = Transformer(small_config(family, dtype), seed=3)
    data = batches(STEPS)
    expected = torch_trace(model, data)  # f32: bf16 is held against the exact trace
    got = train(model, data)
    np.testing.assert_allclose(got, expected, rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_one_batch_is_learned_by_heart(family: str, dtype: str) -> None:
    model = Transformer(small_config(family, dtype), seed=3)
    losses = train(model, batches(1) * 150, lr=1e-2)
    assert losses[0] == pytest.approx(np.log(VOCABULARY), rel=0.05)
    # Every row starts with tokens that nothing predicts, so memorising is by position: near zero.
    assert losses[-1] < 0.05


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_trace_does_not_depend_on_the_number_of_threads(family: str) -> None:
    before = _core.get_num_threads()
    traces = []
    try:
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            traces.append(train(Transformer(small_config(family, "f32"), seed=3), batches(4)))
    finally:
        _core.set_num_threads(before)
    assert traces[0] == traces[1] == traces[2]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_recomputation_changes_no_bit(family: str) -> None:
    plain = Transformer(small_config(family, "f32"), seed=3)
    again = Transformer(small_config(family, "f32"), seed=3)
    again.recompute = True
    assert train(plain, batches(3)) == train(again, batches(3))
