"""Every damage that the description of WDBX, token blocks and checkpoints lists, as files.

Files are made by `wdbx_files`, not by the library, and read through its public readers. The rows
are numbered as in the description; the C++ tests make the same damages at more places.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import tempra
from tempra.cli.main import main
from tempra.data import read_abi_checkpoint
from wdbx_files import (
    BLOOM,
    INDEX,
    METADATA,
    VECTORS,
    FileV2,
    FileV3,
    Section,
    block,
    bloom_block,
    bloom_of,
    index_block,
    index_of,
    limbs,
    name_of,
    record,
    vector_block,
)

MOST = 2**64 - 1
META = Section(METADATA, name_of(b"theirs"), items=1)
RECORDS = record(1, limbs(1), block([5, 6])) + record(2, limbs(2), block([7], b"text"))
VECS = Section(VECTORS, RECORDS, items=2)
GOOD = FileV3([META, VECS, Section(BLOOM, bloom_of([1, 2]), items=2)], 2, 4)
WHOLE = GOOD.to_bytes()
END = len(WHOLE) - 40


def vectors(payload: bytes, records: int, dimension: int) -> bytes:
    return FileV3([META, Section(VECTORS, payload)], records, dimension).to_bytes()


def patched(file: bytes, offset: int, content: bytes) -> bytes:
    return file[:offset] + content + file[offset + len(content) :]


def cut(size: int) -> bytes:
    """Return a record whose last bytes are missing, after a whole one."""
    return record(1, limbs(1)) + record(2, limbs(2), b"meta")[:size]


V3_DAMAGE: dict[str, tuple[bytes, str]] = {
    "shorter_than_magic_and_version": (b"WDBX\3", "TruncatedData"),
    "row_1_shorter_than_header_and_footer": (WHOLE[:80] + WHOLE[-39:], "TruncatedData"),
    "row_2_magic": (patched(WHOLE, 3, b"Y"), "InvalidMagic"),
    "row_3_version_0": (patched(WHOLE, 4, b"\0"), "UnsupportedVersion"),
    "row_3_version_1": (patched(WHOLE, 4, b"\1"), "UnsupportedVersion"),
    "row_3_version_4": (patched(WHOLE, 4, b"\4"), "UnsupportedVersion"),
    "row_4_footer_marker": (GOOD.but(footer_marker=b"END2").to_bytes(), "InvalidFooter"),
    "row_4_a_byte_more": (WHOLE + b"\0", "InvalidFooter"),
    "row_4_a_byte_less": (WHOLE[:-1], "InvalidFooter"),
    "row_5_footer_file_size": (GOOD.but(footer_size=END + 40).to_bytes(), "CorruptedData"),
    "row_6_footer_section_count": (GOOD.but(footer_sections=4).to_bytes(), "CorruptedData"),
    "row_7_directory_size": (GOOD.but(directory_size=95).to_bytes(), "CorruptedData"),
    "row_7_directory_size_of_one_more": (GOOD.but(directory_size=128).to_bytes(), "CorruptedData"),
    "row_8_directory_in_the_header": (GOOD.but(directory_offset=79).to_bytes(), "CorruptedData"),
    "row_8_directory_past_the_end": (
        GOOD.but(directory_offset=END - 95).to_bytes(), "CorruptedData"),
    "row_8_directory_that_wraps": (
        GOOD.but(directory_offset=MOST - 95).to_bytes(), "CorruptedData"),
    "row_9_header_checksum": (GOOD.but(wrong_crcs=["header"]).to_bytes(), "InvalidChecksum"),
    "row_9_directory_checksum": (GOOD.but(wrong_crcs=["directory"]).to_bytes(), "InvalidChecksum"),
    "row_9_data_checksum": (GOOD.but(wrong_crcs=["data"]).to_bytes(), "InvalidChecksum"),
    "row_9_file_checksum": (GOOD.but(wrong_crcs=["file"]).to_bytes(), "InvalidChecksum"),
    "row_10_section_past_the_end": (
        GOOD.but(entries={1: (END - 5, 6)}).to_bytes(), "CorruptedData"),
    "row_10_section_that_wraps": (
        GOOD.but(entries={1: (200, MOST - 199)}).to_bytes(), "CorruptedData"),
    "row_10_section_at_the_last_offset": (
        GOOD.but(entries={1: (MOST, 1)}).to_bytes(), "CorruptedData"),
    "row_11_section_checksum": (GOOD.but(wrong_crcs=[1]).to_bytes(), "InvalidChecksum"),
    "row_11_checksum_of_an_unknown_section": (
        GOOD.but(sections=[META, VECS, Section(9, b"x")], wrong_crcs=[2]).to_bytes(),
        "InvalidChecksum"),
    "row_13_distance_metric": (GOOD.but(metric=4).to_bytes(), "CorruptedData"),
    "row_13_compression": (GOOD.but(compression=4).to_bytes(), "CorruptedData"),
    "row_14_no_metadata": (GOOD.but(sections=[VECS]).to_bytes(), "CorruptedData"),
    "row_14_no_vectors": (GOOD.but(sections=[META]).to_bytes(), "CorruptedData"),
    "row_14_nothing": (FileV3([]).to_bytes(), "CorruptedData"),
    "row_15_metadata_twice": (GOOD.but(sections=[META, VECS, META]).to_bytes(), "CorruptedData"),
    "row_15_vectors_twice": (GOOD.but(sections=[META, VECS, VECS]).to_bytes(), "CorruptedData"),
    "row_16_metadata_of_one_byte": (
        GOOD.but(sections=[Section(METADATA, b"\0"), VECS]).to_bytes(), "CorruptedData"),
    "row_16_name_past_its_end": (
        GOOD.but(sections=[Section(METADATA, b"\4\0abc"), VECS]).to_bytes(), "CorruptedData"),
    "row_17_record_header": (vectors(cut(15), 2, 4), "CorruptedData"),
    "row_17_vector": (vectors(cut(31), 2, 4), "CorruptedData"),
    "row_17_metadata": (vectors(cut(35), 2, 4), "CorruptedData"),
    "row_17_huge_vector": (
        vectors(struct.pack("<QII", 1, 2**32 - 1, 0), 1, 2**32 - 1), "CorruptedData"),
    "row_17_huge_metadata": (
        vectors(struct.pack("<QII", 1, 0, 2**32 - 1), 1, 0), "CorruptedData"),
    "row_18_dimension": (GOOD.but(dimension=5).to_bytes(), "CorruptedData"),
    "row_19_unequal_vectors": (
        vectors(record(1, [1.0]) + record(2, [1.0, 2.0]), 2, 0), "CorruptedData"),
    "row_20_one_record_less": (GOOD.but(records=1).to_bytes(), "CorruptedData"),
    "row_20_one_record_more": (GOOD.but(records=3).to_bytes(), "CorruptedData"),
    "row_20_count_that_is_right_in_32_bits": (
        GOOD.but(records=2**32 + 2).to_bytes(), "CorruptedData"),
    "row_20_the_largest_count": (GOOD.but(records=MOST).to_bytes(), "CorruptedData"),
    "row_21_duplicate_id": (
        vectors(record(7, limbs(7)) + record(7, limbs(7)), 2, 4), "DuplicateId"),
    "row_21_duplicate_id_far_apart": (
        vectors(b"".join(record(n, limbs(n)) for n in (3, 1, 2, 3)), 4, 4), "DuplicateId"),
    "row_22_encrypted": (GOOD.but(flags=7 | 128).to_bytes(), "UnsupportedVersion: encrypted"),
    "row_23_lz4": (GOOD.but(compression=1).to_bytes(), "UnsupportedCompression"),
    "row_23_zstd": (GOOD.but(compression=2).to_bytes(), "UnsupportedCompression"),
}  # fmt: skip

OLD_NAME = name_of(b"old")
FILTER = bloom_of([1, 2])
OLD_BLOCKS = (
    OLD_NAME + bloom_block(FILTER) + vector_block(2, RECORDS) + index_block(index_of([1], [0]))
)
OLD = FileV2(OLD_BLOCKS, 2, 4, flags=3)
OLD_WHOLE = OLD.to_bytes()


def old(blocks: bytes, records: int = 2, dimension: int = 4, flags: int = 0) -> bytes:
    return FileV2(OLD_NAME + blocks, records, dimension, flags).to_bytes()


V2_DAMAGE: dict[str, tuple[bytes, str]] = {
    "too_short": (OLD_WHOLE[:64] + OLD_WHOLE[-31:], "TruncatedData"),
    "footer_marker": (OLD.but(footer_marker=b"END3").to_bytes(), "InvalidFooter"),
    "footer_file_size": (OLD.but(footer_size=1).to_bytes(), "CorruptedData"),
    "header_checksum": (OLD.but(wrong_crcs=["header"]).to_bytes(), "InvalidChecksum"),
    "data_checksum": (OLD.but(wrong_crcs=["data"]).to_bytes(), "InvalidChecksum"),
    "file_checksum": (OLD.but(wrong_crcs=["file"]).to_bytes(), "InvalidChecksum"),
    "no_name_block": (FileV2(b"").to_bytes(), "TruncatedData"),
    "name_past_the_footer": (FileV2(b"\4\0abc").to_bytes(), "TruncatedData"),
    "bloom_filter_of_7_bytes": (old(b"\2\0\0\0\1\0\0", flags=1), "TruncatedData"),
    "bloom_filter_that_is_absent": (old(vector_block(2, RECORDS), flags=1), "InvalidBloomFilter"),
    "bloom_filter_of_no_bytes": (
        old(bloom_block(b"") + vector_block(2, RECORDS), flags=1), "InvalidBloomFilter"),
    "bloom_filter_past_the_footer": (
        old(struct.pack("<BBHI", 2, 0, 0, 2**32 - 1) + FILTER, flags=1), "TruncatedData"),
    "vector_block_header_past_the_footer": (old(vector_block(2, b"")[:15]), "TruncatedData"),
    "another_block_instead_of_vectors": (old(vector_block(2, RECORDS, kind=3)), "CorruptedData"),
    "count_that_is_not_the_headers": (old(vector_block(1, RECORDS)), "CorruptedData"),
    "count_that_is_the_headers_in_32_bits": (
        old(vector_block(2, RECORDS), records=2**32 + 2), "CorruptedData"),
    "records_of_dimension_0": (
        old(vector_block(1, record(1, [])), records=1, dimension=0), "CorruptedData"),
    "payload_too_small_for_its_count": (old(vector_block(2, RECORDS, size=31)), "CorruptedData"),
    "payload_past_the_footer": (
        old(vector_block(2, RECORDS, size=len(RECORDS) + 1)), "TruncatedData"),
    "payload_of_the_largest_size": (old(vector_block(2, RECORDS, size=MOST)), "TruncatedData"),
    "record_past_the_footer": (
        old(vector_block(1, record(1, limbs(1), b"meta")[:-1]), records=1), "TruncatedData"),
    "vector_of_another_length": (old(vector_block(2, RECORDS), dimension=5), "CorruptedData"),
    "vector_length_that_wraps": (
        old(vector_block(1, struct.pack("<QII", 1, 2**30 + 4, 0) + bytes(16)), 1, 2**30 + 4),
        "CorruptedData"),
    "bytes_left_in_the_payload": (old(vector_block(2, RECORDS + b"x")), "CorruptedData"),
    "records_past_the_payload": (
        old(vector_block(2, RECORDS, size=len(RECORDS) - 1)), "CorruptedData"),
    "index_past_the_footer": (
        old(vector_block(2, RECORDS) + index_block(index_of([1], [0])[:-1])), "TruncatedData"),
    "index_of_the_largest_count": (
        old(vector_block(2, RECORDS) + index_block(struct.pack("<3I", 0, 0, 2**32 - 1))),
        "TruncatedData"),
    "bytes_after_the_vectors": (old(vector_block(2, RECORDS) + b"x"), "CorruptedData"),
    "bytes_after_the_index": (
        old(vector_block(2, RECORDS) + index_block(index_of()) + b"x"), "CorruptedData"),
    "duplicate_id": (
        old(vector_block(2, record(7, limbs(7)) * 2)), "CorruptedData: DuplicateId"),
    "distance_metric": (OLD.but(metric=4).to_bytes(), "CorruptedData"),
    "compression": (OLD.but(compression=4).to_bytes(), "CorruptedData"),
    "compression_of_the_block": (
        old(vector_block(2, RECORDS, compression=4)), "CorruptedData"),
    "lz4": (OLD.but(compression=1).to_bytes(), "UnsupportedCompression"),
    "encrypted": (OLD.but(flags=3 | 8).to_bytes(), "UnsupportedVersion: encrypted"),
}  # fmt: skip


def in_dataset(metadata: bytes) -> bytes:
    return vectors(record(1, limbs(1), metadata), 1, 4)


def head(tokens: int, text: int, version: int = 1, magic: bytes = b"WDTK") -> bytes:
    return struct.pack("<4sHHII", magic, version, 0, tokens, text)


BLOCK_DAMAGE: dict[str, tuple[bytes, str]] = {
    f"check_{name}": (in_dataset(metadata), "record 0 (id 1): InvalidFormat: token block")
    for name, metadata in {
        "1_fewer_than_16_bytes": head(0, 0)[:15],
        "2_magic": head(0, 0, magic=b"WDTX"),
        "3_version_0": head(0, 0, version=0),
        "3_version_2": head(0, 0, version=2),
        "4_more_tokens_than_bytes": head(2, 0) + bytes(7),
        "4_token_count_that_wraps": head(2**32 - 1, 0) + bytes(8),
        "4_token_count_that_wraps_to_0": head(2**30 - 4, 0) + bytes(8),
        "5_text_past_the_end": head(1, 3) + bytes(6),
        "5_text_length_that_wraps": head(1, 2**32 - 1) + bytes(6),
    }.items()
}

DAMAGE = {
    **{f"v3_{name}": damage for name, damage in V3_DAMAGE.items()},
    **{f"v2_{name}": damage for name, damage in V2_DAMAGE.items()},
    **{f"block_{name}": damage for name, damage in BLOCK_DAMAGE.items()},
}


def test_undamaged_files_are_read(tmp_path: Path) -> None:
    for content in (WHOLE, OLD_WHOLE):
        (tmp_path / "a.wdbx").write_bytes(content)
        assert tempra.WdbxTokenDataset(tmp_path / "a.wdbx").collect().tolist() == [5, 6, 7]


@pytest.mark.parametrize("name", DAMAGE)
def test_damage(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, kind = DAMAGE[name]
    path, more, out = tmp_path / "a.wdbx", tmp_path / "more.bin", tmp_path / "out.bin"
    path.write_bytes(content)
    tempra.write_token_bin_file(more, [1])
    expected = f"{path}: {kind}"
    for read in (
        lambda: tempra.WdbxTokenDataset(path),
        lambda: tempra.wdbx_to_token_bin(path, out),
        lambda: tempra.token_bin_to_wdbx(more, path, mode="append"),
    ):
        with pytest.raises(tempra.FormatError) as raised:
            read()
        message = str(raised.value).replace("CorruptedData: DuplicateId", kind)
        assert message.startswith(expected)
    assert path.read_bytes() == content
    assert not out.exists()
    code = main(["data", "inspect", str(path)])
    # A container whose records hold something else than tokens is sound.
    assert code == (0 if name.startswith("block_") else 1)
    assert kind.split(": ")[-1] in (
        capsys.readouterr().out if code == 0 else capsys.readouterr().err
    )


# Sections that reading tokens has no use for: only looking at them finds the damage.

SIDE_DAMAGE: dict[str, tuple[Section, str]] = {
    "filter_of_4_bytes": (Section(BLOOM, FILTER[:4]), "InvalidBloomFilter: 4 bytes"),
    "filter_longer_than_its_size": (Section(BLOOM, FILTER + b"x"), "InvalidBloomFilter: says"),
    "filter_of_no_bits": (Section(BLOOM, struct.pack("<BI", 6, 0)), "InvalidBloomFilter: says 0"),
    "filter_without_probes": (Section(BLOOM, b"\0" + FILTER[1:]), "InvalidBloomFilter: 0 probes"),
    "filter_of_17_probes": (Section(BLOOM, b"\x11" + FILTER[1:]), "InvalidBloomFilter: 17 probes"),
    "filter_of_other_ids": (Section(BLOOM, bloom_of([8, 9])), "InvalidBloomFilter: it denies id 1"),
    "index_of_11_bytes": (Section(INDEX, bytes(11)), "CorruptedData: the vector index"),
    "index_cut_short": (Section(INDEX, index_of([1], [0])[:-1]), "CorruptedData: the vector index"),
    "index_with_bytes_after": (Section(INDEX, index_of() + b"x"), "CorruptedData: the vector"),
    "index_of_the_largest_count": (
        Section(INDEX, struct.pack("<3I", 0, 0, 2**32 - 1)), "CorruptedData: the vector index"),
    "index_of_the_longest_list": (
        Section(INDEX, struct.pack("<4I", 0, 0, 1, 2**32 - 1)), "CorruptedData: the vector index"),
}  # fmt: skip


@pytest.mark.parametrize("name", SIDE_DAMAGE)
def test_side_damage(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    section, words = SIDE_DAMAGE[name]
    path = tmp_path / "a.wdbx"
    path.write_bytes(GOOD.but(sections=[META, VECS, section]).to_bytes())
    assert tempra.WdbxTokenDataset(path).collect().tolist() == [5, 6, 7]
    assert main(["data", "inspect", str(path)]) == 1
    assert f"{path}: {words}" in capsys.readouterr().err


# Token-bin


@pytest.mark.parametrize("size", [1, 2, 3, 5, 4097])
def test_a_size_that_is_no_multiple_of_four(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(size))
    for read in (
        lambda: tempra.read_token_bin_file(path),
        lambda: tempra.token_bin_to_wdbx(path, tmp_path / "a.wdbx"),
    ):
        with pytest.raises(tempra.FormatError, match=rf"a\.bin: InvalidFormat: {size} bytes"):
            read()
    assert not (tmp_path / "a.wdbx").exists()


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    for read in (
        lambda path: tempra.read_token_bin_file(path),
        lambda path: tempra.token_bin_to_wdbx(path, tmp_path / "a.wdbx"),
        lambda path: tempra.wdbx_to_token_bin(path, tmp_path / "a.bin"),
        lambda path: read_abi_checkpoint(path),
    ):
        with pytest.raises(FileNotFoundError, match="gone"):
            read(tmp_path / "gone")
        with pytest.raises(OSError, match="irectory"):
            read(tmp_path)
    assert not list(tmp_path.iterdir())


# Checkpoints


def abic(count: int = 2, version: int = 1, magic: bytes = b"ABIC") -> bytes:
    return struct.pack("<4sHQQI2f", magic, version, 1, 2, count, 0.5, 1.5)


def ablc(weights: int = 1, first: int = 1, second: int = 1, version: int = 1) -> bytes:
    return struct.pack(
        "<4sHQIQQIII3f", b"ABLC", version, 1, 2, 3, 4, weights, first, second, 5, 6, 7
    )


CHECKPOINT_DAMAGE: dict[str, tuple[bytes, str]] = {
    "magic": (abic(magic=b"ABIX"), "InvalidFormat"),
    "abic_version_0": (abic(version=0), "UnsupportedVersion"),
    "abic_version_2": (abic(version=2), "UnsupportedVersion"),
    "ablc_version_2": (ablc(version=2), "UnsupportedVersion"),
    "nothing": (b"", "EndOfData"),
    "abic_header": (abic()[:25], "EndOfData"),
    "ablc_header": (ablc()[:45], "EndOfData"),
    "abic_weights": (abic()[:-1], "EndOfData"),
    "ablc_weights": (ablc()[:49], "EndOfData"),
    "ablc_first_moments": (ablc()[:53], "EndOfData"),
    "ablc_second_moments": (ablc()[:57], "EndOfData"),
    "abic_count_that_wraps": (abic(2**30 + 2), "EndOfData"),
    "ablc_counts_that_wrap_together": (ablc(2**32 - 1, 2, 2), "EndOfData"),
    "abic_bytes_after": (abic() + b"\0", "InvalidFormat"),
    "ablc_bytes_after": (ablc(1, 1, 0), "InvalidFormat"),
}


@pytest.mark.parametrize("name", CHECKPOINT_DAMAGE)
def test_checkpoint_damage(name: str, tmp_path: Path) -> None:
    content, kind = CHECKPOINT_DAMAGE[name]
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    with pytest.raises(tempra.FormatError, match=f"^{path}: {kind}: "):
        read_abi_checkpoint(path)


def test_undamaged_checkpoints(tmp_path: Path) -> None:
    expected: list[Callable[[], bytes]] = [abic, ablc]
    for make in expected:
        (tmp_path / "a.ckpt").write_bytes(make())
        found = read_abi_checkpoint(tmp_path / "a.ckpt")
        assert not found.weights.flags.writeable
        assert found.weights.tolist() == ([0.5, 1.5] if make is abic else [5.0])
