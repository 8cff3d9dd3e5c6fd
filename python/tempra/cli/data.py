"""`tempra data`: prepare text for training, see what a file holds, look at the text itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from tempra.cli.option_names import in_options, options_named
from tempra.train.config_data import DataConfig, TokenizerConfig
from tempra.train.config_section import Section

# What the settings are called that `prepare` and `preview` take as options.
_READING_OPTIONS = {
    "data.train": "TEXT",
    "data.text_field": "--text-field",
    "data.suffixes": "--suffixes",
    "data.separator": "--separator",
    "data.format": "--format",
    "data.template": "--template",
    "data.train_on": "--train-on",
    "data.skip_bad_lines": "--skip-bad-lines",
    "skip_bad_lines": "--skip-bad-lines",
}
_OPTIONS = {
    **_READING_OPTIONS,
    "data.validation": "--validation",
    "data.validation_fraction": "--validation-fraction",
    "data.token_dtype": "--token-dtype",
    "tokenizer.kind": "--tokenizer",
    "tokenizer.vocab_size": "--vocab-size",
    "tokenizer.path": "--tokenizer-path",
}

app = App(name="data", help="Prepare text for training, and look into data files.")


def _help(section: type[DataConfig] | type[TokenizerConfig], field: str) -> Parameter:
    """Return the text of a configuration field, so that it is written once."""
    text = section.model_fields[field].description or ""
    return Parameter(help=in_options(text, _OPTIONS), negative=())


class _Sections(Section):
    """The two sections of a configuration that `prepare` fills from its options."""

    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How text is read; what is not given is left to the configuration."""

    text_field: Annotated[str | None, _help(DataConfig, "text_field")] = None
    suffixes: Annotated[list[str] | None, _help(DataConfig, "suffixes")] = None
    separator: Annotated[str | None, _help(DataConfig, "separator")] = None
    format: Annotated[str | None, _help(DataConfig, "format")] = None
    template: Annotated[str | None, _help(DataConfig, "template")] = None
    train_on: Annotated[str | None, _help(DataConfig, "train_on")] = None
    skip_bad_lines: Annotated[int | None, _help(DataConfig, "skip_bad_lines")] = None


@app.command
def prepare(
    *text: Annotated[
        str, Parameter(help="Files, folders or patterns such as 'books/*.txt'; JSON lines too.")
    ],
    out: Annotated[Path, Parameter(help="Folder to write; give it to data.train afterwards.")],
    validation: Annotated[list[str] | None, _help(DataConfig, "validation")] = None,
    validation_fraction: Annotated[float | None, _help(DataConfig, "validation_fraction")] = None,
    tokenizer: Annotated[str | None, _help(TokenizerConfig, "kind")] = None,
    vocab_size: Annotated[int | None, _help(TokenizerConfig, "vocab_size")] = None,
    tokenizer_path: Annotated[str | None, _help(TokenizerConfig, "path")] = None,
    reading: ReadingOptions = ReadingOptions(),
    token_dtype: Annotated[str | None, _help(DataConfig, "token_dtype")] = None,
    shard_tokens: Annotated[
        int, Parameter(help="Tokens after which a new file begins, at the end of a document.")
    ] = 1 << 28,
    replace: Annotated[
        bool,
        Parameter(help="Replace a dataset in the folder that was made otherwise.", negative=()),
    ] = False,
) -> int:
    """Turn text into token files, once, so that training starts at once.

    Text of any size is read piece by piece. Run again on unchanged text, this does nothing.
    """
    from tempra._core import ConfigError
    from tempra.cli.preparation_progress import PreparationProgress
    from tempra.data.prepare import prepare as run_preparation
    from tempra.train.preparation import preparation_of_sections

    if not text:
        raise ConfigError("data prepare: needs at least one file, folder or pattern")
    if shard_tokens < 1:
        raise ConfigError(f"--shard-tokens: got {shard_tokens}, needs at least 1")
    data = _given(
        train=list(text),
        validation=validation,
        validation_fraction=validation_fraction,
        **asdict(reading),
        token_dtype=token_dtype,
    )
    asked = _given(kind=tokenizer, vocab_size=vocab_size, path=tokenizer_path)
    with options_named(_OPTIONS), PreparationProgress() as progress:
        sections = _Sections.from_mapping({"data": data, "tokenizer": asked})
        preparation = preparation_of_sections(
            sections.data, sections.tokenizer, shard_tokens=shard_tokens
        )
        prepared, reused = run_preparation(preparation, out, replace=replace, progress=progress)
    print(f"{out}: {'already prepared' if reused else 'prepared'}")
    from tempra.cli.inspection import describe_prepared

    print("\n".join(describe_prepared(prepared)))
    print(f"train on it with: tempra train run data.train={out}")
    return 0


@app.command
def inspect(
    path: Annotated[
        Path,
        Parameter(help="A prepared folder, token file, WDBX file, tokenizer or weights file."),
    ],
    /,
    *,
    verify: Annotated[
        bool,
        Parameter(help="Read everything: checksums, boundaries, every token.", negative=()),
    ] = False,
    dtype: Annotated[
        str | None, Parameter(help="u32 or u16, for a token file without .meta.json.")
    ] = None,
    tokenizer: Annotated[
        Path | None, Parameter(help="Folder or file of the tokenizer that shows tokens as text.")
    ] = None,
    as_json: Annotated[
        bool, Parameter(name="--json", help="One JSON object, for programs.", negative=())
    ] = False,
) -> int:
    """Say what a file is and why, how much it holds, and whether it is sound.

    A damaged file is one line that says what is wrong with it, and exit code 1.
    """
    from tempra._core import FormatError
    from tempra.cli.inspection import inspect_path

    try:
        found = inspect_path(path, verify=verify, dtype=dtype, tokenizer=tokenizer)
    except FormatError as error:
        if as_json:
            print(json.dumps({"path": str(path), "sound": False, "error": str(error)}))
        raise
    print(json.dumps(found.record()) if as_json else "\n".join(found.text()))
    return 0


@app.command
def convert(
    source: Annotated[Path, Parameter(help="A token file, or a WDBX token dataset.")],
    destination: Annotated[Path, Parameter(help="The WDBX file or token file to write.")],
    /,
    *,
    mode: Annotated[
        Literal["fail", "replace", "append"],
        Parameter(help="What to do where the destination exists; append is for WDBX."),
    ] = "fail",
    block_tokens: Annotated[
        int | None, Parameter(help="To WDBX: tokens in a block. [default: 2048]")
    ] = None,
    max_tokens: Annotated[
        int | None, Parameter(help="From WDBX: how many tokens to write, 0 for all. [default: 0]")
    ] = None,
) -> int:
    """Turn a token file into a WDBX token dataset, or such a dataset into a token file.

    The direction follows from the source. The destination appears whole or not at all.
    """
    from tempra.cli.conversion import convert as run_conversion

    print(run_conversion(source, destination, mode, block_tokens, max_tokens))
    return 0


@app.command
def import_weights(
    source: Annotated[
        Path, Parameter(help="An ABIC or ABLC checkpoint, or a WDBX file with a model's weights.")
    ],
    destination: Annotated[Path, Parameter(help="The folder to write, in Hugging Face's layout.")],
    /,
    *,
    width: Annotated[int, Parameter(help="Numbers per token inside the model (hidden size).")],
    layers: Annotated[int, Parameter(help="Number of layers.")],
    heads: Annotated[int, Parameter(help="Attention heads.")],
    feed_forward: Annotated[int, Parameter(help="Width of the feed-forward part.")],
    kv_heads: Annotated[
        int | None, Parameter(help="Key/value heads. [default: as many as heads]")
    ] = None,
    vocab_size: Annotated[
        int | None, Parameter(help="Size of the vocabulary. [default: the tokenizer's]")
    ] = None,
    tie_embeddings: Annotated[
        bool | None,
        Parameter(help="Whether the embedding is the output too. [default: what fits the file]"),
    ] = None,
    context: Annotated[int, Parameter(help="Longest sequence, in tokens.")] = 2048,
    norm_epsilon: Annotated[float, Parameter(help="Epsilon of the norms.")] = 1e-5,
    rope_theta: Annotated[float, Parameter(help="Base of the rotary angles.")] = 10000.0,
    tokenizer: Annotated[
        Path | None, Parameter(help="Folder or file of a tokenizer to put beside the weights.")
    ] = None,
) -> int:
    """Turn the flat weights of a LLaMA-like model of the ABI program into a model folder.

    Such files say nothing of the model's sizes, so they must be given; weights whose number does
    not fit them are refused. Nothing that exists is overwritten.
    """
    from tempra.cli.weights_import import import_weights as run_import

    sizes = _given(
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        feed_forward=feed_forward,
        context=context,
        norm_epsilon=norm_epsilon,
        rope_theta=rope_theta,
    )
    lines = run_import(source, destination, tokenizer, vocab_size, tie_embeddings, sizes)
    print("\n".join(lines))
    return 0


@app.command
def preview(
    *text: Annotated[str, Parameter(help="Files, folders or patterns, or one prepared folder.")],
    documents: Annotated[int, Parameter(help="How many documents to show.")] = 3,
    characters: Annotated[int, Parameter(help="How much of each to show.")] = 300,
    split: Annotated[str, Parameter(help="Which split of a prepared folder.")] = "train",
    reading: ReadingOptions = ReadingOptions(),
) -> int:
    """Show the beginning of the first documents, as training will see them.

    Of conversations, what is only read is dim on a terminal; elsewhere what is learned stands
    between [[ and ]].
    """
    from tempra._core import ConfigError
    from tempra.cli.preview import preview_prepared, preview_sources
    from tempra.data.prepared import PreparedDataset, is_prepared

    for name, value in (("documents", documents), ("characters", characters)):
        if value < 1:
            raise ConfigError(f"--{name}: got {value}, needs at least 1")
    if len(text) == 1 and is_prepared(Path(text[0])):
        prepared = PreparedDataset(Path(text[0]))
        notes, shown = preview_prepared(prepared, split, documents, characters)
    else:
        data = _given(train=list(text), **asdict(reading))
        with options_named(_READING_OPTIONS):
            sections = _Sections.from_mapping({"data": data})
            notes, shown = preview_sources(sections.data, documents, characters)
    for note in notes:
        print(note)
    with options_named(_READING_OPTIONS):
        for number, document in enumerate(shown, start=1):
            print(f"--- document {number}")
            print(document)
    return 0


def _given(**values: Any) -> dict[str, Any]:
    """Return the options that were given; the others keep the defaults of the configuration."""
    return {name: value for name, value in values.items() if value is not None}
