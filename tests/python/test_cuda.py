"""What is said of CUDA where there is no device, and of devices where there are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tempra
from tempra import _core, cuda
from tempra.train.run_info import describe_machine


def run_alone(code: str, **environment: str) -> str:
    """Run code in a process of its own, where no CUDA library has been loaded."""
    finished = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_an_unusable_library_is_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "libtempra_cuda.so"
    broken.write_text("not a library")
    said = run_alone(
        "from tempra import cuda; print(*cuda.describe(), sep='\\n')",
        TEMPRA_CUDA_LIBRARY=str(broken),
    )
    assert said.startswith(f"unavailable: TEMPRA_CUDA_LIBRARY is {broken}, which cannot be loaded")
    assert "\n" not in said


def test_a_packaged_library_is_looked_at(tmp_path: Path) -> None:
    package = tmp_path / "tempra_cuda"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (package / "libtempra_cuda.so").write_text("not a library")
    said = run_alone(
        "from tempra import cuda; print(cuda.status().unavailable, cuda.is_available())",
        PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]),
        TEMPRA_CUDA_LIBRARY="",
    )
    assert str(package / "libtempra_cuda.so") in said
    assert said.endswith("False")


def test_importing_tempra_looks_for_no_library() -> None:
    said = run_alone(
        "import tempra; from tempra import _core; print(repr(_core.cuda_library_path()))"
    )
    assert said == "''"


def test_the_machine_is_described_with_cuda() -> None:
    assert any(line.startswith("CUDA  ") for line in describe_machine())


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:-1", ""])
def test_a_word_that_is_no_device(device: str) -> None:
    with pytest.raises(tempra.DeviceError, match="not a device; cpu, cuda or cuda:N is needed"):
        tempra.Context(device=device).apply()


# What a user may ask of a device first; each must say in one line why there is none.
FIRST_USES = [
    "tempra.Context(device='cuda').apply()",
    "tempra.zeros((2,), device='cuda')",
    "tempra.zeros((2,)).to('cuda:0')",
    "tempra.cuda.memory_statistics()",
]


@pytest.mark.parametrize("use", FIRST_USES)
def test_without_a_library_the_first_use_says_why(tmp_path: Path, use: str) -> None:
    missing = tmp_path / "nowhere" / "libtempra_cuda.so"
    said = run_alone(
        f"import tempra, tempra.cuda\ntry:\n    {use}\n"
        "except tempra.DeviceError as error:\n    print(error)",
        TEMPRA_CUDA_LIBRARY=str(missing),
    )
    assert said.startswith(f"CUDA: TEMPRA_CUDA_LIBRARY is {missing}, which cannot be loaded"), said
    assert "\n" not in said


def test_the_first_tensor_finds_the_packaged_library(tmp_path: Path) -> None:
    package = tmp_path / "tempra_cuda"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (package / "libtempra_cuda.so").write_text("not a library")
    said = run_alone(
        "import tempra\ntry:\n    tempra.zeros((2,), device='cuda')\n"
        "except tempra.DeviceError as error:\n    print(error)",
        PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]),
        TEMPRA_CUDA_LIBRARY="",
    )
    assert str(package / "libtempra_cuda.so") in said


def test_a_run_without_a_device_stops_before_it_begins(tmp_path: Path) -> None:
    said = run_alone(
        "import sys; from tempra.cli.main import main\n"
        "sys.argv = ['tempra', 'train', 'run', 'train.device=cuda', "
        f"'data.cache={tmp_path / 'cache'}', "
        f"'checkpoint.dir={tmp_path / 'run'}']\n"
        "try:\n    code = main()\nexcept SystemExit as ended:\n    code = ended.code\n"
        "print('exit', code)",
        TEMPRA_CUDA_LIBRARY=str(tmp_path / "libtempra_cuda.so"),
    )
    assert said.endswith("exit 1")
    assert said == "exit 1", "something was begun"
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


@pytest.mark.cuda
def test_a_described_device_has_all_its_words() -> None:
    found = cuda.status()
    if not found.devices:
        pytest.skip(f"needs a CUDA device: {found.unavailable}")
    assert len([line for line in cuda.describe(found) if line.startswith("cuda:")]) == len(
        found.devices
    )
    assert f"attention by {found.attention}" in cuda.describe(found)
    for device in found.devices:
        assert device.name
        assert 0 <= device.free_bytes <= device.total_bytes


def test_the_device_is_checked_by_name() -> None:
    _core.check_device("cpu")
