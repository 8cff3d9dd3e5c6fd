"""What a checkpoint holds, and the names its files and folders have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from tempra._core import CheckpointError, Tensor

# Mypy has no finite recursive JSON type that callers can build without casts.
JsonValue: TypeAlias = Any

MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"
MODEL_CONFIG_FILE = "config.json"
RUN_CONFIG_FILE = "config.yaml"
MANIFEST_FILE = "manifest.json"
OWN_FILES = (
    MODEL_FILE,
    OPTIMIZER_FILE,
    STATE_FILE,
    MODEL_CONFIG_FILE,
    RUN_CONFIG_FILE,
    MANIFEST_FILE,
)

REPLACED_SUFFIX = ".replaced"
_STEP_FOLDER = re.compile(r"step-(\d{8,18})")
_TEMPORARY_FOLDER = re.compile(r"\.step-.*\.tmp-\d+")
_SAFE_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass
class Checkpoint:
    """Everything a run needs to continue: tensors by name, and state that JSON can hold."""

    step: int
    model: dict[str, Tensor]
    state: dict[str, JsonValue] = field(default_factory=dict)
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    model_config: dict[str, JsonValue] = field(default_factory=dict)
    run_config: str = ""
    tokenizer_files: dict[str, bytes] = field(default_factory=dict)
    path: Path | None = None
    notes: list[str] = field(default_factory=list)  # what the loader had to pass over, and why

    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return tensor_bytes(self.model) + tensor_bytes(self.optimizer)

    def snapshot(self) -> Checkpoint:
        """Return a copy that later training steps do not change, in host memory."""
        return Checkpoint(
            step=self.step,
            model={name: _host_copy(tensor) for name, tensor in self.model.items()},
            state=self.state,
            optimizer={name: _host_copy(tensor) for name, tensor in self.optimizer.items()},
            model_config=self.model_config,
            run_config=self.run_config,
            tokenizer_files=dict(self.tokenizer_files),
        )


def _host_copy(tensor: Tensor) -> Tensor:
    values = tensor.detach()
    return values.clone() if values.device == "cpu" else values.cpu()


def tensor_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the elements of all tensors."""
    return sum(tensor.nbytes for tensor in tensors.values())


def folder_name(step: int) -> str:
    """Name of the folder of a step: sorts by step as text up to 10^8 steps."""
    if step < 0:
        raise CheckpointError(f"checkpoint: step {step} is negative; steps count from 0")
    return f"step-{step:08d}"


def step_of_folder(name: str) -> int | None:
    """Step of a checkpoint folder, also of one moved aside by a replacement; None for others."""
    match = _STEP_FOLDER.fullmatch(name.removesuffix(REPLACED_SUFFIX))
    return int(match.group(1)) if match else None


def is_temporary_folder(name: str) -> bool:
    """Whether a name is that of a folder in the making or in deletion."""
    return _TEMPORARY_FOLDER.fullmatch(name) is not None


def is_safe_file_name(name: str) -> bool:
    """Whether a name stays inside its folder: no separators, no leading dot."""
    return _SAFE_FILE_NAME.fullmatch(name) is not None
