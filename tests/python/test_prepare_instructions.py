"""Conversations to token files with masks, previews of them, and training on answers alone."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from small_conversations import ALPACA
from tempra._core import ConfigError, FormatError
from tempra.cli.main import main
from tempra.data.chat_template import CHAT_TEMPLATE_FILE
from tempra.data.instruction_corpus import InstructionOptions
from tempra.data.instruction_dataset import MalformedLinesError
from tempra.data.instruction_formats import FORMATS, FormatName
from tempra.data.preparation import Preparation
from tempra.data.prepare import prepare
from tempra.data.prepared import PreparedDataset
from tempra.data.token_shard import mask_path, sidecar_path


def run(folder: Path, *sources: Path, **options: Any) -> PreparedDataset:
    asked = {
        name: options.pop(name)
        for name in ("format", "template", "train_on", "skip_bad_lines")
        if name in options
    }
    preparation = Preparation(
        train=[str(source) for source in sources],
        instructions=InstructionOptions(**asked),
        **{"tokenizer": "byte", "validation_fraction": 0.0, **options},
    )
    return prepare(preparation, folder)[0]


def shown(prepared: PreparedDataset, split: str = "train") -> list[str]:
    """The documents of byte tokens with [..] around what is learned, and $ for the end."""
    dataset = prepared.dataset(split)
    documents = []
    for shard in dataset.shards:
        bounds, mask = shard.bounds().tolist(), shard.mask()
        for begin, end in pairwise(bounds):
            text, inside = "", 0
            for place in range(begin, end):
                learned = 1 if mask is None else int(mask[place])
                text += ("", "[", "]")[learned - inside]
                inside = learned
                token = int(shard.tokens[place])
                text += "$" if token == 256 else chr(token)
            documents.append(text + ("]" if inside else ""))
    return documents


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# Token files


def test_answers_are_learned_with_their_end(tmp_path: Path, alpaca: Path) -> None:
    prepared = run(tmp_path / "out", alpaca)
    assert shown(prepared) == [
        f"### Instruction:\n{record['instruction']}\n\n### Response:\n[{record['output']}$]"
        for record in ALPACA
    ]
    record = prepared.manifest.instructions
    assert record is not None
    assert (record.template, record.train_on, record.left_out_count) == ("alpaca", "responses", 0)
    assert record.formats == (
        f"alpaca ({alpaca}: the record on line 1 has 'instruction' and 'output')",
    )
    dataset = prepared.dataset("train")
    dataset.verify()
    trained = sum(len(each["output"]) + 1 for each in ALPACA)
    assert dataset.trained_tokens == prepared.manifest.splits["train"].trained_tokens == trained
    sidecar = json.loads(sidecar_path(dataset.shards[0].path).read_text())
    assert sidecar["documents"] == len(ALPACA)
    assert sidecar["mask_crc32"] > 0


def test_each_way_to_train(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("User: a\nAssistant: b\nUser: c\nAssistant: d\n")
    text = {
        "all": "[Q: a\nA: b$\nQ: c\nA: d$]",
        "responses": "Q: a\nA:[ b$]\nQ: c\nA:[ d$]",
        "last_response": "Q: a\nA: b$\nQ: c\nA:[ d$]",
    }
    for train_on, expected in text.items():
        prepared = run(tmp_path / train_on, file, template="qa", train_on=train_on)
        assert shown(prepared) == [expected]
        assert prepared.dataset("train").has_mask == (train_on != "all")


def test_chatml_ends_a_document_after_the_last_turn(tmp_path: Path, questions: Path) -> None:
    prepared = run(tmp_path / "out", questions, template="chatml")
    assert shown(prepared)[0] == (
        "<|im_start|>user\nWhat is 1 and 1?<|im_end|>\n<|im_start|>assistant\n[2<|im_end|>]\n$"
    )
    assert prepared.manifest.instructions is not None
    assert prepared.manifest.instructions.spelled_out == ("<|im_start|>", "<|im_end|>")


def test_a_learned_vocabulary_has_the_marks(tmp_path: Path, questions: Path) -> None:
    prepared = run(tmp_path / "out", questions, template="chatml", tokenizer="bpe", vocab_size=280)
    tokenizer = prepared.tokenizer()
    marks = [tokenizer.control_token(mark) for mark in ("<|im_start|>", "<|im_end|>")]
    assert None not in marks
    tokens = prepared.dataset("train").slice(0, 1 << 20)
    assert [int((tokens == mark).sum()) for mark in marks] == [24, 24]
    assert prepared.manifest.instructions is not None
    assert prepared.manifest.instructions.spelled_out == ()


def test_an_end_of_text_in_the_template_is_written_once(tmp_path: Path, questions: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text(
        "{% for m in messages %}{% if m.role == 'user' %}Q: {{ m.content }}{{ '\\nA:' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
    )
    mine = run(tmp_path / "mine", questions, template=str(template))
    assert shown(mine)[0] == "Q: What is 1 and 1?\nA:[ 2$]"
    assert shown(mine) == shown(run(tmp_path / "own", questions))


def test_files_of_two_formats_share_a_template(
    tmp_path: Path, alpaca: Path, questions: Path
) -> None:
    with pytest.raises(ConfigError, match=r"data.template: is missing; .*alpaca.*questions\.txt"):
        run(tmp_path / "out", alpaca, questions)
    prepared = run(tmp_path / "out", alpaca, questions, template="qa")
    assert len(shown(prepared)) == len(ALPACA) + 12
    assert prepared.manifest.instructions is not None
    assert len(prepared.manifest.instructions.formats) == 2


def test_validation_takes_whole_examples(tmp_path: Path, questions: Path) -> None:
    prepared = run(tmp_path / "out", questions, validation_fraction=0.25)
    assert (len(shown(prepared)), len(shown(prepared, "validation"))) == (9, 3)
    assert prepared.manifest.split_rule == "the examples after the first 9 validate"
    many = tmp_path / "many.txt"
    many.write_text("".join(f"Q: {n}\nA: {n}\n" for n in range(1000)))
    prepared = run(tmp_path / "many", many, validation_fraction=0.1)
    counts = len(shown(prepared)), len(shown(prepared, "validation"))
    assert sum(counts) == 1000
    assert 60 < counts[1] < 140
    apart = run(tmp_path / "apart", questions, validation=[str(many)])
    assert (len(shown(apart)), len(shown(apart, "validation"))) == (12, 1000)
    single = tmp_path / "single.txt"
    single.write_text("Q: a\nA: b\n")
    with pytest.raises(FormatError, match="the validation text has 0 tokens"):
        run(tmp_path / "single", single, validation_fraction=0.5)


def test_a_folder_is_used_again_only_for_the_same_options(tmp_path: Path, questions: Path) -> None:
    run(tmp_path / "out", questions)
    run(tmp_path / "out", questions, template="qa", train_on="responses")
    for other in ({"template": "chatml"}, {"train_on": "all"}, {"skip_bad_lines": 1}):
        with pytest.raises(ConfigError, match="from other files or with other options"):
            run(tmp_path / "out", questions, **other)


# Refusals


def test_malformed_lines_stop_the_preparation_or_are_listed(
    tmp_path: Path, alpaca: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alpaca.write_text(alpaca.read_text() + "{\n" + '{"instruction": "x", "output": "", "id": 1}\n')
    with pytest.raises(MalformedLinesError, match=r"2 lines are malformed beside 8 good examples"):
        run(tmp_path / "out", alpaca, skip_bad_lines=1)
    assert not (tmp_path / "out").exists()
    arguments = ["data", "prepare", alpaca, "--out", tmp_path / "out", "--tokenizer", "byte"]
    code, _, err = command(capsys, *arguments)
    assert code == 1
    assert "line 9: is not JSON" in err
    assert "line 10: field 'output' is empty" in err
    code, out, _ = command(capsys, *arguments, "--skip-bad-lines", 2)
    assert code == 0
    assert "left out    2 lines:" in out
    assert f"{alpaca}, line 10: field 'output' is empty" in out
    assert PreparedDataset(tmp_path / "out").manifest.instructions.left_out_count == 2  # type: ignore[union-attr]


def test_a_turn_without_a_form_is_a_malformed_line(tmp_path: Path) -> None:
    turns = [{"role": "tool", "content": "x"}, {"role": "assistant", "content": "y"}]
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"messages": turns}))
    with pytest.raises(MalformedLinesError, match="line 1: template qa has no form for tools"):
        run(tmp_path / "out", file, template="qa")


def test_a_conversation_without_text_is_a_malformed_line(tmp_path: Path, questions: Path) -> None:
    template = tmp_path / "empty.jinja"
    template.write_text(
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{% endgeneration %}"
        "{% endif %}{% endfor %}"
    )
    with pytest.raises(MalformedLinesError, match=r"12 lines are malformed .* gives no text"):
        run(tmp_path / "out", questions, template=str(template))


def test_a_mask_of_zeros_is_refused(
    tmp_path: Path, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "weight": 0}]
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"messages": turns}))
    with pytest.raises(FormatError, match=r"the train data: the mask of all .* tokens is zero"):
        run(tmp_path / "out", file)
    assert not (tmp_path / "out").exists()
    assert run(tmp_path / "out", file, train_on="all").dataset("train").trained_tokens > 0
    # Also where the folder comes from elsewhere.
    prepared = run(tmp_path / "other", questions)
    shard = prepared.dataset("train").shards[0].path
    mask_path(shard).write_bytes(bytes(mask_path(shard).stat().st_size))
    code, _, err = command(capsys, "train", "run", f"data.train={tmp_path / 'other'}")
    assert code == 1
    assert "is zero, so there is nothing to learn" in err


def test_what_cannot_be_trained_together(tmp_path: Path, questions: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("Nothing but text.\n")
    with pytest.raises(ConfigError, match=r"plain\.txt is plain text .*questions\.txt is qa"):
        run(tmp_path / "out", plain, questions)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}))
    with pytest.raises(ConfigError, match=r"pairs\.jsonl has preference pairs"):
        run(tmp_path / "out", pairs)
    for name, value in (("template", "qa"), ("train_on", "responses"), ("skip_bad_lines", 3)):
        with pytest.raises(ConfigError, match=rf"data\.{name}: got {value!r}, but the data is pla"):
            run(tmp_path / "out", plain, **{name: value})
        with pytest.raises(ConfigError, match=r"is plain text \(data\.format=text\)"):
            run(tmp_path / "out", questions, format="text", **{name: value})
    with pytest.raises(ConfigError, match=r"data\.separator: got '--', but the data is no plain"):
        run(tmp_path / "out", questions, separator="--")
    with pytest.raises(ConfigError, match="'chatlm' is no file"):
        run(tmp_path / "out", questions, template="chatlm")
    text = run(tmp_path / "out", questions, format="text", train_on="all")
    assert text.manifest.instructions is None
    assert not text.dataset("train").has_mask


def test_settings_that_a_prepared_folder_decides(
    tmp_path: Path, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "out", questions, validation_fraction=0.25)
    for setting in ("format=qa", "template=qa", "train_on=all", "skip_bad_lines=1"):
        code, _, err = command(
            capsys, "train", "run", f"data.train={tmp_path / 'out'}", f"data.{setting}"
        )
        assert code == 2
        assert f"data.{setting.split('=')[0]}: got {setting.split('=')[1]}, but" in err


def test_a_template_that_was_changed_is_noticed(tmp_path: Path, questions: Path) -> None:
    prepared = run(tmp_path / "out", questions)
    file = tmp_path / "out" / CHAT_TEMPLATE_FILE
    file.write_text(file.read_text().replace("qa", "alpaca"))
    with pytest.raises(FormatError, match=r"is not the template of dataset\.json"):
        prepared.check()
    file.unlink()
    with pytest.raises(FormatError, match="is missing"):
        prepared.check()


def test_the_names_of_formats_are_those_of_the_registry() -> None:
    assert set(FormatName.__args__) == {"auto", *FORMATS}  # type: ignore[attr-defined]


# Preview


def test_preview_marks_what_is_learned(
    tmp_path: Path, alpaca: Path, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = command(capsys, "data", "preview", alpaca, "--documents", 1)
    assert code == 0
    lines = out.split("\n", 4)
    assert lines[0] == (
        f"{alpaca} is read as alpaca: the record on line 1 has 'instruction' and 'output'"
    )
    assert lines[1] == "template alpaca, learning responses"
    assert lines[2] == "what stands between [[ and ]] is learned, the rest only read"
    assert lines[4] == ("### Instruction:\nSay red.\n\n### Response:\n[[redred<|endoftext|>]]\n")
    for tokenizer in ("byte", "bpe"):
        folder = tmp_path / tokenizer
        options = {"vocab_size": 280} if tokenizer == "bpe" else {}
        run(folder, questions, template="chatml", tokenizer=tokenizer, **options)
        code, out, _ = command(capsys, "data", "preview", folder, "--documents", 2)
        assert code == 0
        assert "template    chatml, learning responses: " in out
        assert out.endswith(
            "--- document 2\n<|im_start|>user\nWhat is 2 and 2?<|im_end|>\n"
            "<|im_start|>assistant\n[[4<|im_end|>]]\n<|endoftext|>\n"
        )
    code, out, _ = command(
        capsys, "data", "preview", alpaca, "--characters", 30, "--train-on", "all"
    )
    assert "[[### Instruction:\nSay red.\n\n###]] [...]\n--- document 2" in out


def test_preview_dims_on_a_terminal(
    alpaca: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["data", "preview", str(alpaca), "--documents", "1"]) == 0
    out = capsys.readouterr().out
    assert "what is dim is only read, the rest learned" in out
    assert "\033[2m### Instruction:\nSay red.\n\n### Response:\n\033[22mredred" in out
    assert "[[" not in out


# Inspection


def test_inspect_reads_every_line(
    tmp_path: Path, alpaca: Path, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = command(capsys, "data", "inspect", questions)
    assert code == 0
    assert out == (
        f"{questions}: qa data\nrecognised: line 1 starts with 'Q:' and line 2 with 'A:'\n"
        "12 conversations with 12 answers, 218 characters; default template qa\n"
        "sound: every line has been read\n"
    )
    array = tmp_path / "a.json"
    array.write_text(json.dumps([{**record, "id": 3} for record in ALPACA]))
    code, out, _ = command(capsys, "data", "inspect", array, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["kind"], found["sound"], found["facts"]["examples"]) == ("alpaca data", True, 8)
    assert found["facts"]["ignored_fields"] == {"id": 8}
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}))
    assert "1 preference pair\n" in command(capsys, "data", "inspect", pairs)[1]
    plain = tmp_path / "plain.txt"
    plain.write_text("Only text.\n")
    assert "1 document, 11 characters\n" in command(capsys, "data", "inspect", plain)[1]
    alpaca.write_text(alpaca.read_text() + "{\n")
    code, out, err = command(capsys, "data", "inspect", alpaca)
    assert (code, out) == (1, "")
    assert "line 9: is not JSON" in err
    other = tmp_path / "config.json"
    other.write_text("{}")
    code, _, err = command(capsys, "data", "inspect", other)
    assert code == 1
    assert "is of no known kind" in err
