"""`tempra generate`: let a trained model continue a text."""

from __future__ import annotations

import sys
from typing import Annotated

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

app = App(name="generate", help="Let a trained model continue a text.")


@app.default
def generate(
    *,
    checkpoint: ModelFolder,
    prompt: Annotated[
        str | None,
        Parameter(help="The text to continue. Default: none; - reads it from the input."),
    ] = None,
    max_tokens: Annotated[int, Parameter(help="Longest continuation, in tokens.")] = 256,
    temperature: Temperature = 0.8,
    top_k: TopK = 50,
    top_p: TopP = 1.0,
    repetition_penalty: RepetitionPenalty = 1.0,
    seed: Seed = None,
    samples: Annotated[int, Parameter(help="How many continuations to write.")] = 1,
    stop: Annotated[
        list[str] | None,
        Parameter(help="End before this text; may be given several times.", negative=()),
    ] = None,
    device: Device = "cpu",
) -> int:
    """Write the prompt and what the model makes of it, as it comes."""
    import secrets

    from tempra._core import ConfigError
    from tempra.models import GenerationOptions
    from tempra.train.text_generation import stream_text
    from tempra.train.trained_model import load_trained_model

    if samples < 1:
        raise ConfigError(f"--samples: got {samples}, needs at least 1")
    first_seed = secrets.randbelow(1 << 32) if seed is None else seed
    options = [
        GenerationOptions(
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
            seed=first_seed + number,
        )
        for number in range(samples)
    ]
    text = sys.stdin.read() if prompt == "-" else (prompt or "")
    trained = load_trained_model(checkpoint, device=device)
    for note in trained.notes:
        print(f"tempra: {note}", file=sys.stderr)
    for number, chosen in enumerate(options):
        if number:
            print("\n---")
        pieces = stream_text(trained.model, trained.tokenizer, text, chosen, stop=stop or ())
        sys.stdout.write(text)
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        print()
    return 0
