"""The transformer: arithmetic about itself, files of others, packing, generation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tempra
from tempra import _core
from tempra.models import (
    PRESETS,
    GenerationOptions,
    KeyValueCache,
    Transformer,
    TransformerConfig,
    generate_tokens,
)
from tempra.models.generation import choose_token
from tempra.models.hugging_face import config_from_json


def config_of(family: str, **options: object) -> TransformerConfig:
    sizes = {"vocab_size": 61, "width": 32, "layers": 2, "heads": 4, "context": 20}
    if family == "llama":
        sizes["kv_heads"] = 2
    return TransformerConfig.for_family(family, **{**sizes, **options})


CONFIGS = [
    config_of("gpt2"),
    config_of("gpt2", bias=False),
    config_of("gpt2", tie_embeddings=False),
    config_of("llama"),
    config_of("llama", tie_embeddings=True, feed_forward=40),
]
CONFIG_NAMES = ["gpt2", "gpt2-no-bias", "gpt2-untied", "llama", "llama-tied"]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=CONFIG_NAMES)


def logits_of(model: Transformer, tokens: list[int], offsets: list[int]) -> np.ndarray:
    positions = np.concatenate(
        [np.arange(b - a, dtype=np.int32) for a, b in itertools.pairwise(offsets)]
    )
    with tempra.no_grad():
        return model(
            _core.from_numpy(np.asarray(tokens, dtype=np.int32)),
            _core.from_numpy(np.asarray(offsets, dtype=np.int32)),
            _core.from_numpy(positions),
        ).numpy()


@every_config
def test_parameter_count_is_what_the_model_has(config: TransformerConfig) -> None:
    assert Transformer(config).parameter_count() == config.parameter_count()


def test_known_counts() -> None:
    assert TransformerConfig.from_preset("gpt2", 50257).parameter_count() == 124_439_808
    nano = TransformerConfig.from_preset("ref-nano", 65)
    matrices = 4 * 12 * 128 * 128 + 65 * 128
    assert nano.flops_per_token() == 6 * matrices + 6 * 4 * 128 * 64
    small = TransformerConfig.from_preset("small", 8192, dtype="bf16")
    assert small.kv_cache_bytes() == 2 * 8 * 1024 * 4 * 64 * 2


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name: str) -> None:
    config = TransformerConfig.from_preset(name, 1000)
    assert config.family == "gpt2" or config.feed_forward % 64 == 0
    assert config.parameter_count() > 0


@every_config
def test_hugging_face_names_invert_bit_for_bit(config: TransformerConfig) -> None:
    model = Transformer(config, seed=7)
    theirs = model.to_hugging_face(model.state_dict())
    back = model.from_hugging_face(theirs)
    own = model.state_dict()
    assert list(back) == list(own) or set(back) == set(own)
    for name, tensor in own.items():
        assert tensor.numpy().tobytes() == back[name].numpy().tobytes(), name
    assert config_from_json(model.hugging_face_config()) == config


@every_config
def test_missing_and_foreign_weights_are_named(config: TransformerConfig) -> None:
    model = Transformer(config)
    theirs = model.to_hugging_face(model.state_dict())
    name = next(iter(theirs))
    lacking = {key: value for key, value in theirs.items() if key != name}
    with pytest.raises(tempra.CheckpointError, match=name):
        model.from_hugging_face(lacking)
    with pytest.raises(tempra.CheckpointError, match="foreign"):
        model.from_hugging_face({**theirs, "foreign.weight": _core.zeros((1,))})


@pytest.mark.torch
@pytest.mark.slow
@every_config
def test_transformers_reads_our_weights(config: TransformerConfig) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = Transformer(config, seed=7)
    values = {k: v for k, v in model.hugging_face_config().items() if k != "tempra"}
    kind = values.pop("model_type")
    their_config = transformers.AutoConfig.for_model(kind, **values)
    theirs = transformers.AutoModelForCausalLM.from_config(their_config).eval()
    state = {
        name: torch.from_numpy(tensor.numpy().copy())
        for name, tensor in model.to_hugging_face(model.state_dict()).items()
    }
    if config.tie_embeddings:
        first = "transformer.wte.weight" if kind == "gpt2" else "model.embed_tokens.weight"
        state["lm_head.weight"] = state[first]
    theirs.load_state_dict(state)
    tokens = [3, 1, 4, 1, 5, 9, 2, 6]
    with torch.no_grad():
        expected = theirs(torch.tensor([tokens])).logits[0].numpy()
    np.testing.assert_allclose(logits_of(model, tokens, [0, 8]), expected, atol=2e-5, rtol=1e-4)


@every_config
def test_packed_sequences_do_not_see_each_other(config: TransformerConfig) -> None:
    model = Transformer(config, seed=7)
    first, second = [3, 1, 4, 1, 5], [9, 2, 6]
    packed = logits_of(model, first + second, [0, 5, 8])
    np.testing.assert_allclose(packed[:5], logits_of(model, first, [0, 5]), atol=1e-6)
    np.testing.assert_allclose(packed[5:], logits_of(model, second, [0, 3]), atol=1e-6)


@every_config
def test_the_cache_gives_the_logits_of_the_whole_sequence(config: TransformerConfig) -> None:
    model = Transformer(config, seed=7)
    tokens = [3, 1, 4, 1, 5, 9, 2, 6]
    whole = logits_of(model, tokens, [0, 8])
    cache = KeyValueCache(model)
    parts = []
    with tempra.no_grad():
        for start, stop in ((0, 3), (3, 4), (4, 8)):
            count = stop - start
            parts.append(
                model(
                    _core.from_numpy(np.asarray(tokens[start:stop], dtype=np.int32)),
                    _core.from_numpy(np.asarray([0, count], dtype=np.int32)),
                    _core.from_numpy(np.arange(start, stop, dtype=np.int32)),
                    cache,
                ).numpy()
            )
    assert cache.length == 8
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


def test_the_cache_takes_no_more_than_it_holds() -> None:
    model = Transformer(config_of("gpt2"), seed=7)
    cache = KeyValueCache(model, capacity=4)
    x = _core.zeros((3, model.config.width))
    cache.run(x)
    with pytest.raises(tempra.ShapeError, match="3 tokens held and 3 to add exceed the 4"):
        cache.run(x)
    assert cache.length == 3
    cache.clear()
    assert (cache.length, cache.capacity) == (0, 4)
    with pytest.raises(tempra.DtypeError, match="decoder: x has dtype bf16, the cache f32"):
        cache.run(x.to("bf16"))


def test_the_cache_sees_parameters_change() -> None:
    model = Transformer(config_of("gpt2"), seed=7)
    cache = KeyValueCache(model)
    x = _core.ones((1, model.config.width))
    before = cache.run(x).numpy().copy()
    cache.clear()
    with tempra.no_grad():
        model.parameters()[-3].fill_(0.5)
    assert not np.array_equal(cache.run(x).numpy(), before)


def test_the_cache_sees_biases_change_that_it_holds_copies_of() -> None:
    model = Transformer(config_of("gpt2"), seed=7)
    model.place_matrices(model.dtype)  # q, k and v lie side by side, their biases do not
    cache, tokens = KeyValueCache(model), [1, 2, 3]
    before = cache.next_logits(tokens)
    cache.clear()
    bias = dict(model.named_parameters())["blocks.0.attention.qkv.q_bias"]
    with tempra.no_grad():
        bias.copy_(tempra.ones(bias.shape))
    after = cache.next_logits(tokens)
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(after, KeyValueCache(model).next_logits(tokens))


@every_config
def test_generation_goes_past_the_context_and_repeats(config: TransformerConfig) -> None:
    model = Transformer(config, seed=7)
    options = GenerationOptions(max_tokens=50, seed=4)
    first = list(generate_tokens(model, [1, 2, 3], options))
    assert len(first) == 50
    assert all(0 <= token < config.vocab_size for token in first)
    assert first == list(generate_tokens(model, [1, 2, 3], options))
    assert first != list(
        generate_tokens(model, [1, 2, 3], GenerationOptions(max_tokens=50, seed=5))
    )


def test_generation_stops_at_the_end_token_and_does_not_show_it() -> None:
    model = Transformer(config_of("gpt2"), seed=7)
    free = list(generate_tokens(model, [1], GenerationOptions(max_tokens=40, seed=1)))
    end = free[10]
    cut = list(generate_tokens(model, [1], GenerationOptions(max_tokens=40, seed=1, end_token=end)))
    assert cut == free[: free.index(end)]


def test_bad_prompts_and_options_are_refused() -> None:
    model = Transformer(config_of("gpt2"))
    with pytest.raises(tempra.ShapeError, match="no tokens"):
        list(generate_tokens(model, []))
    with pytest.raises(tempra.ShapeError, match="token 61"):
        list(generate_tokens(model, [61]))
    for name, value in {
        "temperature": -1.0,
        "top_p": 0.0,
        "top_k": -1,
        "repetition_penalty": 0.5,
        "max_tokens": -1,
    }.items():
        with pytest.raises(tempra.ConfigError, match=name):
            GenerationOptions(**{name: value})


def drawn(logits: list[float], seen: list[int], **options: float) -> np.ndarray:
    """Return how often each token is chosen."""
    generator = np.random.Generator(np.random.Philox(1))
    chosen = GenerationOptions(**options)
    values = np.asarray(logits, dtype=np.float32)
    tokens = [choose_token(values, seen, chosen, generator) for _ in range(4000)]
    return np.bincount(tokens, minlength=len(logits)) / 4000


def test_sampling_follows_the_probabilities() -> None:
    logits = [0.0, 1.0, 2.0, -1.0]
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(drawn(logits, []), expected, atol=0.03)


def test_temperature_zero_is_greedy_and_top_k_and_top_p_cut() -> None:
    logits = [0.0, 1.0, 2.0, -1.0]
    assert drawn(logits, [], temperature=0.0)[2] == 1.0
    assert (drawn(logits, [], top_k=2)[[0, 3]] == 0.0).all()
    assert (drawn(logits, [], top_p=0.7)[[0, 3]] == 0.0).all()
    assert drawn(logits, [], top_p=0.5)[2] == 1.0


@pytest.mark.parametrize("logits", [[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize("seen", [[0], [1], [2]])
def test_a_repetition_penalty_always_lowers_the_chance(
    logits: list[float], seen: list[int]
) -> None:
    token = seen[0]
    without = drawn(logits, seen)[token]
    with_penalty = drawn(logits, seen, repetition_penalty=2.0)[token]
    assert with_penalty < without
