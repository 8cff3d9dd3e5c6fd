"""The type stubs of the native core name exactly what it has."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tempra import _core

STUBS = Path(__file__).resolve().parents[2] / "python" / "tempra" / "_core.pyi"
REMEDY = "run python bindings/generate_stubs.py"


def declared(body: list[ast.stmt]) -> set[str]:
    """Return the names that a module or class body defines, imports aside."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def public(names: set[str]) -> set[str]:
    return {name for name in names if not name.startswith("__")}


TREE = ast.parse(STUBS.read_text())
CLASSES = [node for node in TREE.body if isinstance(node, ast.ClassDef)]


def test_the_stubs_declare_what_the_core_has() -> None:
    assert public(declared(TREE.body)) == public(set(dir(_core))), REMEDY


@pytest.mark.parametrize("node", CLASSES, ids=lambda node: node.name)
def test_the_stubs_declare_the_members_of_a_class(node: ast.ClassDef) -> None:
    kind = getattr(_core, node.name)
    members = {name for name in vars(kind) if not name.startswith("_")}
    assert public(declared(node.body)) == members, REMEDY
