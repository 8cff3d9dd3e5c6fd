"""The tokenized text of a run: prepared before, or made from raw text and kept for the next run."""

from __future__ import annotations

from pathlib import Path

from tempra._core import CheckpointError, ConfigError
from tempra.checkpoint import Checkpoint
from tempra.data.prepare import Preparation, PrepareProgress, prepare
from tempra.data.prepared import PreparedDataset, is_prepared
from tempra.data.standard_library import standard_library_sources
from tempra.data.tokenizer import load_tokenizer
from tempra.train.config import LlmTrainingConfig
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
    sources = config.data.train
    ready = [source for source in sources if is_prepared(Path(source))]
    if ready and len(sources) > 1:
        raise ConfigError(
            f"data.train: {ready[0]} is prepared text and cannot be joined with other sources; "
            "give it alone, or prepare all sources together"
        )
    if ready:
        prepared = _open_prepared(Path(ready[0]), config)
    else:
        preparation = preparation_of(config, checkpoint)
        cache = Path(config.data.cache or CACHE_FOLDER)
        folder = cache / preparation.fingerprint()[:16]
        # The folder's name says what it holds, so one that is damaged may be made again.
        prepared, _ = prepare(preparation, folder, replace=True, progress=progress)
    if checkpoint is not None:
        _check_tokenizer(prepared, checkpoint)
    return prepared


def preparation_of(config: LlmTrainingConfig, checkpoint: Checkpoint | None = None) -> Preparation:
    """Return what to prepare for a configuration, or for a run that goes on."""
    tokenizer = tokenizer_section(config, checkpoint)
    if config.data.train:
        return preparation_of_sections(config.data, tokenizer)
    return preparation_of_sections(
        config.data,
        tokenizer,
        train=standard_library_sources(),
        suffixes=(".py",),
        format="text",
    )


def _open_prepared(folder: Path, config: LlmTrainingConfig) -> PreparedDataset:
    """Open a prepared folder; settings that it decides already must not say otherwise."""
    prepared = PreparedDataset(folder)
    manifest, asked = prepared.manifest, config.tokenizer
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
        ("validation", list(config.data.validation) or None),
        ("validation_fraction", config.data.validation_fraction),
        ("format", None if config.data.format == "auto" else config.data.format),
        ("template", config.data.template),
        ("train_on", config.data.train_on),
        ("skip_bad_lines", config.data.skip_bad_lines or None),
    ):
        if value is not None:
            raise ConfigError(
                f"data.{name}: got {value}, but {folder} is prepared and split already; remove the "
                "setting or prepare the text again"
            )
    for split in prepared.manifest.splits:
        prepared.dataset(split).check_trained(f"{folder}, split {split}")
    if config.evaluation.interval and not prepared.has_validation:
        raise ConfigError(
            f"evaluation.interval: got {config.evaluation.interval}, but {folder} was prepared "
            "without validation text"
        )
    return prepared


def _check_tokenizer(prepared: PreparedDataset, checkpoint: Checkpoint) -> None:
    saved = checkpoint.tokenizer_files
    for name, content in prepared.model_files().items():
        if saved.get(name) != content:
            raise CheckpointError(
                f"the text in {prepared.folder} is tokenized or written differently from that of "
                f"checkpoint {checkpoint.path}: {name} is not the same; give back the text the run "
                "had, or start a new run from its weights with train.init_from"
            )


def vocabulary_size(config: LlmTrainingConfig) -> int:
    """Return the tokenizer's size, without reading text where the configuration says it."""
    prepared = any(is_prepared(Path(source)) for source in config.data.train)
    asked = tokenizer_section(config)
    if asked.resolved_kind() == "bpe" and not prepared:
        return asked.resolved_vocab_size()
    return open_text(config).tokenizer().vocab_size
