"""What the `data` and `tokenizer` sections of a configuration ask of `tempra.data.prepare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tempra.checkpoint import Checkpoint
from tempra.checkpoint.load import checkpoints_root, find_checkpoints, is_checkpoint_folder
from tempra.data.instruction_corpus import InstructionOptions
from tempra.data.instruction_formats import FormatName
from tempra.data.preparation import Preparation
from tempra.train.config import LlmTrainingConfig
from tempra.train.config_data import DataConfig, TokenizerConfig

_SHARD_TOKENS = 1 << 28


def tokenizer_folder(path: str) -> Path:
    """Return where a tokenizer lies: of a run, in its newest checkpoint."""
    given = Path(path)
    if is_checkpoint_folder(given):
        return given
    return next(iter(find_checkpoints(checkpoints_root(given))), given)


def tokenizer_section(
    config: LlmTrainingConfig, checkpoint: Checkpoint | None = None
) -> TokenizerConfig:
    """Return the tokenizer to use: that of the weights a run starts from, unless one is named.

    A resumed run has it in its own checkpoint, and does not need the starting point any more.
    """
    asked, source = config.tokenizer, config.train.init_from
    if source is None or asked.kind is not None or asked.vocab_size is not None:
        return asked
    resumed = None if checkpoint is None else checkpoint.path
    return TokenizerConfig(kind="file", path=str(resumed or source))


def preparation_of_sections(
    data: DataConfig,
    tokenizer: TokenizerConfig,
    *,
    train: Sequence[str] | None = None,
    suffixes: Sequence[str] | None = None,
    format: FormatName | None = None,
    shard_tokens: int = _SHARD_TOKENS,
    for_several: bool = False,
) -> Preparation:
    """Return the preparation; `train`, `suffixes`, `format` stand in for those of the section.

    Where a section is one of several with settings in common, `for_several` lets plain text pass
    by what is meant for conversations.
    """
    return Preparation(
        train=data.train if train is None else train,
        validation=data.validation,
        validation_fraction=data.resolved_validation_fraction(),
        tokenizer=tokenizer.resolved_kind(),
        vocab_size=tokenizer.resolved_vocab_size(),
        tokenizer_path=None if tokenizer.path is None else str(tokenizer_folder(tokenizer.path)),
        text_field=data.text_field,
        suffixes=data.suffixes if suffixes is None else suffixes,
        separator=data.separator,
        instructions=InstructionOptions(
            format=data.format if format is None else format,
            template=data.template,
            train_on=data.train_on,
            skip_bad_lines=data.skip_bad_lines,
            for_several=for_several,
        ),
        token_dtype=data.token_dtype,
        shard_tokens=shard_tokens,
    )
