"""A trained model with its tokenizer, from a run, a checkpoint or a Hugging Face folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tempra import _core
from tempra._core import CheckpointError
from tempra.checkpoint import load_checkpoint
from tempra.checkpoint.load import load_weights
from tempra.data.chat_template import ChatTemplate, load_saved_template
from tempra.data.tokenizer import Tokenizer, load_tokenizer
from tempra.models import Transformer
from tempra.models.hugging_face import config_from_json
from tempra.train.train_state import load_weights_into


@dataclass(frozen=True)
class TrainedModel:
    """A model ready to write or to be measured; `notes` says what the loader passed over."""

    model: Transformer
    tokenizer: Tokenizer
    path: Path
    notes: tuple[str, ...] = ()

    def template(self) -> ChatTemplate | None:
        """Load the template of the conversations it was trained on; None for plain text."""
        return load_saved_template(self.path)


def load_trained_model(path: str | os.PathLike[str], *, device: str = "cpu") -> TrainedModel:
    """Load the newest good checkpoint of a run, one checkpoint, or a Hugging Face folder.

    Raises CheckpointError where the tokenizer does not fit the model, DeviceError where the device
    cannot be used.
    """
    _core.check_device(device)
    folder = Path(path)
    plain = (folder / "model.safetensors").is_file() and not (folder / "manifest.json").exists()
    notes: tuple[str, ...] = ()
    if plain:
        tensors, values = load_weights(folder)
    else:
        checkpoint = load_checkpoint(folder)
        tensors, values = checkpoint.model, checkpoint.model_config
        notes = tuple(checkpoint.notes)
        folder = checkpoint.path or folder
    tokenizer = load_tokenizer(folder)
    config = config_from_json(values)
    if device == "cpu" and config.dtype == "f16":
        config = config.model_copy(update={"dtype": "f32"})  # the CPU has no kernels for f16
    model = Transformer(config, initialize=False)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise CheckpointError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model only "
            f"{model.config.vocab_size}; they do not belong together"
        )
    model.to(device)
    model.place_matrices(model.dtype)
    load_weights_into(model, model.from_hugging_face(tensors))
    model.eval()
    return TrainedModel(model, tokenizer, folder, notes)
