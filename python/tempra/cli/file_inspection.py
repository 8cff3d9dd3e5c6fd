"""What one data file is, how that was recognised, whether it is sound, and what it begins with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tempra import _core
from tempra._core import FormatError
from tempra.data.abi_checkpoint import read_abi_checkpoint
from tempra.data.counted import counted
from tempra.data.token_dataset import TokenizedDataset
from tempra.data.token_shard import (
    BOUNDS_SUFFIX,
    MASK_SUFFIX,
    SIDECAR_SUFFIX,
    TokenShard,
    sidecar_path,
)
from tempra.data.tokenizer import DEFINITION_FILE, Tokenizer, load_tokenizer
from tempra.data.wdbx import WdbxTokenDataset

_SHOWN_TENSORS = 12
_SHOWN_TOKENS = 16
_SHOWN_CHARACTERS = 200
_SCAN_NUMBERS = 1 << 18
_SEARCHED_BLOCKS = 4
_SECTION_NAMES = {
    1: "metadata",
    2: "vectors",
    3: "bloom filter",
    4: "vector index",
    5: "lineage",
    6: "distributed",
}


@dataclass(frozen=True)
class Inspection:
    """What a file holds: facts for a program, lines for a person."""

    path: str
    kind: str
    recognised_by: str
    # What has been verified. That an inspection exists at all means that no damage was found.
    checked: str
    facts: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def text(self) -> list[str]:
        """Return the lines to print."""
        return [
            f"{self.path}: {self.kind}",
            f"recognised: {self.recognised_by}",
            *self.lines,
            self.checked,
        ]

    def record(self) -> dict[str, Any]:
        """Return the values for JSON."""
        values = asdict(self)
        del values["lines"]
        # Null where checksums were not read: nothing wrong was seen, which is not the same.
        return {**values, "sound": True if self.checked.startswith("sound") else None}


def inspect_file(
    path: Path, *, verify: bool = False, dtype: str | None = None, tokenizer: Path | None = None
) -> Inspection:
    """Inspect a file; raises `FormatError` where it is damaged or of no known kind."""
    for suffix in (SIDECAR_SUFFIX, BOUNDS_SUFFIX, MASK_SUFFIX):
        if path.name.endswith(suffix):
            path = path.with_name(path.name.removesuffix(suffix))
    if not path.exists():
        raise FormatError(f"{path}: no such file")
    if not path.is_file():  # opening a pipe would wait for its writer
        raise FormatError(f"{path}: is not a file that can be read again")
    if path.name in ("tokenizer.json", DEFINITION_FILE):
        return _inspect_tokenizer(path)
    given = load_tokenizer(tokenizer) if tokenizer is not None else None
    if dtype is not None or sidecar_path(path).exists():
        return _inspect_shard(path, verify, dtype, given)
    with path.open("rb") as file:
        beginning = file.read(9)
    if beginning[:4] == b"WDBX" or path.suffix == ".wdbx":
        return _inspect_wdbx(path, given)
    if beginning[:4] in (b"ABIC", b"ABLC"):
        return _inspect_abi_checkpoint(path)
    if path.suffix == ".bin":
        return _inspect_shard(path, verify, dtype, given)
    if path.suffix == ".safetensors" or beginning[8:] == b"{":
        return _inspect_safetensors(path)
    raise FormatError(
        f"{path}: is of no known kind; known are prepared folders, .bin token files, WDBX, ABIC "
        "and ABLC files, tokenizers, .safetensors, and text by its ending such as .txt or .jsonl"
    )


def tokenizer_line(tokenizer: Tokenizer) -> str:
    """Return kind, size, end mark and fingerprint of a tokenizer."""
    end = "no end mark" if tokenizer.end_of_text is None else f"end mark {tokenizer.end_of_text}"
    return (
        f"tokenizer: {tokenizer.kind}, {tokenizer.vocab_size:,} tokens, {end}, "
        f"fingerprint {tokenizer.fingerprint[:12]}"
    )


def soundness(verified: bool) -> str:
    """Return what the parts of a prepared dataset were checked for."""
    if verified:
        return "sound: sizes, checksums, document boundaries and every token are right"
    return "sizes agree; --verify also reads checksums and every token"


def _inspect_tokenizer(path: Path) -> Inspection:
    tokenizer = load_tokenizer(path)
    facts = {
        "tokenizer": tokenizer.kind,
        "vocabulary_size": tokenizer.vocab_size,
        "end_of_text": tokenizer.end_of_text,
        "fingerprint": tokenizer.fingerprint,
    }
    checked = "sound: it can be loaded"
    return Inspection(
        str(path), "tokenizer", "by its name", checked, facts, [tokenizer_line(tokenizer)]
    )


# Token files


def _inspect_shard(
    path: Path, verify: bool, dtype: str | None, tokenizer: Tokenizer | None
) -> Inspection:
    shard = TokenShard(path, dtype)
    facts: dict[str, Any] = {"tokens": len(shard), "dtype": shard.dtype}
    lines = [f"{counted(len(shard), 'token')} of type {shard.dtype}"]
    if shard.sidecar is None:
        why = "by its name; any whole number of tokens is a token file"
        checked = "sound as far as can be known: without .meta.json there is no checksum"
        lines.append("no .meta.json: type, vocabulary and documents are not known")
        if len(shard):
            low, high = _extremes(shard)
            facts |= {"smallest_token": low, "largest_token": high}
            lines.append(f"smallest token {low}, largest {high}")
    else:
        sidecar = shard.sidecar
        why = f"by the {SIDECAR_SUFFIX} beside it"
        facts |= {
            "documents": sidecar.documents,
            "has_loss_mask": shard.has_mask,
            "tokenizer": sidecar.tokenizer_kind,
            "vocabulary_size": sidecar.vocabulary_size,
            "fingerprint": sidecar.tokenizer_fingerprint,
        }
        lines.append(
            f"{counted(sidecar.documents, 'document')}; tokenizer {sidecar.tokenizer_kind}, "
            f"{sidecar.vocabulary_size:,} tokens, fingerprint {sidecar.tokenizer_fingerprint[:12]}"
        )
        if shard.has_mask:
            lines.append("with a loss mask: not all tokens are learned")
        tokenizer = tokenizer or _tokenizer_beside(path, sidecar.tokenizer_fingerprint)
        if verify:
            TokenizedDataset([path]).verify()
            checked = soundness(True)
        else:
            shard.verify()
            checked = "sound: size and checksums are right; --verify also reads every token"
    _add_beginning(facts, lines, shard.tokens[:_SHOWN_TOKENS].tolist(), tokenizer)
    return Inspection(str(path), "token file", why, checked, facts, lines)


def _tokenizer_beside(path: Path, fingerprint: str) -> Tokenizer | None:
    """Return the tokenizer in the folder of a token file, if it is the one that made it."""
    try:
        tokenizer = load_tokenizer(path.parent)
    except (FormatError, OSError, ImportError):
        return None
    return tokenizer if tokenizer.fingerprint == fingerprint else None


def _add_beginning(
    facts: dict[str, Any], lines: list[str], tokens: list[int], tokenizer: Tokenizer | None
) -> None:
    if not tokens:
        return
    facts["first_tokens"] = tokens
    lines.append(f"begins with {', '.join(str(token) for token in tokens)}")
    if tokenizer is None:
        return
    if max(tokens) >= tokenizer.vocab_size:
        lines.append(f"which are not tokens of this tokenizer of {tokenizer.vocab_size:,}")
        return
    facts["first_text"] = tokenizer.decode(tokens)
    lines.append(f"which is {facts['first_text']!r}")


def _extremes(shard: TokenShard) -> tuple[int, int]:
    parts = [
        (int(part.min()), int(part.max())) for part in _read_pieces(shard.path, shard.tokens.dtype)
    ]
    return min(low for low, _ in parts), max(high for _, high in parts)


def _read_pieces(
    path: Path, dtype: np.dtype[Any], start: int = 0, count: int = -1
) -> Iterator[NDArray[Any]]:
    """Read numbers from byte `start` into one small buffer: a mapped file would stay in memory."""
    buffer = np.empty(_SCAN_NUMBERS, dtype=dtype)
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while count:
            wanted = len(buffer) if count < 0 else min(count, len(buffer))
            found = (file.readinto(buffer[:wanted].data) or 0) // dtype.itemsize
            if found == 0:
                return
            count = count - found if count > 0 else count
            yield buffer[:found]


# WDBX


def _inspect_wdbx(path: Path, tokenizer: Tokenizer | None) -> Inspection:
    facts: dict[str, Any] = _core.describe_wdbx(path)
    for section in facts["sections"]:
        section["name"] = _SECTION_NAMES.get(section["type"], "unknown")
    sections = ", ".join(
        f"{section['name']} {counted(section['length'], 'byte')}" for section in facts["sections"]
    )
    lines = [
        f"version {facts['version']}, name {facts['name']!r}, "
        f"{counted(facts['records'], 'record')}, vectors of {facts['dimension']} floats",
        f"sections: {sections}",
    ]
    if "vector_index" in facts:
        index = facts["vector_index"]
        lines.append(
            f"vector index: {counted(index['nodes'], 'node')}, "
            f"{counted(index['neighbours'], 'neighbour')}"
        )
    kind = "WDBX container"
    try:
        dataset = WdbxTokenDataset(path)
    except FormatError as error:
        lines.append(f"not a token dataset: {str(error).removeprefix(f'{path}: ')}")
    else:
        kind = "WDBX token dataset"
        facts |= {"tokens": dataset.token_count, "blocks": dataset.block_count}
        blocks = counted(dataset.block_count, "block")
        lines.append(f"{counted(dataset.token_count, 'token')} in {blocks}")
        _add_beginning(facts, lines, dataset.collect(_SHOWN_TOKENS).tolist(), tokenizer)
        text = next(_texts(dataset), None)
        if text is not None:
            facts["first_block_text"] = text[:_SHOWN_CHARACTERS]
            lines.append(f"text of its first blocks: {text[:_SHOWN_CHARACTERS]!r}")
    checked = "sound: every checksum, section and record is right"
    return Inspection(str(path), kind, "begins with WDBX", checked, facts, lines)


def _texts(dataset: WdbxTokenDataset) -> Iterator[str]:
    return (text for _, _, text in islice(dataset, _SEARCHED_BLOCKS) if text is not None)


# Weights


def _inspect_abi_checkpoint(path: Path) -> Inspection:
    found = read_abi_checkpoint(path)
    facts: dict[str, Any] = {
        "format": found.format,
        "step": found.step,
        "timestamp": found.timestamp,
        "weights": found.weights.size,
    }
    lines = [f"step {found.step:,}, {found.weights.size:,} weights"]
    if found.first_moments is not None and found.second_moments is not None:
        facts |= {
            "epoch": found.epoch,
            "tokens_processed": found.tokens_processed,
            "first_moments": found.first_moments.size,
            "second_moments": found.second_moments.size,
        }
        lines.append(
            f"epoch {found.epoch}, {found.tokens_processed:,} tokens, "
            f"{found.first_moments.size:,} and {found.second_moments.size:,} moments"
        )
    # The arrays are what the file ends with.
    start = path.stat().st_size - sum(
        0 if array is None else array.nbytes
        for array in (found.weights, found.first_moments, found.second_moments)
    )
    pieces = _read_pieces(path, found.weights.dtype, start, found.weights.size)
    finite = all(bool(np.isfinite(piece).all()) for piece in pieces)
    facts["finite"] = finite
    lines.append("all weights are finite" if finite else "some weights are NaN or infinite")
    kind = "ABI checkpoint, weights and moments" if found.epoch is not None else "ABI checkpoint"
    checked = "sound: sizes agree; the format has no checksums"
    return Inspection(str(path), kind, f"begins with {found.format}", checked, facts, lines)


def _inspect_safetensors(path: Path) -> Inspection:
    tensors, metadata = _core.read_safetensors(path)
    numbers = sum(tensor.numel() for tensor in tensors.values())
    size = sum(tensor.nbytes for tensor in tensors.values())
    lines = [f"{len(tensors)} tensors, {numbers:,} numbers, {size / 1e6:,.1f} MB"]
    for name, tensor in list(tensors.items())[:_SHOWN_TENSORS]:
        lines.append(f"  {name}: {list(tensor.shape)} {tensor.dtype}")
    if len(tensors) > _SHOWN_TENSORS:
        lines.append(f"  and {len(tensors) - _SHOWN_TENSORS} more")
    lines += [f"  {key} = {value[:80]}" for key, value in metadata.items()]
    facts = {
        "tensors": {
            name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype)}
            for name, tensor in tensors.items()
        },
        "numbers": numbers,
        "bytes": size,
        "metadata": metadata,
    }
    why = "by its name" if path.suffix == ".safetensors" else "begins with a header of JSON"
    checked = "sound: header and sizes are right; the format has no checksums"
    return Inspection(str(path), "safetensors", why, checked, facts, lines)
