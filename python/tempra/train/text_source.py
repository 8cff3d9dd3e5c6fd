"""The tokenized text of a run: prepared before, or made from raw text and kept for the next run."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from tempra._core import CheckpointError
from tempra.checkpoint import Checkpoint
from tempra.data.prepare import Preparation, PrepareProgress, prepare
from tempra.data.prepared import PreparedDataset, is_prepared
from tempra.train.config import LlmTrainingConfig

CACHE_FOLDER = ".tempra-cache"
# Parts of the standard library that teach little: tests, data tables, other people's packages.
_NOT_READ = {"test", "tests", "site-packages", "dist-packages", "idlelib", "__pycache__"}
_NOT_READ |= {"lib2to3", "pydoc_data", "encodings", "config", "ensurepip", "turtledemo"}


def open_text(
    config: LlmTrainingConfig,
    *,
    checkpoint: Checkpoint | None = None,
    progress: PrepareProgress | None = None,
) -> PreparedDataset:
    """Open or make the tokenized text; raises CheckpointError where a resumed run had another."""
    sources = config.data.train
    if len(sources) == 1 and is_prepared(Path(sources[0])):
        prepared = PreparedDataset(Path(sources[0]))
    else:
        preparation = preparation_of(config)
        cache = Path(config.data.cache or CACHE_FOLDER)
        folder = cache / preparation.fingerprint()[:16]
        prepared, _ = prepare(preparation, folder, progress=progress)
    if checkpoint is not None:
        _check_tokenizer(prepared, checkpoint)
    return prepared


def preparation_of(config: LlmTrainingConfig) -> Preparation:
    """Return what to prepare for a configuration."""
    data, tokenizer = config.data, config.tokenizer
    return Preparation(
        train=data.train or standard_library_sources(),
        validation=data.validation,
        validation_fraction=data.resolved_validation_fraction(),
        tokenizer=tokenizer.kind,
        vocab_size=tokenizer.resolved_vocab_size(),
        tokenizer_path=tokenizer.path,
        text_field=data.text_field,
        suffixes=data.suffixes if data.train else (".py",),
        separator=data.separator,
        token_dtype=data.token_dtype,
    )


def standard_library_sources() -> tuple[str, ...]:
    """Return Python files that come with every Python: text to start with, without a download."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found: list[str] = []
    for folder, below, files in os.walk(root):
        below[:] = sorted(name for name in below if name not in _NOT_READ)
        found += [os.path.join(folder, name) for name in sorted(files) if name.endswith(".py")]
    return tuple(found)


def _check_tokenizer(prepared: PreparedDataset, checkpoint: Checkpoint) -> None:
    saved = checkpoint.tokenizer_files
    for name, content in prepared.tokenizer().files().items():
        if saved.get(name) != content:
            raise CheckpointError(
                f"the text in {prepared.folder} is tokenized differently from that of checkpoint "
                f"{checkpoint.path}: {name} is not the same; give back the text the run had, or "
                "start a new run from its weights with train.init_from"
            )
