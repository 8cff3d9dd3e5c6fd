"""Names, layout and config.json of Hugging Face's GPT2LMHeadModel and LlamaForCausalLM.

Only facts about files are here: the transformers package is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tempra import _core
from tempra._core import CheckpointError, FormatError, Tensor, no_grad
from tempra.models.transformer_config import TransformerConfig

# Ours, theirs; {} is the layer.
_LLAMA_LAYER = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention.qkv.q_weight": "self_attn.q_proj.weight",
    "attention.qkv.k_weight": "self_attn.k_proj.weight",
    "attention.qkv.v_weight": "self_attn.v_proj.weight",
    "attention.output.weight": "self_attn.o_proj.weight",
    "feed_forward_norm.weight": "post_attention_layernorm.weight",
    "feed_forward.gate_up.gate_weight": "mlp.gate_proj.weight",
    "feed_forward.gate_up.up_weight": "mlp.up_proj.weight",
    "feed_forward.down.weight": "mlp.down_proj.weight",
}
_LLAMA = {
    "token_embedding.weight": "model.embed_tokens.weight",
    "final_norm.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
}
_GPT2 = {
    "token_embedding.weight": "transformer.wte.weight",
    "position_embedding.weight": "transformer.wpe.weight",
    "final_norm.weight": "transformer.ln_f.weight",
    "final_norm.bias": "transformer.ln_f.bias",
    "head.weight": "lm_head.weight",
}
# GPT-2's linear weights are stored [in, out] there, [out, in] here.
_GPT2_MATRICES = {
    "attention.output": "attn.c_proj",
    "feed_forward.up": "mlp.c_fc",
    "feed_forward.down": "mlp.c_proj",
}
_GPT2_VECTORS = {
    "attention_norm.weight": "ln_1.weight",
    "attention_norm.bias": "ln_1.bias",
    "attention.output.bias": "attn.c_proj.bias",
    "feed_forward_norm.weight": "ln_2.weight",
    "feed_forward_norm.bias": "ln_2.bias",
    "feed_forward.up.bias": "mlp.c_fc.bias",
    "feed_forward.down.bias": "mlp.c_proj.bias",
}
_QKV = ("q", "k", "v")


def config_to_json(config: TransformerConfig) -> dict[str, Any]:
    """Return config.json; `tempra` inside it holds what Hugging Face has no field for."""
    own = {"dtype": config.dtype, "bias": config.bias}
    if config.family == "gpt2":
        return {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "activation_function": "gelu_new",
            "vocab_size": config.vocab_size,
            "n_positions": config.context,
            "n_embd": config.width,
            "n_layer": config.layers,
            "n_head": config.heads,
            "n_inner": config.feed_forward,
            "layer_norm_epsilon": config.norm_epsilon,
            "resid_pdrop": config.dropout,
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
            "tie_word_embeddings": config.tie_embeddings,
            "torch_dtype": "float32",
            "tempra": own,
        }
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context,
        "hidden_size": config.width,
        "intermediate_size": config.feed_forward,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": "float32",
        "tempra": {**own, "dropout": config.dropout},
    }


def config_from_json(values: Mapping[str, Any]) -> TransformerConfig:
    """Return the configuration that config.json describes; FormatError names what does not fit."""
    kind = values.get("model_type")
    own = values.get("tempra", {})
    try:
        if kind == "gpt2":
            width = values["n_embd"]
            return TransformerConfig(
                family="gpt2",
                vocab_size=values["vocab_size"],
                width=width,
                layers=values["n_layer"],
                heads=values["n_head"],
                kv_heads=values["n_head"],
                context=values["n_positions"],
                feed_forward=values.get("n_inner") or 4 * width,
                tie_embeddings=values.get("tie_word_embeddings", True),
                bias=own.get("bias", True),
                dropout=float(values.get("resid_pdrop", 0.0)),
                norm_epsilon=values.get("layer_norm_epsilon", 1e-5),
                dtype=own.get("dtype", "f32"),
            )
        if kind == "llama":
            heads = values["num_attention_heads"]
            return TransformerConfig(
                family="llama",
                vocab_size=values["vocab_size"],
                width=values["hidden_size"],
                layers=values["num_hidden_layers"],
                heads=heads,
                kv_heads=values.get("num_key_value_heads", heads),
                context=values["max_position_embeddings"],
                feed_forward=values["intermediate_size"],
                tie_embeddings=values.get("tie_word_embeddings", False),
                bias=False,
                dropout=float(own.get("dropout", 0.0)),
                norm_epsilon=values.get("rms_norm_eps", 1e-6),
                rope_theta=float(values.get("rope_theta", 10000.0)),
                dtype=own.get("dtype", "f32"),
            )
    except KeyError as error:
        raise FormatError(f"config.json: the field {error} of a {kind} model is missing") from error
    except ValueError as error:
        raise FormatError(f"config.json: {error}") from error
    raise FormatError(f"config.json: model_type {kind!r} is not supported; gpt2 and llama are")


def tensors_to_hugging_face(
    config: TransformerConfig, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Rename, and for GPT-2 join q, k, v and transpose; needs every parameter by its own name."""
    if config.family == "llama":
        return {theirs: tensors[ours] for ours, theirs in _llama_names(config).items()}
    result = {theirs: tensors[ours] for ours, theirs in _gpt2_names(config).items()}
    with no_grad():
        for layer in range(config.layers):
            ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
            weights = [tensors[f"{ours}.attention.qkv.{part}_weight"] for part in _QKV]
            result[f"{theirs}.attn.c_attn.weight"] = _core.concatenate(weights).T.contiguous()
            for name, their_name in _GPT2_MATRICES.items():
                result[f"{theirs}.{their_name}.weight"] = tensors[
                    f"{ours}.{name}.weight"
                ].T.contiguous()
            if config.bias:
                biases = [tensors[f"{ours}.attention.qkv.{part}_bias"] for part in _QKV]
                result[f"{theirs}.attn.c_attn.bias"] = _core.concatenate(biases)
        for name, shape in _absent_biases(config).items():
            result[name] = _core.zeros(shape)
    return result


def tensors_from_hugging_face(
    config: TransformerConfig, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Invert `tensors_to_hugging_face`; CheckpointError names missing, extra or unlike tensors."""
    left = dict(tensors)

    def take(name: str) -> Tensor:
        if name not in left:
            raise CheckpointError(f"weights: {name} is missing")
        return left.pop(name)

    if config.family == "llama":
        result = {ours: take(theirs) for ours, theirs in _llama_names(config).items()}
    else:
        result = {ours: take(theirs) for ours, theirs in _gpt2_names(config).items()}
        with no_grad():
            for layer in range(config.layers):
                _take_gpt2_layer(config, layer, take, result)
            for name in _absent_biases(config):
                if float(_core.absolute(take(name)).max().item()) != 0.0:
                    raise CheckpointError(f"weights: {name} is not zero, but the model has no bias")
    for name in [name for name in left if name.endswith((".attn.bias", ".attn.masked_bias"))]:
        del left[name]  # masks that old files carry along
    if config.tie_embeddings:
        left.pop("lm_head.weight", None)
    if left:
        raise CheckpointError(f"weights: {', '.join(sorted(left)[:8])}: not part of the model")
    return result


def _take_gpt2_layer(
    config: TransformerConfig, layer: int, take: Any, result: dict[str, Tensor]
) -> None:
    ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
    joined = take(f"{theirs}.attn.c_attn.weight")
    if tuple(joined.shape) != (config.width, 3 * config.width):
        raise CheckpointError(
            f"weights: {theirs}.attn.c_attn.weight has shape {joined.shape}, "
            f"needs {(config.width, 3 * config.width)}"
        )
    for part, weight in zip(_QKV, _core.split(joined.T, [config.width] * 3), strict=True):
        result[f"{ours}.attention.qkv.{part}_weight"] = weight.contiguous()
    for name, their_name in _GPT2_MATRICES.items():
        result[f"{ours}.{name}.weight"] = take(f"{theirs}.{their_name}.weight").T.contiguous()
    if config.bias:
        bias = take(f"{theirs}.attn.c_attn.bias")
        for part, piece in zip(_QKV, _core.split(bias, [config.width] * 3), strict=True):
            result[f"{ours}.attention.qkv.{part}_bias"] = piece.contiguous()


def _llama_names(config: TransformerConfig) -> dict[str, str]:
    names = {ours: theirs for ours, theirs in _LLAMA.items() if _has(config, ours)}
    for layer in range(config.layers):
        for ours, theirs in _LLAMA_LAYER.items():
            names[f"blocks.{layer}.{ours}"] = f"model.layers.{layer}.{theirs}"
    return names


def _gpt2_names(config: TransformerConfig) -> dict[str, str]:
    """Of the parameters that are stored as they are."""
    names = {ours: theirs for ours, theirs in _GPT2.items() if _has(config, ours)}
    for layer in range(config.layers):
        for ours, theirs in _GPT2_VECTORS.items():
            if _has(config, ours):
                names[f"blocks.{layer}.{ours}"] = f"transformer.h.{layer}.{theirs}"
    return names


def _has(config: TransformerConfig, name: str) -> bool:
    if name == "head.weight":
        return not config.tie_embeddings
    return config.bias or not name.endswith("bias")


def _absent_biases(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Biases that the other side expects of a model trained without any: zeros."""
    if config.bias:
        return {}
    width = config.width
    shapes: dict[str, tuple[int, ...]] = {"transformer.ln_f.bias": (width,)}
    for layer in range(config.layers):
        prefix = f"transformer.h.{layer}"
        for name in _GPT2_VECTORS.values():
            if name.endswith("bias"):
                wide = name == "mlp.c_fc.bias"
                shapes[f"{prefix}.{name}"] = (config.feed_forward if wide else width,)
        shapes[f"{prefix}.attn.c_attn.bias"] = (3 * width,)
    return shapes
