"""The text of a run: raw text is prepared once, prepared text is opened, contradictions raise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tempra._core import ConfigError
from tempra.data.preparation import Preparation
from tempra.data.prepare import prepare
from tempra.data.standard_library import standard_library_sources
from tempra.data.tokenizer import ByteTokenizer, save_tokenizer
from tempra.train.config import LlmTrainingConfig
from tempra.train.overrides import dump_config, parse_config
from tempra.train.text_source import open_text, preparation_of

TEXT = "Some text, again and again.\n" * 50


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text(TEXT)
    return tmp_path


def config(**sections: Any) -> LlmTrainingConfig:
    return LlmTrainingConfig.from_mapping(sections)


def test_raw_text_is_prepared_once_and_again_when_damaged() -> None:
    asked = config(data={"train": "book.txt"}, tokenizer={"kind": "char"})
    heard: list[str] = []
    first = open_text(asked, progress=lambda phase, *_: heard.append(phase))
    assert "tokenizing" in heard
    heard.clear()
    again = open_text(asked, progress=lambda phase, *_: heard.append(phase))
    assert heard == []
    assert again.folder == first.folder
    shard = first.folder / "train-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-4])
    repaired = open_text(asked, progress=lambda phase, *_: heard.append(phase))
    assert "tokenizing" in heard
    repaired.check()


def test_prepared_text_needs_no_tokenizer_settings_also_when_read_back() -> None:
    prepare(Preparation(["book.txt"], tokenizer="byte"), Path("ready"))
    asked = config(data={"train": "ready"})
    again = parse_config(LlmTrainingConfig, dump_config(asked), "config.yaml")
    assert open_text(again).tokenizer().kind == "byte"
    save_tokenizer(ByteTokenizer(), Path())
    same = config(data={"train": "ready"}, tokenizer={"kind": "file", "path": "."})
    assert open_text(same).tokenizer().kind == "byte"


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"tokenizer": {"kind": "char"}}, "tokenizer: got char, but ready is prepared with byte"),
        ({"tokenizer": {"kind": "bpe"}}, "tokenizer: got bpe"),
        ({"tokenizer": {"vocab_size": 258}}, None),
        ({"data": {"train": "ready", "validation": "book.txt"}}, r"data\.validation: got"),
        (
            {"data": {"train": "ready", "validation_fraction": 0.2}},
            r"validation_fraction: got 0\.2",
        ),
        ({"data": {"train": ["ready", "book.txt"]}}, "ready is prepared text and cannot be joined"),
        ({"evaluation": {"interval": 5}}, "without validation text"),
    ],
)
def test_settings_that_contradict_prepared_text(
    sections: dict[str, Any], words: str | None
) -> None:
    prepare(Preparation(["book.txt"], tokenizer="byte", validation_fraction=0.0), Path("ready"))
    asked = config(**{"data": {"train": "ready"}, **sections})
    if words is None:
        open_text(asked)
        return
    with pytest.raises(ConfigError, match=words):
        open_text(asked)


def test_without_text_the_standard_library_is_read() -> None:
    files = preparation_of(config()).train_corpus.files
    names = {file.path.name for file in files}
    assert {"abc.py", "argparse.py"} <= names
    assert len(files) > 100
    assert all(file.size > 0 for file in files)


def test_files_of_the_library_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    root = tmp_path / "library"
    (root / "test").mkdir(parents=True)
    for name, content in (
        ("good.py", b"x = 1\n"),
        ("empty.py", b""),
        ("latin.py", b"# \xe9\n"),
        ("zero.py", b"\0"),
        ("other.txt", b"text"),
        ("test/test_x.py", b"x = 1\n"),
    ):
        (root / name).write_bytes(content)
    assert standard_library_sources(root) == (str(root / "good.py"),)
    (root / "good.py").unlink()
    with pytest.raises(ConfigError, match="no Python source files"):
        standard_library_sources(root)
