"""What a data file is and holds, in lines for a person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tempra._core import FormatError
from tempra.cli.file_inspection import Inspection, inspect_file, soundness, tokenizer_line
from tempra.cli.text_inspection import holds_text, inspect_text
from tempra.data.counted import counted
from tempra.data.prepared import PreparedDataset, is_prepared
from tempra.data.tokenizer import DEFINITION_FILE
from tempra.train.stage_report import describe_instructions


def inspect_path(
    path: Path, *, verify: bool = False, dtype: str | None = None, tokenizer: Path | None = None
) -> Inspection:
    """Inspect a file or folder; raises `FormatError` where it is damaged or not known."""
    if dtype is None and holds_text(path):
        return inspect_text(path)
    if not path.is_dir():
        return inspect_file(path, verify=verify, dtype=dtype, tokenizer=tokenizer)
    if is_prepared(path):
        prepared = PreparedDataset(path)
        lines = describe_prepared(prepared, verify=verify)
        facts = prepared.manifest.model_dump(mode="json")
        why = "a folder with the list of its parts"
        return Inspection(str(path), "prepared text", why, lines[-1], facts, lines[:-1])
    if (path / DEFINITION_FILE).is_file() or (path / "tokenizer.json").is_file():
        file = DEFINITION_FILE if (path / DEFINITION_FILE).is_file() else "tokenizer.json"
        return replace(inspect_file(path / file), path=str(path))
    raise FormatError(f"{path}: is neither a prepared folder nor a tokenizer")


def describe_prepared(prepared: PreparedDataset, *, verify: bool = False) -> list[str]:
    """Describe a prepared folder, opening every part of it."""
    manifest = prepared.manifest
    tokenizer = prepared.tokenizer()
    lines = [
        f"text: {counted(manifest.characters, 'character')}; {manifest.split_rule}",
        tokenizer_line(tokenizer),
        *describe_instructions(prepared),
    ]
    for name, record in manifest.splits.items():
        dataset = prepared.dataset(name)
        documents = counted(record.documents, "document")
        lines.append(
            f"{name}: {counted(record.tokens, 'token')} in {documents}, "
            f"{counted(len(record.shards), f'{manifest.dtype} file')}"
        )
        if verify:
            dataset.verify()
    lines.append(soundness(verify))
    return lines
