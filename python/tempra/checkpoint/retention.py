"""Which checkpoints stay: the newest N and the best; and setting aside those a resume overtakes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tempra import _core
from tempra.checkpoint.contents import REPLACED_SUFFIX, step_of_folder
from tempra.checkpoint.load import find_checkpoints
from tempra.checkpoint.save import remove_folder


def apply_retention(root: Path, keep_last: int, also_keep: Iterable[str] = ()) -> list[Path]:
    """Remove all but the newest `keep_last` checkpoints and those named; return them."""
    folders = [path for path in find_checkpoints(root) if not path.name.endswith(REPLACED_SUFFIX)]
    kept_names = {path.name for path in folders[:keep_last]} | set(also_keep)
    removed = [path for path in folders if path.name not in kept_names]
    for path in removed:
        remove_folder(path)
    return removed


def set_aside_after(root: Path, step: int) -> list[Path]:
    """Rename checkpoints later than `step` to `<name>.set-aside-<n>`; returns their new paths.

    They are the user's to delete: a resumed run writes those steps anew, and nothing that was
    trained is thrown away by a resume.
    """
    moved: list[Path] = []
    for path in find_checkpoints(root):
        found = step_of_folder(path.name)
        if found is None or found <= step:
            break
        number = 1
        while (target := path.with_name(f"{path.name}.set-aside-{number}")).exists():
            number += 1
        _core.rename_path(str(path), str(target))
        moved.append(target)
    return moved
