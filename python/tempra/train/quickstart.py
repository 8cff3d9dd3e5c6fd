"""What `tempra train run` does without a configuration file, and how overrides join it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tempra.data.prepared import is_prepared
from tempra.train.config import LlmTrainingConfig
from tempra.train.overrides import apply_overrides, load_config, parse_override, stage_of

# A nano model on the standard library's sources: about two minutes on two cores.
QUICKSTART: dict[str, dict[str, Any]] = {
    "train": {"steps": 1500, "batch_size": 8, "block": 128},
    "optimizer": {"lr": 2e-3},
    "tokenizer": {"vocab_size": 1024},
    "evaluation": {"batches": 20, "sample_tokens": 100},
}


def load_run_config(path: Path | None, overrides: Iterable[str] = ()) -> LlmTrainingConfig:
    """Return the configuration of a file, or the quickstart's, with overrides."""
    overrides = tuple(overrides)
    if path is not None:
        return load_config(LlmTrainingConfig, path, overrides)
    values = {section: dict(fields) for section, fields in QUICKSTART.items()}
    given = [stage_of(each)[1] for each in overrides]
    keys = {".".join(parse_override(LlmTrainingConfig, each)[:2]) for each in given}
    if "train.epochs" in keys:
        del values["train"]["steps"]
    if any(_brings_tokenizer(override) for override in given):
        del values["tokenizer"]
    if not keys & {"data.train", "evaluation.sample_tokens", "evaluation.sample_prompt"}:
        values["evaluation"]["sample_prompt"] = "def "  # the text is Python
    return LlmTrainingConfig.from_mapping(apply_overrides(LlmTrainingConfig, values, overrides))


def _brings_tokenizer(override: str) -> bool:
    """Whether an override decides the vocabulary: by tokenizer, prepared text, or weights."""
    section, field, value = parse_override(LlmTrainingConfig, override)
    if (section, field) == ("data", "train"):
        sources = [value] if isinstance(value, str) else value
        return any(is_prepared(Path(source)) for source in sources)
    return section == "tokenizer" or (section, field) == ("train", "init_from")
