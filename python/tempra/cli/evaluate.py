"""`tempra eval`: how well a trained model predicts a text."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from tempra.cli.model_options import Device, ModelFolder
from tempra.cli.option_names import options_named

if TYPE_CHECKING:
    from tempra.data.token_dataset import TokenizedDataset
    from tempra.train.trained_model import TrainedModel

# What the settings are called here that reading a text has.
_OPTIONS = {"data.train": "--data", "data.suffixes": "--data to a pattern such as 'texts/*.py'"}

app = App(name="eval", help="Measure how well a trained model predicts a text.")


@app.default
def evaluate(
    *,
    checkpoint: ModelFolder,
    data: Annotated[
        str,
        Parameter(help="Text (file, folder or pattern), or a folder of `tempra data prepare`."),
    ],
    split: Annotated[
        str, Parameter(help="Which part of a prepared folder: validation or train.")
    ] = "validation",
    block: Annotated[
        int | None, Parameter(help="Tokens read at once. Default: the model's context.")
    ] = None,
    batch_size: Annotated[int, Parameter(help="Sequences computed at once.")] = 8,
    as_json: Annotated[
        bool, Parameter(name="--json", help="Print one JSON object.", negative=())
    ] = False,
    device: Device = "cpu",
) -> int:
    """Print the loss per token and the perplexity over the whole text."""
    from tempra._core import ConfigError
    from tempra.data.batch_source import validation_batches
    from tempra.data.document_batches import document_batches
    from tempra.train.evaluation import evaluate as run_evaluation
    from tempra.train.objective import AutoregressiveObjective
    from tempra.train.trained_model import load_trained_model

    trained = load_trained_model(checkpoint, device=device)
    context = trained.model.config.context
    length = context if block is None else block
    if not 1 <= length <= context:
        raise ConfigError(f"--block: got {length}, needs 1 to the model's context ({context})")
    if batch_size < 1:
        raise ConfigError(f"--batch-size: got {batch_size}, needs at least 1")
    with (
        options_named(_OPTIONS),
        tempfile.TemporaryDirectory(prefix="tempra-eval-") as scratch,
    ):
        dataset, conversations = _open(data, split, trained, Path(scratch))
        in_order = document_batches if conversations else validation_batches
        batches = in_order(dataset, batch_size=batch_size, block=length)
        result = run_evaluation(AutoregressiveObjective(trained.model), batches)
    assert result is not None
    if as_json:
        numbers = {"loss": result.loss, "perplexity": result.perplexity, "tokens": result.tokens}
        print(json.dumps({**numbers, "checkpoint": str(trained.path)}))
    else:
        print(
            f"{data}: loss {result.loss:.4f}, perplexity {result.perplexity:.2f} "
            f"over {result.tokens:,} tokens ({trained.path})"
        )
    return 0


def _open(
    data: str, split: str, trained: TrainedModel, scratch: Path
) -> tuple[TokenizedDataset, bool]:
    """Open prepared tokens made with the model's tokenizer, or tokenize text with it.

    Returns the split, and whether it has conversations, which never see one another.
    """
    from tempra._core import CheckpointError
    from tempra.data.instruction_corpus import InstructionOptions
    from tempra.data.preparation import Preparation
    from tempra.data.prepare import prepare
    from tempra.data.prepared import PreparedDataset, is_prepared
    from tempra.data.tokenizer import save_tokenizer

    if is_prepared(Path(data)):
        prepared = PreparedDataset(Path(data))
        if prepared.manifest.tokenizer_fingerprint != trained.tokenizer.fingerprint:
            raise CheckpointError(
                f"{data} was tokenized with another tokenizer "
                f"({prepared.manifest.tokenizer_fingerprint[:12]}) than the model's "
                f"({trained.tokenizer.fingerprint[:12]}); give the text itself"
            )
        return prepared.dataset(split), prepared.manifest.instructions is not None
    tokenizer = scratch / "tokenizer"
    tokenizer.mkdir()
    save_tokenizer(trained.tokenizer, tokenizer)
    preparation = Preparation(
        train=[data],
        validation_fraction=0.0,
        instructions=InstructionOptions(template=_template_for(data, trained, scratch)),
        tokenizer="file",
        tokenizer_path=str(tokenizer),
    )
    result, _ = prepare(preparation, scratch / "tokens")
    return result.dataset("train"), result.manifest.instructions is not None


def _template_for(data: str, trained: TrainedModel, scratch: Path) -> str | None:
    """Return the model's template as a setting, where the data is conversations."""
    from tempra.data.chat_template import TEMPLATES
    from tempra.data.corpus import Corpus
    from tempra.data.instruction_formats import detect_format
    from tempra.data.instruction_records import TEXT
    from tempra.data.jinja_template import JinjaTemplate

    files = Corpus([data]).files
    template = trained.template()
    if template is None or all(detect_format(file.path).format == TEXT for file in files):
        return None
    if isinstance(template, JinjaTemplate):
        file = scratch / "chat_template.jinja"
        file.write_text(template.source, encoding="utf-8")
        return str(file)
    assert template.name in TEMPLATES
    return template.name
