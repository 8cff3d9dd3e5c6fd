"""Dialogues in plain text: `Q:`/`A:` and `User:`/`Assistant:`, with markers at line starts only.

Everything up to the next marker belongs to a turn, line breaks included; white space around it does
not. A marker inside a line, or after a space, is text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tempra.data.conversation import ASSISTANT, SYSTEM, USER, Conversation, Message
from tempra.data.json_records import LONGEST_RECORD

QUESTION_MARKERS: Mapping[str, str] = {"Q:": USER, "A:": ASSISTANT}
DIALOGUE_MARKERS: Mapping[str, str] = {
    "System:": SYSTEM,
    "User:": USER,
    "Assistant:": ASSISTANT,
}


class MarkedExample(NamedTuple):
    """A conversation and the line it begins on; `problem` says why there is none."""

    line: int
    conversation: Conversation | None
    problem: str | None = None


@dataclass
class _Turn:
    line: int
    marker: str
    lines: list[str]
    after_blank: bool
    characters: int = 0

    def text(self) -> str:
        return "\n".join(self.lines).strip()


def marker_of(line: str, markers: Mapping[str, str]) -> str | None:
    """Return the marker that a line begins with."""
    return next((marker for marker in markers if line.startswith(marker)), None)


def text_lines(chunks: Iterable[str]) -> Iterator[str]:
    """Return the lines of a text that comes in chunks, without their ends."""
    pending = ""
    for chunk in chunks:
        *complete, pending = (pending + chunk).split("\n")
        yield from (line.removesuffix("\r") for line in complete)
    if pending:
        yield pending


def read_questions(lines: Iterable[str]) -> Iterator[MarkedExample]:
    """Read pairs of `Q:` and `A:`; each is an example of its own."""
    question: _Turn | None = None
    for turn in _turns(lines, QUESTION_MARKERS):
        if isinstance(turn, MarkedExample):
            yield turn
        elif turn.marker == "Q:":
            if question is not None:
                yield MarkedExample(question.line, None, "'Q:' has no 'A:' after it")
            question = turn
        elif question is None:
            yield MarkedExample(turn.line, None, "'A:' has no 'Q:' before it")
        else:
            yield _conversation([question, turn], QUESTION_MARKERS)
            question = None
    if question is not None:
        yield MarkedExample(question.line, None, "'Q:' has no 'A:' after it")


def read_dialogues(lines: Iterable[str]) -> Iterator[MarkedExample]:
    """Read dialogues; `System:`, or `User:` after an empty line, begins a new one."""
    turns: list[_Turn] = []
    characters, too_long = 0, False
    for turn in _turns(lines, DIALOGUE_MARKERS):
        if isinstance(turn, MarkedExample):
            yield turn
            continue
        begins = turn.marker == "System:" or (turn.marker == "User:" and turn.after_blank)
        # A system turn and the first question of its dialogue may have an empty line between them.
        if begins and turns and not (turn.marker == "User:" and turns[-1].marker == "System:"):
            yield _conversation(turns, DIALOGUE_MARKERS)
            turns = []
        too_long = too_long and not begins
        if too_long:
            continue
        characters = (characters if turns else 0) + turn.characters
        turns.append(turn)
        # Without an empty line in it, a whole file is one dialogue: memory is to stay bounded.
        if characters > LONGEST_RECORD:
            line = turns[0].line
            yield MarkedExample(line, None, f"has more than {LONGEST_RECORD} characters")
            turns, too_long = [], True
    if turns:
        yield _conversation(turns, DIALOGUE_MARKERS)


def _turns(lines: Iterable[str], markers: Mapping[str, str]) -> Iterator[_Turn | MarkedExample]:
    turn: _Turn | None = None
    blank = stray = False
    for number, line in enumerate(lines, start=1):
        marker = marker_of(line, markers)
        if marker is not None:
            if turn is not None:
                yield turn
            turn = _Turn(number, marker, [line.removeprefix(marker)], blank, len(line) + 1)
            stray = False
        elif turn is not None:
            turn.lines.append(line)
            turn.characters += len(line) + 1
            if turn.characters > LONGEST_RECORD:
                yield MarkedExample(turn.line, None, f"has more than {LONGEST_RECORD} characters")
                turn, stray = None, True
        elif line.strip() and not stray:
            stray = True  # one report for all lines up to the next marker
            known = ", ".join(markers)
            yield MarkedExample(number, None, f"text before the first marker ({known})")
        blank = not line.strip()
    if turn is not None:
        yield turn


def _conversation(turns: list[_Turn], markers: Mapping[str, str]) -> MarkedExample:
    line = turns[0].line
    before = ""
    for turn in turns:
        needed = {"Assistant:": ("User:",), "User:": ("", "System:", "Assistant:")}
        if before not in needed.get(turn.marker, (before,)):
            place = f"after {before!r}" if before else "at the start of a dialogue"
            return MarkedExample(turn.line, None, f"{turn.marker!r} stands {place}")
        if not turn.text():
            return MarkedExample(turn.line, None, f"{turn.marker!r} has no text")
        before = turn.marker
    if markers[before] != ASSISTANT:
        return MarkedExample(turns[-1].line, None, f"{before!r} has no answer after it")
    messages = tuple(Message(markers[turn.marker], turn.text()) for turn in turns)
    return MarkedExample(line, Conversation(messages))
