"""`tempra generate`: let a trained model continue a text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

app = App(name="generate", help="Let a trained model continue a text.")


@app.default
def generate(
    *,
    checkpoint: Annotated[
        Path,
        Parameter(help="Folder of a run, of one of its checkpoints, or a Hugging Face folder."),
    ],
    prompt: Annotated[
        str | None,
        Parameter(help="The text to continue. Default: none; - reads it from the input."),
    ] = None,
    max_tokens: Annotated[int, Parameter(help="Longest continuation, in tokens.")] = 256,
    temperature: Annotated[
        float, Parameter(help="0 always takes the likeliest token; 1 samples as learned.")
    ] = 0.8,
    top_k: Annotated[
        int, Parameter(help="Choose among this many likeliest tokens only; 0 for all.")
    ] = 50,
    top_p: Annotated[
        float,
        Parameter(help="Choose among the likeliest tokens that together have this probability."),
    ] = 1.0,
    repetition_penalty: Annotated[
        float, Parameter(help="Above 1, makes tokens that were there before less likely.")
    ] = 1.0,
    seed: Annotated[
        int | None, Parameter(help="The same number gives the same text. Default: a new one.")
    ] = None,
    samples: Annotated[int, Parameter(help="How many continuations to write.")] = 1,
    stop: Annotated[
        list[str] | None,
        Parameter(help="End before this text; may be given several times.", negative=()),
    ] = None,
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
    trained = load_trained_model(checkpoint)
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
