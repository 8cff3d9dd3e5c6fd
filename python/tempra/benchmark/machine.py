"""What a number was measured on."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any


def cpu_model() -> str:
    """Return the processor's name as the kernel reports it."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found.group(1).strip() if found else platform.processor()


def usable_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def commit() -> str:
    """Return the checkout's commit, with "+" where files differ from it; "" outside a checkout."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "cpp" / "include" / "tempra").is_dir():  # an installed package
        return ""
    try:
        short = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True
        )
    except OSError:
        return ""
    return short.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def identity(threads: int) -> dict[str, Any]:
    """Return what must agree for two results to be comparable, and what explains them."""
    import tempra
    from tempra import _core

    processor = cpu_model()
    flags = _core.supported_isas()[-1]
    machine = f"{processor}|{os.cpu_count()}|{flags}|{threads}"
    return {
        "machine": hashlib.sha256(machine.encode()).hexdigest()[:12],
        "processor": processor,
        "cpus": os.cpu_count(),
        "threads": threads,
        "isa": _core.current_isa(),
        "tempra": tempra.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
