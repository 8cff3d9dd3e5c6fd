"""Token datasets in WDBX files, their conversion, ABI's checkpoints, and the commands for them."""

from __future__ import annotations

import errno
import json
import threading
from pathlib import Path

import numpy as np
import pytest

import tempra
from tempra import _core
from tempra.cli.main import main
from tempra.data import ByteTokenizer, read_abi_checkpoint, save_tokenizer

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "wdbx"
TOKENS = [1, 2, 3, 4, 50256, 0, 4294967295, 7, 65536, 100, 200, 300]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# Conversion


@pytest.mark.parametrize("count", [0, 1, 2047, 2048, 2049, 50_000])
@pytest.mark.parametrize("block", [1, 7, 2048, 4_294_967_295])
def test_conversion_and_back(tmp_path: Path, count: int, block: int) -> None:
    tokens = np.random.default_rng(count).integers(0, 2**32, count, dtype=np.uint32)
    tempra.write_token_bin_file(tmp_path / "a.bin", tokens)
    assert tempra.token_bin_to_wdbx(tmp_path / "a.bin", tmp_path / "a.wdbx", block) == count
    assert tempra.wdbx_to_token_bin(str(tmp_path / "a.wdbx"), tmp_path / "b.bin") == count
    assert (tmp_path / "b.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()
    assert tempra.wdbx_to_token_bin(tmp_path / "a.wdbx", tmp_path / "b.bin", 10) == min(count, 10)
    assert tempra.read_token_bin_file(tmp_path / "b.bin").tolist() == tokens[:10].tolist()


def test_an_existing_destination(tmp_path: Path) -> None:
    source, destination = tmp_path / "a.bin", tmp_path / "a.wdbx"
    tempra.write_token_bin_file(source, [1, 2, 3])
    tempra.token_bin_to_wdbx(source, destination)
    once = destination.read_bytes()
    with pytest.raises(FileExistsError, match="exists already") as raised:
        tempra.token_bin_to_wdbx(source, destination)
    assert isinstance(raised.value, tempra.IoError)
    assert destination.read_bytes() == once
    tempra.token_bin_to_wdbx(source, destination, mode="append")
    assert tempra.WdbxTokenDataset(destination).collect().tolist() == [1, 2, 3, 1, 2, 3]
    tempra.token_bin_to_wdbx(source, destination, mode="replace")
    assert destination.read_bytes() == once
    with pytest.raises(tempra.ConfigError, match="mode: other given"):
        tempra.token_bin_to_wdbx(source, destination, mode="other")  # type: ignore[arg-type]


def test_missing_and_impossible_input(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No such file"):
        tempra.wdbx_to_token_bin(tmp_path / "gone.wdbx", tmp_path / "a.bin")
    with pytest.raises(FileNotFoundError, match="No such file"):
        tempra.token_bin_to_wdbx(tmp_path / "gone.bin", tmp_path / "a.wdbx")
    tempra.write_token_bin_file(tmp_path / "a.bin", [1])
    for block in (0, -5, 2**32, 2**70):
        with pytest.raises(tempra.FormatError, match="InvalidFormat: blocks of"):
            tempra.token_bin_to_wdbx(tmp_path / "a.bin", tmp_path / "a.wdbx", block)
    with pytest.raises(tempra.ConfigError, match="max_tokens: -1 given"):
        tempra.wdbx_to_token_bin(GOLDEN / "empty.wdbx", tmp_path / "b.bin", -1)
    with pytest.raises(TypeError):
        tempra.token_bin_to_wdbx(tmp_path / "a.bin", tmp_path / "a.wdbx", 2.5)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin"]


def test_a_full_disk_leaves_the_destination(tmp_path: Path) -> None:
    tempra.write_token_bin_file(tmp_path / "a.bin", np.arange(600_000))
    destination = tmp_path / "a.wdbx"
    destination.write_bytes((GOLDEN / "three-blocks.wdbx").read_bytes())
    for after in range(6):
        _core.set_write_fault(after, errno.ENOSPC, short_write=True, persistent=True)
        try:
            with pytest.raises(tempra.IoError) as raised:
                tempra.token_bin_to_wdbx(tmp_path / "a.bin", destination, mode="append")
        finally:
            _core.clear_write_fault()
        assert raised.value.errno == errno.ENOSPC
        assert destination.read_bytes() == (GOLDEN / "three-blocks.wdbx").read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.wdbx"]


# The dataset


def test_the_original_programs_file_is_recreated(tmp_path: Path) -> None:
    dataset = tempra.WdbxTokenDataset(tmp_path / "a.wdbx")
    assert dataset.append([1, 2, 3, 4], "hello") == 1
    assert dataset.append(np.array([50256, 0, 4294967295, 7, 65536], dtype=np.int64)) == 2
    assert dataset.append((100, 200, 300), "naïve ☃") == 3
    assert dataset.has_unsaved
    dataset.save()
    golden = (GOLDEN / "three-blocks.wdbx").read_bytes()
    assert (tmp_path / "a.wdbx").read_bytes() == golden
    assert dataset.export_token_bin(tmp_path / "a.bin") == 12
    assert (tmp_path / "a.bin").read_bytes() == (GOLDEN / "three-blocks.bin").read_bytes()


def test_reading_the_original_programs_file() -> None:
    dataset = tempra.WdbxTokenDataset(GOLDEN / "three-blocks.wdbx")
    assert dataset.name == "token_dataset"
    assert dataset.path == str(GOLDEN / "three-blocks.wdbx")
    assert (dataset.block_count, dataset.token_count) == (3, 12)
    assert dataset.collect().tolist() == TOKENS
    assert dataset.collect(6).tolist() == TOKENS[:6]
    blocks = list(dataset)
    assert [block[0] for block in blocks] == [1, 2, 3]
    assert [block[2] for block in blocks] == ["hello", None, "naïve ☃"]
    assert blocks[1][1].dtype == np.uint32


def test_text_through_a_tokenizer(tmp_path: Path) -> None:
    dataset = tempra.WdbxTokenDataset(tmp_path / "a.wdbx")
    tokenizer = ByteTokenizer()
    dataset.ingest_text("häuser", tokenizer, end_of_text=True)
    dataset.ingest_text("two", tokenizer, keep_text=False)
    dataset.ingest_text("", tokenizer)
    dataset.save()
    blocks = list(tempra.WdbxTokenDataset(tmp_path / "a.wdbx"))
    assert blocks[0][1].tolist() == [*"häuser".encode(), 256]
    assert [block[2] for block in blocks] == ["häuser", None, None]
    assert tokenizer.decode(dataset.collect()) == "häusertwo"


def test_text_that_is_not_utf8_survives(tmp_path: Path) -> None:
    dataset = tempra.WdbxTokenDataset(tmp_path / "a.wdbx")
    dataset.append([1], b"\xff\x00ok")
    (_, _, text) = next(iter(dataset))
    assert text == "\udcff\x00ok"
    dataset.append([2], text)
    dataset.save()
    assert [text for _, _, text in dataset] == [text, text]
    with pytest.raises(TypeError, match="text: a str or bytes needed"):
        dataset.append([1], 5)  # type: ignore[arg-type]


def test_tokens_that_are_none(tmp_path: Path) -> None:
    dataset = tempra.WdbxTokenDataset(tmp_path / "a.wdbx")
    for tokens, error in (
        ([-1], tempra.FormatError),
        ([2**32], tempra.FormatError),
        ([0.5], tempra.DtypeError),
    ):
        with pytest.raises(error):
            dataset.append(tokens)
    assert dataset.block_count == 0
    assert dataset.append([]) == 1


def test_import_and_unsaved_blocks(tmp_path: Path) -> None:
    (tmp_path / "a.wdbx").write_bytes((GOLDEN / "three-blocks.wdbx").read_bytes())
    tempra.write_token_bin_file(tmp_path / "a.bin", range(10))
    dataset = tempra.WdbxTokenDataset(tmp_path / "a.wdbx")
    assert dataset.import_token_bin(tmp_path / "a.bin", 4) == 10
    assert dataset.collect().tolist() == [*TOKENS, *range(10)]
    assert [(block[0], len(block[1])) for block in dataset][3:] == [(4, 4), (5, 4), (6, 2)]
    dataset.save()
    assert not dataset.has_unsaved
    assert tempra.WdbxTokenDataset(tmp_path / "a.wdbx").collect().tolist() == [*TOKENS, *range(10)]


def test_a_change_ends_an_iteration(tmp_path: Path) -> None:
    dataset = tempra.WdbxTokenDataset(tmp_path / "a.wdbx")
    dataset.append([1])
    dataset.append([2])
    blocks = iter(dataset)
    next(blocks)
    dataset.save()
    with pytest.raises(tempra.TempraError, match="changed during iteration"):
        next(blocks)


def test_threads_may_share_a_dataset(tmp_path: Path) -> None:
    dataset = tempra.WdbxTokenDataset(tmp_path / "a.wdbx")

    def work(number: int) -> None:
        for _ in range(50):
            dataset.append([number] * 100)
            dataset.collect()
        dataset.save()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = np.bincount(tempra.WdbxTokenDataset(tmp_path / "a.wdbx").collect())
    assert counts.tolist() == [5000] * 4


def test_every_flipped_bit_of_the_original_programs_files_is_noticed(tmp_path: Path) -> None:
    for name in ("three-blocks.wdbx", "empty.wdbx"):
        content = (GOLDEN / name).read_bytes()
        damaged = tmp_path / name
        for bit in range(8 * (len(content) - 8)):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            damaged.write_bytes(flipped)
            with pytest.raises(tempra.FormatError, match=r"\.wdbx: [A-Z]"):
                tempra.WdbxTokenDataset(damaged)


# Checkpoints


def test_the_original_programs_checkpoints() -> None:
    weights = np.array([0.5, -1.25, 3.0e-8, 65504.0], dtype=np.float32)
    abic = read_abi_checkpoint(GOLDEN / "abic.ckpt")
    assert (abic.format, abic.step, abic.timestamp) == ("ABIC", 42, 1700000000)
    assert abic.first_moments is None
    np.testing.assert_array_equal(abic.weights, weights)
    ablc = read_abi_checkpoint(GOLDEN / "ablc.ckpt")
    assert (ablc.format, ablc.step, ablc.epoch) == ("ABLC", 7, 2)
    assert ablc.tokens_processed == 12345678901
    np.testing.assert_array_equal(ablc.weights, weights)
    np.testing.assert_array_equal(ablc.first_moments, np.float32([0.1, 0.2, -0.3, 0.0]))
    np.testing.assert_array_equal(ablc.second_moments, np.float32([0.01, 0.02, 0.03, 1.0e-12]))
    with pytest.raises(tempra.FormatError, match="InvalidFormat"):
        read_abi_checkpoint(GOLDEN / "three-blocks.wdbx")


# tempra data convert


def test_convert_both_ways(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, middle, back = GOLDEN / "three-blocks.bin", tmp_path / "a.wdbx", tmp_path / "a.bin"
    code, out, _ = run(capsys, "data", "convert", source, middle, "--block-tokens", 5)
    assert code == 0
    assert out == f"{middle}: wrote 12 tokens in 3 blocks\n"
    code, out, _ = run(capsys, "data", "convert", middle, back)
    assert out == f"{back}: wrote 12 tokens\n"
    assert back.read_bytes() == source.read_bytes()
    code, _, err = run(capsys, "data", "convert", source, middle)
    assert code == 1
    assert "exists already" in err
    code, _, err = run(capsys, "data", "convert", middle, back)
    assert code == 1
    assert "exists already" in err
    code, out, _ = run(capsys, "data", "convert", source, middle, "--mode", "append")
    assert out == f"{middle}: appended 12 tokens in 1 block\n"
    code, out, _ = run(
        capsys, "data", "convert", middle, back, "--mode", "replace", "--max-tokens", 13
    )
    assert out == f"{back}: wrote 13 tokens\n"
    assert tempra.read_token_bin_file(back).tolist() == [*TOKENS, 1]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["gone.bin", "a.wdbx"], 1, "gone.bin: no such file"),
        (["three-blocks.bin", "a.bin"], 2, "both are token files"),
        (["three-blocks.wdbx", "a.wdbx"], 2, "both are WDBX files"),
        (["three-blocks.bin", "a.wdbx", "--max-tokens", "5"], 2, "--max-tokens: belongs to"),
        (["three-blocks.wdbx", "a.bin", "--block-tokens", "5"], 2, "--block-tokens: belongs to"),
        (["three-blocks.bin", "a.wdbx", "--block-tokens", "0"], 2, "--block-tokens: got 0"),
        (["three-blocks.wdbx", "a.bin", "--max-tokens", "-1"], 2, "--max-tokens: got -1"),
        (["three-blocks.wdbx", "a.bin", "--mode", "append"], 2, "--mode append"),
        (["three-blocks.bin", "a.wdbx", "--mode", "other"], 2, "other"),
    ],
)
def test_convert_that_cannot_be(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    source, destination, *options = arguments
    got, _, err = run(capsys, "data", "convert", GOLDEN / source, tmp_path / destination, *options)
    assert got == code
    assert words in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_convert_onto_itself(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tempra.write_token_bin_file(tmp_path / "a", [1])
    arguments = ["data", "convert", tmp_path / "a", tmp_path / "a", "--mode", "replace"]
    assert run(capsys, *arguments)[0] == 2
    assert tempra.read_token_bin_file(tmp_path / "a").tolist() == [1]


# tempra data inspect


def inspected(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    code, out, _ = run(capsys, "data", "inspect", *arguments, "--json")
    assert code == 0
    found: dict[str, object] = json.loads(out)
    assert found["sound"] is True
    return {**found, **found["facts"]}  # type: ignore[dict-item]


def test_inspect_wdbx(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "data", "inspect", GOLDEN / "three-blocks.wdbx")
    assert code == 0
    for words in (
        "three-blocks.wdbx: WDBX token dataset",
        "recognised: begins with WDBX",
        "version 3, name 'token_dataset', 3 records, vectors of 4 floats",
        "sections: metadata 15 bytes, vectors 207 bytes, bloom filter 9 bytes",
        "12 tokens in 3 blocks",
        "begins with 1, 2, 3, 4, 50256, 0,",
        "text of its first blocks: 'hello'",
        "sound: every checksum, section and record is right",
    ):
        assert words in out
    found = inspected(capsys, GOLDEN / "three-blocks.wdbx")
    assert found["first_tokens"] == TOKENS
    assert found["bloom_filter"] == {"probes": 6, "bits": 32}
    assert found["largest_id"] == 3
    assert found["tokens"] == 12
    found = inspected(capsys, GOLDEN / "empty.wdbx")
    assert found["tokens"] == 0
    assert found["largest_id"] is None
    dataset = tempra.WdbxTokenDataset(tmp_path / "text.wdbx")
    dataset.ingest_text("some text", ByteTokenizer(), keep_text=False)
    dataset.save()
    save_tokenizer(ByteTokenizer(), tmp_path)
    found = inspected(capsys, tmp_path / "text.wdbx", "--tokenizer", tmp_path)
    assert found["first_text"] == "some text"
    _, out, _ = run(
        capsys, "data", "inspect", GOLDEN / "three-blocks.wdbx", "--tokenizer", tmp_path
    )
    assert "which are not tokens of this tokenizer of 257" in out


def test_inspect_checkpoints_and_token_files(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = inspected(capsys, GOLDEN / "ablc.ckpt")
    assert found["kind"] == "ABI checkpoint, weights and moments"
    assert (found["step"], found["epoch"], found["weights"]) == (7, 2, 4)
    assert inspected(capsys, GOLDEN / "abic.ckpt")["recognised_by"] == "begins with ABIC"
    found = inspected(capsys, GOLDEN / "three-blocks.bin")
    assert found["kind"] == "token file"
    assert found["first_tokens"] == TOKENS
    # The ninth byte is that of a JSON header.
    tempra.write_token_bin_file(tmp_path / "a.bin", [1, 2, 123])
    assert inspected(capsys, tmp_path / "a.bin")["kind"] == "token file"


@pytest.mark.parametrize("name", ["three-blocks.wdbx", "abic.ckpt", "ablc.ckpt"])
def test_inspect_names_damage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    damaged = tmp_path / name
    damaged.write_bytes((GOLDEN / name).read_bytes()[:-1])
    for options in ([], ["--json"]):
        code, out, err = run(capsys, "data", "inspect", damaged, *options)
        assert code == 1
        assert err.startswith(f"tempra: {damaged}: ")
        assert err.count("\n") == 1
        if options:
            found = json.loads(out)
            assert found["sound"] is False
            assert str(damaged) in found["error"]


def test_a_file_named_wdbx_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.wdbx").write_bytes(b"something else")
    code, _, err = run(capsys, "data", "inspect", tmp_path / "a.wdbx")
    assert code == 1
    assert "InvalidMagic" in err


def test_json_of_a_folder_says_what_was_not_checked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "book.txt").write_text("some text\n" * 100)
    arguments = ["data", "prepare", tmp_path / "book.txt", "--out", tmp_path / "out"]
    assert run(capsys, *arguments, "--tokenizer", "byte")[0] == 0
    for options, sound in (([], None), (["--verify"], True)):
        code, out, _ = run(capsys, "data", "inspect", tmp_path / "out", "--json", *options)
        assert code == 0
        assert json.loads(out)["sound"] is sound
    found = inspected(capsys, next((tmp_path / "out").glob("train-*.bin")))
    assert found["first_text"] == "some text\nsome t"
