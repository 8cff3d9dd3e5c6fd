"""The `data` and `tokenizer` sections of the configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tempra._core import ConfigError
from tempra.data.instruction_formats import FormatName
from tempra.data.loss_mask import TrainOn
from tempra.data.row_options import Mode, Order, check_order
from tempra.data.sequence_packer import Overlong, Strategy
from tempra.train.config_section import Section
from tempra.train.config_source import SourceConfig
from tempra.train.config_values import Fraction, Names, Positive

TokenizerKind = Literal["bpe", "byte", "char", "file"]

_OF_PREPARED_TEXT = {"cache", "mode", "order", "packing", "overlong"}


class DataConfig(Section):
    """Where the text comes from and how it is cut into sequences."""

    train: Names = Field(
        default=(),
        description="Text to learn from: files, folders, patterns such as 'books/*.txt', JSON "
        "lines, or one folder "
        "written by `tempra data prepare`. Default: the Python standard library's source files "
        "on this machine.",
    )
    sources: Annotated[tuple[SourceConfig, ...], Field(strict=False, max_length=100)] = Field(
        default=(),
        description="Several data sets read as one, each with a name and settings of its own; "
        "instead of data.train.",
    )
    temperature: Positive | None = Field(
        default=None,
        description="Shares of sources without weights: a source of n tokens weighs "
        "n ** (1 / temperature). 1 reads all equally often, more reads small ones more often. "
        "Default: 1.",
    )
    validation: Names = Field(
        default=(),
        description="Text to measure on, never learned from. Default: a part of data.train.",
    )
    validation_fraction: Fraction | None = Field(
        default=None,
        description="Part of data.train kept for measuring when data.validation is not given. "
        "Default: 0.1.",
    )
    text_field: str = Field(
        default="text",
        min_length=1,
        description="Name of the field that holds the text in JSON lines.",
    )
    suffixes: Names = Field(
        default=(".txt", ".text", ".md", ".rst", ".jsonl", ".ndjson", ".txt.gz", ".jsonl.gz"),
        min_length=1,
        description="Which files of a folder are read, by the end of their name.",
    )
    separator: str | None = Field(
        default=None,
        min_length=1,
        description="Text that separates documents inside text files, such as '<|endoftext|>'.",
    )
    format: FormatName = Field(
        default="auto",
        description="How examples are written: text, qa ('Q:' and 'A:' at line starts), "
        "user_assistant, alpaca, sharegpt, messages, prompt_completion, preference; auto finds "
        "out by looking.",
    )
    template: str | None = Field(
        default=None,
        min_length=1,
        description="How a conversation is put to the model: chatml, llama3, alpaca, qa, plain, or "
        "a file with a Jinja template. Default: the one that fits the format.",
    )
    train_on: TrainOn | None = Field(
        default=None,
        description="What of a conversation is learned: all, responses, or last_response. "
        "Default: responses.",
    )
    skip_bad_lines: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="How many malformed lines may be left out; more than these stop the run.",
    )
    token_dtype: Literal["auto", "u16", "u32"] = Field(
        default="u32",
        description="Bytes per stored token: u32 (4), u16 (2, up to 65536 tokens), auto (u16 "
        "where it fits).",
    )
    cache: str | None = Field(
        default=None,
        description="Folder for tokenized text, reused by the next run. Default: .tempra-cache "
        "in this folder.",
    )
    mode: Mode = Field(
        default="blocks",
        description="blocks: every part of the text once per epoch, in shuffled order; "
        "random: sequences start anywhere.",
    )
    order: Order = Field(
        default="shuffled",
        description="shuffled: another order in each epoch; sequential: as the text lies; "
        "shortest_first: packed documents from short to long, an easy beginning.",
    )
    packing: Strategy | None = Field(
        default=None,
        description="Sequences of whole documents, which attention never crosses. best_fit: as "
        "many as fit best; streaming: the same with a bounded view; concat: end to end, cut where "
        "sequences end; none: one each. Default: best_fit for conversations; for text no packing, "
        "sequences are cut from all of it; with another order than shuffled, streaming takes the "
        "place of best_fit.",
    )
    overlong: Overlong | None = Field(
        default=None,
        description="What packing does with documents longer than a sequence: split, truncate or "
        "reject. Default: split.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> DataConfig:
        if self.validation and self.validation_fraction:
            raise ValueError(
                f"data.validation_fraction: got {self.validation_fraction} beside "
                "data.validation; give one of the two"
            )
        # Whether documents are packed where nothing is said depends on the text.
        check_order(self.order, self.mode, self.packing or "streaming", "data.order: ")
        if self.packing is not None and self.mode != "blocks":
            raise ValueError(
                f"data.mode: got {self.mode!r} beside data.packing {self.packing}; packed "
                "sequences start where documents do, remove one of the two"
            )
        if self.overlong is not None and self.packing is None:
            raise ValueError(
                f"data.overlong: got {self.overlong!r} without data.packing, which alone reads it; "
                "give data.packing too"
            )
        for suffix in self.suffixes:
            if not suffix.startswith("."):
                raise ValueError(
                    f"data.suffixes: got {suffix!r}, needs a name ending that starts with a dot"
                )
        self._check_sources()
        return self

    def _check_sources(self) -> None:
        if not self.sources:
            if self.temperature is not None:
                raise ValueError(
                    f"data.temperature: got {self.temperature} without data.sources, whose shares "
                    "it decides; remove it or name the sources"
                )
            return
        for name in ("train", "validation"):
            if getattr(self, name):
                raise ValueError(
                    f"data.{name}: is given beside data.sources; give each source its own {name}"
                )
        names = [source.name for source in self.sources]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"data.sources: {min(twice)!r} names two sources; names must differ")
        weighed = [source.name for source in self.sources if source.weight is not None]
        if weighed and len(weighed) < len(names):
            missing = next(name for name in names if name not in weighed)
            raise ValueError(
                f"data.sources: {weighed[0]!r} has a weight and {missing!r} has none; give all of "
                "them weights, or none"
            )
        if weighed and self.temperature is not None:
            raise ValueError(
                f"data.temperature: got {self.temperature} beside the weights of data.sources; "
                "give one of the two"
            )
        for source in self.sources:
            try:
                self.of_source(source)
            except ConfigError as error:
                raise ValueError(f"data.sources, {source.name!r}: {error}") from None

    def of_source(self, source: SourceConfig, *, prepared: bool = False) -> DataConfig:
        """Return the section that reads one source alone.

        Text that is `prepared` has its format, split and template already: it inherits nothing
        that would decide these again.
        """
        own: dict[str, Any] = source.model_dump(
            mode="json", exclude_none=True, exclude={"name", "weight"}
        )
        taken = set(type(self).model_fields) - {"sources", "temperature", "train", "validation"}
        if prepared:
            taken = _OF_PREPARED_TEXT
        elif source.validation:
            taken = taken - {"validation_fraction"}
        values = self.model_dump(mode="json", exclude_none=True, include=taken)
        return DataConfig.from_mapping({**values, **own})

    def resolved_validation_fraction(self) -> float:
        """Return the part of data.train that is kept for measuring."""
        if self.validation:
            return 0.0
        return 0.1 if self.validation_fraction is None else self.validation_fraction

    def has_validation(self) -> bool:
        """Return whether there is text to measure on."""
        if self.sources:
            return any(self.of_source(source).has_validation() for source in self.sources)
        return bool(self.validation) or self.resolved_validation_fraction() > 0.0

    def resolved_packing(self, *, conversations: bool) -> Strategy | None:
        """Return how documents share sequences; None where these are cut from all of the text."""
        if self.packing is not None or not conversations or self.mode != "blocks":
            return self.packing
        # As in a chat, where no other conversation stands before.
        return "best_fit" if self.order == "shuffled" else "streaming"


class TokenizerConfig(Section):
    """How text becomes numbers."""

    kind: TokenizerKind | None = Field(
        default=None,
        description="bpe: word pieces learned from your text; byte: one token per byte; "
        "char: one per character; file: an existing tokenizer.json. Default: that of prepared "
        "text or of train.init_from, else bpe.",
    )
    vocab_size: Annotated[int, Field(ge=258, le=2**24)] | None = Field(
        default=None,
        description="How many word pieces bpe learns, the 256 bytes and the end mark included. "
        "Default: 8192.",
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        description="The tokenizer.json (or its folder, or a run's) for kind file.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> TokenizerConfig:
        if self.kind not in (None, "bpe") and self.vocab_size is not None:
            raise ValueError(
                f"tokenizer.vocab_size: got {self.vocab_size}, but the size of kind {self.kind} "
                "is given by the tokenizer itself; remove it or use kind bpe"
            )
        if self.kind == "file" and self.path is None:
            raise ValueError(
                "tokenizer.path: is missing; kind file needs the path of a tokenizer.json"
            )
        if self.kind != "file" and self.path is not None:
            raise ValueError(
                f"tokenizer.path: got {self.path!r}, but kind {self.resolved_kind()} reads no "
                "file; use tokenizer.kind=file"
            )
        return self

    def resolved_kind(self) -> TokenizerKind:
        """Return the kind of tokenizer that raw text gets."""
        return "bpe" if self.kind is None else self.kind

    def resolved_vocab_size(self) -> int:
        """Return the size of a bpe vocabulary to be learned."""
        return self.vocab_size or 8192
