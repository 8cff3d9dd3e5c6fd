"""The same instruction set for every library: environment variables for the processes measured."""

from __future__ import annotations

# PyTorch's own kernels, oneDNN, OpenBLAS: what each calls the set that we call by the key.
_PEERS: dict[str, tuple[str, str, str]] = {
    "baseline": ("default", "SSE41", "Nehalem"),
    "avx2": ("avx2", "AVX2", "Haswell"),
    "avx512": ("avx512", "AVX512_CORE", "SkylakeX"),
    "avx512_bf16": ("avx512", "AVX512_CORE_BF16", "SkylakeX"),
}


def isa_environment(isa: str | None) -> dict[str, str]:
    """Return variables that hold all libraries to `isa`; none for the best of the machine."""
    if isa is None:
        return {}
    aten, onednn, openblas = _PEERS[isa]
    return {
        "TEMPRA_ISA": isa,
        "ATEN_CPU_CAPABILITY": aten,
        "ONEDNN_MAX_CPU_ISA": onednn,
        "OPENBLAS_CORETYPE": openblas,
    }
