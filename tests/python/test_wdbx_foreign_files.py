"""WDBX files as another writer may lay them out: read, inspected, converted, appended to."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import tempra
from tempra.cli.main import main
from tempra.data import read_wdbx_records
from wdbx_files import (
    BLOOM,
    DISTRIBUTED,
    INDEX,
    LINEAGE,
    METADATA,
    VECTORS,
    FileV2,
    FileV3,
    Parts,
    Section,
    block,
    bloom_block,
    bloom_of,
    hashed,
    index_block,
    index_of,
    limbs,
    name_of,
    record,
    take_apart,
    vector_block,
)

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "wdbx"

Blocks = list[tuple[int, list[int], bytes]]
LARGEST = 2**64 - 1
NAN = struct.pack("<4I", 0x7FC00001, 0x7F800001, 0xFFFFFFFF, 0x80000000)


@dataclass(frozen=True)
class Foreign:
    """A file, and the blocks that a reader must find in it."""

    file: FileV3 | FileV2
    blocks: Blocks
    name: bytes = b"theirs"


def records_of(blocks: Blocks) -> bytes:
    return b"".join(record(number, limbs(number), block(t, text)) for number, t, text in blocks)


def usual(blocks: Blocks, name: bytes = b"theirs") -> FileV3:
    """Return a file as the original program lays it out."""
    sections = [
        Section(METADATA, name_of(name), items=1),
        Section(VECTORS, records_of(blocks), items=len(blocks)),
    ]
    if blocks:
        bloom = bloom_of([number for number, _, _ in blocks])
        sections.append(Section(BLOOM, bloom, items=len(blocks)))
    return FileV3(sections, len(blocks), 4 if blocks else 0)


THREE: Blocks = [
    (1, [1, 2, 3, 4], b"hello"),
    (2, [50256, 0, 4294967295, 7, 65536], b""),
    (3, [100, 200, 300], "naïve ☃".encode()),
]
TWO: Blocks = [(1, [5, 6], b""), (2, [7], b"text")]
META, VECS, FILTER = usual(TWO).sections
GRAPH = Section(INDEX, index_of([1], [0]), items=2)
OLD = name_of(b"theirs") + bloom_block(bloom_of([1, 2])) + vector_block(2, records_of(TWO))


def two(*sections: Section, **options: object) -> Foreign:
    given = sections or (META, VECS, FILTER)
    return Foreign(FileV3(given, 2, 4).but(**options), TWO)


# A section of an unknown type that covers the bytes of the name and of the first record too.
BOTH = META.payload + VECS.payload
OVERLAPPING = two(META, VECS, Section(99, BOTH), entries={2: (80 + 96, len(BOTH))})
MISCOUNTED = [Section(section.type, section.payload, 0, 9, 9) for section in (META, VECS, FILTER)]
NANS = record(1, NAN, block([5, 6])) + record(2, NAN, block([7], b"text"))
WITHOUT = record(4, limbs(4)) + record(5, limbs(5), block([8]))
ODD = record(1, limbs(1), block([5], b"t", flags=9, after=b"x"))

FOREIGN: dict[str, Foreign] = {
    "as_the_original_writes": Foreign(usual(THREE), THREE),
    "empty": Foreign(usual([]), []),
    "sections_in_another_order": two(FILTER, VECS, META),
    "without_a_bloom_filter": two(META, VECS),
    "directory_after_the_sections": two(directory_last=True),
    "directory_after_unused_bytes": two(before_directory=b"unused", after_directory=b"too"),
    "unused_bytes_between_sections": two(between=b"unused", directory_last=True),
    "with_an_index": two(META, VECS, FILTER, GRAPH, flags=15),
    "with_lineage_and_distributed": two(
        META, Section(LINEAGE, b"line", 7, 8), VECS, FILTER, Section(DISTRIBUTED, b"", 0, 0),
        flags=7 | 16 | 32,
    ),
    "with_unknown_sections": two(META, VECS, Section(0, b"zero"), Section(65535, b"high", 3, 9)),
    "two_of_an_unknown_type": two(META, VECS, Section(99, b"a"), Section(99, b"b")),
    "an_empty_name": Foreign(usual(TWO, b""), TWO, b""),
    "a_name_that_is_not_utf8": Foreign(usual(TWO, b"\xff\xfe\x00!"), TWO, b"\xff\xfe\x00!"),
    "the_longest_name": Foreign(usual(TWO, b"n" * 65535), TWO, b"n" * 65535),
    "bytes_after_the_name": two(
        Section(METADATA, name_of(b"theirs", b"more")), VECS, FILTER
    ),
    "no_flags": two(flags=0),
    "reserved_flags_and_bytes": two(flags=0xFF07, reserved=0xFFFFFFFF),
    "times_uuid_and_metric": two(created=-5, modified=77, uuid=bytes(range(16)), metric=3),
    "another_header_size": two(header_size=96),
    "item_counts_that_are_wrong": two(*MISCOUNTED),
    "dimension_0_with_equal_vectors": two(dimension=0),
    "quantised_mark": two(flags=7 | 64, compression=3),
    "quantised_mark_without_flag": two(compression=3),
    "nan_vectors": Foreign(
        FileV3([META, Section(VECTORS, NANS)], 2, 4), TWO
    ),
    "the_least_and_nearly_the_largest_id": Foreign(
        usual([(0, [1], b""), (LARGEST - 2, [2], b"")]), [(0, [1], b""), (LARGEST - 2, [2], b"")]
    ),
    "only_id_0": Foreign(usual([(0, [1], b"")]), [(0, [1], b"")]),
    "file_order_is_not_id_order": Foreign(
        usual([(9, [1], b""), (2, [2], b""), (70000, [3], b""), (1, [4], b"")]),
        [(9, [1], b""), (2, [2], b""), (70000, [3], b""), (1, [4], b"")],
    ),
    "records_without_metadata": Foreign(
        FileV3([META, Section(VECTORS, WITHOUT)], 2, 4),
        [(4, [], b""), (5, [8], b"")],
    ),
    "blocks_without_tokens": Foreign(
        usual([(1, [], b""), (2, [], b"only text"), (3, [9], b"")]),
        [(1, [], b""), (2, [], b"only text"), (3, [9], b"")],
    ),
    "flags_and_bytes_after_a_block": Foreign(
        FileV3([META, Section(VECTORS, ODD)], 1, 4),
        [(1, [5], b"t")],
    ),
    "text_that_is_not_utf8": Foreign(usual([(1, [5], b"\xff\x00")]), [(1, [5], b"\xff\x00")]),
    "overlapping_sections": OVERLAPPING,
    "old": Foreign(FileV2(OLD, 2, 4, flags=1), TWO),
    "old_without_a_bloom_filter": Foreign(
        FileV2(name_of(b"theirs") + vector_block(2, records_of(TWO)), 2, 4), TWO
    ),
    "old_with_an_index": Foreign(FileV2(OLD + index_block(GRAPH.payload), 2, 4, flags=3), TWO),
    "old_with_the_older_checksum": Foreign(FileV2(OLD, 2, 4, flags=3, older_checksum=True), TWO),
    "old_quantised_with_a_time": Foreign(
        FileV2(OLD, 2, 4, flags=1 | 16, compression=3, metric=2, created=123), TWO
    ),
    "old_and_empty": Foreign(FileV2(name_of(b"theirs") + vector_block(0, b""), flags=3), []),
}  # fmt: skip


@pytest.fixture(params=FOREIGN)
def foreign(request: pytest.FixtureRequest) -> Foreign:
    return FOREIGN[request.param]


@pytest.fixture
def path(foreign: Foreign, tmp_path: Path) -> Path:
    file = tmp_path / "theirs.wdbx"
    file.write_bytes(foreign.file.to_bytes())
    return file


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    code = main(["data", *map(str, arguments)])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def text_of(raw: bytes) -> str | None:
    return raw.decode("utf-8", "surrogateescape") or None


def tokens_of(blocks: Blocks) -> list[int]:
    return [token for _, tokens, _ in blocks for token in tokens]


def test_the_writer_of_these_tests_is_right() -> None:
    golden = (GOLDEN / "three-blocks.wdbx").read_bytes()
    assert usual(THREE, b"token_dataset").to_bytes() == golden
    assert usual([], b"token_dataset").to_bytes() == (GOLDEN / "empty.wdbx").read_bytes()
    assert hashed(1, 0) == 0x2FBC593564DB792E
    assert hashed(3, 1) == 0x77A59498A006C051
    assert bloom_of([1, 2, 3]).hex() == "06040000000ee08da9"
    assert limbs(0x0123456789ABCDEF) == [52719, 35243, 17767, 291]


def test_reading(foreign: Foreign, path: Path) -> None:
    dataset = tempra.WdbxTokenDataset(path)
    assert dataset.name == foreign.name.decode("utf-8", "surrogateescape")
    assert dataset.block_count == len(foreign.blocks)
    assert [(number, tokens.tolist(), text) for number, tokens, text in dataset] == [
        (number, tokens, text_of(text)) for number, tokens, text in foreign.blocks
    ]
    assert dataset.collect().tolist() == tokens_of(foreign.blocks)


def test_inspecting(foreign: Foreign, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "inspect", path, "--json"))
    assert found["sound"] is True
    assert found["kind"] == "WDBX token dataset"
    facts = found["facts"]
    assert facts["name"] == foreign.name.decode("utf-8", "surrogateescape")
    assert (facts["records"], facts["blocks"]) == (len(foreign.blocks), len(foreign.blocks))
    assert facts["tokens"] == len(tokens_of(foreign.blocks))
    assert facts.get("first_tokens", []) == tokens_of(foreign.blocks)[:16]
    assert "sound: every checksum" in run(capsys, "inspect", path)


def test_converting(foreign: Foreign, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    destination = path.with_name("tokens.bin")
    run(capsys, "convert", path, destination)
    tokens = tokens_of(foreign.blocks)
    assert destination.read_bytes() == struct.pack(f"<{len(tokens)}I", *tokens)


def kept_parts(foreign: Foreign) -> Parts:
    """Return what a file must still say after something was appended."""
    file = foreign.file
    if isinstance(file, FileV3):
        return Parts(
            file.flags, file.created, file.modified, 0, 0, file.metric, file.compression, file.uuid,
            [s for s in file.sections if s.type not in (METADATA, VECTORS, BLOOM)],
        )  # fmt: skip
    graph = [GRAPH] if index_block(GRAPH.payload) in file.blocks else []
    return Parts(
        64 if file.flags & 16 else 0, file.created, 0, 0, 0, file.metric, file.compression,
        bytes(16), graph,
    )  # fmt: skip


def records_in(foreign: Foreign) -> bytes:
    file = foreign.file
    if isinstance(file, FileV3):
        return next(s.payload for s in file.sections if s.type == VECTORS)
    return records_of(foreign.blocks)


def test_appending_keeps_everything(
    foreign: Foreign, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tempra.write_token_bin_file(path.with_name("more.bin"), [31, 32, 33])
    run(capsys, "convert", path.with_name("more.bin"), path, "--mode", "append",
        "--block-tokens", 2)  # fmt: skip
    found, kept = take_apart(path.read_bytes()), kept_parts(foreign)
    first = max((number for number, _, _ in foreign.blocks), default=0) + 1
    added: Blocks = [(first, [31, 32], b""), (first + 1, [33], b"")]
    own_flags = {INDEX: 8, LINEAGE: 16, DISTRIBUTED: 32}
    flags = 7 | sum({own_flags.get(section.type, 0) for section in kept.sections})
    assert found.flags == flags | kept.flags & 0xFF40
    assert (found.created, found.modified, found.uuid) == (kept.created, kept.modified, kept.uuid)
    assert (found.metric, found.compression) == (kept.metric, kept.compression)
    assert (found.records, found.dimension) == (len(foreign.blocks) + 2, 4)
    expected_name = name_of(foreign.name)
    if isinstance(foreign.file, FileV3):
        expected_name = next(s.payload for s in foreign.file.sections if s.type == METADATA)
    assert found.payload(METADATA) == expected_name
    assert found.payload(VECTORS) == records_in(foreign) + records_of(added)
    assert found.payload(BLOOM) == bloom_of([number for number, _, _ in foreign.blocks + added])
    assert [(s.type, s.payload, s.flags, s.items) for s in found.sections[3:]] == [
        (s.type, s.payload, s.flags, s.items) for s in kept.sections
    ]
    assert tempra.WdbxTokenDataset(path).collect().tolist() == [
        *tokens_of(foreign.blocks),
        31,
        32,
        33,
    ]


# Containers that hold no tokens


MODEL = FileV3(
    [
        Section(METADATA, name_of(b"model_checkpoint"), items=1),
        Section(VECTORS, record(0, [0.5, -1.25, 3.0], b"a model's name"), items=1),
        Section(BLOOM, bloom_of([0]), items=1),
    ],
    1,
    3,
)
BRAIN = FileV3(
    [
        Section(METADATA, name_of(b"brain_export"), items=1),
        Section(
            VECTORS,
            record(0, [0.5, -1.25, 3.0], b"a model's name")
            + record(1, [0.0] * 3, b'{"model_name": "a", "final_loss": 1.5}'),
            items=2,
        ),
        Section(BLOOM, bloom_of([0, 1]), items=2),
    ],
    2,
    3,
)


@pytest.mark.parametrize("file", [MODEL, BRAIN], ids=["model_checkpoint", "brain_export"])
def test_a_container_of_weights(
    file: FileV3, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, tokens = tmp_path / "a.wdbx", tmp_path / "more.bin"
    path.write_bytes(file.to_bytes())
    tempra.write_token_bin_file(tokens, [1])
    found = json.loads(run(capsys, "inspect", path, "--json"))
    assert (found["kind"], found["sound"]) == ("WDBX container", True)
    assert found["facts"]["records"] == file.records
    assert "not a token dataset: record 0 (id 0): InvalidFormat" in run(capsys, "inspect", path)
    for arguments in (
        ["convert", path, tmp_path / "out.bin"],
        ["convert", tokens, path, "--mode", "append"],
    ):
        assert main(["data", *map(str, arguments)]) == 1
        error = capsys.readouterr().err
        assert "record 0 (id 0): InvalidFormat: token block: 14 bytes, at least 16 needed" in error
    assert path.read_bytes() == file.to_bytes()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.wdbx", "more.bin"]
    records = list(read_wdbx_records(path))
    assert [number for number, _, _ in records] == list(range(file.records))
    np.testing.assert_array_equal(records[0][1], np.float32([0.5, -1.25, 3.0]))
    assert records[0][2] == b"a model's name"


def test_records_keep_the_bits_of_nans(tmp_path: Path) -> None:
    (tmp_path / "a.wdbx").write_bytes(FOREIGN["nan_vectors"].file.to_bytes())
    for _, vector, _ in read_wdbx_records(tmp_path / "a.wdbx"):
        assert vector.tobytes() == NAN
        assert not vector.flags.writeable


def test_records_of_old_and_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "a.wdbx"
    path.write_bytes(FOREIGN["old"].file.to_bytes())
    assert [number for number, _, _ in read_wdbx_records(path)] == [1, 2]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(tempra.FormatError, match="InvalidFooter"):
        read_wdbx_records(path)


def test_ids_that_are_used_up(tmp_path: Path) -> None:
    path = tmp_path / "a.wdbx"
    content = usual([(LARGEST, [1], b"")]).to_bytes()
    path.write_bytes(content)
    tempra.write_token_bin_file(tmp_path / "a.bin", [1])
    with pytest.raises(tempra.FormatError, match="PayloadTooLarge: 1 blocks given, but the ids"):
        tempra.token_bin_to_wdbx(tmp_path / "a.bin", path, mode="append")
    assert path.read_bytes() == content


def test_vectors_of_another_length_are_read_and_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "a.wdbx"
    file = FileV3([META, Section(VECTORS, record(1, [1.0, 2.0], block([5, 6])))], 1, 2)
    path.write_bytes(file.to_bytes())
    dataset = tempra.WdbxTokenDataset(path)
    assert dataset.collect().tolist() == [5, 6]
    with pytest.raises(tempra.FormatError, match="InvalidDimension: its vectors have 2 floats"):
        dataset.append([1])
