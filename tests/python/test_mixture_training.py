"""`data.sources`: several texts, prepared or not, with one tokenizer and template between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from staged_run import write_text
from tempra._core import CheckpointError, ConfigError, FormatError
from tempra.checkpoint import load_checkpoint
from tempra.cli.main import main
from tempra.data import RowOptions
from tempra.data.mixture import Mixture
from tempra.data.preparation import Preparation
from tempra.data.prepare import prepare
from tempra.train.config import LlmTrainingConfig
from tempra.train.language_model import LanguageModelTrainer, train_with_result, with_known_steps
from tempra.train.run_text import RunText, open_run_text, vocabulary_size
from tempra.train.stage_data import StageBatches


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path)
    return tmp_path


WEB: dict[str, Any] = {"name": "web", "train": "web"}
BOOKS: dict[str, Any] = {"name": "books", "train": ["books.txt"]}
CHAT: dict[str, Any] = {"name": "chat", "train": "chat.jsonl"}


def config(*sources: dict[str, Any], **sections: Any) -> LlmTrainingConfig:
    data = {"sources": list(sources), **sections.pop("data", {})}
    return LlmTrainingConfig.from_mapping(
        {
            "data": data,
            "tokenizer": {"kind": "byte"},
            "model": {"width": 16, "layers": 1, "heads": 2},
            "train": {"batch_size": 4, "block": 24, "steps": 6},
            **sections,
        }
    )


def batches_of(asked: LlmTrainingConfig) -> tuple[StageBatches, RunText]:
    text = open_run_text(asked)
    return StageBatches(asked, text.stages[0]), text


@pytest.mark.parametrize("kind", ["bpe", "char", "byte"])
def test_sources_share_one_tokenizer_learned_from_all_of_them(kind: str) -> None:
    Path("greek.txt").write_text("αβγ δεζ ηθι\n" * 200)
    sections: dict[str, Any] = {"tokenizer": {"kind": kind}}
    if kind == "bpe":
        sections["tokenizer"]["vocab_size"] = 300
    asked = config(WEB, {"name": "greek", "train": "greek.txt"}, CHAT, **sections)
    text = open_run_text(asked)
    tokenizer = text.tokenizer()
    fingerprints = {s.text.manifest.tokenizer_fingerprint for s in text.stages[0].sources}
    assert fingerprints == {tokenizer.fingerprint}
    sample = "the quick αβγ"
    assert tokenizer.decode(tokenizer.encode(sample)) == sample
    if kind == "bpe":  # it has seen both alphabets
        assert len(tokenizer.encode("αβγ δεζ ηθι\n")) < 12
        assert len(tokenizer.encode("wizards mix magic potions")) < 20
    if kind == "char":
        assert tokenizer.vocab_size == len(set(sample) | set(_all_text())) + 1
    # Nothing is made twice.
    heard: list[str] = []
    again = open_run_text(asked, progress=lambda phase, *_: heard.append(phase))
    assert heard == []
    assert again.model_files() == text.model_files()
    assert vocabulary_size(asked) == (300 if kind == "bpe" else tokenizer.vocab_size)


def _all_text() -> str:
    texts = [Path("greek.txt").read_text(), *(path.read_text() for path in Path("web").iterdir())]
    for line in Path("chat.jsonl").read_text().splitlines():
        texts += json.loads(line).values()
    return "".join(texts)


def test_each_source_is_read_as_its_kind_asks_for() -> None:
    asked = config(
        {**WEB, "weight": 2},
        {**CHAT, "weight": 1, "train_on": "all"},
        {**BOOKS, "weight": 1, "packing": "concat", "order": "sequential", "separator": ".\n"},
    )
    source, text = batches_of(asked)
    assert isinstance(source.dataset, Mixture)
    assert source.dataset.options == [
        RowOptions(),
        RowOptions(packing="best_fit"),  # conversations never see each other
        RowOptions(packing="concat", order="sequential"),
    ]
    assert source.shares == [0.5, 0.25, 0.25]
    assert source.names == ["web", "chat", "books"]
    records = [each.text.manifest.instructions for each in text.stages[0].sources]
    assert [record and record.train_on for record in records] == [None, "all", None]
    assert text.stages[0].sources[2].text.manifest.splits["train"].documents > 20
    # A batch has whole windows and packed rows side by side.
    batch = source.batch(0)
    assert batch.tokens.size <= 4 * 24
    assert batch.tokens.size == batch.offsets[-1]


def test_temperature_decides_the_shares() -> None:
    def shares(**data: Any) -> list[float]:
        return batches_of(config(WEB, BOOKS, data=data))[0].shares

    tokens = [
        source.text.manifest.splits["train"].tokens
        for source in open_run_text(config(WEB, BOOKS)).stages[0].sources
    ]
    assert shares() == shares(temperature=1)
    assert shares()[0] == pytest.approx(tokens[0] / sum(tokens), abs=0.001)
    assert abs(shares(temperature=1e9)[0] - 0.5) < 0.001


def test_prepared_folders_are_sources_and_bring_their_tokenizer() -> None:
    prepare(Preparation(["books.txt"], tokenizer="char", validation_fraction=0.0), Path("ready"))
    ready = {"name": "ready", "train": "ready"}
    with pytest.raises(ConfigError, match="tokenizer: got byte, but ready is prepared with char"):
        open_run_text(config(WEB, ready))
    # What would decide the split of raw text is nothing to the prepared one.
    data = {"validation_fraction": 0.2, "separator": "#"}
    text = open_run_text(config(WEB, ready, tokenizer={}, data=data))
    assert text.tokenizer().kind == "char"
    assert [source.text.has_validation for source in text.stages[0].sources] == [True, False]
    with pytest.raises(ConfigError, match=r"data.validation_fraction: got 0.1, but ready"):
        open_run_text(config(WEB, {**ready, "validation_fraction": 0.1}, tokenizer={}))
    prepare(Preparation(["books.txt"], tokenizer="byte"), Path("other"))
    with pytest.raises(ConfigError, match="ready is prepared with the tokenizer char"):
        open_run_text(config(ready, {"name": "other", "train": "other"}, tokenizer={}))
    with pytest.raises(ConfigError, match=r"or make it one of data\.sources"):
        open_run_text(config({"name": "both", "train": ["ready", "web"]}, tokenizer={}))


def test_one_model_needs_one_template() -> None:
    Path("questions.txt").write_text("".join(f"Q: {n}?\nA: {n}\n\n" for n in range(30)))
    questions = {"name": "questions", "train": "questions.txt"}
    with pytest.raises(ConfigError, match=r"data.template: .*by plain, .*by qa, and one model"):
        open_run_text(config(CHAT, questions))
    text = open_run_text(config(CHAT, questions, WEB, data={"template": "chatml"}))
    template = text.template()
    assert template is not None
    assert template.name == "chatml"
    # What is said for all sources is nothing to plain text; what is said for one is.
    open_run_text(config(WEB, CHAT, data={"train_on": "last_response", "skip_bad_lines": 1}))
    with pytest.raises(ConfigError, match="'web': train_on: got 'responses', but its text is"):
        open_run_text(config({**WEB, "train_on": "responses"}, CHAT))


def test_validation_is_of_each_source() -> None:
    Path("held.txt").write_text("held out words " * 30)
    asked = config(
        {**WEB, "weight": 1, "validation": "held.txt"},
        {**BOOKS, "weight": 3, "validation_fraction": 0.5},
        {"name": "all", "train": "chat.jsonl", "weight": 4, "validation_fraction": 0.0},
        evaluation={"interval": 3},
    )
    trainer = LanguageModelTrainer(asked)
    evaluator = trainer.run.current.evaluator
    assert evaluator is not None
    found = evaluator(lambda: False)
    assert found is not None
    assert list(found.by_source) == ["web", "books"]
    parts = found.by_source
    assert parts["web"].tokens == 450 - 1 + 1  # and its end mark, but for the first token
    # The source without validation text has no say.
    assert found.loss == pytest.approx(0.25 * parts["web"].loss + 0.75 * parts["books"].loss)
    assert found.tokens == parts["web"].tokens + parts["books"].tokens
    assert evaluator(lambda: True) is None
    nothing = [{**each, "validation_fraction": 0.0} for each in (WEB, BOOKS)]
    with pytest.raises(ConfigError, match="there is no validation text"):
        config(*nothing, evaluation={"interval": 3})
    assert LanguageModelTrainer(config(*nothing)).run.current.evaluator is None


def test_epochs_of_a_mixture_are_those_of_all_sources_together() -> None:
    train = {"batch_size": 4, "block": 24, "epochs": 2}
    asked = config(WEB, BOOKS, train=train)
    source, text = batches_of(asked)
    settled = with_known_steps(asked, text)
    rows = source.rows_per_epoch
    assert settled.steps == -(-2 * rows // 4)
    assert settled.train.epochs is None
    with pytest.raises(ConfigError, match="whose steps are known only with the text"):
        _ = asked.steps


def test_one_source_is_what_data_train_is() -> None:
    values = {"evaluation": {"interval": 3}, "logging": {"interval": 1}}
    one = config({**WEB, "packing": "best_fit"}, checkpoint={"dir": "one"}, **values)
    data = {"train": "web", "packing": "best_fit", "sources": []}
    other = config(checkpoint={"dir": "other"}, data=data, **values)
    weights = []
    for asked in (one, other):
        train_with_result(asked)
        file = f"{asked.checkpoint.dir}/checkpoints/step-00000006/model.safetensors"
        weights.append(Path(file).read_bytes())
    assert weights[0] == weights[1]


def test_a_resumed_mixture_must_be_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    def resume(*overrides: str) -> tuple[int, str]:
        code = main(["train", "resume", "--checkpoint", "out", "train.steps=9", *overrides])
        return code, capfd.readouterr().err

    asked = config({**WEB, "weight": 3}, {**BOOKS, "weight": 1}, checkpoint={"dir": "out"})
    train_with_result(asked)
    heavier = json.dumps([{**WEB, "weight": 2}, {**BOOKS, "weight": 2}])
    code, err = resume(f"data.sources={heavier}")
    assert code == 1
    assert "the data is not what the checkpoint was trained on: quota_0 was 768" in err
    Path("web").rename("moved")
    moved = json.dumps([{**WEB, "train": "moved", "weight": 3}, {**BOOKS, "weight": 1}])
    code, err = resume(f"data.sources={moved}")
    assert code == 0, err


def test_the_tokenizer_of_a_resumed_run_is_in_its_checkpoint() -> None:
    sections: dict[str, Any] = {"tokenizer": {"vocab_size": 300}, "checkpoint": {"dir": "out"}}
    train_with_result(config(WEB, BOOKS, **sections))
    learned = list(Path(".tempra-cache").glob("tokenizer-*"))
    for path in learned:
        if path.is_dir():
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
    assert main(["train", "resume", "--checkpoint", "out", "train.steps=8"]) == 0
    assert not any(path.is_dir() for path in Path(".tempra-cache").glob("tokenizer-*"))
    checkpoint = load_checkpoint(Path("out"))
    (Path("books.txt")).write_text("another book " * 99)
    with pytest.raises(CheckpointError, match="is not what the checkpoint"):
        LanguageModelTrainer(config(WEB, BOOKS, **sections), checkpoint=checkpoint)


def test_fine_tuning_on_a_mixture_takes_the_tokenizer_of_the_weights() -> None:
    Path("start.txt").write_text("other words than those of the mixture " * 99)
    start = {"tokenizer": {"vocab_size": 270}, "checkpoint": {"dir": "start"}}
    train_with_result(config({"name": "start", "train": "start.txt"}, **start))
    train = {"batch_size": 4, "block": 24, "steps": 2, "init_from": "start"}
    asked = config(WEB, BOOKS, tokenizer={}, train=train, checkpoint={"dir": "tuned"})
    trainer = LanguageModelTrainer(asked)
    files = load_checkpoint(Path("start")).tokenizer_files
    assert trainer.tokenizer.vocab_size == 270
    assert open_run_text(asked).model_files() == files
    train_with_result(asked)
    Path("start").rename("gone")  # a resumed run has its tokenizer with it
    assert main(["train", "resume", "--checkpoint", "tuned", "train.steps=4"]) == 0


def test_bytes_are_not_tokenized_again_when_a_run_is_resumed() -> None:
    train_with_result(config(WEB, BOOKS, checkpoint={"dir": "out"}))
    before = sorted(Path(".tempra-cache").iterdir())
    assert main(["train", "resume", "--checkpoint", "out", "train.steps=8"]) == 0
    assert sorted(Path(".tempra-cache").iterdir()) == before


def test_shares_are_those_of_the_batches() -> None:
    Path("greek.txt").write_text("\u00e9" * 3000)
    asked = config({**WEB, "weight": 3}, {"name": "greek", "train": "greek.txt", "weight": 1})
    source, _ = batches_of(asked)
    greek = 0
    for index in range(256):
        rows = source.batch(index).tokens.reshape(4, 24)
        greek += int(((rows > 128) & (rows != 256)).any(axis=1).sum())
    assert greek == 256


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"train": ["web"]}, "data.train: is given beside data.sources"),
        ({"validation": ["web"]}, "data.validation: is given beside data.sources"),
        ({"sources": [{"name": "x", "trainn": "web"}]}, "'trainn' in data.sources.0; did you mean"),
        ({"sources": [{"name": "x y", "train": "web"}]}, "data.sources.0.name: got 'x y'"),
        ({"sources": [WEB, WEB]}, "'web' names two sources"),
        ({"sources": [{**WEB, "weight": 0}]}, "data.sources.0.weight: got 0"),
        ({"sources": [{**WEB, "weight": 1}, BOOKS]}, "'web' has a weight and 'books' has none"),
        ({"sources": [{**WEB, "weight": 1}], "temperature": 2}, "beside the weights"),
        ({"temperature": 0}, "data.temperature: got 0"),
        ({"sources": [], "temperature": 2}, "got 2.0 without data.sources"),
        ({"sources": [{**WEB, "overlong": "split"}]}, "'web': data.overlong: got 'split' without"),
        (
            {"sources": [{**WEB, "packing": "best_fit", "order": "sequential"}]},
            "'web': data.order: got order 'sequential' with packing 'best_fit'",
        ),
        ({"mode": "random", "order": "sequential"}, "data.order: got order 'sequential' with mode"),
        ({"order": "hardest"}, "data.order: got 'hardest'"),
    ],
)
def test_contradictions_are_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(*data.pop("sources", [WEB]), data=data)
    assert words in str(caught.value)


def test_a_text_that_is_too_short_is_named() -> None:
    Path("short.txt").write_text("a few words")
    short = {"name": "short", "train": "short.txt", "validation_fraction": 0.0}
    with pytest.raises(ConfigError, match="the training text of 'short' has 12 tokens"):
        LanguageModelTrainer(config(WEB, short))
    stage = {"name": "one", "train": {"steps": 1}, "data": {"sources": [WEB, short]}}
    with pytest.raises(ConfigError, match="stages, 'one': the training text of 'short' has 12"):
        LanguageModelTrainer(config(WEB, stages=[stage]))
    Path("short.txt").write_text("####")
    with pytest.raises(FormatError, match=r"short.txt: data.train: 1 file given, without any text"):
        open_run_text(config(WEB, {**short, "separator": "#"}))


def test_an_order_that_the_text_cannot_have_is_refused_with_the_source() -> None:
    asked = config({**WEB, "order": "shortest_first"}, CHAT)
    with pytest.raises(ConfigError, match=r"data.sources, 'web': got order 'shortest_first'"):
        batches_of(asked)
