"""Models of the ABI program as models of this one: flat arrays in, a Hugging Face folder out.

The flat arrays come from an ABIC or ABLC checkpoint, or from a WDBX container whose record 0 has
all weights as its vector. None of them says the model's sizes: they must be given.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tempra import _core
from tempra._core import FormatError
from tempra.checkpoint.contents import MODEL_CONFIG_FILE, MODEL_FILE
from tempra.data.abi_checkpoint import read_abi_checkpoint
from tempra.data.tokenizer import Tokenizer, save_tokenizer
from tempra.data.wdbx import read_wdbx_records
from tempra.models.abi_layout import Floats, check_abi_count, named_weights
from tempra.models.hugging_face import config_to_json
from tempra.models.transformer_config import TransformerConfig

NamedFloats = dict[str, Floats]


@dataclass(frozen=True)
class AbiModel:
    """A model's arrays by Hugging Face's names: read-only, unaligned views of the mapped file."""

    config: TransformerConfig
    weights: NamedFloats
    step: int | None = None
    first_moments: NamedFloats | None = None
    second_moments: NamedFloats | None = None

    def all_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return all(bool(np.isfinite(array).all()) for array in self.weights.values())


@dataclass(frozen=True)
class _FlatModel:
    weights: Floats
    step: int | None = None
    first_moments: Floats | None = None
    second_moments: Floats | None = None


def read_abi_model(path: str | os.PathLike[str], config: TransformerConfig) -> AbiModel:
    """Read the weights, and the Adam moments of an ABLC file, of a model of these sizes.

    Raises `FormatError` (ConfigMismatch) where the file has another number of them.
    """
    flat = _read_flat(path)
    try:
        return AbiModel(
            config,
            named_weights(config, flat.weights),
            flat.step,
            _named_moments(config, flat.first_moments, "first moments"),
            _named_moments(config, flat.second_moments, "second moments"),
        )
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None


def count_abi_weights(path: str | os.PathLike[str]) -> int:
    """Return how many weights a file holds."""
    return _read_flat(path).weights.size


def import_abi_model(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    config: TransformerConfig,
    tokenizer: Tokenizer | None = None,
) -> AbiModel:
    """Write a folder with model.safetensors and config.json, whole or not at all; return the model.

    The folder is what `train.init_from`, and with a tokenizer `tempra generate`, take. A
    `FileExistsError` where there is something already. Moments are not written: they are of no use
    without the optimizer's settings, which the files do not have.
    """
    final = Path(destination)
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise FileExistsError(f"{final}: exists already")
    if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
        raise FormatError(
            f"tokenizer: has {tokenizer.vocab_size} tokens, the model only {config.vocab_size}; "
            "they do not belong together"
        )
    model = read_abi_model(source, config)
    _core.make_directories(str(final.absolute().parent))
    temporary = final.absolute().with_name(f".{final.absolute().name}.tmp-{os.getpid()}")
    try:
        _core.make_directories(str(temporary))
        _write(temporary, model, tokenizer)
        _core.publish_directory(str(temporary), str(final.absolute()))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return model


def _write(folder: Path, model: AbiModel, tokenizer: Tokenizer | None) -> None:
    # Copied, because the file's numbers are not aligned.
    tensors = {name: _core.from_numpy(np.array(array)) for name, array in model.weights.items()}
    _core.write_safetensors(str(folder / MODEL_FILE), tensors, {"format": "pt"})
    config = json.dumps(config_to_json(model.config), indent=1) + "\n"
    _core.write_file_atomic(str(folder / MODEL_CONFIG_FILE), config.encode())
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder)


def _read_flat(path: str | os.PathLike[str]) -> _FlatModel:
    with Path(path).open("rb") as file:
        beginning = file.read(4)
    if beginning == b"WDBX":
        return _read_container(path)
    found = read_abi_checkpoint(path)
    return _FlatModel(found.weights, found.step, found.first_moments, found.second_moments)


def _read_container(path: str | os.PathLike[str]) -> _FlatModel:
    for number, vector, metadata in read_wdbx_records(path):
        if number == 0 and not metadata.startswith(b"WDTK"):
            return _FlatModel(vector)
    raise FormatError(f"{path}: holds no weights: no record 0 that is not a block of tokens")


def _named_moments(config: TransformerConfig, flat: Floats | None, what: str) -> NamedFloats | None:
    if flat is None:
        return None
    check_abi_count(config, flat.size, what)
    return named_weights(config, flat)
