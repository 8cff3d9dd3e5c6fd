"""Errors and help in the names of a command's own options, where those stand for settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tempra._core import ConfigError, FormatError

# section.field, section.field=value or argument=value, but no part of a path.
_SETTING = re.compile(r"(?<![\w./'-])([a-z_]+\.[a-z_]+|[a-z_]+(?==))(?:=([^\s;,]+))?(?![\w/'-])")


def in_options(text: str, options: Mapping[str, str]) -> str:
    """Return a text with each setting that has an option in `options` named by that option."""

    def named(found: re.Match[str]) -> str:
        setting, value = found.groups()
        option = options.get(setting)
        if option is None:
            return found[0]
        if value is None:
            return option
        return f"{option} {value}" if option.startswith("-") else f"{option}={value}"

    return _SETTING.sub(named, text)


@contextmanager
def options_named(options: Mapping[str, str]) -> Iterator[None]:
    """Let errors about settings that are raised within speak of the options that stand for them."""
    try:
        yield
    except (ConfigError, FormatError) as error:
        error.args = (in_options(str(error), options), *error.args[1:])
        raise
