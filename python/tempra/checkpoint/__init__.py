"""Checkpoints: folders of weights, optimizer state and JSON that survive a crash at any moment."""

from tempra.checkpoint.contents import Checkpoint, JsonValue
from tempra.checkpoint.load import find_checkpoints, load_checkpoint, load_weights
from tempra.checkpoint.manifest import verify_folder
from tempra.checkpoint.save import save_checkpoint
from tempra.checkpoint.store import CheckpointStore

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "JsonValue",
    "find_checkpoints",
    "load_checkpoint",
    "load_weights",
    "save_checkpoint",
    "verify_folder",
]
