"""Conversations for the tests of chat templates, and what a template makes of them."""

from __future__ import annotations

from collections.abc import Sequence

from tempra.data.bpe_tokenizer import BpeTokenizer
from tempra.data.chat_template import ChatTemplate
from tempra.data.conversation import Message
from tempra.data.loss_mask import TrainOn, encode_examples
from tempra.data.tokenizer import ByteTokenizer

SYSTEM = Message("system", "Be kind.")
TWO_TURNS = (
    Message("user", "Hi"),
    Message("assistant", "Yo"),
    Message("user", "Bye"),
    Message("assistant", "Ciao"),
)
ALPACA_TURN = Message("user", "Add.\n\n1, 2", {"instruction": "Add.", "input": "1, 2"})

JINJA_CHATML = """\
{% for message in messages %}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
JINJA_BLOCKS = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}
{%- generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}
{%- else %}{{ message.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


def text_of(template: ChatTemplate, messages: Sequence[Message], **options: object) -> str:
    return "".join(segment.text for segment in template.render(messages, **options))  # type: ignore[arg-type]


def bpe(*marks: str) -> BpeTokenizer:
    return BpeTokenizer.train(iter(["user assistant Hi Yo Bye"]), 300, marks=marks)


def learned(template: ChatTemplate, messages: Sequence[Message], train_on: TrainOn) -> str:
    """Mark what is learned, byte by byte: [..] around it."""
    tokenizer = ByteTokenizer()
    tokens, mask = encode_examples(tokenizer, [template.render(messages)], train_on)[0]
    shown, inside = "", False
    for token, value in zip(tokens.tolist(), mask.tolist(), strict=True):
        if bool(value) != inside:
            shown += "]" if inside else "["
            inside = bool(value)
        shown += "$" if token == tokenizer.end_of_text else chr(token)
    return shown + ("]" if inside else "")
