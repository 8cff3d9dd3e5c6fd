"""The folder of a run: its lock, configuration, metrics and checkpoints."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tempra import _core
from tempra.checkpoint import Checkpoint, CheckpointStore
from tempra.checkpoint.load import CHECKPOINTS_FOLDER
from tempra.train.errors import TrainError
from tempra.train.metrics import METRICS_FILE, MetricsWriter

CONFIG_FILE = "config.yaml"
LOCK_FILE = "lock"


class RunFolder:
    """Owns a run folder while it is open; a second run in the same folder is refused."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        run_config: str = "",
        tokenizer_files: Mapping[str, bytes] | None = None,
        keep_last: int = 3,
        resume_from: Checkpoint | None = None,
    ) -> None:
        self.path = Path(path)
        self.run_config = run_config
        self.tokenizer_files = dict(tokenizer_files or {})
        self.store = CheckpointStore(self.path / CHECKPOINTS_FOLDER, keep_last=keep_last)
        self.set_aside: list[Path] = []
        self._resume_from = resume_from
        self._lock: _core.FileLock | None = None
        self._metrics: MetricsWriter | None = None
        self._created = False

    @property
    def resumed_step(self) -> int | None:
        """Step this run continues from; None for a new run."""
        return None if self._resume_from is None else self._resume_from.step

    @property
    def metrics(self) -> MetricsWriter:
        """The open metrics file."""
        if self._metrics is None:
            raise TrainError(f"{self.path}: the run has not begun")
        return self._metrics

    def __enter__(self) -> RunFolder:
        if self.path.exists() and not self.path.is_dir():
            raise TrainError(f"run folder {self.path}: is a file, needs a folder or a new name")
        try:
            self._created = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = take_lock(self.path)
            self._check_new()
        except OSError as error:
            self._release()
            raise TrainError(
                f"run folder {self.path} cannot be written: {error.strerror or error}"
            ) from error
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.store.finish()
        except _core.TempraError:
            if error is None:
                raise
        finally:
            if self._created and self._metrics is None:
                self._remove_unused()
            self._release()

    def begin(self) -> None:
        """Write the configuration, set aside what a resume overtakes, and open the metrics.

        Called when the first step is about to run: until then a resume that fails changes nothing.
        """
        if self._metrics is not None:
            return
        resumed = self._resume_from
        try:
            if resumed is not None and self.store.steps():
                best = resumed.state["best"]["step"]
                self.set_aside = self.store.rewind(resumed.step, best_step=best)
            _core.write_file_atomic(str(self.path / CONFIG_FILE), self.run_config.encode())
        except OSError as error:
            raise TrainError(
                f"run folder {self.path} cannot be written: {error.strerror or error}"
            ) from error
        self._metrics = MetricsWriter(self.path / METRICS_FILE, resume_step=self.resumed_step or 0)

    def _remove_unused(self) -> None:
        # Nothing was written; a folder somebody else has put files into stays.
        with contextlib.suppress(OSError):
            if [entry.name for entry in self.path.iterdir()] == [LOCK_FILE]:
                (self.path / LOCK_FILE).unlink()
                self.path.rmdir()

    def _check_new(self) -> None:
        # A run that was killed before its first checkpoint left nothing to lose.
        if self._resume_from is None and self.store.steps():
            raise TrainError(
                f"run folder {self.path} already holds a run; continue it with "
                f"`tempra train resume --checkpoint {self.path}`, or choose another folder with "
                "checkpoint.dir"
            )

    def _release(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def take_lock(path: Path) -> _core.FileLock:
    """Lock a run folder; raises TrainError where another process has it."""
    try:
        return _core.FileLock(str(path / LOCK_FILE))
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES) and "in use" in str(
            error
        ):
            raise TrainError(
                f"run folder {path} is in use by another process; wait for it, stop it, or choose "
                "another folder with checkpoint.dir"
            ) from error
        raise


def choose_run_folder(given: str | None, parent: Path = Path("runs")) -> Path:
    """Return the folder asked for, or the next free `run-NNNN` below `parent`."""
    if given is not None:
        return Path(given)
    taken = [
        int(entry.name[4:])
        for entry in (parent.iterdir() if parent.is_dir() else ())
        if entry.name.startswith("run-") and entry.name[4:].isdigit()
    ]
    return parent / f"run-{max(taken, default=0) + 1:04d}"
