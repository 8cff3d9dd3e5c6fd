"""`import tempra` is light: NumPy and the native core, nothing else until it is used."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import numpy
before = set(sys.modules)
import tempra
loaded = {name for name in set(sys.modules) - before if not name.startswith("numpy")}
print(" ".join(sorted(loaded)))
"""


def test_import_loads_only_numpy_and_the_core():
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    # `importlib` and `typing` are part of the interpreter's own start or cheap parts of it.
    allowed = {"tempra", "tempra._core", "typing", "importlib"}
    extra = {name for name in run.stdout.split() if name.partition(".")[0] not in allowed}
    extra |= {name for name in run.stdout.split() if name.startswith("tempra.")} - allowed
    assert not extra, f"import tempra also loads {sorted(extra)}"


def test_public_names_resolve():
    import tempra

    missing = [name for name in tempra.__all__ if not hasattr(tempra, name)]
    assert not missing


# What users of the systems that this one follows look for.
DATA_NAMES = [
    "Batch",
    "BatchIterator",
    "DataLoader",
    "SequencePacker",
    "TokenizedDataset",
    "WdbxTokenDataset",
    "parse_instruction_dataset",
    "read_token_bin_file",
    "token_bin_to_wdbx",
    "wdbx_to_token_bin",
    "write_token_bin_file",
]


@pytest.mark.parametrize("name", DATA_NAMES)
def test_names_for_data_are_at_the_top_and_load_when_used(name):
    program = f"""
import sys, tempra
assert not any(module.startswith("tempra.data") for module in sys.modules)
assert callable(tempra.{name})
assert any(module.startswith("tempra.data") for module in sys.modules)
assert "{name}" in dir(tempra)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_operations_module_exports_what_it_names():
    import tempra.ops

    assert sorted(tempra.ops.__all__) == sorted(set(tempra.ops.__all__))
    assert all(callable(getattr(tempra.ops, name)) for name in tempra.ops.__all__)
