"""A user's chat template in Jinja, run in a sandbox, with exact bounds of each answer.

Where the template marks answers with `{% generation %}` blocks, those decide. Otherwise an answer
is what its turn adds behind the prompt for it; that holds only for templates that render earlier
turns the same whatever follows, so it is checked for every conversation and refused where it fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from tempra._core import ConfigError
from tempra.data.chat_template import RenderError, Segment
from tempra.data.conversation import ASSISTANT, Message
from tempra.data.tokenizer import END_OF_TEXT

# Marks as published templates write them.
_MARKS = re.compile(
    r"<\|[^|<>\s]{1,64}\|>|</?s>|<(?:bos|eos|start_of_turn|end_of_turn)>|\[/?[A-Z_]{2,32}\]"
)
# Private characters that stand at the bounds of a generation block while it is measured.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"


class _Span(NamedTuple):
    begin: int
    end: int


class JinjaTemplate:
    """A Jinja template.

    It sees `messages`, `tools`, `add_generation_prompt`, `bos_token` and `eos_token`; the latter
    stands for the end of text, whatever the tokenizer calls it.
    """

    def __init__(self, source: str, *, name: str = "jinja", bos_token: str = "") -> None:
        self.name, self.source, self.bos_token = name, source, bos_token
        if _OPEN in source or _CLOSE in source:
            raise ConfigError(f"template {name}: has the private character U+E0F0 or U+E0F1")
        self._template, tags = _compile(source, name)
        self._has_generation = tags > 0
        found = dict.fromkeys(_MARKS.findall(source))
        if bos_token and "bos_token" in source:
            found[bos_token] = None
        self._control = (*(mark for mark in found if mark != END_OF_TEXT), END_OF_TEXT)
        # Longer marks first, so that none hides behind its own beginning.
        longest = sorted(map(re.escape, self._control), key=len, reverse=True)
        self._cut = re.compile("(" + "|".join(longest) + ")")

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks in the template's own text."""
        return tuple(mark for mark in self._control if mark != END_OF_TEXT)

    def definition(self) -> dict[str, Any]:
        """Return what restores the template."""
        return {"name": self.name, "source": self.source, "bos_token": self.bos_token}

    def render(
        self, messages: Sequence[Message], tools: Sequence[Any] = (), *, open_response: bool = False
    ) -> list[Segment]:
        """Render the turns."""
        self._refuse_marks(messages, tools)
        text = self._text(messages, tools, open_response)
        if self._has_generation:
            spans = self._generation_spans(text, messages, tools, open_response)
        else:
            spans = self._added_spans(text, messages, tools)
        segments: list[Segment] = []
        done = response = 0
        answers = (message for message in messages if message.role == ASSISTANT)
        for span, message in zip(spans, answers, strict=True):
            segments += self._segments(text[done : span.begin], None)
            number = response if message.is_response else None
            segments += self._segments(text[span.begin : span.end], number)
            response += message.is_response
            done = span.end
        return segments + self._segments(text[done:], None)

    def _segments(self, text: str, response: int | None) -> list[Segment]:
        parts = enumerate(self._cut.split(text))
        return [Segment(part, response, number % 2 == 1) for number, part in parts if part]

    def _refuse_marks(self, messages: Sequence[Message], tools: Sequence[Any]) -> None:
        """Refuse text that could not be told from the template's own marks afterwards."""
        for number, message in enumerate(messages):
            values = (message.content, json.dumps(dict(message.fields), ensure_ascii=False))
            self._refuse_in(values, f"message {number}")
        self._refuse_in([json.dumps(list(tools), ensure_ascii=False)], "the tools")

    def _refuse_in(self, values: Sequence[str], place: str) -> None:
        for value in values:
            found = self._cut.search(value)
            private = next((mark for mark in (_OPEN, _CLOSE) if mark in value), None)
            if found or private:
                mark = found.group() if found else private
                raise RenderError(
                    f"{place} contains {mark!r}, which cannot be told from a mark of the template "
                    f"{self.name}"
                )

    def _text(
        self,
        messages: Sequence[Message],
        tools: Sequence[Any],
        open_response: bool,
        *,
        measured: bool = False,
    ) -> str:
        import jinja2

        try:
            return self._template.render(
                messages=[
                    {**message.fields, "role": message.role, "content": message.content}
                    for message in messages
                ],
                tools=list(tools) or None,
                add_generation_prompt=open_response,
                bos_token=self.bos_token,
                eos_token=END_OF_TEXT,
                generation_bounds=(_OPEN, _CLOSE) if measured else ("", ""),
            )
        except jinja2.TemplateError as error:
            raise RenderError(f"template {self.name}: {error.message}") from None
        except (ArithmeticError, LookupError, OverflowError, TypeError, ValueError) as error:
            kind = type(error).__name__
            raise RenderError(f"template {self.name}: {kind}: {error}") from None

    def _generation_spans(
        self, text: str, messages: Sequence[Message], tools: Sequence[Any], open_response: bool
    ) -> list[_Span]:
        marked = self._text(messages, tools, open_response, measured=True)
        spans: list[_Span] = []
        plain, opened = "", None
        for part in re.split(f"([{_OPEN}{_CLOSE}])", marked):
            if part == _OPEN and opened is None:
                opened = len(plain)
            elif part == _CLOSE and opened is not None:
                spans.append(_Span(opened, len(plain)))
                opened = None
            else:
                plain += part
        if plain != text or opened is not None:
            raise RenderError(
                f"template {self.name}: its generation blocks are changed after they are written "
                "(by a filter around them, or one inside another), so answers cannot be found"
            )
        answers = [message for message in messages if message.role == ASSISTANT]
        if len(spans) != len(answers):
            raise RenderError(
                f"template {self.name}: has {len(spans)} generation blocks for {len(answers)} "
                "turns of the assistant, needs one for each"
            )
        for span, message in zip(spans, answers, strict=True):
            inside = text[span.begin : span.end].strip()
            if span.end < len(text) and inside and inside == message.content.strip():
                raise RenderError(
                    f"template {self.name}: a generation block ends with the answer's text; put "
                    "the mark that ends the turn inside, or the model never learns to stop"
                )
        return spans

    def _added_spans(
        self, text: str, messages: Sequence[Message], tools: Sequence[Any]
    ) -> list[_Span]:
        spans = []
        for number, message in enumerate(messages):
            if message.role != ASSISTANT:
                continue
            prompt = self._text(messages[:number], tools, True)
            whole = self._text(messages[: number + 1], tools, False)
            content = message.content.strip()
            added = whole[len(prompt) :]
            if not (
                whole.startswith(prompt)
                and text.startswith(whole)
                and added.lstrip().startswith(content)
            ):
                raise RenderError(
                    f"template {self.name}: turn {number} does not simply follow the prompt for "
                    "it, so where the answer begins is not certain; put {% generation %} and "
                    "{% endgeneration %} around the answer and its end mark in the template"
                )
            # White space behind the mark that ends a turn leads to the next one.
            behind = added[added.index(content) + len(content) :] if content else added
            loose = len(behind) - len(behind.rstrip()) if behind.strip() else 0
            spans.append(_Span(len(prompt), len(whole) - loose))
        return spans


def _compile(source: str, name: str) -> tuple[Any, int]:
    """Return the compiled template and how many generation blocks it has."""
    try:
        import jinja2
        from jinja2 import nodes
        from jinja2.ext import Extension
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise ConfigError(
            f"template {name}: a template of your own needs jinja2; install tempra[jinja]"
        ) from None
    tags = 0

    class Generation(Extension):
        """`{% generation %}`: its bounds are written around what the block gives."""

        tags = {"generation"}  # noqa: RUF012 (jinja2 reads it from the class)

        def parse(self, parser: Any) -> Any:
            nonlocal tags
            tags += 1
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return [self._bound(0, line), *body, self._bound(1, line)]

        def _bound(self, index: int, line: int) -> Any:
            bounds = nodes.Name("generation_bounds", "load", lineno=line)
            bound = nodes.Getitem(bounds, nodes.Const(index), "load", lineno=line)
            return nodes.Output([bound], lineno=line)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def to_json(value: Any, indent: int | None = None) -> str:
        # Jinja's own escapes for HTML, which no chat is.
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment.globals["raise_exception"] = raise_exception
    environment.filters["tojson"] = to_json
    try:
        return environment.from_string(source), tags
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(f"template {name}, line {error.lineno}: {error.message}") from None
