"""What text to make into token files, and how: files, tokenizer and options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tempra._core import ConfigError
from tempra.data.corpus import Corpus
from tempra.data.instruction_corpus import (
    InstructionCorpus,
    InstructionOptions,
    instruction_corpora,
)
from tempra.data.tokenizer import fingerprint_of, load_tokenizer

# (phase, done, total); see prepare.PHASES.
PrepareProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Preparation:
    """What to prepare and how. Values are checked by the configuration before they get here."""

    train: Sequence[str]
    validation: Sequence[str] = ()
    validation_fraction: float = 0.1
    tokenizer: Literal["bpe", "byte", "char", "file"] = "bpe"
    vocab_size: int = 8192
    tokenizer_path: str | None = None
    text_field: str = "text"
    suffixes: Sequence[str] = (".txt", ".md", ".jsonl")
    separator: str | None = None
    instructions: InstructionOptions = field(default_factory=InstructionOptions)
    token_dtype: Literal["auto", "u16", "u32"] = "u32"
    shard_tokens: int = 1 << 28
    # A vocabulary is learned from this many characters, spread evenly; counting the distinct words
    # of a corpus of any size would take memory of any size.
    vocabulary_characters: int = 1 << 27
    train_corpus: Corpus | InstructionCorpus = field(init=False)
    validation_corpus: Corpus | InstructionCorpus | None = field(init=False)

    def __post_init__(self) -> None:
        """Find the files."""
        train = self._corpus(self.train, "data.train")
        validation = self._corpus(self.validation, "data.validation") if self.validation else None
        if validation is not None:
            both = {f.path.resolve() for f in train.files} & {
                f.path.resolve() for f in validation.files
            }
            if both:
                raise ConfigError(f"data.validation: {min(both)} is in data.train as well")
        texts = [corpus for corpus in (train, validation) if corpus is not None]
        read = instruction_corpora(texts, self.instructions) or texts
        object.__setattr__(self, "train_corpus", read[0])
        object.__setattr__(self, "validation_corpus", read[1] if len(read) > 1 else None)

    def _corpus(self, sources: Sequence[str], setting: str) -> Corpus:
        return Corpus(
            sources,
            text_field=self.text_field,
            suffixes=self.suffixes,
            separator=self.separator,
            setting=setting,
        )

    @property
    def conversations(self) -> InstructionCorpus | None:
        """Return the training corpus where it consists of conversations."""
        corpus = self.train_corpus
        return corpus if isinstance(corpus, InstructionCorpus) else None

    def corpora(self) -> list[Corpus | InstructionCorpus]:
        """Return the corpora that are read, training first."""
        return [c for c in (self.train_corpus, self.validation_corpus) if c is not None]

    def fingerprint(self) -> str:
        """Return a name for exactly these files, tokenizer and options."""
        files = [
            [[str(f.path.resolve()), f.size, f.modified_ns] for f in corpus.files]
            for corpus in self.corpora()
        ]
        tokenizer: list[object] = [self.tokenizer]
        if self.tokenizer == "bpe":
            tokenizer += [self.vocab_size, self.vocabulary_characters]
        if self.tokenizer == "file":
            tokenizer.append(load_tokenizer(Path(self.tokenizer_path or "")).fingerprint)
        options: list[object] = [
            self.text_field,
            self.separator,
            self.token_dtype,
            self.shard_tokens,
        ]
        for corpus in self.corpora():
            if isinstance(corpus, InstructionCorpus):
                options.append(corpus.definition())
        fraction = 0.0 if self.validation else self.validation_fraction
        return fingerprint_of([1, files, fraction, tokenizer, options])
