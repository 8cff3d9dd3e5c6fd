"""The entry point of the `tempra` command: which verbs exist, exit codes, how errors look.

The overview is written from the table below without importing any verb, so that `tempra --help`
answers at once. A verb is a module with a cyclopts `app`; adding one is adding a line.
"""

from __future__ import annotations

import difflib
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple, cast

FINISHED, FAILURE, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 3


class Verb(NamedTuple):
    """A verb of the command: the module whose `app` serves it, and its line in the overview."""

    module: str
    summary: str


VERBS: dict[str, Verb] = {
    "train": Verb("tempra.cli.train", "train a model, continue a run, look at one, plan one"),
    "generate": Verb("tempra.cli.generate", "let a trained model continue a text"),
    "chat": Verb("tempra.cli.chat", "talk to a model that was trained on conversations"),
    "eval": Verb("tempra.cli.evaluate", "measure how well a trained model predicts a text"),
    "data": Verb("tempra.cli.data", "prepare text for training; look into data files"),
    "bench": Verb("tempra.cli.bench", "measure training speed here, beside PyTorch and the limit"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 failed, 2 wrong usage, 3 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        code = _dispatch(given)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("tempra: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # its reader has left
        return FAILURE
    except Exception as error:
        if _is_of_output(error):
            _drop_output()
        if debug:
            raise
        return _report(error)


def _is_of_output(error: Exception) -> bool:
    """Whether this is what a write to a stream, which has no path, fails with on a full disk."""
    from tempra._core import TempraError

    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return (
        isinstance(error, OSError)
        and not isinstance(error, TempraError)
        and error.errno in full
        and error.filename is None
    )


def _drop_output() -> None:
    # What Python still holds of it has nowhere to go.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("--help", "-h"):
        print(overview())
        return FINISHED
    if given[0] == "--version":
        from tempra import __version__

        print(f"tempra {__version__}")
        return FINISHED
    verb = VERBS.get(given[0])
    if verb is None:
        close = difflib.get_close_matches(given[0], VERBS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(VERBS)}"
        print(f"tempra: unknown command {given[0]!r}{hint}", file=sys.stderr)
        return WRONG_USAGE
    return _run(verb, given)


def _run(verb: Verb, given: list[str]) -> int:
    from cyclopts import App, CycloptsError

    # An interruption is reported by `main`, with an exit code of its own.
    root = App(
        name="tempra",
        help_format="plaintext",
        version_flags=[],
        suppress_keyboard_interrupt=False,
    )
    root.command(import_module(verb.module).app, name=given[0])
    try:
        result = root(given, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        message = " ".join(str(error).split())
        print(f"tempra: {message} (see tempra {given[0]} --help)", file=sys.stderr)
        return WRONG_USAGE
    return result if isinstance(result, int) else FINISHED


def _report(error: Exception) -> int:
    from tempra._core import ConfigError, TempraError

    message = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        message = message or "out of memory"
    elif isinstance(error, OSError) and isinstance(error.filename, (str, bytes, os.PathLike)):
        paths = [path for path in (error.filename, error.filename2) if path is not None]
        message = f"{' to '.join(map(os.fsdecode, paths))}: {error.strerror}"
    elif _is_of_output(error):
        message = f"the output cannot be written: {os.strerror(cast(OSError, error).errno or 0)}"
    elif not isinstance(error, (TempraError, OSError)):
        message = f"internal error: {type(error).__name__}: {message}; --debug shows where"
    print(f"tempra: {message}", file=sys.stderr)
    return WRONG_USAGE if isinstance(error, ConfigError) else FAILURE


def overview() -> str:
    """Return the text of `tempra --help`."""
    width = max(map(len, VERBS)) + 2
    lines = [
        "Tempra trains language models on your own text, on this machine.",
        "",
        "Usage: tempra COMMAND [OPTIONS]",
        "",
        "Commands:",
        *(f"  {name:<{width}}{verb.summary}" for name, verb in VERBS.items()),
        "",
        "Options:",
        f"  {'--help':<11}this overview; after a command, what it can do",
        f"  {'--version':<11}the version of this program",
        f"  {'--debug':<11}show where in the program an error came from",
    ]
    return "\n".join(lines)
