"""One JSON record of each format to an example, or a `RecordError` that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tempra.data.conversation import (
    ASSISTANT,
    SYSTEM,
    TOOL,
    USER,
    Conversation,
    Message,
    PlainText,
    PreferencePair,
)

Record = Mapping[str, Any]

_ROLES = (SYSTEM, "developer", USER, ASSISTANT, TOOL, "function")
_SHAREGPT_ROLES = {
    "system": SYSTEM,
    "human": USER,
    "user": USER,
    "gpt": ASSISTANT,
    "chatgpt": ASSISTANT,
    "bing": ASSISTANT,
    "bard": ASSISTANT,
    "model": ASSISTANT,
    "assistant": ASSISTANT,
    "function_call": ASSISTANT,
    "tool": TOOL,
    "function": TOOL,
    "function_response": TOOL,
    "observation": TOOL,
}


class RecordError(Exception):
    """What is wrong with one record; the reader adds file and line."""


def check_text(value: Any, name: str) -> str:
    """Return a value that must be text which UTF-8 can hold."""
    if not isinstance(value, str):
        raise RecordError(f"{name} is of type {type(value).__name__}, needs text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RecordError(f"{name} has half a surrogate pair at character {error.start}") from None
    return value


def _check_verbatim(value: Any, name: str) -> None:
    """Refuse JSON that could not be written as UTF-8 again."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise RecordError(f"{name} has half a surrogate pair") from None


def _field(record: Record, name: str) -> str:
    if name not in record:
        names = ", ".join(repr(known) for known in list(record)[:8]) or "no fields"
        raise RecordError(f"has no field {name!r} (it has {names})")
    return check_text(record[name], f"field {name!r}")


def _filled(record: Record, name: str) -> str:
    text = _field(record, name)
    if not text.strip():
        raise RecordError(f"field {name!r} is empty")
    return text


def _optional(record: Record, name: str) -> str:
    return "" if record.get(name) is None else _field(record, name)


def read_text(record: Record, field: str) -> PlainText:
    """Read the text of a record."""
    if field not in record:
        names = ", ".join(repr(name) for name in list(record)[:8]) or "no fields"
        raise RecordError(f"has no field {field!r} (it has {names}); set data.text_field")
    return PlainText(_field(record, field))


def read_alpaca(record: Record) -> Conversation:
    """Read instruction, input (optional), output; system and history where they are given."""
    instruction, given = _filled(record, "instruction"), _optional(record, "input")
    messages = []
    if system := _optional(record, "system"):
        messages.append(Message(SYSTEM, system))
    history = record.get("history")
    if history is not None and not isinstance(history, list):
        raise RecordError(f"field 'history' is of type {type(history).__name__}, needs a list")
    for number, pair in enumerate(history or ()):
        if not isinstance(pair, list) or len(pair) != 2:
            raise RecordError(f"history[{number}] is no pair of an instruction and an answer")
        asked, answered = (check_text(part, f"history[{number}]") for part in pair)
        messages += [
            Message(USER, asked, {"instruction": asked, "input": ""}),
            Message(ASSISTANT, answered),
        ]
    asked = f"{instruction}\n\n{given}" if given.strip() else instruction
    messages.append(Message(USER, asked, {"instruction": instruction, "input": given}))
    messages.append(Message(ASSISTANT, _filled(record, "output")))
    return Conversation(tuple(messages))


def read_prompt_completion(record: Record) -> Conversation:
    """Read prompt and completion: texts, or lists of messages."""
    prompt, completion = record.get("prompt"), record.get("completion")
    if isinstance(prompt, list) or isinstance(completion, list):
        messages = (*_turns(record, "prompt", USER), *_turns(record, "completion", ASSISTANT))
        return Conversation(_with_response(messages), _tools(record))
    asked, answer = _field(record, "prompt"), _filled(record, "completion")
    return Conversation((Message(USER, asked), Message(ASSISTANT, answer)))


def read_preference(record: Record) -> PreferencePair:
    """Read prompt, chosen and rejected: texts, or lists of messages."""
    prompt = _turns(record, "prompt", USER)
    chosen, rejected = (_turns(record, name, ASSISTANT) for name in ("chosen", "rejected"))
    # Some files repeat the prompt in front of both answers.
    count = len(prompt)
    if chosen[:count] == prompt and rejected[:count] == prompt:
        chosen, rejected = chosen[count:], rejected[count:]
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if not any(turn.role == ASSISTANT and _says_something(turn) for turn in turns):
            raise RecordError(f"field {name!r} has no answer of the assistant")
    if chosen == rejected:
        raise RecordError("fields 'chosen' and 'rejected' are the same")
    return PreferencePair(prompt, chosen, rejected, _tools(record))


def read_messages(record: Record) -> Conversation:
    """Read `messages` with role and content; everything else in them is kept verbatim."""
    return Conversation(_with_response(_list_of(record, "messages", read_message)), _tools(record))


def read_sharegpt(record: Record) -> Conversation:
    """Read `conversations` with from and value."""
    turns = _list_of(record, "conversations", _sharegpt_turn)
    if (system := _optional(record, "system")) and turns[0].role != SYSTEM:
        turns = (Message(SYSTEM, system), *turns)
    return Conversation(_with_response(turns), _tools(record))


def read_message(turn: Any, place: str) -> Message:
    """Read one message in OpenAI's form."""
    if not isinstance(turn, dict):
        raise RecordError(f"{place} is of type {type(turn).__name__}, needs an object")
    role = check_text(turn.get("role"), f"{place}.role")
    if role not in _ROLES:
        raise RecordError(f"{place}.role is {role!r}, needs one of {', '.join(_ROLES)}")
    fields = {name: value for name, value in turn.items() if name not in ("role", "content")}
    if fields:
        _check_verbatim(fields, place)
    content = turn.get("content")
    if content is None and any(fields.get(name) for name in ("tool_calls", "function_call")):
        text = ""
    elif isinstance(content, list):
        text = "".join(_text_part(part, f"{place}.content") for part in content)
    else:
        text = check_text(content, f"{place}.content")
    message = Message(TOOL if role == "function" else role, text, fields)
    if message.role == ASSISTANT and not _says_something(message):
        raise RecordError(f"{place} is an empty answer of the assistant")
    return message


def _text_part(part: Any, place: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if kind != "text":
        raise RecordError(f"{place} has a part of type {kind!r}; only text can be trained on")
    return check_text(part.get("text"), f"{place}.text")


def _sharegpt_turn(turn: Any, place: str) -> Message:
    if not isinstance(turn, dict):
        raise RecordError(f"{place} is of type {type(turn).__name__}, needs an object")
    speaker = check_text(turn.get("from"), f"{place}.from")
    role = _SHAREGPT_ROLES.get(speaker)
    if role is None:
        known = ", ".join(_SHAREGPT_ROLES)
        raise RecordError(f"{place}.from is {speaker!r}, needs one of {known}")
    message = Message(role, check_text(turn.get("value"), f"{place}.value"))
    if role == ASSISTANT and not message.content.strip():
        raise RecordError(f"{place} is an empty answer of the assistant")
    return message


def _list_of(record: Record, name: str, read: Callable[[Any, str], Message]) -> tuple[Message, ...]:
    turns = record.get(name)
    if name not in record:
        raise RecordError(f"has no field {name!r}")
    if not isinstance(turns, list):
        raise RecordError(f"field {name!r} is of type {type(turns).__name__}, needs a list")
    if not turns:
        raise RecordError(f"field {name!r} is an empty list")
    return tuple(read(turn, f"{name}[{number}]") for number, turn in enumerate(turns))


def _turns(record: Record, name: str, role: str) -> tuple[Message, ...]:
    """Read a field that is a text of one role or a list of messages."""
    if isinstance(record.get(name), list):
        return _list_of(record, name, read_message)
    return (Message(role, _field(record, name)),)


def _with_response(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    if not any(message.role == ASSISTANT for message in messages):
        raise RecordError("has no answer of the assistant")
    return messages


def _says_something(message: Message) -> bool:
    calls = any(message.fields.get(name) for name in ("tool_calls", "function_call"))
    return calls or bool(message.content.strip())


def _tools(record: Record) -> tuple[Any, ...]:
    """Return the tool definitions verbatim; some files hold them as JSON inside a text."""
    tools = record.get("tools")
    if tools is None or tools == "":
        return ()
    _check_verbatim(tools, "field 'tools'")
    if isinstance(tools, list):
        return tuple(tools)
    return (check_text(tools, "field 'tools'"),)
