"""`tempra bench`: training speed and memory on this machine, beside PyTorch's and the limit."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from tempra.benchmark.report import BenchmarkReport

FINISHED, INTERRUPTED = 0, 3

app = App(name="bench", help="Measure training speed on this machine, beside PyTorch's.")


@app.default
def bench(
    *,
    configs: Annotated[
        list[str] | None,
        Parameter(
            help="Models: ref-nano, ref-baby, ref-mid, ref-gpt2. Default: those that fit the time.",
            consume_multiple=True,
            negative=(),
        ),
    ] = None,
    dtypes: Annotated[
        list[str] | None,
        Parameter(help="fp32, bf16. Default: both.", consume_multiple=True, negative=()),
    ] = None,
    threads: Annotated[
        int | None, Parameter(help="For every library. Default: all processors.")
    ] = None,
    seconds: Annotated[
        float,
        Parameter(help="For everything; models that are named are measured even if it takes more."),
    ] = 170.0,
    isa: Annotated[
        str | None, Parameter(help="Hold every library to baseline, avx2, avx512 or avx512_bf16.")
    ] = None,
    torch: Annotated[
        bool, Parameter(help="Compare with PyTorch, where it is installed.", negative="--no-torch")
    ] = True,
    compiled: Annotated[
        bool, Parameter(help="Compare with torch.compile too.", negative="--no-compiled")
    ] = True,
    json: Annotated[
        Path | None,
        Parameter(
            help="Write everything as JSON to this file; - prints it instead of the table.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    chart: Annotated[Path | None, Parameter(help="Draw an SVG into this file.")] = None,
) -> int:
    """Train reference models for a moment: tokens per second, memory, distance to the limit.

    Full training steps (forward, backward, clipping, AdamW) with the same sizes, dtype, batch and
    threads, the libraries in turns, each in a process of its own. The limit is what the fastest
    matrix product found on this machine would allow. Best on a machine that does nothing else.
    """
    from tempra.benchmark.machine import identity
    from tempra.benchmark.machine_benchmark import BenchmarkOptions, MachineBenchmark
    from tempra.benchmark.report import BenchmarkReport
    from tempra.benchmark.training_benchmark import Peers

    options = BenchmarkOptions(
        configs=_configs(configs),
        dtypes=_dtypes(dtypes),
        threads=_threads(threads),
        seconds=_seconds(seconds),
        peers=Peers(torch, compiled),
        isa=_isa(isa),
    )
    if json is not None and str(json) != "-":
        _check_writable("--json", json)
    if chart is not None:
        _check_writable("--chart", chart)
    machine = identity(options.threads)
    report = BenchmarkReport({**machine, "isa": options.isa or machine["isa"]})
    if torch and len(options.peers.libraries()) == 1:
        _announce("PyTorch is not installed here: there is nothing to compare with")
    # Asked to end, it does as after Ctrl-C: no process is left behind, no row is lost.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        MachineBenchmark(options, report, _announce).run()
    except KeyboardInterrupt:
        report.interrupted = True
    finally:
        signal.signal(signal.SIGTERM, before)
    _write(report, json, chart)
    return INTERRUPTED if report.interrupted else FINISHED


def _announce(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write(report: BenchmarkReport, json: Path | None, chart: Path | None) -> None:
    from tempra import _core
    from tempra.benchmark.report_table import print_report

    if str(json) == "-":
        print(report.to_json())
    else:
        print_report(report)
    if json is not None and str(json) != "-":
        _core.write_file_atomic(str(json), f"{report.to_json()}\n".encode())
        _announce(f"rows in {json}")
    if chart is not None and report.cases:
        from tempra.benchmark.bar_chart import training_chart

        drawn = training_chart(report.cases, report.machine)
        _core.write_file_atomic(str(chart), drawn.encode())
        _announce(f"chart in {chart}")


def _configs(given: list[str] | None) -> tuple[str, ...]:
    from tempra.benchmark.reference_configs import REFERENCE_CONFIGS

    return _known("--configs", given, {name: name for name in REFERENCE_CONFIGS})


def _dtypes(given: list[str] | None) -> tuple[str, ...]:
    return _known("--dtypes", given, {"fp32": "f32", "bf16": "bf16", "f32": "f32"}) or (
        "f32",
        "bf16",
    )


def _known(option: str, given: list[str] | None, known: dict[str, str]) -> tuple[str, ...]:
    """Return what the names given stand for, each once, in the order given."""
    import difflib

    from tempra._core import ConfigError

    for name in given or ():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{option}: got {name!r}, needs one of {', '.join(known)}{hint}")
    return tuple(dict.fromkeys(known[name] for name in given or ()))


def _threads(given: int | None) -> int:
    from tempra._core import ConfigError
    from tempra.benchmark.machine import usable_cpus

    most = usable_cpus()
    threads = most if given is None else given
    if not 1 <= threads <= most:
        raise ConfigError(
            f"--threads: got {threads}, needs 1 to {most}, the processors this process may use"
        )
    return threads


def _seconds(given: float) -> float:
    from tempra._core import ConfigError

    if not 1 <= given <= 86400:  # not a number is neither
        raise ConfigError(f"--seconds: got {given:g}, needs 1 to 86400")
    return given


def _isa(given: str | None) -> str | None:
    from tempra import _core

    if given is not None and given not in _core.supported_isas():
        raise _core.ConfigError(
            f"--isa: got {given!r}, this machine has {', '.join(_core.supported_isas())}"
        )
    return given


def _check_writable(option: str, path: Path) -> None:
    """Find out before minutes of measuring that the result could not be kept."""
    if path.is_dir():
        raise IsADirectoryError(f"{option}: {path} is a folder, needs the name of a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{option}: {path}: the folder {path.parent} does not exist")
    try:
        if path.exists():
            path.open("ab").close()
        else:
            tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise OSError(f"{option}: {path} cannot be written: {error.strerror}") from error
