"""Talking to a model: turns through its template, ends of answers, forgetting, the command."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import tempra.train.chat as chat_module
from tempra._core import ConfigError
from tempra.cli.main import main
from tempra.data.bpe_tokenizer import BpeTokenizer
from tempra.data.chat_template import TEMPLATES, RenderError
from tempra.data.conversation import Message
from tempra.data.jinja_template import JinjaTemplate
from tempra.data.loss_mask import encode_examples
from tempra.data.tokenizer import ByteTokenizer, Tokenizer
from tempra.models import GenerationOptions, Transformer, TransformerConfig
from tempra.train.chat import ChatSession
from tempra.train.trained_model import load_trained_model

SETTINGS = {
    "data.validation_fraction": 0.1,
    "model.width": 48,
    "model.layers": 2,
    "model.heads": 2,
    "train.block": 64,
    "train.batch_size": 8,
    "train.steps": 120,
    "optimizer.lr": 0.01,
    "schedule.warmup_steps": 0,
    "evaluation.sample_tokens": 0,
}


def train(folder: Path, text: str, **settings: Any) -> Path:
    file = folder / "data.txt"
    file.write_text(text)
    chosen = {
        **SETTINGS,
        "data.train": file,
        "data.cache": folder / "cache",
        "checkpoint.dir": folder / "run",
        **{name.replace("__", "."): value for name, value in settings.items()},
    }
    assert main(["train", "run", *(f"{name}={value}" for name, value in chosen.items())]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers `yes` to all, trained in ChatML with a vocabulary that has its marks."""
    text = "".join(f"Q: Is it {word}{n}?\nA: yes\n" for n in range(40) for word in ("red", "blue"))
    return train(
        tmp_path_factory.mktemp("chatml"),
        text,
        data__template="chatml",
        tokenizer__vocab_size=290,
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = "the quick brown fox jumps over the lazy dog. " * 60
    return train(tmp_path_factory.mktemp("plain"), text, tokenizer__kind="char", train__steps=2)


def talk(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    said: str,
    *arguments: object,
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "stdin", io.StringIO(said))
    code = main(["chat", *(str(argument) for argument in arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# The command


def test_a_conversation_through_the_input(
    colours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "Is it red3?\n\nIs it blue9?\n/reset\nIs it red1?\n/exit\nIs it red4?\n"
    code, out, err = talk(
        monkeypatch, capsys, said, "--checkpoint", colours, "--temperature", 0, "--max-tokens", 9
    )
    assert (code, out, err) == (0, "yes\nyes\nyes\n", "")


def command_for(run: Path) -> list[str]:
    return [sys.executable, "-m", "tempra", "chat", "--checkpoint", str(run), "--temperature", "0"]


def test_the_command_as_a_person_pipes_into_it(colours: Path) -> None:
    done = subprocess.run(
        command_for(colours),
        input="Is it red5?\n",
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "yes\n", "")


def test_the_command_on_a_terminal_ends_with_control_d(colours: Path) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command_for(colours), stdin=slave, stdout=slave, stderr=slave, env=os.environ
    )
    os.close(slave)
    seen, done = b"", 0
    for awaited, typed in ((b"> ", b"Is it red5?\n"), (b"yes\r\n", b""), (b"> ", b"\x04")):
        while awaited not in seen[done:]:
            seen += os.read(master, 4096)
        done = seen.index(awaited, done) + len(awaited)
        os.write(master, typed)
    assert process.wait(timeout=30) == 0
    os.close(master)
    assert b"template chatml; /reset begins anew, /exit or Ctrl-D ends" in seen


def test_samples_of_a_run_are_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "".join(f"Q: Is it red{n}?\nA: yes\n" for n in range(60))
    settings = {"tokenizer__kind": "byte", "evaluation__sample_tokens": 9}
    train(tmp_path, text, evaluation__sample_prompt="Is it red3?", **settings)
    assert "--- the model writes:\nIs it red3?\nyes\n---" in capsys.readouterr().out
    (tmp_path / "long").mkdir()
    with pytest.raises(AssertionError):
        train(tmp_path / "long", text, evaluation__sample_prompt="x" * 70, **settings)
    assert "chat: the message takes 76 tokens" in capsys.readouterr().err


def test_the_marks_are_tokens_and_end_the_answer(colours: Path) -> None:
    trained = load_trained_model(colours)
    template = trained.template()
    assert template is TEMPLATES["chatml"]
    end = trained.tokenizer.control_token("<|im_end|>")
    session = ChatSession(trained.model, trained.tokenizer, template, GenerationOptions())
    assert session._end_tokens == {trained.tokenizer.end_of_text, end}
    assert session._stop == ()


def test_a_model_of_plain_text_has_no_template(
    plain: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = talk(monkeypatch, capsys, "the\n", "--checkpoint", plain)
    assert (code, out) == (1, "")
    assert "has no chat template" in err
    assert "--template" in err
    # Named, it is used as far as the model's alphabet goes.
    code, out, err = talk(
        monkeypatch, capsys, "the\n", "--checkpoint", plain, "--template", "chatlm"
    )
    assert code == 2
    assert "did you mean 'chatml'?" in err


def test_messages_longer_than_the_context_are_refused(
    colours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "x" * 500 + "\nIs it red3?\n"
    code, out, err = talk(monkeypatch, capsys, said, "--checkpoint", colours, "--temperature", 0)
    assert (code, out) == (0, "yes\n")
    assert "chat: the message takes 5" in err
    assert "the model's context has 64; write less" in err


def test_a_cut_answer_is_told(
    colours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = talk(
        monkeypatch, capsys, "Is it red3?\n", "--checkpoint", colours, "--max-tokens", 1,
        "--temperature", 0,
    )  # fmt: skip
    assert code == 0
    assert "yes".startswith(out.strip())
    assert "cut off at its longest length" in err


def test_evaluation_uses_the_template_and_the_mask(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = {}
    for name, answer in (("right", "yes"), ("wrong", "no!")):
        file = tmp_path / f"{name}.txt"
        file.write_text(f"Q: Is it red3?\nA: {answer}\n" * 4)
        assert main(["eval", "--checkpoint", str(colours), "--data", str(file), "--json"]) == 0
        losses[name] = float(capsys.readouterr().out.split('"loss": ')[1].split(",")[0])
    assert losses["right"] < 0.1
    assert losses["wrong"] > 1


# The session, with a scripted model


class Script:
    """Stands in for the model: records prompts, writes what it is told to."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.prompts: list[list[int]] = []
        self.options: list[GenerationOptions] = []

    def __call__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        tokens: Sequence[int],
        options: GenerationOptions,
        *,
        end_tokens: Collection[int],
        stop: Sequence[str],
        on_end: Callable[[], None],
    ) -> Iterator[str]:
        self.prompts.append(list(tokens))
        self.options.append(options)
        yield from self.answers[len(self.prompts) - 1]
        on_end()


def session(
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    template: str = "qa",
    *,
    context: int = 200,
    tokenizer: Tokenizer | None = None,
    **options: Any,
) -> ChatSession:
    monkeypatch.setattr(chat_module, "stream_tokens", script)
    chosen = tokenizer or ByteTokenizer()
    config = TransformerConfig.for_family(
        "gpt2", vocab_size=chosen.vocab_size, width=16, layers=1, heads=1, context=context
    )
    model = Transformer(config)
    return ChatSession(
        model,
        chosen,
        TEMPLATES[template],
        GenerationOptions(max_tokens=options.pop("max_tokens", 20), seed=5),
        **options,
    )


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_prompts_are_the_tokens_of_training(monkeypatch: pytest.MonkeyPatch, template: str) -> None:
    """Every prompt is the beginning of the very tokens that the whole conversation trains on."""
    space = " " if template == "qa" else ""
    script = Script([space, "o", "ne"], [f"{space}two"])
    tokenizer = BpeTokenizer.train(
        iter(["What else? one two Be kind."]), 320, marks=TEMPLATES[template].marks
    )
    chat = session(monkeypatch, script, template, tokenizer=tokenizer, system="Be kind.")
    assert "".join(chat.reply("What?")) == "one"
    assert "".join(chat.reply("What else?")) == "two"
    assert [(message.role, message.content) for message in chat.messages] == [
        ("user", "What?"),
        ("assistant", "one"),
        ("user", "What else?"),
        ("assistant", "two"),
    ]
    whole = [Message("system", "Be kind."), *chat.messages]
    segments = TEMPLATES[template].render(whole)
    tokens, mask = encode_examples(tokenizer, [segments], "last_response")[0]
    assert script.prompts[1] == tokens[: int(mask.argmax())].tolist()
    assert [options.seed for options in script.options] == [5, 6]
    chat.reset()
    script.answers.append(["three"])
    list(chat.reply("What?"))
    assert script.prompts[2] == script.prompts[0]


def test_old_exchanges_are_forgotten_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(*(["x" * 10] for _ in range(6)))
    chat = session(monkeypatch, script, context=100, max_tokens=60, system="Sys.")
    for number in range(6):
        list(chat.reply(f"Question {number}?"))
    tokenizer = ByteTokenizer()
    texts = [tokenizer.decode(prompt) for prompt in script.prompts]
    assert all(len(prompt) + 25 <= 100 for prompt in script.prompts)
    assert chat.forgotten > 0
    assert all(text.startswith("Sys.\nQ: Question ") for text in texts)
    assert texts[-1].count("Q: ") == texts[-1].count("A: x") + 1
    assert texts[-1].endswith("Q: Question 5?\nA:")
    longest = [options.max_tokens for options in script.options]
    assert longest == [min(60, 100 - len(prompt)) for prompt in script.prompts]


def test_a_message_that_does_not_fit_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(["a"], ["b"])
    chat = session(monkeypatch, script, context=60)
    list(chat.reply("One?"))
    with pytest.raises(ConfigError, match=r"takes \d+ tokens with what the template adds"):
        chat.reply("x" * 60)
    assert [message.content for message in chat.messages] == ["One?", "a"]
    list(chat.reply("Two?"))
    assert len(script.prompts) == 2


def test_an_abandoned_answer_joins_as_far_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = session(monkeypatch, Script(["a", "b", "c"]), "chatml")
    pieces = chat.reply("One?")
    assert next(pieces) == "a"
    pieces.close()  # type: ignore[attr-defined]
    assert [message.content for message in chat.messages] == ["One?", "a"]
    assert chat.cut_off


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([" yes"], "yes"),
        ([" ", "yes"], "yes"),
        (["", " ", " yes"], " yes"),
        (["yes"], "yes"),
        ([" "], ""),
        ([], ""),
    ],
)
def test_the_space_before_an_answer_is_the_template_s(
    monkeypatch: pytest.MonkeyPatch, pieces: list[str], expected: str
) -> None:
    chat = session(monkeypatch, Script(pieces))
    assert "".join(chat.reply("What?")) == expected


def test_ends_that_are_no_token_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = session(monkeypatch, Script(), "chatml")
    assert (chat._end_tokens, chat._stop) == ({256}, ("<|im_end|>",))
    source = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}"
    source += "{% if add_generation_prompt %}assistant: {% endif %}"
    model = chat._model
    spoken = ChatSession(model, ByteTokenizer(), JinjaTemplate(source), GenerationOptions())
    assert (spoken._end_tokens, spoken._stop) == ({256}, ("\n",))


def test_a_template_that_cannot_have_a_system_says_so_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chat = session(monkeypatch, Script(), "chatml")
    source = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    with pytest.raises(RenderError, match="no system"):
        ChatSession(
            chat._model, ByteTokenizer(), JinjaTemplate(source), GenerationOptions(), system="x"
        )
