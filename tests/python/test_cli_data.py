"""The `tempra data` commands and the command's own manners: help, errors, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tempra import _core
from tempra.cli.main import VERBS, main
from tempra.cli.option_names import in_options
from tempra.data.prepared import PreparedDataset
from tempra.data.token_bin import read_token_bin_file, write_token_bin_file

TEXT = "".join(f"Line {number}: a small text for a small test.\n" for number in range(100))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "book.txt"
    file.write_text(TEXT)
    return file


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def in_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does."""
    command = [sys.executable, "-m", "tempra", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)


# The command itself


def test_the_overview_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        code, out, _ = run(capsys, *arguments)
        assert code == 0
        for name, verb in VERBS.items():
            assert f"  {name} " in out
            assert verb.summary in out


def test_what_the_system_refuses_is_named_without_a_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refuse(path: Path, **_: object) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    closed = tmp_path / "closed"
    assert main(["generate", "--checkpoint", str(closed)]) == 1
    said = capsys.readouterr().err
    assert said == f"tempra: {closed / 'model.safetensors'}: Permission denied\n"


def test_the_overview_loads_no_verb() -> None:
    code = (
        "import sys; from tempra.cli.main import main; main(['--help']);"
        "print([name for name in ('cyclopts', 'rich', 'pydantic', 'tokenizers', 'yaml')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert out.startswith("tempra ")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    done = in_process(verb, "--help")
    assert done.returncode == 0
    assert f"Usage: tempra {verb}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dta"], "unknown command 'dta'; did you mean 'data'?"),
        (["xyz"], "unknown command 'xyz'; there are"),
        (["data", "prepaer"], "prepaer"),
        (["data", "prepare", "--nonsense"], "nonsense"),
        (["data", "prepare", "a.txt"], "out"),
        (["data", "prepare", "--out", "x"], "at least one file"),
        (["data", "prepare", "a", "--out", "x", "--vocab-size", "many"], "many"),
        (
            ["data", "prepare", "a", "--out", "x", "--vocab-size", "3"],
            "--vocab-size: got 3",
        ),
        (["data", "prepare", "a", "--out", "x", "--tokenizer", "bep"], "--tokenizer: got 'bep'"),
        (["data", "prepare", "gone.txt", "--out", "x"], "no such file or folder: gone.txt"),
        (["data", "preview", "gone.txt"], "no such file or folder: gone.txt"),
        (["data", "preview", "gone.txt", "--documents", "0"], "--documents: got 0"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert words in err
    assert err.startswith("tempra: ")
    assert err.count("\n") == 1


def test_a_failure_is_exit_code_1_and_debug_shows_where(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"ab\xff")
    arguments = ["data", "prepare", bad, "--out", tmp_path / "out"]
    code, _, err = run(capsys, *arguments)
    assert code == 1
    assert "bad.txt: byte 2 is not valid UTF-8" in err.splitlines()[-1]
    assert "Traceback" not in err
    with pytest.raises(_core.FormatError):
        main([*map(str, arguments), "--debug"])


def test_a_bug_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise KeyError("surprise")

    monkeypatch.setattr("tempra.cli.main._dispatch", broken)
    code, _, err = run(capsys, "data")
    assert code == 1
    assert "internal error: KeyError" in err
    assert "--debug" in err


def test_an_interrupt_is_exit_code_3(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("tempra.cli.main._dispatch", interrupted)
    assert run(capsys, "data")[0] == 3


def test_a_reader_that_leaves_is_no_error(source: Path) -> None:
    command = f"{sys.executable} -m tempra.cli.main data preview {source} --characters 4000 | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


# prepare, inspect, preview


def test_prepare_inspect_preview(
    capsys: pytest.CaptureFixture[str], source: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    arguments = ["data", "prepare", source, "--out", folder, "--vocab-size", "300"]
    code, out, err = run(capsys, *arguments)
    assert code == 0
    assert f"{folder}: prepared\n" in out
    assert f"tempra train run data.train={folder}" in out
    assert "tokenizing" in err
    code, again, err = run(capsys, *arguments)
    assert code == 0
    assert "already prepared" in again
    assert err == ""
    tokens = PreparedDataset(folder).manifest.splits["train"].tokens
    code, out, _ = run(capsys, "data", "inspect", folder, "--verify")
    assert code == 0
    assert f"train: {tokens:,} tokens" in out
    assert "sound: " in out
    code, out, _ = run(capsys, "data", "preview", folder, "--characters", "20")
    assert code == 0
    assert TEXT[:20] + " [...]" in out
    code, out, _ = run(capsys, "data", "preview", source, "--characters", "10")
    assert out == f"--- document 1\n{TEXT[:10]} [...]\n"


def test_every_option_of_prepare(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = [json.dumps({"body": f"document {number}"}) for number in range(40)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.lines.jsonl").write_text("\n".join(lines))
    other = tmp_path / "other.txt"
    other.write_text("one<|>two<|>three")
    code, _, err = run(
        capsys, "data", "prepare", tmp_path / "in", "--out", tmp_path / "out",
        "--validation", other, "--tokenizer", "byte", "--text-field", "body",
        "--suffixes", ".lines.jsonl", "--separator", "<|>", "--token-dtype", "u16",
        "--shard-tokens", "100",
    )  # fmt: skip
    assert code == 0, err
    manifest = PreparedDataset(tmp_path / "out").manifest
    assert manifest.dtype == "u16"
    assert manifest.splits["train"].documents == 40
    assert manifest.splits["validation"].documents == 3
    assert len(manifest.splits["train"].shards) > 2
    code, _, err = run(
        capsys, "data", "prepare", other, "--out", tmp_path / "out", "--tokenizer", "char",
        "--validation-fraction", "0.5",
    )  # fmt: skip
    assert code == 2
    assert "--replace" in err
    code, out, err = run(
        capsys, "data", "prepare", other, "--out", tmp_path / "out", "--tokenizer", "file",
        "--tokenizer-path", tmp_path / "out", "--validation-fraction", "0.5", "--replace",
    )  # fmt: skip
    assert code == 0, err
    assert "tokenizer: byte" in out


@pytest.fixture
def prepared(capsys: pytest.CaptureFixture[str], source: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "prepared"
    assert run(capsys, "data", "prepare", source, "--out", folder, "--tokenizer", "byte")[0] == 0
    return folder


def test_inspect_says_what_each_file_is(capsys: pytest.CaptureFixture[str], prepared: Path) -> None:
    for name, words in (
        ("train-00000.bin", ": token file\n"),
        ("train-00000.bin.meta.json", "tokenizer byte"),
        ("train-00000.bin.bounds", "1 document;"),
        ("tokenizer.tempra.json", "byte, 257 tokens, end mark 256"),
    ):
        code, out, _ = run(capsys, "data", "inspect", prepared / name, "--verify")
        assert code == 0
        assert words in out


def test_inspect_of_a_plain_token_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_token_bin_file(tmp_path / "plain.bin", [5, 3, 70000])
    code, out, _ = run(capsys, "data", "inspect", tmp_path / "plain.bin")
    assert code == 0
    assert "3 tokens of type u32" in out
    assert "smallest token 3, largest 70000" in out
    code, out, _ = run(capsys, "data", "inspect", tmp_path / "plain.bin", "--dtype", "u16")
    assert "6 tokens of type u16" in out


def test_inspect_of_a_model_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    weights = _core.from_numpy(np.zeros((3, 4), dtype=np.float32))
    _core.write_safetensors(str(file), {"layer.weight": weights}, {"kind": "test"})
    code, out, _ = run(capsys, "data", "inspect", file)
    assert code == 0
    assert "1 tensors, 12 numbers" in out
    assert "layer.weight: [3, 4]" in out
    assert "kind = test" in out


def test_inspect_finds_damage(capsys: pytest.CaptureFixture[str], prepared: Path) -> None:
    shard = prepared / "train-00000.bin"
    content = bytearray(shard.read_bytes())
    content[4] ^= 1
    shard.write_bytes(content)
    assert run(capsys, "data", "inspect", prepared)[0] == 0
    code, _, err = run(capsys, "data", "inspect", prepared, "--verify")
    assert code == 1
    assert "train-00000.bin: checksum" in err
    shard.write_bytes(content[:-4])
    code, _, err = run(capsys, "data", "inspect", prepared)
    assert code == 1
    assert "truncated" in err


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.bin", None, "no such file"),
        ("a.xyz", b"text", "no known kind"),
        ("a.bin", b"12345", "a.bin"),
        ("a.safetensors", b"12345", "a.safetensors"),
        ("tokenizer.json", b"{}", "not a tokenizer.json"),
        ("dataset.json", b"{}", "no known kind"),
    ],
)
def test_inspect_of_what_is_not_data(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    name: str,
    content: bytes | None,
    words: str,
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, _, err = run(capsys, "data", "inspect", tmp_path / name)
    assert code == 1
    assert words in err


# Plain token files


def test_token_bin_files(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    for tokens in ([], [0, 1, 2**32 - 1]):
        write_token_bin_file(file, tokens)
        assert read_token_bin_file(file).tolist() == tokens
        assert file.read_bytes() == np.array(tokens, dtype="<u4").tobytes()
    for wrong in ([-1], [2**32], [0.5]):
        with pytest.raises(_core.FormatError, match=r"a\.bin: got"):
            write_token_bin_file(file, wrong)
    assert read_token_bin_file(file).tolist() == [0, 1, 2**32 - 1]


def test_an_error_about_two_paths_names_both(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def rename(path: Path, **_: object) -> bool:
        os.rename(tmp_path / "absent", tmp_path / "new")
        return True

    monkeypatch.setattr(Path, "is_file", rename)
    code, _, err = run(capsys, "data", "inspect", tmp_path / "any")
    said = f"{tmp_path / 'absent'} to {tmp_path / 'new'}: No such file or directory"
    assert (code, err) == (1, f"tempra: {said}\n")


def test_a_folder_in_place_of_a_file_is_named_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "data", "convert", tmp_path, tmp_path / "out.wdbx")
    assert code == 1
    assert f"{tmp_path}: is a folder" in err


# The names of the command's own options


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.txt"], "TEXT: no such file or folder: missing.txt"),
        (["{text}", "--validation", "missing.txt"], "--validation: no such file or folder"),
        (["{text}", "--validation", "{text}"], "is in TEXT as well"),
        (["{text}", "--validation-fraction", "2"], "--validation-fraction: got 2.0"),
        (["{text}", "--tokenizer", "words"], "--tokenizer: got 'words'"),
        (["{text}", "--tokenizer-path", "a"], "--tokenizer-path: got 'a', but kind bpe"),
        (["{text}", "--tokenizer-path", "a"], "use --tokenizer file"),
        (["{text}", "--template", "qa"], "--template: got 'qa', but the data is plain text"),
    ],
)
def test_preparing_speaks_of_its_own_options(
    arguments: list[str],
    said: str,
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [argument.format(text=source) for argument in arguments]
    code, _, err = run(capsys, "data", "prepare", *given, "--out", tmp_path / "out")
    assert code != 0
    assert said in err
    assert "data." not in err


def test_a_preview_speaks_of_its_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "data", "preview", "missing.txt")
    assert (code, err) == (2, "tempra: TEXT: no such file or folder: missing.txt\n")


def test_a_path_that_looks_like_a_setting_stays_as_it_is() -> None:
    options = {"data.train": "TEXT", "tokenizer.kind": "--tokenizer", "lines": "data.lines"}
    text = (
        "data.train: no such file or folder: /a/data.train/data.train; tokenizer.kind=file, lines=2"
    )
    said = "TEXT: no such file or folder: /a/data.train/data.train; --tokenizer file, data.lines=2"
    assert in_options(text, options) == said


def test_one_thing_is_written_in_the_singular(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(
        capsys, "data", "prepare", source, "--out", tmp_path / "out", "--tokenizer", "byte"
    )
    assert code == 0
    assert " tokens in 1 document, 1 u32 file\n" in out


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "tempra", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    said = "tempra: the output cannot be written: No space left on device\n"
    assert (result.returncode, result.stderr) == (1, said)
