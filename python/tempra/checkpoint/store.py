"""The checkpoints of one run: saving now or in the background, `latest`, `best` and retention."""

from __future__ import annotations

import copy
import os
import threading
from pathlib import Path

from tempra import _core
from tempra._core import CheckpointError
from tempra.checkpoint.contents import Checkpoint, folder_name, step_of_folder
from tempra.checkpoint.load import find_checkpoints, load_checkpoint
from tempra.checkpoint.retention import apply_retention, set_aside_after
from tempra.checkpoint.save import clean_leftovers, save_checkpoint

LATEST_FILE = "latest"
BEST_FILE = "best"


class CheckpointStore:
    """A folder of checkpoints with one writer.

    `latest` and `best` are small files that hold the name of a step's folder; they are replaced by
    rename. `keep_last` newest checkpoints and the best one stay, older ones are removed.
    """

    def __init__(self, root: str | os.PathLike[str], *, keep_last: int = 3) -> None:
        if keep_last < 1:
            raise CheckpointError(f"checkpoint store: keep_last is {keep_last}, needs at least 1")
        self.root = Path(root)
        self.keep_last = keep_last
        self._writer: threading.Thread | None = None
        self._failure: Exception | None = None

    def save(
        self, checkpoint: Checkpoint, *, is_best: bool = False, asynchronous: bool = False
    ) -> Path:
        """Write a checkpoint and return its folder.

        Asynchronously, the tensors are copied now and written by a thread; a failure of that
        thread is raised by the next `save` or `finish`.
        """
        self.finish()
        if not asynchronous:
            return self._write(checkpoint, is_best)
        snapshot = checkpoint.snapshot()
        snapshot.state = copy.deepcopy(checkpoint.state)
        self._writer = threading.Thread(
            target=self._write_in_background, args=(snapshot, is_best), name="tempra-checkpoint"
        )
        self._writer.start()
        return self.folder(checkpoint.step)

    def finish(self) -> None:
        """Wait for a save in the background; raises what it failed with."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def load(self, step: int | None = None) -> Checkpoint:
        """Load the checkpoint of a step, or the newest good one."""
        self.finish()
        return load_checkpoint(self.root if step is None else self.folder(step))

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, oldest first."""
        found = {step_of_folder(path.name) for path in find_checkpoints(self.root)}
        return sorted(step for step in found if step is not None)

    def folder(self, step: int) -> Path:
        """Folder of a step, whether it exists or not."""
        return self.root / folder_name(step)

    def latest(self) -> int | None:
        """Step that `latest` names."""
        return self._read_pointer(LATEST_FILE)

    def best(self) -> int | None:
        """Step that `best` names."""
        return self._read_pointer(BEST_FILE)

    def rewind(self, step: int, *, best_step: int | None = None) -> list[Path]:
        """Make `step` the newest: set later checkpoints aside and point `latest`, `best` at it.

        Returns the new paths of what was set aside.
        """
        self.finish()
        try:
            clean_leftovers(self.root)
            moved = set_aside_after(self.root, step)
            self._write_pointer(LATEST_FILE, step)
            if best_step is not None and best_step in self.steps():
                self._write_pointer(BEST_FILE, best_step)
            else:
                (self.root / BEST_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"checkpoints after step {step} in {self.root} could not be set aside: "
                f"{error.strerror or error}"
            ) from error
        return moved

    def _write(self, checkpoint: Checkpoint, is_best: bool) -> Path:
        folder = save_checkpoint(self.root, checkpoint)
        try:
            self._write_pointer(LATEST_FILE, checkpoint.step)
            if is_best:
                self._write_pointer(BEST_FILE, checkpoint.step)
            best = self.best()
            apply_retention(
                self.root, self.keep_last, () if best is None else (self.folder(best).name,)
            )
        except OSError as error:
            raise CheckpointError(
                f"checkpoint {folder} is written, but {self.root} could not be brought up to date: "
                f"{error.strerror or error}"
            ) from error
        return folder

    def _write_in_background(self, checkpoint: Checkpoint, is_best: bool) -> None:
        try:
            self._write(checkpoint, is_best)
        except Exception as error:  # handed to the next save or finish
            self._failure = error

    def _write_pointer(self, name: str, step: int) -> None:
        content = self.folder(step).name + "\n"
        _core.write_file_atomic(str(self.root / name), content.encode())

    def _read_pointer(self, name: str) -> int | None:
        try:
            with (self.root / name).open("rb") as file:
                text = file.read(64)
        except OSError:
            return None
        # Never used as a path: only a step number is taken from it.
        return step_of_folder(text.decode("ascii", "replace").strip())
