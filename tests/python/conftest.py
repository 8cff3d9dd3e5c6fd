"""What all tests share: a fixed seed, the ISA and threads they found, visible skips, a folder."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

import tempra
from cuda_device import HOW_TO_BUILD, use_emulated_device
from small_conversations import ALPACA, QUESTIONS
from tempra import cuda

# How long an example takes depends on what else the machine does.
settings.register_profile("tempra", deadline=None)
settings.load_profile("tempra")

# Programs that tests start write through buffers, as they do for users: it hides errors when not.
os.environ.pop("PYTHONUNBUFFERED", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device", default="cpu", choices=["cpu", "cuda"], help="device whose tests must run"
    )
    parser.addoption(
        "--no-skips", action="store_true", help="a skipped test is a failure, as in CI"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--device") == "cpu":
        use_emulated_device()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of another device and of a missing oracle are skips that are listed."""
    has_torch = importlib.util.find_spec("torch") is not None
    on_cuda = config.getoption("--device") == "cuda"
    on_device = [item for item in items if item.get_closest_marker("any_cuda") is not None]
    if on_device and not cuda.is_available():
        why = cuda.status().unavailable if on_cuda else HOW_TO_BUILD
        for item in on_device:
            item.add_marker(pytest.mark.skip(reason=why))
    for item in items:
        # By marker: keywords also hold names of folders, so a checkout called cuda had no tests.
        if item.get_closest_marker("cuda") is not None and not on_cuda:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device (--device cuda)"))
        if "torch" in item.keywords and not has_torch:
            item.add_marker(pytest.mark.skip(reason="PyTorch is not installed"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = len(terminalreporter.stats.get("skipped", []))
    if skipped:
        terminalreporter.write_line(f"{skipped} tests did not run: the reasons are listed above")


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def fixed_state() -> Iterator[None]:
    """Seeds every generator; restores instruction set, threads and generator afterwards."""
    isa = tempra.current_isa()
    threads = tempra.get_num_threads()
    state = tempra.default_generator().state()
    random.seed(0)
    np.random.seed(0)
    tempra.manual_seed(0)
    yield
    tempra.set_isa(isa)
    tempra.set_num_threads(threads)
    tempra.default_generator().set_state(state)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: some tests flush thousands of files."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


@pytest.fixture
def alpaca(tmp_path: Path) -> Path:
    file = tmp_path / "alpaca.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in ALPACA))
    return file


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "questions.txt"
    file.write_text(QUESTIONS)
    return file
