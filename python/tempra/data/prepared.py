"""A folder of tokenized text: token files per split, the tokenizer, and `dataset.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tempra import _core
from tempra._core import FormatError
from tempra.data.chat_template import (
    CHAT_TEMPLATE_FILE,
    ChatTemplate,
    load_saved_template,
    template_file,
)
from tempra.data.split import TRAIN, VALIDATION
from tempra.data.token_dataset import TokenizedDataset
from tempra.data.token_shard import Size, parse_model
from tempra.data.tokenizer import Tokenizer, fingerprint_of, load_tokenizer

MANIFEST_FILE = "dataset.json"
_LARGEST_MANIFEST = 1 << 24

ShardName = Annotated[str, Field(pattern=r"^[a-z]+-[0-9]+\.bin$")]


class SplitRecord(BaseModel):
    """One split of a prepared folder."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    shards: Annotated[tuple[ShardName, ...], Field(strict=False, min_length=1)]
    tokens: Size
    documents: Size
    # Of conversations: how many of the tokens are learned.
    trained_tokens: Size | None = None


class InstructionRecord(BaseModel):
    """What is to be known of conversations in a prepared folder."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    # Each format that was found, with the first file and the reason.
    formats: Annotated[tuple[str, ...], Field(strict=False)]
    template: str
    template_fingerprint: str
    train_on: Literal["all", "responses", "last_response"]
    # Marks of the template that the vocabulary has no token for.
    spelled_out: Annotated[tuple[str, ...], Field(strict=False)] = ()
    left_out: Annotated[tuple[str, ...], Field(strict=False)] = ()
    left_out_count: Size = 0
    ignored_fields: dict[str, Size] = {}


class Manifest(BaseModel):
    """The content of `dataset.json`. Later versions may add fields, which are ignored here."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    format: Literal["tempra-dataset"] = "tempra-dataset"
    version: Literal[1] = 1
    inputs_fingerprint: str
    tokenizer_kind: str
    tokenizer_fingerprint: str
    vocabulary_size: Size
    dtype: Literal["u32", "u16"]
    split_rule: str
    characters: Size
    sources: Annotated[tuple[str, ...], Field(strict=False)]
    splits: dict[str, SplitRecord]
    # None for plain text.
    instructions: InstructionRecord | None = None


class PreparedDataset:
    """A prepared folder, opened: its record, its tokenizer and its splits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = parse_model(Manifest, folder / MANIFEST_FILE, _LARGEST_MANIFEST)
        if TRAIN not in self.manifest.splits:
            raise FormatError(f"{folder / MANIFEST_FILE}: has no split 'train'")

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation split."""
        return VALIDATION in self.manifest.splits

    def tokenizer(self) -> Tokenizer:
        """Load the tokenizer, checked against the record."""
        tokenizer = load_tokenizer(self.folder)
        if tokenizer.fingerprint != self.manifest.tokenizer_fingerprint:
            raise FormatError(
                f"{self.folder}: the tokenizer there ({tokenizer.kind}, "
                f"{tokenizer.fingerprint[:12]}) is not the one of {MANIFEST_FILE} "
                f"({self.manifest.tokenizer_kind}, {self.manifest.tokenizer_fingerprint[:12]})"
            )
        return tokenizer

    def template(self) -> ChatTemplate | None:
        """Load the chat template of conversations, checked against the record."""
        record = self.manifest.instructions
        if record is None:
            return None
        template = load_saved_template(self.folder)
        if template is None:
            raise FormatError(f"{self.folder / CHAT_TEMPLATE_FILE}: is missing")
        if fingerprint_of(template.definition()) != record.template_fingerprint:
            raise FormatError(
                f"{self.folder / CHAT_TEMPLATE_FILE}: is not the template of {MANIFEST_FILE}"
            )
        return template

    def model_files(self) -> dict[str, bytes]:
        """Return what a model needs beside its weights: the tokenizer's files, and a template."""
        template = self.template()
        return {
            **self.tokenizer().files(),
            **({} if template is None else {CHAT_TEMPLATE_FILE: template_file(template)}),
        }

    def dataset(self, split: str = TRAIN) -> TokenizedDataset:
        """Open a split; token counts are checked against the record."""
        record = self.manifest.splits.get(split)
        if record is None:
            names = ", ".join(self.manifest.splits)
            raise FormatError(f"{self.folder}: has no split {split!r}, it has {names}")
        opened = TokenizedDataset(
            [self.folder / name for name in record.shards],
            vocabulary_size=self.manifest.vocabulary_size,
            dtype=self.manifest.dtype,
        )
        for shard in opened.shards:
            sidecar = shard.sidecar
            if sidecar is None:
                raise FormatError(f"{shard.path}: its .meta.json is missing")
            if sidecar.tokenizer_fingerprint != self.manifest.tokenizer_fingerprint:
                raise FormatError(f"{shard.path}: was made with another tokenizer than its folder")
        if len(opened) != record.tokens:
            raise FormatError(
                f"{self.folder}: split {split!r} holds {len(opened)} tokens, {MANIFEST_FILE} says "
                f"{record.tokens}"
            )
        return opened

    def check(self) -> None:
        """Open everything without reading the tokens; raises if the folder is incomplete."""
        self.tokenizer()
        self.template()
        for split in self.manifest.splits:
            self.dataset(split)


def is_prepared(folder: Path) -> bool:
    """Return whether a folder was written by `tempra data prepare`."""
    return (folder / MANIFEST_FILE).is_file()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `dataset.json`, the last file of a prepared folder."""
    content = json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n"
    _core.write_file_atomic(str(folder / MANIFEST_FILE), content.encode("ascii"))
