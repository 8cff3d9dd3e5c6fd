"""What one example of a data set is: a conversation, a preference pair, or plain text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

SYSTEM, USER, ASSISTANT, TOOL = "system", "user", "assistant", "tool"


@dataclass(frozen=True)
class Message:
    """One turn. `fields` holds what else the file said of it, verbatim: tool calls, names, ids.

    A user turn of the Alpaca format has `instruction` and `input` there as well, because that
    format's template sets them apart.
    """

    role: str
    content: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_response(self) -> bool:
        """Whether this is a turn that a model is to learn: weight 0 marks one that it is not."""
        return self.role == ASSISTANT and self.fields.get("weight", 1) != 0


@dataclass(frozen=True)
class Conversation:
    """Turns in order, at least one of them the assistant's; `tools` verbatim as the file has it."""

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] = ()


@dataclass(frozen=True)
class PreferencePair:
    """One prompt with a better and a worse way to go on."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    tools: tuple[Any, ...] = ()


@dataclass(frozen=True)
class PlainText:
    """A document without turns."""

    text: str


Example: TypeAlias = Conversation | PreferencePair | PlainText
