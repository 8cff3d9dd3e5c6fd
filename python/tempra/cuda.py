"""CUDA: library, driver and devices, or why there are none; a device's memory, and waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tempra import _core
from tempra._core import (
    CudaDevice,
    CudaGraph,
    CudaStatus,
)
from tempra._core import cuda_memory as memory_statistics
from tempra._core import cuda_traffic as traffic
from tempra._core import release_free_cuda_memory as release_free_memory
from tempra._core import reset_peak_cuda_memory as reset_peak_memory
from tempra._core import synchronize_cuda as synchronize

__all__ = [
    "CudaDevice",
    "CudaGraph",
    "CudaStatus",
    "capture",
    "describe",
    "find_library",
    "is_available",
    "memory_statistics",
    "release_free_memory",
    "reset_peak_memory",
    "status",
    "synchronize",
    "traffic",
]

# The package that carries the library, where it was installed by pip.
_PACKAGE = "tempra_cuda"
_LIBRARY = "libtempra_cuda.so"


def _packaged_library() -> Path | None:
    """Return the library of the installed package, found without importing it."""
    spec = find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        if (Path(folder) / _LIBRARY).exists():
            return Path(folder) / _LIBRARY
    return None


def find_library() -> None:
    """Tell the core where the library of the installed package is, before it looks for one."""
    packaged = _packaged_library()
    if packaged is not None and not _core.cuda_library_path():
        _core.set_cuda_library_path(str(packaged))


def status() -> CudaStatus:
    """Look for the CUDA library, load it, and ask it for driver and devices."""
    find_library()
    return _core.cuda_status()


def is_available() -> bool:
    """Return whether there is a CUDA device that the library has code for."""
    return any(device.usable for device in status().devices)


@contextmanager
def capture(device: str = "cuda") -> Iterator[CudaGraph]:
    """Record what is put on a device instead of running it; `launch()` runs the result.

    What varies between launches has to lie in the same device memory each time. Reading from the
    device, or sending to it, raises DeviceError; after any exception nothing is kept. Run what is
    recorded once before.
    """
    graph = CudaGraph(device)
    try:
        yield graph
    except BaseException:
        graph.discard()
        raise
    graph.end()


def describe(found: CudaStatus | None = None) -> list[str]:
    """Return lines on library, driver, attention and devices, or one on why there are none."""
    found = status() if found is None else found
    lines = []
    if found.library_path:
        lines.append(
            f"{found.library_path}, version {found.library_version}, for {found.architectures}, "
            f"CUDA {_version(found.runtime_version)}"
        )
    if found.driver_version:
        lines.append(f"driver runs CUDA {_version(found.driver_version)}")
    if found.attention:
        lines.append(f"attention by {found.attention}")
    lines += [f"cuda:{index}  {_device(device)}" for index, device in enumerate(found.devices)]
    if found.unavailable:
        lines.append(f"unavailable: {found.unavailable.removeprefix('CUDA: ')}")
    return lines


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _device(device: CudaDevice) -> str:
    words = (
        f"{device.name}, compute capability {device.compute_major}.{device.compute_minor}, "
        f"{device.multiprocessors} multiprocessors, {device.free_bytes / 1e9:.1f} of "
        f"{device.total_bytes / 1e9:.1f} GB free"
    )
    return words if device.usable else f"{words}; the library has no code for it"
