"""All text of a run: the sources of each stage, with the one tokenizer and template they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tempra._core import ConfigError, FormatError
from tempra.checkpoint import Checkpoint
from tempra.data.chat_template import ChatTemplate
from tempra.data.preparation import PrepareProgress
from tempra.data.prepared import PreparedDataset
from tempra.data.sequence_packer import Strategy
from tempra.data.tokenizer import Tokenizer
from tempra.data.tokenizer_learning import shared_tokenizer
from tempra.train.config import LlmTrainingConfig, StageRun
from tempra.train.config_data import DataConfig, TokenizerConfig
from tempra.train.preparation import tokenizer_section
from tempra.train.text_source import (
    cache_folder,
    check_model_files,
    open_source,
    open_text,
    preparation_of_data,
    prepared_folder,
)


@dataclass(frozen=True)
class SourceText:
    """One source, opened; `data` is the section that reads it alone."""

    name: str | None
    data: DataConfig
    text: PreparedDataset
    weight: float | None = None

    @property
    def packing(self) -> Strategy | None:
        """How its documents share sequences."""
        conversations = self.text.manifest.instructions is not None
        return self.data.resolved_packing(conversations=conversations)


@dataclass(frozen=True)
class StageText:
    """What a stage reads."""

    sources: tuple[SourceText, ...]
    temperature: float | None = None

    @property
    def has_validation(self) -> bool:
        """Whether there is anything to measure on."""
        return any(source.text.has_validation for source in self.sources)


class RunText:
    """The text of every stage; tokenizer and template are the same in all of them."""

    def __init__(self, stages: Sequence[StageText]) -> None:
        self.stages = tuple(stages)
        self._texts = [source.text for stage in self.stages for source in stage.sources]
        _check_shared(self._texts)

    def tokenizer(self) -> Tokenizer:
        """Load the tokenizer."""
        return self._texts[0].tokenizer()

    def template(self) -> ChatTemplate | None:
        """Load the chat template; None where no stage has conversations."""
        return next(filter(None, (text.template() for text in self._texts)), None)

    def model_files(self) -> dict[str, bytes]:
        """Return what a model needs beside its weights."""
        files: dict[str, bytes] = {}
        for text in self._texts:
            files |= text.model_files()
        return files


def open_run_text(
    config: LlmTrainingConfig,
    *,
    checkpoint: Checkpoint | None = None,
    progress: PrepareProgress | None = None,
) -> RunText:
    """Open or prepare what every stage reads; raises where it is not what a resumed run had."""
    runs = config.stage_runs()
    named = [_named_sources(run.config.data) for run in runs]
    sections = _distinct([data for sources in named for _, data, _ in sources])
    if len(sections) == 1:
        alone = config.with_sections(data=sections[0], stages=())
        opened = [open_text(alone, checkpoint=checkpoint, progress=progress)]
    else:
        opened = _open_together(config, sections, checkpoint, progress)
    by_section = {_decided_by(data): text for data, text in zip(sections, opened, strict=True)}
    stages = [
        StageText(
            tuple(
                SourceText(name, data, by_section[_decided_by(data)], weight)
                for name, data, weight in sources
            ),
            run.config.data.temperature,
        )
        for run, sources in zip(runs, named, strict=True)
    ]
    for run, stage in zip(runs, stages, strict=True):
        _check_measurable(run, stage)
        _check_conversations(run, stage)
    text = RunText(stages)
    if checkpoint is not None:
        check_model_files(text.model_files(), checkpoint, "data")
    return text


def _named_sources(data: DataConfig) -> list[tuple[str | None, DataConfig, float | None]]:
    """Return name, section and weight of each source; one without a name where there are none."""
    if not data.sources:
        return [(None, data, None)]
    found: list[tuple[str | None, DataConfig, float | None]] = []
    for source in data.sources:
        section = data.of_source(source)
        if prepared_folder(section) is not None:
            section = data.of_source(source, prepared=True)
        found.append((source.name, section, source.weight))
    return found


def _decided_by(data: DataConfig) -> str:
    """Return what decides the tokens of a text; how these are read makes no other text."""
    reading = {"mode", "order", "packing", "overlong"}
    return data.model_dump_json(exclude=reading)


def _distinct(sections: Sequence[DataConfig]) -> list[DataConfig]:
    return list({_decided_by(data): data for data in sections}.values())


def _open_together(
    config: LlmTrainingConfig,
    sections: Sequence[DataConfig],
    checkpoint: Checkpoint | None,
    progress: PrepareProgress | None,
) -> list[PreparedDataset]:
    """Open several texts with one tokenizer."""
    raw = [data for data in sections if prepared_folder(data) is None]
    ready = [folder for folder in map(prepared_folder, sections) if folder is not None]
    tokenizer = _shared_section(config, raw, ready, checkpoint, progress)
    opened = []
    for data in sections:
        try:
            opened.append(
                open_source(data, config.tokenizer, tokenizer, progress=progress, for_several=True)
            )
        except FormatError as error:
            # Some errors are of the text as a whole, and name none of its files.
            if type(error) is not FormatError or any(name in str(error) for name in data.train):
                raise
            raise FormatError(f"{', '.join(data.train)}: {error}") from None
    return opened


def _shared_section(
    config: LlmTrainingConfig,
    raw: Sequence[DataConfig],
    ready: Sequence[Path],
    checkpoint: Checkpoint | None,
    progress: PrepareProgress | None,
) -> TokenizerConfig:
    """Return the tokenizer for raw text: that of prepared text, or one learned from all of it."""
    asked = tokenizer_section(config, checkpoint)
    if asked.kind == "byte":
        return asked
    if checkpoint is not None and checkpoint.path is not None:
        return TokenizerConfig(kind="file", path=str(checkpoint.path))
    if ready:
        return TokenizerConfig(kind="file", path=str(ready[0]))
    if asked.kind == "file":
        return asked
    preparations = [preparation_of_data(data, asked, for_several=True) for data in raw]
    learned = shared_tokenizer(preparations, cache_folder(config.data), progress)
    return TokenizerConfig(kind="file", path=str(learned))


def _check_shared(texts: Sequence[PreparedDataset]) -> None:
    """Raise ConfigError where two texts have different tokenizers or chat templates."""
    first = texts[0].manifest
    for text in texts:
        if text.manifest.tokenizer_fingerprint != first.tokenizer_fingerprint:
            raise ConfigError(
                f"data: {texts[0].folder} is prepared with the tokenizer "
                f"{first.tokenizer_kind} {first.tokenizer_fingerprint[:12]}, {text.folder} with "
                f"{text.manifest.tokenizer_kind} {text.manifest.tokenizer_fingerprint[:12]}; all "
                "of a run needs one tokenizer: prepare one of them again"
            )
    written = [text for text in texts if text.manifest.instructions is not None]
    for text in written:
        one, other = written[0].manifest.instructions, text.manifest.instructions
        assert one is not None
        assert other is not None
        if one.template_fingerprint != other.template_fingerprint:
            raise ConfigError(
                f"data.template: {', '.join(written[0].manifest.sources)} is written by "
                f"{one.template}, {', '.join(text.manifest.sources)} by {other.template}, and one "
                "model needs one template: choose it"
            )


def _check_measurable(run: StageRun, stage: StageText) -> None:
    interval = run.config.evaluation.interval
    if interval and not stage.has_validation:
        where = "" if run.name is None else f"stages, {run.name!r}: "
        folders = ", ".join(str(source.text.folder) for source in stage.sources)
        raise ConfigError(
            f"{where}evaluation.interval: got {interval}, but {folders} was prepared without "
            "validation text"
        )


def _check_conversations(run: StageRun, stage: StageText) -> None:
    """Raise ConfigError for a source of plain text that itself asks for what only masks have."""
    for asked, opened in zip(run.config.data.sources, stage.sources, strict=False):
        if opened.text.manifest.instructions is not None:
            continue
        for name, value in (
            ("train_on", None if asked.train_on == "all" else asked.train_on),
            ("skip_bad_lines", asked.skip_bad_lines or None),
        ):
            if value is not None:
                raise ConfigError(
                    f"data.sources, {asked.name!r}: {name}: got {value!r}, but its text is plain; "
                    "remove the setting or name its format"
                )


def vocabulary_size(config: LlmTrainingConfig) -> int:
    """Return the tokenizer's size, without reading text where the configuration says it."""
    sections = [
        data for run in config.stage_runs() for _, data, _ in _named_sources(run.config.data)
    ]
    asked = tokenizer_section(config)
    prepared = any(prepared_folder(data) is not None for data in sections)
    if asked.resolved_kind() == "bpe" and not prepared:
        return asked.resolved_vocab_size()
    return open_run_text(config).tokenizer().vocab_size
