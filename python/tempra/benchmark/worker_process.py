"""The parent's end of a `training_worker`: asks for steps, waits no longer than told, ends it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from tempra._core import TempraError
from tempra.benchmark.reference_configs import TrainingCase


class WorkerError(TempraError):
    """A worker that ended by itself, or did not answer in time; the text says why."""


class WorkerProcess:
    """A training process that runs steps on request; use it in a `with` block, which ends it."""

    def __init__(
        self,
        library: str,
        case: TrainingCase,
        threads: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.library, self.threads = library, threads
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed with the process
        arguments = ["--library", library, "--case", case.to_json(), "--threads", str(threads)]
        # A session of its own: Ctrl-C reaches the parent alone, and the worker with all that it
        # starts, compilers for example, ends as one group.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tempra.benchmark.training_worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self._pending = b""

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self, timeout: float) -> None:
        """Wait until the model is built."""
        self._read(timeout)

    def run(self, steps: int, timeout: float = 3600.0) -> dict[str, Any]:
        """Run steps; return the seconds of each, the processor time of all, and the last loss."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: reading says why
            self._process.stdin.write(json.dumps({"steps": steps}).encode() + b"\n")
            self._process.stdin.flush()
        return self._read(timeout)

    def finish(self) -> int:
        """Let the process end by itself; return the most memory it held, in bytes."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        peak = int(self._read(60.0)["peak_bytes"])
        self.kill()
        return peak

    def kill(self) -> None:
        """End the process and everything it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _read(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        until = time.monotonic() + timeout
        while b"\n" not in self._pending:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise WorkerError(f"no answer within {timeout:.0f} s")
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                raise WorkerError(self._last_words())
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        if status < 0:
            return f"ended by signal {-status} ({signal.Signals(-status).name})"
        return f"ended with {status}" + (f": {lines[-1].strip()}" if lines else "")
