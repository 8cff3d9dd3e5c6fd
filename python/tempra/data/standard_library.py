"""Python's own source files: text that every machine with Python has, so nothing is downloaded."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from tempra._core import ConfigError

# Parts that teach little: tests, data tables, other people's packages.
_NOT_READ = {"test", "tests", "site-packages", "dist-packages", "idlelib", "__pycache__"}
_NOT_READ |= {"lib2to3", "pydoc_data", "encodings", "config", "ensurepip", "turtledemo"}


def standard_library_sources(root: Path | None = None) -> tuple[str, ...]:
    """Return the source files of the standard library that hold text, sorted by folder and name."""
    root = Path(sysconfig.get_paths()["stdlib"]) if root is None else root
    found: list[str] = []
    for folder, below, files in os.walk(root):
        below[:] = sorted(name for name in below if name not in _NOT_READ)
        paths = [os.path.join(folder, name) for name in sorted(files) if name.endswith(".py")]
        found += [path for path in paths if _is_text(path)]
    if not found:
        raise ConfigError(
            f"data.train: is empty, and {root} has no Python source files to use instead; "
            "give data.train=FILE"
        )
    return tuple(found)


def _is_text(path: str) -> bool:
    """Return whether a file is readable, not empty, and UTF-8; a few of the library's are not."""
    try:
        content = Path(path).read_bytes()
        content.decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return bool(content) and b"\0" not in content
