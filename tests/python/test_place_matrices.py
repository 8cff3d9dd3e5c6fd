"""Matrices in one buffer, for inference: the same results, from fewer bytes."""

from __future__ import annotations

import numpy as np
import pytest

from tempra import _core
from tempra.models import GenerationOptions, Transformer, TransformerConfig, generate_tokens
from tempra.models.transformer_config import Family

OPTIONS = GenerationOptions(max_tokens=12, temperature=0.8, seed=3)


def build(family: Family, dtype: str) -> Transformer:
    config = TransformerConfig.for_family(
        family, vocab_size=65, width=48, layers=2, heads=4, context=32, dtype=dtype
    )
    return Transformer(config, seed=5)


def logits(model: Transformer) -> bytes:
    with _core.no_grad():
        found = model(
            *(
                _core.from_numpy(np.asarray(values, dtype=np.int32))
                for values in (range(7, 27), (0, 20), range(20))
            )
        )
    return bytes(found.to("f32").numpy().tobytes())


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_results_are_the_same_bits(family: Family, dtype: str) -> None:
    model = build(family, dtype)
    before, tokens = logits(model), list(generate_tokens(model, [1, 2, 3], OPTIONS))
    model.place_matrices(model.dtype)
    assert {str(each.dtype) for each in model.parameters() if len(each.shape) == 2} == {
        str(_core.DType(dtype))
    }
    assert logits(model) == before
    assert list(generate_tokens(model, [1, 2, 3], OPTIONS)) == tokens


def test_shared_matrices_stay_shared_and_neighbours_touch() -> None:
    model = build("gpt2", "f32")
    names = [name for name, _ in model.named_parameters()]
    model.place_matrices(model.dtype)
    assert [name for name, _ in model.named_parameters()] == names
    assert hash(model.head_weight) == hash(model.token_embedding.weight)
    end = None
    for name, parameter in model.named_parameters():
        if len(parameter.shape) != 2:
            continue
        assert not parameter.requires_grad, name
        start = parameter.numpy().__array_interface__["data"][0]
        assert end in (None, start), name
        end = start + parameter.nbytes
