"""What a data file is and holds, in lines for a person."""

from __future__ import annotations

from pathlib import Path

from tempra import _core
from tempra._core import FormatError
from tempra.data.prepared import PreparedDataset, is_prepared
from tempra.data.token_dataset import TokenizedDataset
from tempra.data.token_shard import BOUNDS_SUFFIX, MASK_SUFFIX, SIDECAR_SUFFIX, TokenShard
from tempra.data.tokenizer import DEFINITION_FILE, Tokenizer, load_tokenizer
from tempra.train.plan import describe_instructions

_SHOWN_TENSORS = 12
_SCAN_TOKENS = 1 << 22


def describe(path: Path, *, verify: bool = False, dtype: str | None = None) -> list[str]:
    """Describe a file or folder; raises `FormatError` where it is damaged or not known."""
    if not path.exists():
        raise FormatError(f"{path}: no such file or folder")
    if path.is_dir():
        return _describe_folder(path, verify)
    for suffix in (SIDECAR_SUFFIX, BOUNDS_SUFFIX, MASK_SUFFIX):
        if path.name.endswith(suffix):
            path = path.with_name(path.name.removesuffix(suffix))
    if path.name in ("tokenizer.json", DEFINITION_FILE):
        return [f"{path}: tokenizer", *_describe_tokenizer(load_tokenizer(path))]
    if path.suffix == ".safetensors":
        return _describe_safetensors(path)
    if path.suffix == ".bin":
        return _describe_shard(path, verify, dtype)
    raise FormatError(
        f"{path}: is of no known kind; known are prepared folders, .bin token files, tokenizers "
        "and .safetensors (for text, see tempra data preview)"
    )


def describe_prepared(prepared: PreparedDataset, *, verify: bool = False) -> list[str]:
    """Describe a prepared folder, opening every part of it."""
    manifest = prepared.manifest
    tokenizer = prepared.tokenizer()
    lines = [
        f"text: {manifest.characters:,} characters; {manifest.split_rule}",
        *_describe_tokenizer(tokenizer),
        *describe_instructions(prepared),
    ]
    for name, record in manifest.splits.items():
        dataset = prepared.dataset(name)
        lines.append(
            f"{name}: {record.tokens:,} tokens in {record.documents:,} documents, "
            f"{len(record.shards)} {manifest.dtype} files"
        )
        if verify:
            dataset.verify()
    lines.append(_soundness(verify))
    return lines


def _soundness(verified: bool) -> str:
    if verified:
        return "sound: sizes, checksums, document boundaries and every token are right"
    return "sizes agree; --verify also reads checksums and every token"


def _describe_folder(path: Path, verify: bool) -> list[str]:
    if is_prepared(path):
        lines = describe_prepared(PreparedDataset(path), verify=verify)
        return [f"{path}: prepared text", *lines]
    if (path / DEFINITION_FILE).is_file() or (path / "tokenizer.json").is_file():
        return [f"{path}: tokenizer", *_describe_tokenizer(load_tokenizer(path))]
    raise FormatError(f"{path}: is neither a prepared folder nor a tokenizer")


def _describe_tokenizer(tokenizer: Tokenizer) -> list[str]:
    end = "no end mark" if tokenizer.end_of_text is None else f"end mark {tokenizer.end_of_text}"
    return [
        f"tokenizer: {tokenizer.kind}, {tokenizer.vocab_size:,} tokens, {end}, "
        f"fingerprint {tokenizer.fingerprint[:12]}"
    ]


def _describe_shard(path: Path, verify: bool, dtype: str | None) -> list[str]:
    shard = TokenShard(path, dtype)
    lines = [f"{path}: token file, {len(shard):,} tokens of type {shard.dtype}"]
    if len(shard):
        first = ", ".join(str(token) for token in shard.tokens[:8])
        lines.append(f"begins with {first}")
    if shard.sidecar is None:
        lines.append("no .meta.json: type, vocabulary and documents are not known")
        if len(shard):
            low, high = _extremes(shard)
            lines.append(f"smallest token {low}, largest {high}")
        return lines
    sidecar = shard.sidecar
    lines.append(
        f"{sidecar.documents:,} documents; tokenizer {sidecar.tokenizer_kind}, "
        f"{sidecar.vocabulary_size:,} tokens, fingerprint {sidecar.tokenizer_fingerprint[:12]}"
    )
    if verify:
        TokenizedDataset([path]).verify()
    lines.append(_soundness(verify))
    return lines


def _extremes(shard: TokenShard) -> tuple[int, int]:
    parts = [
        shard.tokens[start : start + _SCAN_TOKENS] for start in range(0, len(shard), _SCAN_TOKENS)
    ]
    return min(int(part.min()) for part in parts), max(int(part.max()) for part in parts)


def _describe_safetensors(path: Path) -> list[str]:
    tensors, metadata = _core.read_safetensors(str(path))
    numbers = sum(tensor.numel() for tensor in tensors.values())
    size = sum(tensor.nbytes for tensor in tensors.values())
    lines = [
        f"{path}: safetensors, {len(tensors)} tensors, {numbers:,} numbers, {size / 1e6:,.1f} MB"
    ]
    for name, tensor in list(tensors.items())[:_SHOWN_TENSORS]:
        lines.append(f"  {name}: {list(tensor.shape)} {tensor.dtype}")
    if len(tensors) > _SHOWN_TENSORS:
        lines.append(f"  and {len(tensors) - _SHOWN_TENSORS} more")
    lines += [f"  {key} = {value[:80]}" for key, value in metadata.items()]
    return lines
