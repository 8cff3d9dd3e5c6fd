"""`tempra chat`: talk to a model through the template it was trained with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from tempra.cli.model_options import (
    Device,
    ModelFolder,
    RepetitionPenalty,
    Seed,
    Temperature,
    TopK,
    TopP,
)

if TYPE_CHECKING:
    from tempra.data.chat_template import ChatTemplate
    from tempra.train.chat import ChatSession
    from tempra.train.trained_model import TrainedModel

app = App(name="chat", help="Talk to a model that was trained on conversations.")


@app.default
def chat(
    *,
    checkpoint: ModelFolder,
    template: Annotated[
        str | None,
        Parameter(
            help="chatml, llama3, alpaca, qa, plain, or a file with a Jinja template. Default: the "
            "one the model was trained with."
        ),
    ] = None,
    system: Annotated[
        str | None, Parameter(help="What the model is told before the conversation.")
    ] = None,
    max_tokens: Annotated[int, Parameter(help="Longest answer, in tokens.")] = 512,
    temperature: Temperature = 0.7,
    top_k: TopK = 50,
    top_p: TopP = 1.0,
    repetition_penalty: RepetitionPenalty = 1.0,
    seed: Seed = None,
    device: Device = "cpu",
) -> int:
    """Answer each line of the input. /reset begins anew; /exit or Ctrl-D ends."""
    import secrets

    from tempra.models import GenerationOptions
    from tempra.train.chat import ChatSession
    from tempra.train.trained_model import load_trained_model

    options = GenerationOptions(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        seed=secrets.randbelow(1 << 32) if seed is None else seed,
    )
    trained = load_trained_model(checkpoint, device=device)
    chosen = _choose_template(trained, template)
    session = ChatSession(trained.model, trained.tokenizer, chosen, options, system=system)
    for note in trained.notes:
        _note(note)
    if sys.stdin.isatty():
        _note(f"template {chosen.name}; /reset begins anew, /exit or Ctrl-D ends")
    for line in _lines():
        if line.strip() == "/exit":
            break
        if line.strip() == "/reset":
            session.reset()
        elif line.strip():
            _answer(session, line)
    return 0


def _choose_template(trained: TrainedModel, asked: str | None) -> ChatTemplate:
    from tempra._core import CheckpointError
    from tempra.data.chat_template import load_template

    template = trained.template() if asked is None else load_template(asked)
    if template is None:
        raise CheckpointError(
            f"{trained.path}: has no chat template, so the model was trained on plain text; let it "
            "continue text with tempra generate, or name a template with --template"
        )
    return template


def _lines() -> Iterator[str]:
    """Yield the lines of the input; on a terminal with a prompt and line editing."""
    if not sys.stdin.isatty():
        for line in sys.stdin:
            yield line.rstrip("\r\n")
        return
    import readline  # noqa: F401 (its import is what gives input() its editing)

    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return


def _answer(session: ChatSession, line: str) -> None:
    from tempra._core import ConfigError

    forgotten = session.forgotten
    try:
        pieces = session.reply(line)
    except ConfigError as error:
        _note(str(error))
        return
    if session.forgotten > forgotten:
        _note(f"the first {session.forgotten} exchanges no longer fit and are forgotten")
    try:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        # Ends the answer, not the conversation.
        _close(pieces)
    else:
        if session.cut_off:
            print(flush=True)
            _note("the answer was cut off at its longest length (--max-tokens, or the context)")
            return
    print(flush=True)


def _close(pieces: Iterator[str]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()


def _note(text: str) -> None:
    print(f"tempra: {text}", file=sys.stderr, flush=True)
