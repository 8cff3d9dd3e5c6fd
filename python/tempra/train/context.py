"""Where a run takes place: folder, seed, threads and the machine's kernels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tempra import _core


@dataclass(frozen=True)
class Context:
    """The surroundings of a run; `apply` makes them those of this process."""

    run_folder: Path | None = None
    seed: int = 1337
    threads: int | None = None
    device: str = "cpu"

    def apply(self) -> Context:
        """Check the device, set the number of threads and seed the default generator."""
        _core.check_device(self.device)
        if self.threads is not None:
            _core.set_num_threads(self.threads)
        _core.manual_seed(self.seed)
        return self

    @property
    def isa(self) -> str:
        """Instruction set of the kernels in use."""
        return _core.current_isa()
