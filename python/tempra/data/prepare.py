"""Text to token files: survey, split, tokenizer, tokens, published as one folder or not at all.

The text is read two or three times (survey; learning a vocabulary; tokenizing), always streaming.
A folder made from the same files (path, size, time of change), tokenizer and options is used again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tempra import _core
from tempra._core import ConfigError, FormatError, TempraError
from tempra.data.chat_template import CHAT_TEMPLATE_FILE, template_file
from tempra.data.corpus import Piece
from tempra.data.instruction_corpus import (
    InstructionCorpus,
    encode_pieces,
)
from tempra.data.loss_mask import spelled_out
from tempra.data.preparation import Preparation, PrepareProgress
from tempra.data.prepared import (
    InstructionRecord,
    Manifest,
    PreparedDataset,
    SplitRecord,
    is_prepared,
    write_manifest,
)
from tempra.data.shard_writer import ShardWriter, TokenType
from tempra.data.split import TRAIN, VALIDATION, SplitRule
from tempra.data.token_dataset import TokenizedDataset
from tempra.data.tokenizer import (
    Tokenizer,
    Tokens,
    fingerprint_of,
    save_tokenizer,
)
from tempra.data.tokenizer_learning import (
    LEARNING,
    READING,
    make_tokenizer,
    phase,
    survey_text,
)

# Characters and documents that are handed to the tokenizer at once.
_BATCH_CHARACTERS = 1 << 22
_BATCH_DOCUMENTS = 4096
_LONGEST_UNDIVIDED = 1 << 26
_LARGEST_U16_VOCABULARY = 1 << 16

# The phases of `PrepareProgress`, in their order.
PHASES = (READING, LEARNING, "tokenizing")


def prepare(
    preparation: Preparation,
    folder: Path,
    *,
    replace: bool = False,
    progress: PrepareProgress | None = None,
) -> tuple[PreparedDataset, bool]:
    """Return the prepared folder, and whether it was there already.

    A folder that holds something else is refused; another prepared dataset gives way only on
    `replace`. Nothing appears under the final name before it is complete and on disk.
    """
    fingerprint = preparation.fingerprint()
    found = _existing(folder, fingerprint, replace)
    if found is not None:
        return found, True
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder.parent}: is no folder and cannot become one: {error.strerror}"
        ) from None
    with _core.FileLock(str(folder.with_name(folder.name + ".lock"))):
        # Another process may have prepared the same text while this one waited or looked.
        found = _existing(folder, fingerprint, replace)
        if found is not None:
            return found, True
        temporary = folder.with_name(folder.name + ".preparing")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            _write(preparation, fingerprint, temporary, progress)
            _core.publish_directory(str(temporary), str(folder))
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return PreparedDataset(folder), False


def _existing(folder: Path, fingerprint: str, replace: bool) -> PreparedDataset | None:
    if not folder.exists():
        return None
    if not is_prepared(folder):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            return None
        raise ConfigError(f"{folder}: exists and is not a prepared dataset; choose another folder")
    try:
        found = PreparedDataset(folder)
        if found.manifest.inputs_fingerprint == fingerprint:
            found.check()
            return found
    except TempraError as error:
        if not replace:
            raise FormatError(f"{error}; prepare it again with --replace") from None
        return None
    if not replace:
        raise ConfigError(
            f"{folder}: was prepared from other files or with other options; choose another folder "
            "or replace it with --replace"
        )
    return None


def _write(
    preparation: Preparation, fingerprint: str, folder: Path, progress: PrepareProgress | None
) -> None:
    text = survey_text(preparation, progress)
    surveys, rule = text.surveys, text.rule
    conversations = preparation.conversations
    tokenizer = make_tokenizer([text], progress)
    dtype = _token_type(preparation.token_dtype, tokenizer)
    save_tokenizer(tokenizer, folder)
    if conversations is not None:
        content = template_file(conversations.template)
        _core.write_file_atomic(str(folder / CHAT_TEMPLATE_FILE), content)
    splits = _tokenize(preparation, rule, tokenizer, dtype, folder, progress)
    if VALIDATION in splits and splits[VALIDATION].tokens < 2:
        raise FormatError(
            f"the validation text has {splits[VALIDATION].tokens} tokens, needs at least 2; give "
            "more text, or data.validation_fraction=0.0 to measure nothing"
        )
    manifest = Manifest(
        inputs_fingerprint=fingerprint,
        tokenizer_kind=tokenizer.kind,
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocabulary_size=tokenizer.vocab_size,
        dtype=dtype,
        split_rule="given apart" if preparation.validation else rule.describe(),
        characters=sum(found.characters for found in surveys),
        sources=tuple(preparation.train),
        splits=splits,
        instructions=_instruction_record(preparation, tokenizer),
    )
    write_manifest(folder, manifest)


def _instruction_record(preparation: Preparation, tokenizer: Tokenizer) -> InstructionRecord | None:
    """Return what the manifest says of conversations: how they were read, what was left out."""
    conversations = preparation.conversations
    if conversations is None:
        return None
    corpora = [each for each in preparation.corpora() if isinstance(each, InstructionCorpus)]
    formats: dict[str, str] = {}
    ignored: dict[str, int] = {}
    for corpus in corpora:
        for file, found in corpus.detections.items():
            formats.setdefault(found.format, f"{found.format} ({file.path}: {found.reason})")
        for name, count in corpus.ignored_fields.items():
            ignored[name] = ignored.get(name, 0) + count
    template = conversations.template
    return InstructionRecord(
        formats=tuple(formats.values()),
        template=template.name,
        template_fingerprint=fingerprint_of(template.definition()),
        train_on=conversations.train_on,
        spelled_out=tuple(spelled_out(tokenizer, template.marks)),
        left_out=tuple(str(line) for corpus in corpora for line in corpus.malformed.kept),
        left_out_count=sum(corpus.malformed.count for corpus in corpora),
        ignored_fields=ignored,
    )


def _sided_pieces(
    preparation: Preparation, rule: SplitRule, progress: Callable[[int], None] | None
) -> Iterator[tuple[str, Piece]]:
    yield from rule.assign(preparation.train_corpus.pieces(progress))
    if preparation.validation_corpus is not None:
        before = preparation.train_corpus.total_bytes
        later = None if progress is None else (lambda done: progress(before + done))
        for piece in preparation.validation_corpus.pieces(later):
            yield VALIDATION, piece


def _token_type(asked: str, tokenizer: Tokenizer) -> TokenType:
    fits = tokenizer.vocab_size <= _LARGEST_U16_VOCABULARY
    if asked == "u16" and not fits:
        raise ConfigError(
            f"data.token_dtype: got u16, which holds {_LARGEST_U16_VOCABULARY} tokens, but the "
            f"tokenizer has {tokenizer.vocab_size}; use u32"
        )
    return "u16" if asked != "u32" and fits else "u32"


def _tokenize(
    preparation: Preparation,
    rule: SplitRule,
    tokenizer: Tokenizer,
    dtype: TokenType,
    folder: Path,
    progress: PrepareProgress | None,
) -> dict[str, SplitRecord]:
    names = [TRAIN, VALIDATION] if preparation.validation or rule.fraction > 0.0 else [TRAIN]
    writers = {
        name: ShardWriter(folder, name, tokenizer, dtype, preparation.shard_tokens)
        for name in names
    }
    total = sum(corpus.total_bytes for corpus in preparation.corpora())
    pieces = _sided_pieces(preparation, rule, phase(progress, PHASES[2], total))
    conversations = preparation.conversations
    if not tokenizer.splittable and conversations is None:
        pieces = _undivided(pieces)
    for batch in _batches(pieces):
        for (side, piece), (tokens, mask) in zip(
            batch, _encoded(tokenizer, [piece for _, piece in batch], conversations), strict=True
        ):
            writers[side].append(tokens, ends_document=piece.ends_document, mask=mask)
    return {
        name: _finished(folder, name, writer, masked=conversations is not None)
        for name, writer in writers.items()
    }


def _encoded(
    tokenizer: Tokenizer, pieces: list[Piece], conversations: InstructionCorpus | None
) -> list[tuple[Tokens, NDArray[np.bool_] | None]]:
    """Return the tokens of each piece, and a mask where not all of them are learned."""
    if conversations is None:
        return [(tokens, None) for tokens in tokenizer.encode_batch([p.text for p in pieces])]
    examples = encode_pieces(tokenizer, pieces, conversations.train_on)
    learn_all = conversations.train_on == "all"
    # Booleans are masks that need no check.
    return [(tokens, None if learn_all else mask.view(np.bool_)) for tokens, mask in examples]


def _finished(folder: Path, name: str, writer: ShardWriter, *, masked: bool) -> SplitRecord:
    written = writer.finish()
    trained = None
    if masked:
        dataset = TokenizedDataset(folder / shard for shard in written.shards)
        # An empty split has its own error, which says what to do.
        if written.tokens:
            dataset.check_trained(f"the {name} data")
        trained = dataset.trained_tokens
    return SplitRecord(
        shards=written.shards,
        tokens=written.tokens,
        documents=written.documents,
        trained_tokens=trained,
    )


def _batches(pieces: Iterator[tuple[str, Piece]]) -> Iterator[list[tuple[str, Piece]]]:
    batch: list[tuple[str, Piece]] = []
    characters = 0
    for side, piece in pieces:
        batch.append((side, piece))
        characters += len(piece.text)
        if characters >= _BATCH_CHARACTERS or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _undivided(pieces: Iterator[tuple[str, Piece]]) -> Iterator[tuple[str, Piece]]:
    """Put the pieces of each document together again, for tokenizers that see document starts."""
    parts: dict[str, list[str]] = {TRAIN: [], VALIDATION: []}
    for side, piece in pieces:
        parts[side].append(piece.text)
        if sum(map(len, parts[side])) > _LONGEST_UNDIVIDED:
            raise ConfigError(
                f"tokenizer: a document has more than {_LONGEST_UNDIVIDED} characters and this "
                "tokenizer cannot encode in parts; split the text into documents (data.separator)"
            )
        if piece.ends_document:
            yield side, Piece("".join(parts[side]), True)
            parts[side] = []
    for side, texts in parts.items():
        if texts:  # the training side of a document that was cut in two
            yield side, Piece("".join(texts), False)
