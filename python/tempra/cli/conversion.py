"""Which way `tempra data convert` goes, and which of its options belong to that way."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal

from tempra._core import ConfigError, FormatError
from tempra.data.counted import counted
from tempra.data.wdbx import DEFAULT_BLOCK_TOKENS, token_bin_to_wdbx, wdbx_to_token_bin


def convert(
    source: Path,
    destination: Path,
    mode: Literal["fail", "replace", "append"],
    block_tokens: int | None,
    max_tokens: int | None,
) -> str:
    """Convert between token-bin and WDBX; return what was done, in one line."""
    if source.is_dir():
        raise FormatError(f"{source}: is a folder; convert the files in it one by one")
    if not source.is_file():
        raise FormatError(f"{source}: no such file")
    if destination.exists() and destination.samefile(source):
        raise ConfigError(f"convert: {destination} is the source itself")
    with _terminated_as_interrupted():
        if _is_wdbx(source):
            return _to_token_bin(source, destination, mode, block_tokens, max_tokens)
        return _to_wdbx(source, destination, mode, block_tokens, max_tokens)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, so that nothing is left beside the destination."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_wdbx(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"WDBX" or path.suffix == ".wdbx"


def _to_wdbx(
    source: Path,
    destination: Path,
    mode: Literal["fail", "replace", "append"],
    block_tokens: int | None,
    max_tokens: int | None,
) -> str:
    if max_tokens is not None:
        raise ConfigError("--max-tokens: belongs to a WDBX source, and the source is a token file")
    if destination.suffix == ".bin":
        raise ConfigError(f"convert: both are token files: {source}, {destination}")
    if block_tokens is None:
        block_tokens = DEFAULT_BLOCK_TOKENS
    if block_tokens < 1:
        raise ConfigError(f"--block-tokens: got {block_tokens}, needs at least 1")
    appended = mode == "append" and destination.exists()
    tokens = token_bin_to_wdbx(source, destination, block_tokens, mode=mode)
    blocks = -(-tokens // block_tokens)
    done = "appended" if appended else "wrote"
    return f"{destination}: {done} {counted(tokens, 'token')} in {counted(blocks, 'block')}"


def _to_token_bin(
    source: Path,
    destination: Path,
    mode: Literal["fail", "replace", "append"],
    block_tokens: int | None,
    max_tokens: int | None,
) -> str:
    if block_tokens is not None:
        raise ConfigError("--block-tokens: belongs to a token file as source, and it is WDBX")
    if destination.suffix == ".wdbx":
        raise ConfigError(f"convert: both are WDBX files: {source}, {destination}")
    if mode == "append":
        raise ConfigError("--mode append: is for WDBX destinations")
    if max_tokens is not None and max_tokens < 0:
        raise ConfigError(f"--max-tokens: got {max_tokens}, needs at least 0")
    if mode == "fail" and destination.exists():
        raise FileExistsError(f"{destination}: exists already; --mode replace overwrites it")
    tokens = wdbx_to_token_bin(source, destination, max_tokens or 0)
    return f"{destination}: wrote {tokens:,} tokens"
