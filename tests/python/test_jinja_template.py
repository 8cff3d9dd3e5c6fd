"""Chat templates in Jinja: tokens and masks, the sandbox, what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from rendered_templates import (
    JINJA_BLOCKS,
    JINJA_CHATML,
    SYSTEM,
    TWO_TURNS,
    bpe,
    learned,
    text_of,
)
from tempra._core import ConfigError, FormatError
from tempra.data.chat_template import (
    TEMPLATES,
    RenderError,
    load_template,
    response_frame,
)
from tempra.data.conversation import Message
from tempra.data.jinja_template import JinjaTemplate
from tempra.data.loss_mask import encode_examples
from tempra.data.tokenizer import END_OF_TEXT


def test_jinja_equals_the_built_in_template_token_by_token() -> None:
    tokenizer = bpe("<|im_start|>", "<|im_end|>")
    turns = (SYSTEM, *TWO_TURNS, Message("user", "x"), Message("assistant", "y", {"weight": 0}))
    for train_on in ("all", "responses", "last_response"):
        expected = encode_examples(tokenizer, [TEMPLATES["chatml"].render(turns)], train_on)[0]
        for source in (JINJA_CHATML, JINJA_BLOCKS):
            template = JinjaTemplate(source)
            assert set(template.marks) == {"<|im_start|>", "<|im_end|>"}
            found = encode_examples(tokenizer, [template.render(turns)], train_on)[0]
            assert tokenizer.decode(found.tokens) == tokenizer.decode(expected.tokens)
            assert found.mask.sum() == expected.mask.sum()
            assert found.tokens[found.mask == 1].tolist() == (
                expected.tokens[expected.mask == 1].tolist()
            )
    frame = response_frame(JinjaTemplate(JINJA_CHATML))
    assert (frame.prefix, [each.text for each in frame.end]) == ("", ["<|im_end|>"])
    prompt = text_of(JinjaTemplate(JINJA_BLOCKS), TWO_TURNS[:1], open_response=True)
    assert prompt == text_of(TEMPLATES["chatml"], TWO_TURNS[:1], open_response=True)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_tokens_and_mask_are_those_of_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    tokenizer = bpe("<|im_start|>", "<|im_end|>")
    backend = tokenizers.Tokenizer.from_str(tokenizer.files()["tokenizer.json"].decode())
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END_OF_TEXT
    ).apply_chat_template(
        [{"role": turn.role, "content": turn.content} for turn in (SYSTEM, *TWO_TURNS)],
        chat_template=JINJA_BLOCKS,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    for template in (JinjaTemplate(JINJA_BLOCKS), TEMPLATES["chatml"]):
        segments = template.render((SYSTEM, *TWO_TURNS))
        tokens, mask = encode_examples(tokenizer, [segments], "responses")[0]
        if isinstance(template, JinjaTemplate):
            assert tokens.tolist() == theirs["input_ids"]
            assert mask.tolist() == theirs["assistant_masks"]
        assert tokenizer.decode(tokens[mask == 1]) == tokenizer.decode(
            np.array(theirs["input_ids"])[np.array(theirs["assistant_masks"]) == 1]
        )


def test_jinja_writes_json_as_the_file_has_it() -> None:
    source = "{{ tools | tojson }}{% for m in messages %}{{ m.content + '|' }}{% endfor %}"
    tools = [{"b": "é<&'", "a": 1}]
    template = JinjaTemplate(source)
    assert text_of(template, TWO_TURNS, tools=tools).startswith('[{"b": "é<&\'", "a": 1}]Hi|')


def test_a_template_that_hides_the_answer_has_no_frame() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}x{% else %}{% generation %}"
        "{{ m.content | upper }}!{% endgeneration %}{% endif %}{% endfor %}"
    )
    with pytest.raises(RenderError, match="template jinja does not show the text of an answer"):
        response_frame(JinjaTemplate(source))


def test_jinja_ends_with_the_end_of_text() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ 'Human: ' + m.content + '\\nBot:' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
    )
    assert learned(JinjaTemplate(source), TWO_TURNS, "responses") == (
        "Human: Hi\nBot:[ Yo$]Human: Bye\nBot:[ Ciao$]"
    )
    frame = response_frame(JinjaTemplate(source))
    assert (frame.prefix, frame.end[0].text) == (" ", END_OF_TEXT)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        # What a turn looks like depends on the turns behind it.
        (
            "{% for m in messages %}{% if loop.last %}!{% endif %}{{ m.content }}|{% endfor %}",
            "turn 1 does not simply follow",
        ),
        # No generation prompt: the header of the answer would be learned.
        (
            "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}",
            "turn 1 does not simply follow the prompt for it",
        ),
        (
            "{% for m in messages %}{{ m.content }}{% endfor %}"
            "{% generation %}x{% endgeneration %}",
            "has 1 generation blocks for 2 turns of the assistant",
        ),
        (
            "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
            "{% endgeneration %}{% endif %}<|end|>{% endfor %}",
            "put the mark that ends the turn inside",
        ),
        (
            "{% for m in messages %}{% filter upper %}{% generation %}{% generation %}"
            "{{ m.content }}{% endgeneration %}{% endgeneration %}{% endfilter %}{% endfor %}",
            "generation blocks are changed",
        ),
        ("{{ raise_exception('only odd turns') }}", "only odd turns"),
        ("{{ messages[9].content.x }}", "is undefined|has no element"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
    ],
)
def test_jinja_templates_that_cannot_be_masked(source: str, words: str) -> None:
    with pytest.raises(RenderError, match=words):
        JinjaTemplate(source).render(TWO_TURNS)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__.items() }}",
    ],
)
def test_jinja_templates_run_in_a_sandbox(source: str) -> None:
    with pytest.raises(RenderError, match=r"unsafe|not safe"):
        JinjaTemplate(source).render(TWO_TURNS)


def test_marks_in_messages_are_refused_with_jinja() -> None:
    template = JinjaTemplate(JINJA_CHATML)
    for message in (
        Message("user", "a <|im_end|> b"),
        Message("user", "x", {"name": "<|im_start|>"}),
        Message("user", END_OF_TEXT),
        Message("user", "\ue0f0"),
    ):
        with pytest.raises(RenderError, match=r"message 0 contains '.*', which cannot be told"):
            template.render((message, TWO_TURNS[1]))
    with pytest.raises(RenderError, match="the tools contains"):
        template.render(TWO_TURNS, [{"name": "<|im_end|>"}])


def test_mistakes_in_jinja_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("line\n{% for %}")
    with pytest.raises(ConfigError, match=r"template mine\.jinja, line 2: "):
        load_template(file)
    file.write_bytes(b"\xff")
    with pytest.raises(FormatError, match=r"mine\.jinja: byte 0 is not valid UTF-8"):
        load_template(file)
    file.write_bytes(b"x" * 2_000_000)
    with pytest.raises(FormatError, match=r"mine\.jinja: has 2000000 bytes, at most"):
        load_template(file)
    with pytest.raises(ConfigError, match="'chatlm' is no file and no known name; did you mean 'c"):
        load_template("chatlm")
    with pytest.raises(ConfigError, match="U\\+E0F0"):
        JinjaTemplate("\ue0f0")


def test_jinja_is_imported_only_when_it_is_used() -> None:
    code = (
        "import sys; from tempra.data.chat_template import load_template; load_template('chatml');"
        "import tempra.data; assert 'jinja2' not in sys.modules;"
        "sys.modules['jinja2'] = None; from tempra.data.jinja_template import JinjaTemplate\n"
        "try: JinjaTemplate('x')\nexcept Exception as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "needs jinja2; install tempra[jinja]" in done.stdout
