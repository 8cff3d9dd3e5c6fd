"""A conversation with a model, through the template it was trained with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tempra._core import ConfigError
from tempra.data.chat_template import ChatTemplate, Segment, response_frame
from tempra.data.conversation import ASSISTANT, SYSTEM, USER, Message
from tempra.data.loss_mask import encode_prompt
from tempra.data.tokenizer import Tokenizer
from tempra.models import GenerationOptions, Transformer
from tempra.train.text_generation import stream_tokens


class ChatSession:
    """Turns so far and the model that answers them.

    What does not fit into the model's context is forgotten, whole exchanges from the oldest on;
    `forgotten` counts them. The system's turn is kept.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        options: GenerationOptions,
        *,
        system: str | None = None,
    ) -> None:
        self._model, self._tokenizer, self._template = model, tokenizer, template
        self._options = options
        self._system = () if system is None else (Message(SYSTEM, system),)
        self._frame = response_frame(template)
        self._end_tokens, self._stop = _ends(tokenizer, self._frame.end)
        self.messages: list[Message] = []
        self.forgotten = 0
        self._answers = 0
        # Whether the last answer ended because it had reached its longest length.
        self.cut_off = False
        # A system's turn that the template has no form for is to be told of now.
        self._tokens([Message(USER, "")])

    def reset(self) -> None:
        """Forget everything that was said."""
        self.messages = []

    def check(self, text: str) -> None:
        """Raise `ConfigError` where a message does not fit into the context."""
        self._fitting([Message(USER, text)])

    def reply(self, text: str) -> Iterator[str]:
        """Yield the answer in pieces as it is written; it joins the turns when it ends.

        However it ends: an answer that is abandoned joins as far as it came. Raises `ConfigError`,
        and forgets the message, where that alone does not fit into the context.
        """
        turns = [*self.messages, Message(USER, text)]
        tokens = self._fitting(turns)
        room = self._model.config.context - len(tokens)
        longest = min(self._options.max_tokens, room)
        options = replace(
            self._options, max_tokens=longest, seed=self._options.seed + self._answers
        )
        self._answers += 1
        self.messages = turns
        return self._answer(tokens, options)

    def _answer(self, tokens: list[int], options: GenerationOptions) -> Iterator[str]:
        written: list[str] = []
        self.cut_off = True
        try:
            for piece in _without_prefix(self._generated(tokens, options), self._frame.prefix):
                written.append(piece)
                yield piece
        finally:
            self.messages.append(Message(ASSISTANT, "".join(written)))

    def _generated(self, tokens: list[int], options: GenerationOptions) -> Iterator[str]:
        def ended() -> None:
            self.cut_off = False

        return stream_tokens(
            self._model,
            self._tokenizer,
            tokens,
            options,
            end_tokens=self._end_tokens,
            stop=self._stop,
            on_end=ended,
        )

    def _fitting(self, turns: list[Message]) -> list[int]:
        """Return the prompt's tokens, and take exchanges off the front of `turns` until it fits."""
        context = self._model.config.context
        tokens = self._tokens(turns)
        # An answer is to have a quarter of the context, or what it may at most need.
        room = max(1, min(self._options.max_tokens, context // 4))
        while len(tokens) + room > context and len(turns) > 1:
            del turns[:2]
            self.forgotten += 1
            tokens = self._tokens(turns)
        if len(tokens) >= context:
            raise ConfigError(
                f"chat: the message takes {len(tokens)} tokens with what the template adds, the "
                f"model's context has {context}; write less"
            )
        return tokens

    def _tokens(self, turns: list[Message]) -> list[int]:
        segments = self._template.render((*self._system, *turns), open_response=True)
        return encode_prompt(self._tokenizer, segments)


def _ends(tokenizer: Tokenizer, end: tuple[Segment, ...]) -> tuple[set[int], tuple[str, ...]]:
    """Return the tokens and the texts that end an answer."""
    tokens = set() if tokenizer.end_of_text is None else {tokenizer.end_of_text}
    if not end:
        return tokens, ()
    mark = tokenizer.control_token(end[0].text) if end[0].control else None
    if mark is None:
        return tokens, (end[0].text,)
    return {*tokens, mark}, ()


def _without_prefix(pieces: Iterator[str], prefix: str) -> Iterator[str]:
    """Leave out what a template puts before an answer, such as the space behind `A:`."""
    held = ""
    awaited = bool(prefix)
    for piece in pieces:
        if not awaited:
            yield piece
            continue
        held += piece
        if len(held) < len(prefix) and prefix.startswith(held):
            continue
        awaited = False
        if rest := held.removeprefix(prefix):
            yield rest
    if awaited and held and held != prefix:
        yield held
