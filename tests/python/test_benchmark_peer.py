"""The peer of the training benchmark computes what ours computes: same weights, same loss."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tempra.benchmark.reference_configs import LLAMA_CONFIGS, REFERENCE_CONFIGS, TrainingCase
from tempra.models import Transformer, TransformerConfig

TOKENS, ROWS = 24, 2


def tiny(family: str) -> TransformerConfig:
    sizes = {"vocab_size": 37, "width": 48, "layers": 2, "heads": 4, "context": TOKENS}
    if family == "llama":
        sizes["kv_heads"] = 2
    return TransformerConfig.for_family(family, **sizes)


def copy_into(peer, ours: Transformer) -> None:
    """Give the peer our parameters, under its names."""
    import torch

    values = {name: p.numpy() for name, p in ours.named_parameters()}
    joined = {
        ".attention.qkv.weight": [f".attention.qkv.{x}_weight" for x in "qkv"],
        ".attention.qkv.bias": [f".attention.qkv.{x}_bias" for x in "qkv"],
        ".gate_up.weight": [f".feed_forward.gate_up.{x}_weight" for x in ("gate", "up")],
        ".up.weight": [".feed_forward.up.weight"],
        ".up.bias": [".feed_forward.up.bias"],
        ".down.weight": [".feed_forward.down.weight"],
        ".down.bias": [".feed_forward.down.bias"],
    }
    for name, parameter in peer.named_parameters():
        end = next((e for e in joined if name.endswith(e)), None)
        if end is not None:
            parts = [values.pop(name.removesuffix(end) + part) for part in joined[end]]
        else:
            special = {"tokens.weight": "token_embedding.weight"}
            special["positions.weight"] = "position_embedding.weight"
            parts = [values.pop(special.get(name, name))]
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.concatenate(parts)))
    assert not values


@pytest.mark.torch
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_peer_is_the_same_model(family):
    torch = pytest.importorskip("torch")
    from tempra.benchmark.torch_trainer import Gpt, Llama

    config = tiny(family)
    ours = Transformer(config, seed=3)
    # Large enough that positions, grouping and activations matter for the loss.
    random = np.random.default_rng(0)
    for _, parameter in ours.named_parameters():
        values = parameter.numpy()
        values += random.normal(0, 0.3, values.shape).astype(np.float32)
    # What the worker gives it: the fields as they were written, without our class.
    fields = SimpleNamespace(**json.loads(TrainingCase("a", config, 1).to_json())["transformer"])
    peer = Gpt(fields) if family == "gpt2" else Llama(fields)
    copy_into(peer, ours)
    data = random.integers(0, config.vocab_size, (ROWS, TOKENS + 1)).astype(np.int32)
    tokens, labels = data[:, :-1].copy(), data[:, 1:].copy()
    batch = SimpleNamespace(
        tokens=tokens.reshape(-1),
        labels=labels.reshape(-1),
        offsets=np.arange(ROWS + 1, dtype=np.int32) * np.int32(TOKENS),
        positions=np.tile(np.arange(TOKENS, dtype=np.int32), ROWS),
    )
    expected = ours.loss(batch).item() / tokens.size
    actual = peer(torch.from_numpy(tokens).long(), torch.from_numpy(labels).long()).item()
    assert actual == pytest.approx(expected, rel=2e-5)


def test_llamas_have_the_sizes_of_their_counterparts_and_fewer_key_heads():
    for config in LLAMA_CONFIGS.values():
        llama, gpt = config.case("bf16"), REFERENCE_CONFIGS[config.counterpart].case("bf16")
        assert llama.batch == gpt.batch
        for name in ("width", "layers", "heads", "context", "vocab_size", "dtype"):
            assert getattr(llama.transformer, name) == getattr(gpt.transformer, name)
        assert llama.transformer.family == "llama"
        assert 1 <= llama.transformer.kv_heads < llama.transformer.heads
