"""Reading a checkpoint back: verified first, with a fall back to the newest good one."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tempra import _core
from tempra._core import CheckpointError, Tensor
from tempra.checkpoint.contents import (
    MANIFEST_FILE,
    MODEL_CONFIG_FILE,
    MODEL_FILE,
    OPTIMIZER_FILE,
    OWN_FILES,
    REPLACED_SUFFIX,
    RUN_CONFIG_FILE,
    STATE_FILE,
    Checkpoint,
    JsonValue,
    step_of_folder,
)
from tempra.checkpoint.manifest import Manifest, verify_folder

CHECKPOINTS_FOLDER = "checkpoints"


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Load a checkpoint folder, or the newest good one of a run.

    `path` is one `step-...` folder, a run folder, or the folder that holds the steps. Of a run, a
    damaged checkpoint is passed over, and `notes` says which file was bad and why. A damaged folder
    that was asked for by name raises CheckpointError, which names the newest good one.
    """
    path = Path(path)
    if not path.exists() and not _replaced(path).exists():
        raise CheckpointError(f"checkpoint {path} does not exist")
    if is_checkpoint_folder(path):
        return _load_named(path)
    root = checkpoints_root(path)
    candidates = find_checkpoints(root)
    if not candidates:
        raise CheckpointError(
            f"{path} holds no checkpoint: expected a folder named step-... in it, "
            f"in {CHECKPOINTS_FOLDER}/ below it, or the folder itself"
        )
    return _load_newest_good(candidates)


def is_checkpoint_folder(path: Path) -> bool:
    """Whether a path is meant as one checkpoint rather than as a folder of them."""
    return (path / MANIFEST_FILE).exists() or step_of_folder(path.name) is not None


def checkpoints_root(path: Path) -> Path:
    """Folder that holds the `step-...` folders of a run folder, which may be `path` itself."""
    below = path / CHECKPOINTS_FOLDER
    return below if below.is_dir() else path


def find_checkpoints(root: str | os.PathLike[str]) -> list[Path]:
    """Checkpoint folders of a root, newest first; of equal steps the replaced one comes last."""
    root = Path(root)
    if not root.is_dir():
        return []
    found = [
        (step, not entry.name.endswith(REPLACED_SUFFIX), entry)
        for entry in root.iterdir()
        if entry.is_dir() and (step := step_of_folder(entry.name)) is not None
    ]
    return [entry for _, _, entry in sorted(found, reverse=True)]


def _replaced(path: Path) -> Path:
    return path.with_name(path.name + REPLACED_SUFFIX)


def _load_named(path: Path) -> Checkpoint:
    reasons: list[str] = []
    for folder in (path, _replaced(path)):
        if not folder.exists():
            continue
        try:
            checkpoint = _read_verified(folder, verify_folder(folder))
            checkpoint.notes = reasons
            return checkpoint
        except CheckpointError as error:
            reasons.append(str(error))
    for other in find_checkpoints(path.parent):
        try:
            verify_folder(other)
        except CheckpointError:
            continue
        reasons.append(f"the newest good checkpoint beside it is {other}")
        break
    raise CheckpointError("; ".join(reasons))


def _load_newest_good(candidates: list[Path]) -> Checkpoint:
    reasons: list[str] = []
    for folder in candidates:
        try:
            checkpoint = _read_verified(folder, verify_folder(folder))
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        if reasons:
            passed_over = "; ".join(reasons)
            checkpoint.notes = [f"fell back to {folder}: {passed_over}"]
        return checkpoint
    raise CheckpointError(f"no good checkpoint in {candidates[0].parent}: " + "; ".join(reasons))


def _read_verified(folder: Path, manifest: Manifest) -> Checkpoint:
    names = manifest.files
    try:
        tokenizer_files = {
            name: (folder / name).read_bytes() for name in names if name not in OWN_FILES
        }
        run_config = (folder / RUN_CONFIG_FILE).read_text() if RUN_CONFIG_FILE in names else ""
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder} cannot be read: {error}") from error
    return Checkpoint(
        step=manifest.step,
        model=_read_tensors(folder / MODEL_FILE),
        optimizer=_read_tensors(folder / OPTIMIZER_FILE) if OPTIMIZER_FILE in names else {},
        state=_read_object(folder / STATE_FILE),
        model_config=(
            _read_object(folder / MODEL_CONFIG_FILE) if MODEL_CONFIG_FILE in names else {}
        ),
        run_config=run_config,
        tokenizer_files=tokenizer_files,
        path=folder,
    )


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = _core.read_safetensors(str(path))[0]
    except (_core.FormatError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return tensors


def _read_object(path: Path) -> dict[str, JsonValue]:
    try:
        value: JsonValue = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds {type(value).__name__}, but an object was expected")
    return dict(value)


def load_weights(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Tensor], dict[str, JsonValue]]:
    """Read weights and config.json of a checkpoint, a run, or a plain Hugging Face folder."""
    path = Path(path)
    plain = (path / MODEL_FILE).is_file() and not (path / MANIFEST_FILE).exists()
    if plain and step_of_folder(path.name) is None:
        config = path / MODEL_CONFIG_FILE
        return _read_tensors(path / MODEL_FILE), _read_object(config) if config.exists() else {}
    checkpoint = load_checkpoint(path)
    return checkpoint.model, checkpoint.model_config
