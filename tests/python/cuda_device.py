"""The CUDA device of the tests: a real one with --device cuda, else the emulated one, if built.

The emulated device runs the library's own kernels on the CPU (cuda/emulation), and host code that
follows a pointer into its memory ends the process: a hidden read of the host's cannot pass.
"""

from __future__ import annotations

import os
from pathlib import Path

EMULATED = Path(__file__).resolve().parents[2] / "build" / "emulated" / "libtempra_cuda_emulated.so"
HOW_TO_BUILD = (
    "the emulated CUDA device is not built: cmake -S cuda/emulation -B build/emulated && "
    "cmake --build build/emulated"
)

# Of every operation: a dtype that kernels of the device do not compute in.
REFUSED_DTYPES = ("f64",)


def use_emulated_device() -> None:
    """Let the library be the emulated one, unless another was named."""
    if EMULATED.exists() and not os.environ.get("TEMPRA_CUDA_LIBRARY"):
        os.environ["TEMPRA_CUDA_LIBRARY"] = str(EMULATED)
        os.environ["TEMPRA_EMULATION_PROTECT"] = "1"
