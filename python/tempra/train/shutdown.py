"""SIGINT and SIGTERM: the first lets the step finish and the run save, a second stops at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class ShutdownSignals:
    """Context in which the first signal sets `requested` and the second calls `on_second`.

    Python runs handlers between two operations of the main thread, which a long native call would
    delay, and which may be in the middle of writing to a stream that would not take another write.
    So both functions are called in a thread of their own; `on_second` should end the process.
    Without it, KeyboardInterrupt is raised in the main thread. Outside the main thread, which alone
    may handle signals, nothing is installed.
    """

    def __init__(
        self,
        *,
        on_first: Callable[[], None] | None = None,
        on_second: Callable[[], None] | None = None,
    ) -> None:
        self.requested: str | None = None
        self._on_first = on_first
        self._on_second = on_second
        self._previous: dict[int, Any] = {}
        self._pipe: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> ShutdownSignals:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
        if self._pipe is not None:
            signal.set_wakeup_fd(-1)
            os.close(self._pipe[1])  # ends the thread, which closes the other end
            self._pipe = None
        if self._thread is not None:
            self._thread.join(timeout=1.0)  # what it says comes before what is said next
            self._thread = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            if self._on_second is None:
                raise KeyboardInterrupt
            return  # the thread has it
        self.requested = signal.Signals(number).name
        if self._on_first is not None or self._on_second is not None:
            self._start_thread()

    def _start_thread(self) -> None:
        self._pipe = os.pipe()
        reading, writing = self._pipe
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._run, args=(reading,), daemon=True)
        self._thread.start()

    def _run(self, reading: int) -> None:
        if self._on_first is not None:
            self._on_first()
        while received := os.read(reading, 1):
            if received[0] in _SIGNALS and self._on_second is not None:
                self._on_second()
        os.close(reading)
