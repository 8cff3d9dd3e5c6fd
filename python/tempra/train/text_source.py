"""The tokenized text of a run: prepared before, or made from raw text and kept for the next run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tempra._core import CheckpointError, ConfigError
from tempra.checkpoint import Checkpoint
from tempra.data.preparation import Preparation, PrepareProgress
from tempra.data.prepare import prepare
from tempra.data.prepared import PreparedDataset, is_prepared
from tempra.data.standard_library import standard_library_sources
from tempra.data.tokenizer import load_tokenizer
from tempra.train.config import LlmTrainingConfig
from tempra.train.config_data import DataConfig, TokenizerConfig
from tempra.train.preparation import (
    preparation_of_sections,
    tokenizer_folder,
    tokenizer_section,
)

CACHE_FOLDER = ".tempra-cache"


def open_text(
    config: LlmTrainingConfig,
    *,
    checkpoint: Checkpoint | None = None,
    progress: PrepareProgress | None = None,
) -> PreparedDataset:
    """Open or make the tokenized text; raises CheckpointError where a resumed run had another."""
    tokenizer = tokenizer_section(config, checkpoint)
    prepared = open_source(config.data, config.tokenizer, tokenizer, progress=progress)
    if config.evaluation.interval and not prepared.has_validation:
        raise ConfigError(
            f"evaluation.interval: got {config.evaluation.interval}, but {prepared.folder} was "
            "prepared without validation text"
        )
    if checkpoint is not None:
        check_model_files(prepared.model_files(), checkpoint, str(prepared.folder))
    return prepared


def open_source(
    data: DataConfig,
    asked: TokenizerConfig,
    tokenizer: TokenizerConfig,
    *,
    progress: PrepareProgress | None = None,
    for_several: bool = False,
) -> PreparedDataset:
    """Open prepared text, which must not contradict what was `asked`, or prepare it."""
    ready = prepared_folder(data)
    if ready is not None:
        return _open_prepared(ready, data, asked)
    preparation = preparation_of_data(data, tokenizer, for_several=for_several)
    folder = cache_folder(data) / preparation.fingerprint()[:16]
    # The folder's name says what it holds, so one that is damaged may be made again.
    return prepare(preparation, folder, replace=True, progress=progress)[0]


def cache_folder(data: DataConfig) -> Path:
    """Return where tokenized text is kept."""
    return Path(data.cache or CACHE_FOLDER)


def prepared_folder(data: DataConfig) -> Path | None:
    """Return the prepared folder that data.train names; None where it names raw text."""
    ready = [source for source in data.train if is_prepared(Path(source))]
    if ready and len(data.train) > 1:
        raise ConfigError(
            f"data.train: {ready[0]} is prepared text and cannot be joined with other sources; "
            "give it alone, prepare all together, or make it one of data.sources"
        )
    return Path(ready[0]) if ready else None


def preparation_of(config: LlmTrainingConfig, checkpoint: Checkpoint | None = None) -> Preparation:
    """Return what to prepare for a configuration, or for a run that goes on."""
    return preparation_of_data(config.data, tokenizer_section(config, checkpoint))


def preparation_of_data(
    data: DataConfig, tokenizer: TokenizerConfig, *, for_several: bool = False
) -> Preparation:
    """Return what to prepare for a section that names one text, or none for the quickstart's."""
    if data.train:
        return preparation_of_sections(data, tokenizer, for_several=for_several)
    return preparation_of_sections(
        data,
        tokenizer,
        train=standard_library_sources(),
        suffixes=(".py",),
        format="text",
        for_several=for_several,
    )


def _open_prepared(folder: Path, data: DataConfig, asked: TokenizerConfig) -> PreparedDataset:
    """Open a prepared folder; settings that it decides already must not say otherwise."""
    prepared = PreparedDataset(folder)
    manifest = prepared.manifest
    if asked.kind == "file":
        given: str | None = load_tokenizer(tokenizer_folder(asked.path or "")).fingerprint[:12]
        found = manifest.tokenizer_fingerprint[:12]
    else:
        given, found = asked.kind, manifest.tokenizer_kind
    if given not in (None, found):
        raise ConfigError(
            f"tokenizer: got {given}, but {folder} is prepared with {found}; remove the setting or "
            "prepare the text again"
        )
    if asked.vocab_size is not None and manifest.vocabulary_size > asked.vocab_size:
        raise ConfigError(
            f"tokenizer.vocab_size: got {asked.vocab_size}, but {folder} is prepared with "
            f"{manifest.vocabulary_size} tokens"
        )
    for name, value in (
        ("validation", list(data.validation) or None),
        ("validation_fraction", data.validation_fraction),
        ("format", None if data.format == "auto" else data.format),
        ("template", data.template),
        ("train_on", data.train_on),
        ("skip_bad_lines", data.skip_bad_lines or None),
    ):
        if value is not None:
            raise ConfigError(
                f"data.{name}: got {value}, but {folder} is prepared and split already; remove the "
                "setting or prepare the text again"
            )
    for split in prepared.manifest.splits:
        prepared.dataset(split).check_trained(f"{folder}, split {split}")
    return prepared


def check_model_files(files: Mapping[str, bytes], checkpoint: Checkpoint, place: str) -> None:
    """Raise CheckpointError where text is tokenized or written otherwise than in a checkpoint."""
    saved = checkpoint.tokenizer_files
    for name, content in files.items():
        if saved.get(name) != content:
            raise CheckpointError(
                f"the text in {place} is tokenized or written differently from that of "
                f"checkpoint {checkpoint.path}: {name} is not the same; give back the text the run "
                "had, or start a new run from its weights with train.init_from"
            )
