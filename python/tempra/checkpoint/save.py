"""Writing one checkpoint: aside, flushed, then renamed, so that a crash leaves the old or the new.

Every write goes through the file layer of `_core`, which flushes what it writes and in which tests
inject failures.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from tempra import _core
from tempra._core import CheckpointError
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
    folder_name,
    is_safe_file_name,
    is_temporary_folder,
    step_of_folder,
)
from tempra.checkpoint.load import find_checkpoints
from tempra.checkpoint.manifest import build_manifest

# Room for headers, JSON, tokenizer and the file system's own records.
_SPACE_MARGIN_BYTES = 4 << 20


def save_checkpoint(root: str | os.PathLike[str], checkpoint: Checkpoint) -> Path:
    """Write a checkpoint as `root/step-...`; on failure the checkpoints before it are untouched.

    One writer at a time per root: the trainer holds the run folder's lock.
    """
    root = Path(root)
    texts = _serialise(checkpoint)  # before anything is written: it may refuse the state
    final = root / folder_name(checkpoint.step)
    temporary = root / f".{final.name}.tmp-{os.getpid()}"
    try:
        _core.make_directories(str(root))
        clean_leftovers(root)
        _check_space(root, checkpoint)
        _core.make_directories(str(temporary))
        _write_files(temporary, checkpoint, texts)
        _core.publish_directory(str(temporary), str(final))
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        _restore_replaced(final)
        raise CheckpointError(
            f"checkpoint {final} could not be written: {error.strerror or error}; "
            f"{_what_is_left(final)}"
        ) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return final


def _serialise(checkpoint: Checkpoint) -> dict[str, bytes]:
    texts = {
        STATE_FILE: _json_bytes(checkpoint.state, "state"),
        MODEL_CONFIG_FILE: _json_bytes(checkpoint.model_config, "model_config"),
        RUN_CONFIG_FILE: checkpoint.run_config.encode(),
    }
    for name, content in checkpoint.tokenizer_files.items():
        if not is_safe_file_name(name) or name in OWN_FILES:
            raise CheckpointError(f"checkpoint: tokenizer file name {name!r} cannot be used")
        texts[name] = content
    return texts


def _json_bytes(value: object, what: str) -> bytes:
    try:
        return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"checkpoint: {what} cannot be written as JSON: {error}") from error


def _check_space(root: Path, checkpoint: Checkpoint) -> None:
    needed = checkpoint.nbytes() + _SPACE_MARGIN_BYTES
    free = _core.free_disk_bytes(str(root))
    if free < needed:
        raise CheckpointError(
            f"checkpoint of step {checkpoint.step} needs {needed / 1e6:.1f} MB, "
            f"but {root} has {free / 1e6:.1f} MB free; "
            f"{_what_is_left(root / folder_name(checkpoint.step))}"
        )


def _what_is_left(failed: Path) -> str:
    others = [path for path in find_checkpoints(failed.parent) if path != failed]
    return f"{others[0]} is untouched" if others else "no other checkpoint is there"


def _write_files(folder: Path, checkpoint: Checkpoint, texts: dict[str, bytes]) -> None:
    # Readers of Hugging Face's format expect this entry in the header.
    metadata = {"format": "pt"}
    _core.write_safetensors(str(folder / MODEL_FILE), checkpoint.model, metadata)
    _core.write_safetensors(str(folder / OPTIMIZER_FILE), checkpoint.optimizer, metadata)
    for name, content in texts.items():
        _core.write_file_atomic(str(folder / name), content)
    manifest = build_manifest(folder, checkpoint.step)
    _core.write_file_atomic(str(folder / MANIFEST_FILE), manifest.to_bytes())


def clean_leftovers(root: Path) -> None:
    """Remove what an interrupted save or deletion left behind; no complete checkpoint is lost."""
    for path in list(root.iterdir()):
        if is_temporary_folder(path.name):
            shutil.rmtree(path, ignore_errors=True)
        elif path.name.endswith(REPLACED_SUFFIX) and step_of_folder(path.name) is not None:
            _settle_replaced(path)


def _settle_replaced(replaced: Path) -> None:
    # A folder under its final name came there by one rename of flushed files: it is complete.
    final = replaced.with_name(replaced.name.removesuffix(REPLACED_SUFFIX))
    if final.exists():
        remove_folder(replaced)
    else:
        _core.rename_path(str(replaced), str(final))


def _restore_replaced(final: Path) -> None:
    replaced = final.with_name(final.name + REPLACED_SUFFIX)
    try:
        if replaced.exists() and not final.exists():
            _core.rename_path(str(replaced), str(final))
    except OSError:
        pass  # The loader recognises the folder under its other name.


def remove_folder(folder: Path) -> None:
    """Delete a checkpoint; a crash on the way leaves no half folder that looks like a whole one."""
    doomed = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(doomed, ignore_errors=True)
    _core.rename_path(str(folder), str(doomed))
    shutil.rmtree(doomed, ignore_errors=True)
