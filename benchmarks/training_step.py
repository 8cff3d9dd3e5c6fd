"""Full training steps beside PyTorch, interleaved: A B C B C A ..., one process each.

python benchmarks/training_step.py --configs ref-nano llama-nano --dtypes f32 bf16
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness import add_dtypes_argument, append_rows, print_table
from tempra import _core
from tempra.benchmark.isa_environment import isa_environment
from tempra.benchmark.machine import identity
from tempra.benchmark.matrix_peak import measured_peaks
from tempra.benchmark.reference_configs import LLAMA_CONFIGS, REFERENCE_CONFIGS
from tempra.benchmark.samples import LEAST_CPU_SHARE
from tempra.benchmark.training_benchmark import Peers, measure_case, with_limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    configs = {**REFERENCE_CONFIGS, **LLAMA_CONFIGS}
    parser.add_argument(
        "--configs", nargs="+", choices=list(configs), default=list(REFERENCE_CONFIGS)
    )
    add_dtypes_argument(parser)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="per case, all libraries")
    parser.add_argument("--isa", choices=_core.supported_isas(), help="for all libraries")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    parser.add_argument("--output", type=Path, default=None, help="JSON lines are appended here")
    options = parser.parse_args()
    libraries = Peers(not options.no_torch, not options.no_compile).libraries()
    environment = isa_environment(options.isa)
    peaks = measured_peaks(
        options.dtypes, options.threads, torch=not options.no_torch, environment=environment
    )
    rows = []
    for config in options.configs:
        for dtype in options.dtypes:
            case = configs[config].case(dtype)
            result = measure_case(
                case,
                libraries,
                options.threads,
                seconds=options.seconds,
                environment=environment,
            )
            with_limit(result.rows, case, max(peaks[dtype].values()))
            machine = identity(options.threads)
            machine["isa"] = options.isa or machine["isa"]
            rows += [{**row, **machine} for row in result.rows]
            for library, reason in result.failures.items():
                print(f"{case.name}: {library} left out, {reason}", flush=True)
    print_table(
        rows,
        {
            "case": "case",
            "library": "library",
            "tokens_per_second": "tokens/s",
            "ratio": "x best peer",
            "peak_share": "of peak",
            "spread": "spread",
            "cpu_share": "cpu/wall",
            "samples": "samples",
            "dropped": "dropped",
            "below_least_cpu": "below",
            "peak_bytes": "peak MB",
            "memory_ratio": "x its memory",
        },
    )
    if any(row["below_least_cpu"] for row in rows):
        print(
            f"below: too few samples had {100 * LEAST_CPU_SHARE:.0f} % of {options.threads} "
            "threads; so many of those used had less"
        )
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
