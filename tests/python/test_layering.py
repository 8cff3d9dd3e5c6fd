"""Dependencies point one way: includes and imports are scanned, and any other arrow fails."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CPP = ROOT / "cpp"

# What each layer may include beside itself. `random` and `profile` are used by all.
CPP_LAYERS: dict[str, set[str]] = {
    "platform": set(),
    "random": {"platform"},
    "profile": {"platform"},
    "memory": {"platform"},
    "tensor": {"memory", "platform"},
    "dispatch": {"tensor", "memory", "platform", "cpu"},
    "cpu": {"dispatch", "tensor", "memory", "platform"},
    "autograd": {"dispatch", "tensor", "memory", "platform"},
    "ops": {"autograd", "dispatch", "tensor", "memory", "platform"},
    "fused": {"ops", "autograd", "dispatch", "tensor", "memory", "platform"},
    "optim": {"ops", "autograd", "dispatch", "tensor", "memory", "platform"},
    "io": {"fused", "optim", "ops", "autograd", "dispatch", "tensor", "memory", "platform"},
    "data": {"io", "fused", "optim", "ops", "autograd", "dispatch", "tensor", "memory", "platform"},
}

# Includes every other public header, and nothing of the library includes it.
UMBRELLA = CPP / "include" / "tempra" / "tempra.h"

# Layer of a public header that lies in include/tempra itself; the others are in a folder of theirs.
HEADER_LAYERS = {
    "activation.h": "tensor",
    "arena.h": "optim",
    "autograd.h": "autograd",
    "cuda.h": "memory",
    "device.h": "memory",
    "dtype.h": "memory",
    "error.h": "platform",
    "intrusive_ptr.h": "memory",
    "profile.h": "profile",
    "random.h": "random",
    "runtime.h": "dispatch",
    "shape.h": "tensor",
    "tensor.h": "tensor",
    "tensor_view.h": "tensor",
    "threads.h": "platform",
    "training.h": "platform",
}
EVERYWHERE = {"random", "profile"}

PYTHON_LAYERS = {
    "nn": set(),
    "optim": set(),
    "models": {"nn", "optim"},
    "data": {"nn", "optim"},
    "checkpoint": {"nn", "optim"},
    "distributed": {"nn", "optim"},
    "train": {"models", "data", "checkpoint", "distributed", "nn", "optim"},
    "benchmark": {"models", "nn", "optim"},
    "cli": {"benchmark", "train", "models", "data", "checkpoint", "distributed", "nn", "optim"},
}

SOURCES = sorted((CPP / "src").rglob("*.cpp")) + sorted((CPP / "src").rglob("*.h"))
PUBLIC_HEADERS = sorted((CPP / "include").rglob("*.h"))
MODULES = sorted((ROOT / "python" / "tempra").rglob("*.py"))


def includes(path: Path) -> list[str]:
    return re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)


def layer_of(path: Path) -> str:
    if path.is_relative_to(CPP / "src"):
        return path.relative_to(CPP / "src").parts[0]
    parts = path.relative_to(CPP / "include" / "tempra").parts
    if len(parts) > 1:
        return parts[0]
    assert parts[0] in HEADER_LAYERS, f"{parts[0]}: say in HEADER_LAYERS which layer it belongs to"
    return HEADER_LAYERS[parts[0]]


def resolved(included: str) -> Path | None:
    """Return the project's file of that name; None for a system header or a neighbour's."""
    for root in (CPP / "src", CPP / "include", CPP / "src" / "cpu"):
        if (root / included).exists():
            return root / included
    return None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CPP)))
def test_a_source_includes_only_layers_below_it(path: Path) -> None:
    layer = layer_of(path)
    for included in includes(path):
        assert "pybind11" not in included, f"{path}: cpp never includes pybind11"
        target = resolved(included)
        if target is not None:
            allowed = CPP_LAYERS[layer] | {layer} | EVERYWHERE
            assert layer_of(target) in allowed, f"{path}: {included}"


@pytest.mark.parametrize("path", PUBLIC_HEADERS, ids=lambda path: str(path.relative_to(CPP)))
def test_a_public_header_includes_only_public_headers(path: Path) -> None:
    for included in includes(path):
        assert included.startswith("tempra/"), f"{path}: {included}"
        assert (CPP / "include" / included).exists(), f"{path}: {included}"


def test_the_umbrella_header_includes_every_public_header() -> None:
    others = [path for path in PUBLIC_HEADERS if path != UMBRELLA]
    names = {str(path.relative_to(CPP / "include")) for path in others}
    assert set(includes(UMBRELLA)) == names
    for path in (*SOURCES, *others):
        assert "tempra/tempra.h" not in includes(path), path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_layers_below_it(path: Path) -> None:
    parts = path.relative_to(ROOT / "python" / "tempra").parts
    layer = parts[0] if len(parts) > 1 else None
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            pieces = name.split(".")
            if pieces[0] != "tempra" or len(pieces) < 2 or pieces[1] not in PYTHON_LAYERS:
                continue
            if layer in PYTHON_LAYERS:
                allowed = PYTHON_LAYERS[layer] | {layer}
                assert pieces[1] in allowed, f"{path}: {name}"


@pytest.mark.parametrize("word", ["utils", "misc", "helpers", "common"])
def test_no_drawer_for_everything(word: str) -> None:
    names = [path for path in (*SOURCES, *PUBLIC_HEADERS, *MODULES) if path.stem == word]
    assert not names


def test_operating_system_calls_live_in_platform() -> None:
    system = re.compile(r"#include <(unistd|fcntl|pthread|sys/[a-z]+|sched|dirent)\.h>")
    for path in SOURCES:
        if path.relative_to(CPP / "src").parts[0] != "platform":
            assert not system.search(path.read_text()), path
