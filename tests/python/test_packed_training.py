"""`tempra train run data.packing=...`: what it prints, trains on, refuses and repeats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tempra.cli.main import main
from tempra.train.config import LlmTrainingConfig
from tempra.train.metrics import read_metrics
from tempra.train.run_text import open_run_text
from tempra.train.stage_data import StageBatches

STORIES = [f"Story {number}: " + "word " * (number % 9) + "end." for number in range(200)]
SETTINGS = [
    "data.train=stories.jsonl",
    "tokenizer.kind=byte",
    "model.width=16",
    "model.layers=1",
    "model.heads=2",
    "model.context=64",
    "train.block=64",
    "train.batch_size=3",
    "evaluation.interval=5",
    "evaluation.batches=2",
    "checkpoint.interval=4",
    "logging.interval=1",
]


@pytest.fixture(autouse=True)
def stories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"text": story}) for story in STORIES]
    Path("stories.jsonl").write_text("\n".join(lines))


def run(*arguments: str) -> int:
    return main(["train", *arguments])


def losses(folder: str) -> list[tuple[str, int, str]]:
    return [
        (record["kind"], record["step"], float(record["loss"]).hex())
        for record in read_metrics(Path(folder) / "metrics.jsonl")
        if "loss" in record
    ]


@pytest.mark.parametrize("packing", ["best_fit", "streaming", "concat", "none"])
def test_a_packed_run_resumes_bit_for_bit(packing: str, capfd: pytest.CaptureFixture[str]) -> None:
    settings = [*SETTINGS, f"data.packing={packing}", "train.steps=40"]
    assert run("run", *settings, "checkpoint.dir=whole") == 0
    out = capfd.readouterr().out
    assert f"packing     {packing}, " in out
    assert " % full" in out
    assert run("run", *settings, "checkpoint.dir=cut") == 0
    # The epoch ends on the way.
    assert run("resume", "--checkpoint", "cut/checkpoints/step-00000036") == 0
    assert losses("cut") == losses("whole")
    assert len(losses("whole")) > 40
    weights = "checkpoints/step-00000040/model.safetensors"
    assert Path("cut", weights).read_bytes() == Path("whole", weights).read_bytes()


def config(**data: Any) -> LlmTrainingConfig:
    return LlmTrainingConfig.from_mapping(
        {
            "data": {"train": ["stories.jsonl"], **data},
            "tokenizer": {"kind": "byte"},
            "model": {"width": 16, "layers": 1, "heads": 2, "context": 64},
            "train": {"batch_size": 3, "block": 64},
        }
    )


def test_training_reads_whole_documents() -> None:
    asked = config(packing="best_fit")
    text = open_run_text(asked).stages[0]
    source = StageBatches(asked, text)
    decoded = []
    index = 0
    while source.epochs(index) < 1:
        batch = source.batch(index)
        for first, last in zip(batch.offsets[:-1], batch.offsets[1:], strict=True):
            ids = batch.tokens[first:last].tolist()
            assert ids[-1] == 256
            decoded.append(bytes(ids[:-1]).decode())
        index += 1
    assert set(decoded) <= set(STORIES)
    assert len(set(decoded)) == text.sources[0].text.dataset("train").documents


def test_long_documents_are_counted(capfd: pytest.CaptureFixture[str]) -> None:
    Path("stories.jsonl").write_text(
        "\n".join(json.dumps({"text": "x" * length}) for length in [10] * 40 + [99, 200])
    )
    settings = [*SETTINGS, "train.steps=1", "data.packing=best_fit", "data.validation_fraction=0"]
    settings = [word for word in settings if not word.startswith("evaluation.")]
    for policy, words in (
        ("split", "2 documents longer than 64 tokens split, 0 tokens lost"),
        ("truncate", "2 documents longer than 64 tokens truncated, 173 tokens lost"),
        ("reject", "2 documents longer than 64 tokens rejected, 301 tokens lost"),
    ):
        assert run("run", *settings, f"data.overlong={policy}", f"checkpoint.dir={policy}") == 0
        assert words in capfd.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.packing=best_fit", "data.mode=random"], "data.mode: got 'random' beside"),
        (["data.overlong=reject"], "data.overlong: got 'reject' without data.packing"),
        (["data.packing=bfd"], "data.packing"),
    ],
)
def test_contradictions_are_refused(
    overrides: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("run", *SETTINGS, *overrides) == 2
    assert words in capfd.readouterr().err


def test_packing_cannot_change_when_a_run_is_resumed(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("run", *SETTINGS, "train.steps=2", "checkpoint.dir=out") == 0
    assert run("resume", "--checkpoint", "out", "data.packing=concat") == 2
    assert "data.packing: cannot change when a run is resumed" in capfd.readouterr().err


def device_batches(stories: list[str], **data: Any) -> StageBatches:
    """Packed batches as training on a device is given them; none is needed to make them."""
    file = Path("device.jsonl")
    file.write_text("\n".join(json.dumps({"text": story}) for story in stories))
    config = LlmTrainingConfig.from_mapping(
        {
            "data": {
                "train": [str(file)],
                "packing": "streaming",
                "validation_fraction": 0,
                **data,
            },
            "tokenizer": {"kind": "byte"},
            "model": {"width": 16, "layers": 1, "heads": 2, "context": 64},
            "train": {"block": 64, "batch_size": 8, "steps": 3, "device": "cuda"},
        }
    )
    return StageBatches(config, open_run_text(config).stages[0])


def test_batches_for_a_device_have_one_shape() -> None:
    """A matter of the text alone, not of which batches were read before."""
    for stories in (STORIES, ["one.", "another."] * 300, ["x" * n for n in range(200)]):
        source, other = device_batches(stories), device_batches(stories)
        batches = [source.batch(index) for index in range(60)]
        shapes = {(b.tokens.size, b.offsets.size - 1, b.longest) for b in batches}
        ((tokens, places, longest),) = shapes
        assert (tokens, longest) == (8 * 64, 64)
        assert places.bit_count() == 1
        held = [int((np.diff(batch.offsets) > 0).sum()) for batch in batches]
        assert places / 4 < np.mean(held), "empty places cost time"
        again = other.batch(40)
        np.testing.assert_array_equal(again.offsets, batches[40].offsets)
        assert len({batch.offsets[-1] for batch in batches}) > 1, "none but the first is padded"


@pytest.mark.parametrize("overlong", ["truncate", "reject"])
def test_places_follow_from_what_gets_into_rows(overlong: str) -> None:
    stories = ["x" * (2 + n % 12) for n in range(1500)] + ["long " * 40_000] * 3
    source = device_batches(stories, overlong=overlong)
    places = {source.batch(index).offsets.size - 1 for index in range(12)}
    assert len(places) == 1


def test_a_batch_with_more_documents_has_twice_the_places() -> None:
    source = device_batches(["a."] * 400 + ["long " * 9] * 400, order="shortest_first")
    places = [source.batch(index).offsets.size - 1 for index in range(source.batches_for(1))]
    assert sorted(set(places), reverse=True) == list(dict.fromkeys(places)), "fewer and fewer"
    assert {count.bit_count() for count in places} == {1}
    assert max(places) >= 4 * min(places)


def test_rows_of_full_length_stay_even() -> None:
    """Attention has kernels for them; empty places would make it take others. 63 and an end."""
    source = device_batches(["x" * 63] * 40)
    batch = source.batch(0)
    assert (batch.offsets.size - 1, batch.even) == (8, True)


def test_places_in_batches_of_a_mixture() -> None:
    """Short documents of one source, three in four of the rows, and long ones of another."""
    for name, words in (("short", "ab"), ("long", "x" * 50)):
        Path(f"{name}.jsonl").write_text("\n".join([json.dumps({"text": words})] * 200))
    config = LlmTrainingConfig.from_mapping(
        {
            "data": {
                "sources": [
                    {"name": name, "train": [f"{name}.jsonl"], "weight": weight}
                    for name, weight in (("short", 3), ("long", 1))
                ],
                "packing": "streaming",
                "validation_fraction": 0,
            },
            "tokenizer": {"kind": "byte"},
            "model": {"width": 16, "layers": 1, "heads": 2, "context": 64},
            "train": {"block": 64, "batch_size": 8, "steps": 3, "device": "cuda"},
        }
    )
    source = StageBatches(config, open_run_text(config).stages[0])
    # 6 rows of 64 / 3 documents and 2 of one or so; and three times the root of that: 165.
    places = {source.batch(index).offsets.size - 1 for index in range(40)}
    assert places == {256}
