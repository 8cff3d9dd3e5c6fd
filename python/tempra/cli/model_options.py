"""Options that several commands take: which model, and how the next token is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

ModelFolder = Annotated[
    Path,
    Parameter(help="Folder of a run, of one of its checkpoints, or a Hugging Face folder."),
]
Device = Annotated[
    str, Parameter(help="Where the model is computed: cpu, cuda, or cuda:N for the N-th device.")
]
Temperature = Annotated[
    float, Parameter(help="0 always takes the likeliest token; 1 samples as learned.")
]
TopK = Annotated[int, Parameter(help="Choose among this many likeliest tokens only; 0 for all.")]
TopP = Annotated[
    float,
    Parameter(help="Choose among the likeliest tokens that together have this probability."),
]
RepetitionPenalty = Annotated[
    float, Parameter(help="Above 1, makes tokens that were there before less likely.")
]
Seed = Annotated[
    int | None, Parameter(help="The same number gives the same text. Default: a new one.")
]
