"""What the `data` and `tokenizer` sections of a configuration ask of `tempra.data.prepare`."""

from __future__ import annotations

from collections.abc import Sequence

from tempra.data.prepare import Preparation
from tempra.train.config_data import DataConfig, TokenizerConfig

_SHARD_TOKENS = 1 << 28


def preparation_of_sections(
    data: DataConfig,
    tokenizer: TokenizerConfig,
    *,
    train: Sequence[str] | None = None,
    suffixes: Sequence[str] | None = None,
    shard_tokens: int = _SHARD_TOKENS,
) -> Preparation:
    """Return the preparation; `train` and `suffixes` stand in for those of the section."""
    return Preparation(
        train=data.train if train is None else train,
        validation=data.validation,
        validation_fraction=data.resolved_validation_fraction(),
        tokenizer=tokenizer.resolved_kind(),
        vocab_size=tokenizer.resolved_vocab_size(),
        tokenizer_path=tokenizer.path,
        text_field=data.text_field,
        suffixes=data.suffixes if suffixes is None else suffixes,
        separator=data.separator,
        token_dtype=data.token_dtype,
        shard_tokens=shard_tokens,
    )
