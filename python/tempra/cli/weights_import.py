"""What `tempra data import-weights` does: sizes from options, and what to do with the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tempra._core import ConfigError, FormatError
from tempra.data.tokenizer import load_tokenizer
from tempra.models import TransformerConfig
from tempra.models.abi_layout import abi_parameter_count
from tempra.train.abi_import import count_abi_weights, import_abi_model


def import_weights(
    source: Path,
    destination: Path,
    tokenizer: Path | None,
    vocab_size: int | None,
    tie_embeddings: bool | None,
    sizes: dict[str, Any],
) -> list[str]:
    """Import a model; return what was done and what can be done next."""
    if not source.is_file():
        raise FormatError(f"{source}: no such file")
    loaded = load_tokenizer(tokenizer) if tokenizer is not None else None
    if vocab_size is None:
        if loaded is None:
            raise ConfigError("--vocab-size: needed where no --tokenizer says it")
        vocab_size = loaded.vocab_size
    config = _config(source, {**sizes, "vocab_size": vocab_size}, tie_embeddings)
    model = import_abi_model(source, destination, config, loaded)
    tied = "the embedding is also the output" if config.tie_embeddings else "an output of its own"
    lines = [
        f"{destination}: wrote {len(model.weights)} tensors, "
        f"{abi_parameter_count(config):,} weights; {tied}"
    ]
    if not model.all_finite():
        lines.append("some weights are NaN or infinite")
    if model.first_moments is not None:
        lines.append("Adam's moments were left out: training starts with fresh ones")
    if loaded is None:
        lines.append("without a tokenizer: it cannot write text; --tokenizer adds one")
    else:
        lines.append(f"let it write with: tempra generate --checkpoint {destination}")
    lines.append(
        f"train it with: tempra train run train.init_from={destination} {_options(config)}"
    )
    return lines


def _config(source: Path, sizes: dict[str, Any], tie_embeddings: bool | None) -> TransformerConfig:
    try:
        tied = TransformerConfig.for_family("llama", **sizes, tie_embeddings=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        option = f"--{place.replace('_', '-')}: " if place else ""
        message = str(first["msg"]).removeprefix("Value error, ")
        got = f"got {first['input']!r}: " if place else ""
        raise ConfigError(f"{option}{got}{message}") from None
    untied = tied.model_copy(update={"tie_embeddings": False})
    if tie_embeddings is None:
        return untied if count_abi_weights(source) == abi_parameter_count(untied) else tied
    return tied if tie_embeddings else untied


def _options(config: TransformerConfig) -> str:
    names = ("family", "width", "layers", "heads", "kv_heads", "feed_forward", "context",
             "norm_epsilon", "rope_theta", "tie_embeddings")  # fmt: skip
    values = (str(getattr(config, name)) for name in names)
    return " ".join(
        f"model.{name}={value.lower()}" for name, value in zip(names, values, strict=True)
    )
