"""Word-piece tokenizers through the `tokenizers` package: learned from text, or from a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from tempra._core import ConfigError, FormatError
from tempra.data.tokenizer import (
    DEFINITION_FILE,
    END_OF_TEXT,
    ByteStream,
    Tokens,
    TokenStream,
    check_ids,
    definition_file,
    fingerprint_of,
)

# End marks of published tokenizers, tried in this order where no configuration file names one.
_END_MARKS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[EOS]")
_LARGEST_FILE = 1 << 28
# A character has at most four bytes; more unfinished tokens than this are not one character.
_UNFINISHED_TOKENS = 8
_REPLACEMENT = "\ufffd"


class BpeTokenizer:
    """A tokenizer in Hugging Face's `tokenizer.json` format."""

    kind = "bpe"

    def __init__(self, backend: tokenizers.Tokenizer, *, end_of_text: int | None) -> None:
        # Text is data: what looks like a control mark inside a corpus stays ordinary text.
        backend.encode_special_tokens = True
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        vocabulary = backend.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise FormatError("tokenizer.json: the vocabulary is empty")
        self.vocab_size = max(vocabulary.values()) + 1
        if end_of_text is not None and not 0 <= end_of_text < self.vocab_size:
            raise FormatError(
                f"tokenizer: end-of-text id {end_of_text} is outside the {self.vocab_size} tokens"
            )
        self.end_of_text = end_of_text
        self._definition: dict[str, Any] = json.loads(backend.to_str())
        self.splittable = self._encodes_lines_apart()
        self._token_bytes: list[bytes] | None = None

    @classmethod
    def train(
        cls, texts: Iterator[str], vocab_size: int, *, marks: Sequence[str] = ()
    ) -> BpeTokenizer:
        """Learn byte-level word pieces from a stream of texts; `marks` become tokens as well.

        The result can have fewer tokens than asked when the text has no more pairs that repeat.
        """
        needed = 257 + len(marks)
        if vocab_size < needed:
            raise ConfigError(
                f"tokenizer.vocab_size: got {vocab_size}, needs at least {needed}: 256 bytes, the "
                f"end mark and {len(marks)} marks of the template"
            )
        pieces = tokenizers.pre_tokenizers.ByteLevel
        backend = tokenizers.Tokenizer(tokenizers.models.BPE())
        backend.pre_tokenizer = pieces(add_prefix_space=False)
        backend.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=[END_OF_TEXT, *marks],
            initial_alphabet=sorted(pieces.alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        return cls(backend, end_of_text=backend.token_to_id(END_OF_TEXT))

    @classmethod
    def from_file(cls, file: Path, *, end_of_text: int | None = None) -> BpeTokenizer:
        """Load a `tokenizer.json`; its end mark is taken from the file beside it, or by name."""
        try:
            if file.stat().st_size > _LARGEST_FILE:
                raise FormatError(
                    f"{file}: has {file.stat().st_size} bytes, too many for a tokenizer"
                )
            content = file.read_text(encoding="utf-8")
        except OSError as error:
            raise FormatError(f"{file}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise FormatError(f"{file}: byte {error.start} is not valid UTF-8") from None
        try:
            backend = tokenizers.Tokenizer.from_str(content)
        except Exception as error:  # the package raises plain Exception
            raise FormatError(f"{file}: is not a tokenizer.json: {error}") from None
        if end_of_text is None:
            end_of_text = _find_end_mark(backend, file.with_name("tokenizer_config.json"))
        return cls(backend, end_of_text=end_of_text)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical definition."""
        return fingerprint_of(
            {"kind": "bpe", "definition": self._definition, "end_of_text": self.end_of_text}
        )

    def encode(self, text: str) -> Tokens:
        """Return the ids of `text`."""
        return np.array(self._backend.encode(text, add_special_tokens=False).ids, dtype=np.uint32)

    def encode_batch(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the ids of each text."""
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of `tokens`."""
        ids = check_ids(tokens, self.vocab_size)
        if self._is_byte_level():
            pieces = self._bytes_of_tokens()
            return b"".join(pieces[token] for token in ids).decode("utf-8", "replace")
        return str(self._backend.decode(ids.tolist(), skip_special_tokens=True))

    def stream(self) -> TokenStream:
        """Return a decoder for tokens that arrive one at a time."""
        if self._is_byte_level():
            return ByteStream(self._bytes_of_tokens())
        return _DifferenceStream(self)

    def control_token(self, mark: str) -> int | None:
        """Return the token of a mark that the vocabulary has as one."""
        if mark == END_OF_TEXT and self.end_of_text is not None:
            return self.end_of_text  # published tokenizers have other names for it
        token = self._backend.token_to_id(mark)
        return token if token in self._backend.get_added_tokens_decoder() else None

    def control_text(self, token: int) -> str | None:
        """Return the mark that a token stands for."""
        added = self._backend.get_added_tokens_decoder().get(token)
        return added.content if added is not None and added.special else None

    def files(self) -> dict[str, bytes]:
        """Return the files that `load_tokenizer` needs, by name."""
        return {
            DEFINITION_FILE: definition_file(self, {}),
            "tokenizer.json": self._backend.to_str(pretty=False).encode("utf-8"),
        }

    def _is_byte_level(self) -> bool:
        return (self._definition.get("decoder") or {}).get("type") == "ByteLevel"

    def _bytes_of_tokens(self) -> list[bytes]:
        """Return the bytes of every token; special ones are no text and have none."""
        if self._token_bytes is None:
            table = _byte_of_character()
            result = [b""] * self.vocab_size
            for content, token in self._backend.get_vocab(with_added_tokens=False).items():
                if all(character in table for character in content):
                    result[token] = bytes(table[character] for character in content)
                else:
                    result[token] = content.encode("utf-8")
            for token, added in self._backend.get_added_tokens_decoder().items():
                result[token] = b"" if added.special else added.content.encode("utf-8")
            self._token_bytes = result
        return self._token_bytes

    def _encodes_lines_apart(self) -> bool:
        """Whether cutting after a line end changes nothing; false where a prefix space is added."""
        first, second = "One line of text.\n", "another, (with) marks 12\n"
        whole = self.encode(first + second)
        return bool(
            np.array_equal(whole, np.concatenate([self.encode(first), self.encode(second)]))
        )


def _byte_of_character() -> dict[str, int]:
    """Return the printable stand-ins of byte-level vocabularies (GPT-2's mapping), to bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in set(printable)]
    table = {chr(value): value for value in printable}
    table.update({chr(256 + index): value for index, value in enumerate(others)})
    return table


def _find_end_mark(backend: tokenizers.Tokenizer, configuration: Path) -> int | None:
    names = list(_END_MARKS)
    try:
        stated = json.loads(configuration.read_bytes()).get("eos_token")
        stated = stated.get("content") if isinstance(stated, dict) else stated
        if isinstance(stated, str):
            names.insert(0, stated)
    except (OSError, ValueError, AttributeError):
        pass  # the file is optional; without it the usual names decide
    for name in names:
        token = backend.token_to_id(name)
        if token is not None:
            return int(token)
    return None


class _DifferenceStream:
    """A `TokenStream` for decoders that look at neighbours: emits what decoding adds."""

    def __init__(self, tokenizer: BpeTokenizer) -> None:
        self._tokenizer = tokenizer
        self._context: list[int] = []  # tokens whose text is out, kept for their effect on the next
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        self._pending.append(token)
        text = self._added_text()
        unfinished = text.endswith(_REPLACEMENT) and len(self._pending) < _UNFINISHED_TOKENS
        return "" if unfinished else self._emit(text)

    def finish(self) -> str:
        return self._emit(self._added_text()) if self._pending else ""

    def _added_text(self) -> str:
        before = self._tokenizer.decode(self._context)
        return self._tokenizer.decode(self._context + self._pending)[len(before) :]

    def _emit(self, text: str) -> str:
        if text:
            self._context, self._pending = self._pending, []
        return text
