"""The examples of many files through one template: a corpus whose documents are conversations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tempra._core import ConfigError
from tempra.data.chat_template import (
    ChatTemplate,
    RenderError,
    Segment,
    load_template,
)
from tempra.data.conversation import Conversation
from tempra.data.corpus import Corpus, Piece, Progress, SourceFile
from tempra.data.instruction_dataset import MalformedLines, resolve_format
from tempra.data.instruction_formats import (
    Detection,
    ExampleReader,
    check_format,
    default_template,
)
from tempra.data.instruction_records import PREFERENCE, TEXT
from tempra.data.loss_mask import EncodedExample, TrainOn, encode_examples
from tempra.data.tokenizer import END_OF_TEXT, Tokenizer


@dataclass(frozen=True)
class InstructionOptions:
    """What was asked for; None where the files or the defaults are to decide."""

    format: str = "auto"
    template: str | None = None
    train_on: TrainOn | None = None
    skip_bad_lines: int = 0
    # Whether this was asked for several texts, not all of which need be conversations.
    for_several: bool = False

    def refuse_for_text(self, why: str) -> None:
        """Raise `ConfigError` for settings that plain text has no use for."""
        if self.for_several:
            return
        for name, value, needless in (
            ("template", self.template, None),
            ("train_on", self.train_on, None),
            ("skip_bad_lines", self.skip_bad_lines, 0),
        ):
            if value != needless and value != "all":
                raise ConfigError(
                    f"data.{name}: got {value!r}, but the data is plain text ({why}); remove the "
                    "setting or name the format with data.format"
                )


class InstructionCorpus:
    """Conversations as documents, each whole: reads like a `Corpus`.

    After a pass, `malformed` and `ignored_fields` say what that pass came upon.
    """

    def __init__(
        self,
        files: Sequence[SourceFile],
        detections: Mapping[SourceFile, Detection],
        *,
        template: ChatTemplate,
        train_on: TrainOn,
        skip_bad_lines: int = 0,
    ) -> None:
        self.files = tuple(files)
        self.detections = dict(detections)
        self.template, self.train_on = template, train_on
        self.skip_bad_lines = skip_bad_lines
        self.malformed = MalformedLines(skip_bad_lines)
        self.ignored_fields: dict[str, int] = {}

    @property
    def total_bytes(self) -> int:
        """Size of all files on disk."""
        return sum(file.size for file in self.files)

    def pieces(self, progress: Progress | None = None) -> Iterator[Piece]:
        """Render every conversation; raises `MalformedLinesError` after the last one."""
        self.malformed = MalformedLines(self.skip_bad_lines)
        self.ignored_fields = {}
        done = examples = 0
        for file in self.files:
            reader = ExampleReader(file.path, self.detections[file].format)
            for line, segments in self._rendered(reader):
                # The end of text is a token and has no text.
                text = "".join(
                    [each.text for each in segments if not each.control or each.text != END_OF_TEXT]
                )
                if not text:
                    self.malformed.add(file.path, line, "gives no text")
                    continue
                yield Piece(text, True, tuple(segments))
                examples += 1
                if progress is not None:
                    progress(done + min(reader.position, file.size))
            for name, count in reader.ignored_fields.items():
                self.ignored_fields[name] = self.ignored_fields.get(name, 0) + count
            done += file.size
        self.malformed.check(examples=examples)

    def _rendered(self, reader: ExampleReader) -> Iterator[tuple[int, list[Segment]]]:
        for line, example, problem in reader:
            if not isinstance(example, Conversation):
                self.malformed.add(reader.path, line, problem or "is no conversation")
                continue
            try:
                yield line, self.template.render(example.messages, example.tools)
            except RenderError as error:
                self.malformed.add(reader.path, line, str(error))

    def definition(self) -> list[Any]:
        """Return what decides the tokens beside the files and the tokenizer."""
        formats = [self.detections[file].format for file in self.files]
        return [formats, self.template.definition(), self.train_on, self.skip_bad_lines]


def instruction_corpora(
    corpora: Sequence[Corpus], options: InstructionOptions
) -> list[InstructionCorpus] | None:
    """Return the corpora as conversations, or None where they are plain text.

    Raises `ConfigError` where files cannot be trained on together.
    """
    if options.format == TEXT:
        options.refuse_for_text("data.format=text")
        return None
    detections: dict[SourceFile, Detection] = {}
    for corpus in corpora:
        for file in corpus.files:
            found = resolve_format(file.path, options.format, text_field=corpus.text_field)
            check_format(file.path, found.format)
            detections[file] = found
    plain = [file for file, found in detections.items() if found.format == TEXT]
    if len(plain) == len(detections):
        options.refuse_for_text(f"{plain[0].path}: {detections[plain[0]].reason}")
        return None
    _check_together(detections, plain)
    if separated := [corpus for corpus in corpora if corpus.separator is not None]:
        raise ConfigError(
            f"data.separator: got {separated[0].separator!r}, but the data is no plain text "
            f"({_first_other(detections)})"
        )
    template = _choose_template(detections, options.template)
    return [
        InstructionCorpus(
            corpus.files,
            {file: detections[file] for file in corpus.files},
            template=template,
            train_on=options.train_on or "responses",
            skip_bad_lines=options.skip_bad_lines,
        )
        for corpus in corpora
    ]


def _first_other(detections: Mapping[SourceFile, Detection]) -> str:
    return next(
        f"{file.path} is {found.format}: {found.reason}"
        for file, found in detections.items()
        if found.format != TEXT
    )


def _check_together(detections: Mapping[SourceFile, Detection], plain: list[SourceFile]) -> None:
    if plain:
        raise ConfigError(
            f"data: {plain[0].path} is plain text ({detections[plain[0]].reason}), but "
            f"{_first_other(detections)}; prepare the two apart, or read all as one format with "
            "data.format"
        )
    for file, found in detections.items():
        if found.format == PREFERENCE:
            raise ConfigError(
                f"data: {file.path} has preference pairs ({found.reason}), which next-token "
                "training has no use for; give prompt and completion, for instance the chosen one"
            )


def _choose_template(detections: Mapping[SourceFile, Detection], asked: str | None) -> ChatTemplate:
    if asked is not None:
        return load_template(asked)
    defaults = {default_template(found.format): file for file, found in detections.items()}
    if len(defaults) > 1:
        named = ", ".join(
            f"{file.path} ({detections[file].format}) by {name}" for name, file in defaults.items()
        )
        raise ConfigError(
            f"data.template: is missing; by default {named} would be written, and one model needs "
            "one template: choose it"
        )
    return load_template(next(iter(defaults)))


def encode_pieces(
    tokenizer: Tokenizer, pieces: Sequence[Piece], train_on: TrainOn
) -> list[EncodedExample]:
    """Tokenize rendered conversations; the end of text is left to the writer of token files."""
    encoded = encode_examples(tokenizer, [piece.segments or () for piece in pieces], train_on)
    return [_without_end(tokenizer, example) for example in encoded]


def _without_end(tokenizer: Tokenizer, example: EncodedExample) -> EncodedExample:
    """Remove an end mark that the writer adds again, learned when the token before it is."""
    tokens, mask = example
    if tokens.size < 2 or int(tokens[-1]) != tokenizer.end_of_text or mask[-1] != mask[-2]:
        return example
    return EncodedExample(tokens[:-1], np.ascontiguousarray(mask[:-1]))
