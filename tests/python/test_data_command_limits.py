"""`tempra data inspect` and `convert` where something runs out or gets in the way.

Each command runs in a process of its own, so that its memory, its limits and its signals are its
own.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tempra

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "wdbx"
SPARSE = 2 << 30
MEMORY_BYTES = 300 << 20


# Tells the most memory the program had. Not getrusage's, which begins with that of the process that
# started it.
REPORTING = """
import atexit, os, sys
from pathlib import Path
pipe = int(sys.argv.pop(1))
def tell():
    os.write(pipe, Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0].encode())
atexit.register(tell)
from tempra.cli.main import main
sys.exit(main())
"""


def start(*arguments: object, before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tempra", "data", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before
    )


def run(*arguments: object, before: Callable[[], None] | None = None) -> tuple[int, str, str]:
    """Run a command; its exit code and what it wrote."""
    process = start(*arguments, before=before)
    out, err = process.communicate()
    return process.returncode, out, err


def run_measured(*arguments: object) -> tuple[int, str, str, int]:
    """Run a command; its exit code, what it wrote, and the most memory it had."""
    reading, writing = os.pipe()
    command = [sys.executable, "-c", REPORTING, str(writing), "data", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, pass_fds=[writing])
    os.close(writing)
    with os.fdopen(reading) as pipe:
        peak = 1024 * int(pipe.read())
    return done.returncode, done.stdout, done.stderr, peak


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Inspecting


def write_sparse(path: Path, head: bytes, size: int = SPARSE) -> Path:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return path


WEIGHTS = (SPARSE - 26) // 4
LARGE: dict[str, tuple[bytes, int, str]] = {
    "a.bin": (b"", 0, f"{SPARSE // 4:,} tokens of type u32"),
    "a.wdbx": (b"", 1, "a.wdbx: InvalidMagic"),
    "b.wdbx": (b"WDBX\3\0", 1, "b.wdbx: InvalidFooter"),
    "c.wdbx": (b"WDBX\2\0", 1, "c.wdbx: InvalidFooter"),
    "a.ckpt": (
        struct.pack("<4sHQQI", b"ABIC", 1, 1, 1, WEIGHTS), 0, f"{WEIGHTS:,} weights\nall weights"),
    "b.ckpt": (struct.pack("<4sHQQI", b"ABIC", 1, 1, 1, 2**32 - 1), 1, "b.ckpt: EndOfData"),
    "a.safetensors": (struct.pack("<Q", 2**62) + b"{", 1, "a.safetensors: "),
    "a.txt": (b"", 1, "a.txt: byte 0 is zero"),
    "tokenizer.json": (b"{", 1, "tokenizer.json: has 2147483648 bytes, too many"),
    "a.bin.meta.json": (b"{", 1, "a.bin.meta.json: has 2147483648 bytes, needs at most"),
    "a.what": (b"", 1, "a.what: is of no known kind"),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_a_large_file_is_not_read_into_memory(name: str, tmp_path: Path) -> None:
    head, expected, words = LARGE[name]
    size = (SPARSE - 26) // 4 * 4 + 26 if name == "a.ckpt" else SPARSE
    path = write_sparse(tmp_path / name, head, size)
    if name == "a.bin.meta.json":
        tempra.write_token_bin_file(tmp_path / "a.bin", [1])
    code, out, err, memory = run_measured("inspect", path)
    assert code == expected, err
    assert words in (out if code == 0 else err)
    assert memory < MEMORY_BYTES


WRONG: dict[str, tuple[bytes | None, str]] = {
    "empty.wdbx": (b"", "TruncatedData: 0 bytes"),
    "empty.safetensors": (b"", "0 bytes are too few"),
    "empty.ckpt": (b"", "is of no known kind"),
    "empty": (b"", "is of no known kind"),
    "tokenizer.json": (b"", "is not"),
    "tokenizer.tempra.json": (b"", "is not a tokenizer definition"),
    "text.wdbx": (b"plain text", "InvalidMagic"),
    "text.safetensors": (b"plain text, longer than nine bytes", "safetensors"),
    "three.bin": (b"123", "InvalidFormat: 3 bytes"),
    "folder": (None, "is neither a prepared folder nor a tokenizer"),
    "gone.wdbx": (None, "no such file"),
    "pipe.bin": (None, "is not a file that can be read again"),
    "cut.wdbx": ((GOLDEN / "three-blocks.wdbx").read_bytes()[:-1], "InvalidFooter"),
    "cut.ckpt": ((GOLDEN / "ablc.ckpt").read_bytes()[:-1], "EndOfData"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tempra.cli.main import main

    content, words = WRONG[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif name == "folder":
        path.mkdir()
    elif name == "pipe.bin":
        os.mkfifo(path)
    assert main(["data", "inspect", str(path)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"tempra: {path}")
    assert words in shown.err
    assert shown.err.count("\n") == 1
    assert main(["data", "inspect", str(path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == str(path)
    assert found["sound"] is False
    assert words in found["error"]


# Converting


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder with a large token file, and files that are to stay whole."""
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(1 << 29)
    (tmp_path / "a.wdbx").write_bytes((GOLDEN / "three-blocks.wdbx").read_bytes())
    (tmp_path / "a.bin").write_bytes(b"1234")
    before = names(tmp_path)
    yield tmp_path
    assert names(tmp_path) == before
    # The sizes first: pytest would compare half a gigabyte line by line.
    golden = (GOLDEN / "three-blocks.wdbx").read_bytes()
    assert (tmp_path / "a.wdbx").stat().st_size == len(golden)
    assert (tmp_path / "a.wdbx").read_bytes() == golden
    assert (tmp_path / "a.bin").stat().st_size == 4
    assert (tmp_path / "a.bin").read_bytes() == b"1234"


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))


@pytest.mark.parametrize("mode", ["replace", "append"])
def test_a_file_that_may_not_grow(folder: Path, mode: str) -> None:
    code, out, err = run(
        "convert", folder / "large.bin", folder / "a.wdbx", "--mode", mode, before=limit_file_size
    )
    assert (code, out) == (1, "")
    assert err.startswith("tempra: write ")
    assert err.endswith(": File too large\n")


# Sends itself a signal once the file in the making is there, however slow the machine is.
INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from tempra.cli.main import main
sent, folder, *arguments = sys.argv[1:]
def interrupt(*_):
    if any(path.name.endswith(".tempra-tmp") for path in Path(folder).iterdir()):
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.kill(os.getpid(), int(sent))
signal.signal(signal.SIGINT, signal.default_int_handler)  # may be ignored, as in the background
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
sys.exit(main(["data", *arguments]))
"""


def run_interrupted(folder: Path, sent: signal.Signals, *arguments: object) -> tuple[int, str, str]:
    command = [sys.executable, "-c", INTERRUPTED, int(sent), folder, *arguments]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("mode", ["replace", "append"])
def test_an_interruption(folder: Path, sent: signal.Signals, mode: str) -> None:
    arguments = ["convert", folder / "large.bin", folder / "a.wdbx", "--mode", mode]
    assert run_interrupted(folder, sent, *arguments) == (3, "", "tempra: interrupted\n")


def test_an_interruption_on_the_way_back(folder: Path) -> None:
    tempra.token_bin_to_wdbx(folder / "large.bin", folder / "large.wdbx")
    arguments = ["convert", folder / "large.wdbx", folder / "a.bin", "--mode", "replace"]
    found = run_interrupted(folder, signal.SIGINT, *arguments)
    (folder / "large.wdbx").unlink()
    assert found == (3, "", "tempra: interrupted\n")


def test_a_folder_that_is_not_there(folder: Path) -> None:
    code, _, err = run("convert", folder / "large.bin", folder / "gone" / "a.wdbx")
    assert code == 1
    assert "gone" in err
    assert err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for the superuser")
def test_a_read_only_folder(folder: Path) -> None:
    folder.chmod(0o555)
    try:
        code, _, err = run("convert", folder / "large.bin", folder / "a.wdbx", "--mode", "replace")
    finally:
        folder.chmod(0o755)
    assert code == 1
    assert "Permission denied" in err
