"""What a file of text or conversations is, and whether every line of it is sound."""

from __future__ import annotations

from pathlib import Path

from tempra.cli.file_inspection import Inspection
from tempra.data.conversation import Conversation, PlainText
from tempra.data.counted import counted
from tempra.data.instruction_dataset import MalformedLines, stream_examples
from tempra.data.instruction_formats import (
    ExampleReader,
    default_template,
    detect_format,
    open_data,
)

_SUFFIXES = (".txt", ".text", ".md", ".rst", ".jsonl", ".ndjson")
_PEEK_BYTES = 4096


def holds_text(path: Path) -> bool:
    """Whether a file is text by its name, or an array of records."""
    name = path.with_suffix("") if path.suffix == ".gz" else path
    if name.suffix != ".json" or not path.is_file():
        return path.is_file() and name.suffix in _SUFFIXES
    with open_data(path) as (stream, _):
        return stream.read(_PEEK_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def inspect_text(path: Path) -> Inspection:
    """Read every example; raises `MalformedLinesError` that names each malformed line."""
    found = detect_format(path)
    reader = ExampleReader(path, found.format)
    malformed = MalformedLines(0)
    examples = characters = answers = 0
    for example in stream_examples(reader, malformed):
        examples += 1
        if isinstance(example, PlainText):
            characters += len(example.text)
        elif isinstance(example, Conversation):
            characters += sum(len(message.content) for message in example.messages)
            answers += sum(message.is_response for message in example.messages)
    malformed.check(examples=examples)
    facts = {
        "format": found.format,
        "examples": examples,
        "characters": characters,
        "answers": answers,
        "ignored_fields": reader.ignored_fields,
    }
    if found.format == "text":
        lines = [f"{counted(examples, 'document')}, {counted(characters, 'character')}"]
    elif found.format == "preference":
        lines = [f"{counted(examples, 'preference pair')}"]
    else:
        lines = [
            f"{examples:,} conversations with {answers:,} answers, {characters:,} characters; "
            f"default template {default_template(found.format)}"
        ]
    ignored = ", ".join(f"{name} ({count:,})" for name, count in reader.ignored_fields.items())
    lines += [f"fields without a use here: {ignored}"] if ignored else []
    checked = "sound: every line has been read"
    return Inspection(str(path), f"{found.format} data", found.reason, checked, facts, lines)
