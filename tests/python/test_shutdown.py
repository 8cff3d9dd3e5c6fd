"""Signals: the first finishes the step and saves, the second stops at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

import pytest

from tempra.checkpoint import load_checkpoint
from tempra.train.callbacks import Callback, RunView
from tempra.train.evaluation import Evaluation
from tempra.train.shutdown import ShutdownSignals
from tiny_run import trace, train_tiny

SCRIPT = Path(__file__).with_name("tiny_run.py")


class SignalAt(Callback):
    """Sends this process a signal in the middle of a step or of a validation."""

    def __init__(self, number: signal.Signals, step: int, hook: str) -> None:
        self.number, self.step, self.hook = number, step, hook

    def on_batch_begin(self, run: RunView) -> None:
        self._send(run, "batch")

    def on_validation_begin(self, run: RunView) -> None:
        self._send(run, "validation")

    def on_validation_end(self, run: RunView, evaluation: Evaluation) -> None:
        self._send(run, "after_validation")

    def on_checkpoint(self, run: RunView, folder: Path) -> None:
        self._send(run, "checkpoint")

    def _send(self, run: RunView, hook: str) -> None:
        if run.state.step == self.step and hook == self.hook:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("hook", "at", "saved"),
    [("batch", 6, 7), ("validation", 10, 10), ("after_validation", 10, 10), ("checkpoint", 8, 8)],
)
def test_first_signal_saves_and_the_resumed_trace_is_whole(
    tmp_path: Path, number: signal.Signals, hook: str, at: int, saved: int
) -> None:
    train_tiny(tmp_path / "whole", 20)
    folder = tmp_path / "signalled"
    with ShutdownSignals() as signals:
        result = train_tiny(folder, 20, callbacks=[SignalAt(number, at, hook)], signals=signals)
    assert result.report.status == "interrupted"
    assert result.report.reason == number.name
    assert result.report.step == saved == load_checkpoint(folder).step
    train_tiny(folder, 20)
    assert trace(folder) == trace(tmp_path / "whole")


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with ShutdownSignals(on_second=lambda: None) as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.requested == "SIGTERM"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_second_signal_raises_where_nothing_else_is_asked_for() -> None:
    with ShutdownSignals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_second_signal_does_not_wait_for_the_main_thread() -> None:
    stopped = threading.Event()
    with ShutdownSignals(on_second=stopped.set):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped.wait(5)


def test_a_signal_in_the_middle_of_a_write_is_announced() -> None:
    # A handler that wrote to the stream itself would meet "reentrant call inside BufferedWriter".
    reading, writing = os.pipe()
    received: list[bytes] = []

    def say(stream: TextIO) -> None:
        print("stopping", file=stream, flush=True)

    def read_late() -> None:
        time.sleep(0.3)
        while chunk := os.read(reading, 1 << 20):
            received.append(chunk)

    reader = threading.Thread(target=read_late)
    sender = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    reader.start()
    with open(writing, "w") as stream:
        with ShutdownSignals(on_first=lambda: say(stream)) as signals:
            sender.start()
            stream.write("x" * (1 << 20))  # more than a pipe holds: waits for the reader
            stream.flush()
        assert signals.requested == "SIGINT"
    reader.join()
    os.close(reading)
    assert b"stopping" in b"".join(received)


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def enter() -> None:
        with ShutdownSignals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signalled_process_exits_resumable(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(tmp_path), "100000"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while process.stdout.readline().strip() != "9":
        assert process.poll() is None
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 3
    assert output.endswith("interrupted\n")
    steps = [int(line) for line in output.split()[:-1]]
    assert load_checkpoint(tmp_path).step == steps[-1] if steps else 9


def test_second_run_of_another_process_is_refused(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(tmp_path), "1000000"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "5":
            assert process.poll() is None
        second = subprocess.run(
            [sys.executable, str(SCRIPT), str(tmp_path), "10"], capture_output=True, text=True
        )
        assert second.returncode != 0
        assert "in use by another process" in second.stderr
    finally:
        process.kill()
        process.communicate()
    time.sleep(0.01)
    assert load_checkpoint(tmp_path).notes == []
