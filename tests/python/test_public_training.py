"""The names of training at the top level, and training by calls instead of commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tempra

NAMES = [
    "Checkpoint",
    "CheckpointStore",
    "Context",
    "LlamaTrainer",
    "TrainError",
    "TrainableModel",
    "TrainableModelConfig",
    "Trainer",
    "TrainingReport",
    "TrainingResult",
    "load_checkpoint",
    "save_checkpoint",
    "train",
    "train_with_result",
]


def configuration(folder: Path, **sections: dict[str, Any]) -> Any:
    (folder / "text.txt").write_text("One fish, two fish, red fish, blue fish.\n" * 60)
    return tempra.LlmTrainingConfig.from_mapping(
        {
            "model": {"width": 16, "layers": 1, "heads": 2, "context": 16},
            "data": {"train": [str(folder / "text.txt")], "cache": str(folder / "cache")},
            "tokenizer": {"kind": "char"},
            "train": {"steps": 6, "batch_size": 2, "block": 16},
            "checkpoint": {"dir": str(folder / "run")},
            **sections,
        }
    )


@pytest.mark.parametrize("name", NAMES)
def test_name_is_public(name: str) -> None:
    assert getattr(tempra, name) is getattr(tempra, name)
    assert name in dir(tempra)


def test_train_is_a_function_and_a_package(tmp_path: Path) -> None:
    report = tempra.train(configuration(tmp_path))
    assert isinstance(report, tempra.TrainingReport)
    assert (report.status, report.step, report.tokens) == ("finished", 6, 6 * 32)
    assert report.run_folder == tmp_path / "run"
    from tempra.train import TrainingReport

    assert TrainingReport is tempra.TrainingReport


def test_result_has_the_model_that_was_saved(tmp_path: Path) -> None:
    result = tempra.train_with_result(configuration(tmp_path))
    saved = tempra.load_checkpoint(tmp_path / "run")
    own = result.model.to_hugging_face(dict(result.model.named_parameters()))
    assert set(own) == set(saved.model)
    for name, tensor in own.items():
        assert tensor.detach().numpy().tobytes() == saved.model[name].numpy().tobytes()


def test_llama_trainer_takes_llama_only(tmp_path: Path) -> None:
    trainer = tempra.LlamaTrainer(configuration(tmp_path))
    assert isinstance(trainer, tempra.Trainer)
    result = trainer.fit()  # without a run folder, nothing is written
    assert result.report.step == 6
    assert not (tmp_path / "run").exists()
    gpt2 = configuration(
        tmp_path, model={"family": "gpt2", "width": 16, "layers": 1, "heads": 2, "context": 16}
    )
    with pytest.raises(tempra.ConfigError, match="needs llama"):
        tempra.LlamaTrainer(gpt2)


def test_context_sets_threads_and_seed() -> None:
    before = tempra._core.get_num_threads()
    try:
        context = tempra.Context(seed=5, threads=1).apply()
        assert tempra._core.get_num_threads() == 1
        assert tempra._core.default_generator().state()["seed"] == 5
        assert context.isa in tempra._core.supported_isas()
    finally:
        tempra._core.set_num_threads(before)
