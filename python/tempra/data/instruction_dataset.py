"""Instruction data from a file: every example, and every malformed line with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import overload

from tempra._core import ConfigError, FormatError
from tempra.data.conversation import Example
from tempra.data.instruction_formats import AUTO, Detection, ExampleReader, detect_format

# More problems than these are counted, not kept.
_KEPT_LINES = 1000
_SHOWN_LINES = 20


@dataclass(frozen=True)
class MalformedLine:
    """A line that gives no example, and why."""

    path: Path
    number: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}, line {self.number}: {self.reason}"


class MalformedLinesError(FormatError):
    """A file with more malformed lines than were allowed; `lines` holds the first thousand."""

    def __init__(self, message: str, lines: Sequence[MalformedLine]) -> None:
        super().__init__(message)
        self.lines = tuple(lines)


class MalformedLines:
    """Collects malformed lines, and raises where there were more than allowed."""

    def __init__(self, allowed: int) -> None:
        if allowed < 0:
            raise ConfigError(f"skip_bad_lines: got {allowed}, needs 0 or more")
        self.allowed = allowed
        self.count = 0
        self.kept: list[MalformedLine] = []

    def add(self, path: Path, number: int, reason: str) -> None:
        """Count a line."""
        self.count += 1
        if len(self.kept) < _KEPT_LINES:
            self.kept.append(MalformedLine(path, number, reason))

    def check(self, *, examples: int) -> None:
        """Raise `MalformedLinesError`, listing them, where there are more than allowed."""
        if self.count <= self.allowed:
            return
        lines = "line is" if self.count == 1 else "lines are"
        allowed = f", {self.allowed} may be" if self.allowed else ""
        rest = self.count - min(_SHOWN_LINES, len(self.kept))
        listed = "; ".join(map(str, self.kept[:_SHOWN_LINES]))
        raise MalformedLinesError(
            f"{self.count} {lines} malformed beside {examples} good examples{allowed}: {listed}"
            f"{f'; and {rest} more' if rest else ''}. Correct them, or leave them out with "
            f"skip_bad_lines={self.count}",
            self.kept,
        )


@dataclass(frozen=True)
class InstructionDataset(Sequence[Example]):
    """The examples of a file in order, and what was found out on the way.

    `reason` says how the format was known; `malformed` lists the lines that were left out (the
    first thousand; `malformed_count` has all); `ignored_fields` counts fields without a use.
    """

    path: Path
    format: str
    reason: str
    examples: tuple[Example, ...]
    malformed: tuple[MalformedLine, ...] = ()
    malformed_count: int = 0
    ignored_fields: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.examples)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        return self.examples[index]

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)


def parse_instruction_dataset(
    path: str | PathLike[str],
    *,
    format: str = AUTO,
    skip_bad_lines: int = 0,
    text_field: str = "text",
) -> InstructionDataset:
    """Read all examples of a file into memory; `stream_examples` reads one at a time.

    `format` is one of `tempra.data.FORMATS`, or auto. Raises `MalformedLinesError` naming every
    malformed line with its reason, unless there are at most `skip_bad_lines` of them; those are
    left out and listed in the result. A file without a single example raises as well.
    """
    location = Path(path)
    if not location.is_file():
        raise FormatError(f"{location}: no such file")
    found = resolve_format(location, format, text_field=text_field)
    reader = ExampleReader(location, found.format, text_field)
    malformed = MalformedLines(skip_bad_lines)
    examples = tuple(stream_examples(reader, malformed))
    malformed.check(examples=len(examples))
    if not examples:
        raise FormatError(f"{location}: has no example of the format {found.format}")
    return InstructionDataset(
        path=location,
        format=found.format,
        reason=found.reason,
        examples=examples,
        malformed=tuple(malformed.kept),
        malformed_count=malformed.count,
        ignored_fields=reader.ignored_fields,
    )


def resolve_format(path: Path, format: str, *, text_field: str = "text") -> Detection:
    """Return the format that was asked for, or the one that the file has."""
    if format == AUTO:
        return detect_format(path, text_field=text_field)
    return Detection(format, "it was asked for")


def stream_examples(reader: ExampleReader, malformed: MalformedLines) -> Iterator[Example]:
    """Yield the examples of a file one at a time; problems go to `malformed`."""
    for located in reader:
        if located.example is None:
            malformed.add(reader.path, located.line, located.problem or "")
        else:
            yield located.example
