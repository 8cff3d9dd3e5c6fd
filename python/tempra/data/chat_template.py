"""Chat templates: how the turns of a conversation become text that a model reads.

A template gives segments, each tokenized by itself: so the tokens of an answer are the same in
training and in a chat, and it is exact which of them belong to it. Marks of the template are single
tokens where the vocabulary has them; text of a message is never one, whatever it contains.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tempra._core import ConfigError, FormatError
from tempra.data.conversation import ASSISTANT, SYSTEM, TOOL, USER, Message
from tempra.data.tokenizer import END_OF_TEXT

CHAT_TEMPLATE_FILE = "chat_template.tempra.json"
_LARGEST_FILE = 1 << 20
# Raised when the text of a built-in template changes, so that no model meets another by its name.
_REVISION = 1


class RenderError(FormatError):
    """A conversation that a template has no form for."""


class Segment(NamedTuple):
    """A piece of rendered text that is tokenized by itself.

    `response` numbers the answer that it belongs to, end-of-turn mark included; None for what the
    model only reads. `control` marks a mark of the template.
    """

    text: str
    response: int | None = None
    control: bool = False


class ChatTemplate(Protocol):
    """Turns to segments."""

    @property
    def name(self) -> str:
        """The template's name, for people."""

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks that a vocabulary should have as single tokens."""

    def render(
        self, messages: Sequence[Message], tools: Sequence[Any] = (), *, open_response: bool = False
    ) -> list[Segment]:
        """Render the turns; `open_response` ends where the assistant's next words come.

        Raises `RenderError` for turns that the template has no form for.
        """

    def definition(self) -> dict[str, Any]:
        """Return what `template_from_definition` needs."""


class _Turn(NamedTuple):
    """A turn's parts: what leads in, what an answer consists of, what follows it."""

    before: tuple[Segment, ...]
    body: tuple[Segment, ...]
    after: tuple[Segment, ...] = ()


def _text(text: str) -> tuple[Segment, ...]:
    return (Segment(text),) if text else ()


@cache
def _mark(text: str) -> Segment:
    return Segment(text, control=True)


# (message, whether it is the first) -> its parts
TurnFormat = Callable[[Message, bool], _Turn]


@dataclass(frozen=True)
class BuiltInTemplate:
    """A template of this library, put together turn by turn."""

    name: str
    marks: tuple[str, ...]
    turn: TurnFormat
    opening: tuple[Segment, ...] = ()
    # Whether there is a form for tool calls, their results and tool definitions.
    has_tools: bool = False

    def render(
        self, messages: Sequence[Message], tools: Sequence[Any] = (), *, open_response: bool = False
    ) -> list[Segment]:
        """Render the turns."""
        turns = _with_tools(messages, tools)
        if not self.has_tools:
            self._refuse_tools(turns, tools)
        segments = list(self.opening)
        response = 0
        for number, message in enumerate(turns):
            parts = self.turn(message, number == 0)
            segments += parts.before
            if message.is_response:
                segments += [Segment(each.text, response, each.control) for each in parts.body]
                response += 1
            else:
                segments += parts.body
            segments += parts.after
        if open_response:
            segments += self.turn(Message(ASSISTANT, ""), not turns).before
        return segments

    def definition(self) -> dict[str, Any]:
        """Return what `template_from_definition` needs."""
        return {"name": self.name, "revision": _REVISION}

    def _refuse_tools(self, turns: Sequence[Message], tools: Sequence[Any]) -> None:
        has_calls = any(turn.role == TOOL or _tool_calls(turn) for turn in turns)
        if tools or has_calls:
            able = ", ".join(name for name, each in TEMPLATES.items() if each.has_tools)
            raise RenderError(
                f"template {self.name} has no form for tools; use {able} or a Jinja template"
            )


def _with_tools(messages: Sequence[Message], tools: Sequence[Any]) -> list[Message]:
    """Write the definitions of tools at the end of the system's turn."""
    if not tools:
        return list(messages)
    definitions = [each if isinstance(each, str) else _as_json(each) for each in tools]
    listed = "\n".join(["Tools:", *definitions])
    if messages and messages[0].role == SYSTEM:
        first = messages[0]
        return [Message(SYSTEM, f"{first.content}\n\n{listed}", first.fields), *messages[1:]]
    return [Message(SYSTEM, listed), *messages]


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _tool_calls(message: Message) -> list[Any]:
    if not message.fields:
        return []
    calls = message.fields.get("tool_calls") or []
    single = message.fields.get("function_call")
    return [*(calls if isinstance(calls, list) else [calls]), *([single] if single else [])]


def _content(message: Message) -> str:
    """Return the text of a turn and the tool calls in it, each as the file has it."""
    calls = [f"<tool_call>\n{_as_json(call)}\n</tool_call>" for call in _tool_calls(message)]
    return "\n".join([message.content, *calls] if message.content else calls)


def _chatml(message: Message, first: bool) -> _Turn:
    end, after = (_mark("<|im_end|>"),), _text("\n")
    if message.role == ASSISTANT:
        before = (_mark("<|im_start|>"), Segment("assistant\n"))
        return _Turn(before, (*_text(_content(message)), *end), after)
    before = (_mark("<|im_start|>"), Segment(f"{message.role}\n{_content(message)}"))
    return _Turn(before, end, after)


def _llama3(message: Message, first: bool) -> _Turn:
    role = "ipython" if message.role == TOOL else message.role
    before = (_mark("<|start_header_id|>"), Segment(role), _mark("<|end_header_id|>"))
    end = (_mark("<|eot_id|>"),)
    if message.role == ASSISTANT:
        return _Turn((*before, Segment("\n\n")), (*_text(_content(message)), *end))
    return _Turn((*before, Segment(f"\n\n{_content(message)}")), end)


def _alpaca(message: Message, first: bool) -> _Turn:
    gap = "" if first else "\n\n"
    if message.role == ASSISTANT:
        lead = Segment(f"{gap}### Response:\n")
        return _Turn((lead,), (*_text(message.content), _mark(END_OF_TEXT)))
    if message.role != USER:
        return _Turn((Segment(f"{gap}{message.content}"),), ())
    instruction = str(message.fields.get("instruction", message.content))
    given = str(message.fields.get("input", ""))
    asked = f"{gap}### Instruction:\n{instruction}"
    return _Turn((Segment(asked + (f"\n\n### Input:\n{given}" if given.strip() else "")),), ())


def _questions(message: Message, first: bool) -> _Turn:
    gap = "" if first else "\n"
    if message.role == ASSISTANT:
        # The space belongs to the answer: most vocabularies have words with one before them.
        return _Turn((Segment(f"{gap}A:"),), (Segment(f" {message.content}"), _mark(END_OF_TEXT)))
    lead = "Q: " if message.role == USER else ""
    return _Turn((Segment(f"{gap}{lead}{message.content}"),), ())


def _plain(message: Message, first: bool) -> _Turn:
    if message.role == ASSISTANT:
        return _Turn((), (*_text(message.content), _mark(END_OF_TEXT)))
    return _Turn(_text(message.content), ())


TEMPLATES: dict[str, BuiltInTemplate] = {
    each.name: each
    for each in (
        BuiltInTemplate("chatml", ("<|im_start|>", "<|im_end|>"), _chatml, has_tools=True),
        BuiltInTemplate(
            "llama3",
            ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
            _llama3,
            opening=(_mark("<|begin_of_text|>"),),
            has_tools=True,
        ),
        BuiltInTemplate("alpaca", (), _alpaca),
        BuiltInTemplate("qa", (), _questions),
        BuiltInTemplate("plain", (), _plain),
    )
}


@dataclass(frozen=True)
class ResponseFrame:
    """What a template puts around an answer: text before it, segments that end the turn."""

    prefix: str
    end: tuple[Segment, ...]


def response_frame(template: ChatTemplate) -> ResponseFrame:
    """Find out what stands around an answer by rendering one."""
    word = "pong"
    segments = template.render((Message(USER, "ping"), Message(ASSISTANT, word)))
    answer = [segment for segment in segments if segment.response is not None]
    for number, segment in enumerate(answer):
        prefix, found, rest = segment.text.partition(word)
        if found and not segment.control:
            before = "".join(each.text for each in answer[:number]) + prefix
            return ResponseFrame(before, (*_text(rest), *answer[number + 1 :]))
    raise RenderError(f"template {template.name} does not show the text of an answer")


def load_template(name: str | os.PathLike[str]) -> ChatTemplate:
    """Return a built-in template by its name, the Jinja template in a file, or that of a folder."""
    known = TEMPLATES.get(os.fspath(name))
    if known is not None:
        return known
    path = Path(name)
    if path.is_dir() and (saved := load_saved_template(path)) is not None:
        return saved
    if not path.is_file():
        close = difflib.get_close_matches(os.fspath(name), TEMPLATES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(TEMPLATES)}"
        raise ConfigError(f"template: {os.fspath(name)!r} is no file and no known name; {hint}")
    from tempra.data.jinja_template import JinjaTemplate

    return JinjaTemplate(_read(path), name=path.name, bos_token=_begin_token(path.parent))


def template_file(template: ChatTemplate) -> bytes:
    """Return the content of `chat_template.tempra.json`, saved beside a tokenizer."""
    values = {"format": "tempra-chat-template", "version": 1, **template.definition()}
    return (json.dumps(values, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def load_saved_template(folder: Path) -> ChatTemplate | None:
    """Return the template saved in a folder, or the Jinja template of a Hugging Face folder."""
    file = folder / CHAT_TEMPLATE_FILE
    if file.is_file():
        try:
            values = json.loads(_read(file))
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{file}: is not a chat template: {error}") from None
        return template_from_definition(file, values)
    source = _hugging_face_source(folder)
    if source is None:
        return None
    from tempra.data.jinja_template import JinjaTemplate

    return JinjaTemplate(source, name="chat_template", bos_token=_begin_token(folder))


def template_from_definition(file: Path, values: Any) -> ChatTemplate:
    """Return the template that a saved file describes."""
    if not isinstance(values, Mapping) or values.get("format") != "tempra-chat-template":
        raise FormatError(f"{file}: is not a chat template")
    if values.get("version") != 1:
        raise FormatError(f"{file}: has version {values.get('version')!r}, this program knows 1")
    name, source = values.get("name"), values.get("source")
    if isinstance(source, str) and isinstance(name, str):
        from tempra.data.jinja_template import JinjaTemplate

        return JinjaTemplate(source, name=name, bos_token=str(values.get("bos_token", "")))
    if not isinstance(name, str) or name not in TEMPLATES or values.get("revision") != _REVISION:
        raise FormatError(
            f"{file}: template {name!r} of revision {values.get('revision')!r} is unknown; this "
            f"program has {', '.join(TEMPLATES)} of revision {_REVISION}"
        )
    return TEMPLATES[name]


def _hugging_face_source(folder: Path) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return _read(file)
    source = _hugging_face_setting(folder, "chat_template")
    return source if isinstance(source, str) else None


def _begin_token(folder: Path) -> str:
    """Return the mark that texts of a Hugging Face folder begin with; empty where there is none."""
    stated = _hugging_face_setting(folder, "bos_token")
    content = stated.get("content") if isinstance(stated, Mapping) else stated
    return content if isinstance(content, str) else ""


def _hugging_face_setting(folder: Path, name: str) -> Any:
    configuration = folder / "tokenizer_config.json"
    try:
        # The file is optional, and what else is in it is not ours to judge.
        return json.loads(_read(configuration)).get(name) if configuration.is_file() else None
    except (ValueError, RecursionError, AttributeError):
        return None


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise FormatError(f"{path}: has {path.stat().st_size} bytes, at most {_LARGEST_FILE}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: byte {error.start} is not valid UTF-8") from None
