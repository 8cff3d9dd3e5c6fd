"""Registers, local memory and widths of memory accesses of every kernel of the built library.

kernel_resources.py LIBRARY [--accesses]

Exits with 1 where a kernel keeps anything in local memory that is not listed here, and, with
--accesses (which disassembles everything: half a minute), where a kernel that is limited by memory
does not load and store 16 bytes at a time; with 77 where there is no cuobjdump (in the toolkit, or
PyPI's nvidia-cuda-cuobjdump with nvidia-cuda-nvdisasm).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

# Sines and cosines of large arguments are reduced through a table of bits that is indexed.
LOCAL_MEMORY_EXPECTED = re.compile(r"map_(one|two)<.*(\(UnaryOp\)1[01]|Chosen)")

# Kernels that are limited by memory, in their form for packs: what must be 16 bytes wide.
WIDE = {
    r"adamw_pieces": "load store",
    r"square_sums": "load",
    r"map_one<8, (\w+), \1, Fixed": "load store",
    r"map_one<4, float, float, Fixed": "load store",
    # Not the derivatives that are 0 everywhere.
    r"map_two<8, (\w+), \1, \1, Fixed(?!<\(UnaryOp\)2[0-3])": "load store",
    r"map_two<4, float, float, float, Fixed(?!<\(UnaryOp\)2[0-3])": "load store",
    r"fill_elements<(2|4|8|16),": "store",
    r"select_elements<(2|4|8|16),": "load store",
    r"swiglu_gradients<[48],": "load store",
    r"softmax(_backward)?_rows<\w+, [48],": "load store",
    r"(layer|rms)_norm(_backward)?_rows<\w+, \w+, [48]>": "load store",
    r"reduce_by_(block|thread)<\w+, \w+, [48],": "load",
    r"copy_rows<\w+, \w+, [48]>": "load store",
    r"rotate_heads<\w+, [48]>": "load store",
    r"draw_packs<": "store",
    r"drop_packs<": "load store",
    r"loss_rows<": "load store",
    r"row_deltas<\w+, [48]>": "load",
    r"forward_tiles<": "load store",
    r"(key|query)_gradients<": "load store",
    r"decode_tiles<": "load store",
    r"decode_teams<float": "load",
}


class Kernel(NamedTuple):
    """What the compiler says of one kernel."""

    name: str
    registers: int
    local_bytes: int
    shared_bytes: int


def find_cuobjdump() -> str | None:
    """Look on PATH, beside nvcc, and in PyPI's package."""
    if found := shutil.which("cuobjdump"):
        return found
    places = [Path(nvcc).parent] if (nvcc := shutil.which("nvcc")) else []
    if (package := find_spec("nvidia")) and package.submodule_search_locations:
        places += [Path(folder) / "cu13" / "bin" for folder in package.submodule_search_locations]
    for place in places:
        if (place / "cuobjdump").is_file():
            return str(place / "cuobjdump")
    return None


def readable(names: list[str]) -> dict[str, str]:
    """Demangle, without namespaces."""
    tool = shutil.which("c++filt")
    text = "\n".join(names)
    if tool is not None:
        text = subprocess.run([tool], input=text, capture_output=True, text=True, check=True).stdout
    text = re.sub(r"tempra::cuda::\(anonymous namespace\)::|tempra::(cuda::)?", "", text)
    lines = [line.removeprefix("void ") for line in text.splitlines()]
    return dict(zip(names, lines, strict=True))


def read_kernels(cuobjdump: str, library: str) -> dict[str, Kernel]:
    """Return every kernel's resources by its mangled name; of several architectures the worst."""
    said = subprocess.run(
        [cuobjdump, "--dump-resource-usage", library], capture_output=True, text=True, check=True
    ).stdout
    pattern = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)")
    kernels: dict[str, Kernel] = {}
    for name, *numbers in pattern.findall(said):
        found = [int(number) for number in numbers]
        if name in kernels:
            found = [max(pair) for pair in zip(found, kernels[name][1:], strict=True)]
        kernels[name] = Kernel(name, *found)
    return kernels


def read_widths(cuobjdump: str, library: str) -> dict[str, Counter[str]]:
    """Count each kernel's loads and stores of 16 bytes of device memory."""
    access = re.compile(r"\b(LDG|LDGSTS|STG)\.\S*128")
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    name = ""
    with subprocess.Popen([cuobjdump, "-sass", library], stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout or ():
            if "Function :" in line:
                name = line.split()[-1]
            elif "128" in line and (found := access.search(line)):
                counts[name]["store" if found[1] == "STG" else "load"] += 1
    return counts


def print_table(kernels: list[Kernel], names: dict[str, str]) -> None:
    """Print one line for all instances of a template."""
    families: dict[str, list[Kernel]] = defaultdict(list)
    for kernel in kernels:
        families[re.split(r"[<(]", names[kernel.name])[0].split("::")[-1]].append(kernel)
    print(f"{'kernel':32} {'instances':>9} {'registers':>9} {'local':>6} {'shared':>7}")
    for family, members in sorted(families.items()):
        most = [max(column) for column in zip(*(member[1:] for member in members), strict=True)]
        print(f"{family[:32]:32} {len(members):9} {most[0]:9} {most[1]:6} {most[2]:7}")


def narrow_kernels(widths: dict[str, Counter[str]], names: dict[str, str]) -> list[str]:
    """Name what should be 16 bytes wide and is not, and patterns that fit no kernel."""
    problems = []
    for pattern, kinds in WIDE.items():
        fitting = [name for name, text in names.items() if re.match(pattern, text)]
        if not fitting:
            problems.append(f"no kernel fits {pattern}")
        problems += [
            f"{names[name]}: no {kind} of 16 bytes"
            for name in fitting
            for kind in kinds.split()
            if widths[name][kind] == 0
        ]
    return problems


def main() -> int:
    """Print the table and what is wrong."""
    library = sys.argv[1]
    cuobjdump = find_cuobjdump()
    if cuobjdump is None:
        print("SKIPPED: no cuobjdump (CUDA toolkit, or PyPI's nvidia-cuda-cuobjdump)")
        return 77
    kernels = read_kernels(cuobjdump, library)
    names = readable(list(kernels))
    print_table(list(kernels.values()), names)
    problems = [
        f"{names[kernel.name]}: {kernel.local_bytes} bytes of local memory"
        for kernel in kernels.values()
        if kernel.local_bytes and not LOCAL_MEMORY_EXPECTED.match(names[kernel.name])
    ]
    if not kernels:
        problems.append(f"{library}: no kernels found")
    if "--accesses" in sys.argv:
        problems += narrow_kernels(read_widths(cuobjdump, library), names)
    print("\n".join(problems) or f"{len(kernels)} kernels: nothing wrong")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
