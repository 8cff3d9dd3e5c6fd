"""Decoding with a cache: the bits of the operations one by one, whatever the threads."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import tempra
from tempra import _core
from tempra.models import KeyValueCache, Transformer, TransformerConfig

every_family = pytest.mark.parametrize("family", ["llama", "gpt2"])
every_dtype = pytest.mark.parametrize("dtype", ["f32", "bf16"])


def model_of(family: str, dtype: str, *, placed: bool = True) -> Transformer:
    config = TransformerConfig.for_family(
        family,
        vocab_size=97,
        width=96,
        layers=3,
        heads=6,
        kv_heads=3 if family == "llama" else 6,
        context=300,
        feed_forward=136,
        dtype=dtype,
    )
    model = Transformer(config, seed=5)
    model.eval()
    if placed:
        model.place_matrices(model.dtype)
    return model


def positions_of(start: int, count: int) -> tempra.Tensor:
    return _core.from_numpy(np.arange(start, start + count, dtype=np.int32))


def values_of(x: tempra.Tensor) -> NDArray[np.float32]:
    return x.to("f32").numpy()


def logits_of_each(model: Transformer, tokens: list[int]) -> NDArray[np.float32]:
    cache = KeyValueCache(model)
    return np.stack([cache.next_logits([token]) for token in tokens])


@every_family
@every_dtype
@pytest.mark.parametrize("count", [1, 4, 60])
def test_a_first_pass_is_the_blocks_to_the_bit(family: str, dtype: str, count: int) -> None:
    model = model_of(family, dtype)
    x = _core.normal((count, 96), generator=_core.Generator(1)).to(dtype)
    offsets = _core.from_numpy(np.asarray([0, count], dtype=np.int32))
    with tempra.no_grad():
        expected = x
        for block in model.blocks:
            expected = block(expected, offsets, positions_of(0, count))
    found = KeyValueCache(model).run(x)
    np.testing.assert_array_equal(values_of(found), values_of(expected))


@every_family
@every_dtype
def test_next_logits_are_those_of_the_whole_sequence(family: str, dtype: str) -> None:
    model = model_of(family, dtype)
    tokens = [3, 1, 4, 1, 5, 9, 2, 6]
    with tempra.no_grad():
        whole = values_of(
            model(
                _core.from_numpy(np.asarray(tokens, dtype=np.int32)),
                _core.from_numpy(np.asarray([0, len(tokens)], dtype=np.int32)),
                positions_of(0, len(tokens)),
            )
        )
    cache = KeyValueCache(model)
    assert cache.next_logits(tokens[:3]).dtype == np.float32
    found = np.stack([cache.next_logits([token]) for token in tokens[3:]])
    # In bf16 each layer rounds its activations, of up to about 2, to 8 bits, after sums that a
    # cache takes in another order.
    np.testing.assert_allclose(found, whole[3:], atol=1e-5 if dtype == "f32" else 1e-2)


@every_family
@every_dtype
def test_logits_do_not_depend_on_threads(family: str, dtype: str) -> None:
    model = model_of(family, dtype)
    tokens = [int(token) for token in np.random.default_rng(0).integers(0, 97, 270)]
    before = tempra.get_num_threads()
    try:
        tempra.set_num_threads(1)
        alone = logits_of_each(model, tokens)
        for threads in (2, 3, 7):
            tempra.set_num_threads(threads)
            np.testing.assert_array_equal(logits_of_each(model, tokens), alone)
    finally:
        tempra.set_num_threads(before)


@every_family
def test_matrices_that_lie_apart_give_the_same_bits(family: str) -> None:
    tokens = [1, 2, 3, 4]
    together = logits_of_each(model_of(family, "f32"), tokens)
    apart = logits_of_each(model_of(family, "f32", placed=False), tokens)
    np.testing.assert_array_equal(apart, together)


def test_passes_of_different_lengths_share_a_cache() -> None:
    model = model_of("llama", "bf16")
    tokens = list(range(1, 41))
    one = KeyValueCache(model)
    for token in tokens[:-1]:
        one.next_logits([token])
    mixed = KeyValueCache(model)
    for start, stop in ((0, 7), (7, 8), (8, 30), (30, 38), (38, 39)):
        mixed.next_logits(tokens[start:stop])
    assert one.length == mixed.length == 39
    np.testing.assert_allclose(
        mixed.next_logits(tokens[-1:]), one.next_logits(tokens[-1:]), atol=1e-2
    )


def test_what_does_not_fit_is_named() -> None:
    model = model_of("gpt2", "f32")
    cache = KeyValueCache(model, capacity=301)
    with pytest.raises(tempra.ShapeError, match=r"index is outside \[0, 97\)"):
        cache.next_logits([97])
    with pytest.raises(tempra.ShapeError, match=r"x has shape \[1, 95\]; needs \[tokens, 96\]"):
        cache.run(_core.zeros((1, 95)))
    with pytest.raises(tempra.ShapeError, match=r"needs \[tokens\]"):
        cache.next_logits([])
    cache.next_logits([1] * 300)
    with pytest.raises(tempra.ShapeError, match=r"index is outside \[0, 300\)"):
        cache.next_logits([1])
    assert cache.length == 300
    turned = KeyValueCache(model_of("llama", "f32"), capacity=301)
    with pytest.raises(tempra.ShapeError, match="position 300 is outside the rotary tables' 300"):
        turned.run(_core.zeros((301, 96)))


def test_parameters_of_the_wrong_shape_or_dtype_are_named() -> None:
    model = model_of("llama", "f32")
    blocks, ends = model.decoder_blocks(), model.decoder_ends()
    with pytest.raises(
        tempra.DtypeError, match="block 0 has attention weights of dtype f32 for activations of f64"
    ):
        _core.Decoder(blocks, 4, "f64", ends)
    other = TransformerConfig.for_family(
        "llama", vocab_size=97, width=64, layers=1, heads=4, kv_heads=2, context=8
    )
    with pytest.raises(tempra.ShapeError, match=r"a token embedding of shape \[97, 64\]; needs"):
        _core.Decoder(blocks, 4, "f32", Transformer(other, seed=0).decoder_ends())
    with pytest.raises(tempra.ShapeError, match="block 3 has width 64, the first 96"):
        _core.Decoder(blocks + Transformer(other, seed=0).decoder_blocks(), 4, "f32", ends)
