"""What the Python layers do in a build without training; run by hand or by .ci/run, not by pytest.

PYTHONPATH=FOLDER python tests/python/without_training.py   # FOLDER holds such a build of tempra
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import tempra
from tempra.models import Transformer, TransformerConfig
from tempra.optim.adamw import AdamW


def expect_disabled(name: str, call: Callable[[], object]) -> None:
    try:
        call()
    except tempra.TrainingDisabled:
        return
    raise AssertionError(f"{name} ran in a build without training")


def main() -> None:
    assert not tempra.is_enabled()
    x = tempra.ones((2, 3))
    expect_disabled("requires_grad_", lambda: x.requires_grad_(True))
    expect_disabled("backward", lambda: x.sum().backward())
    expect_disabled("grad", lambda: tempra.grad(x.sum(), x))

    config = TransformerConfig.for_family(
        "llama", vocab_size=17, width=16, layers=1, heads=2, context=8
    )
    model = Transformer(config)
    expect_disabled("AdamW", lambda: AdamW(model.named_parameters()))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "text.txt").write_text("a text to learn from\n" * 500)
        settings = tempra.LlmTrainingConfig.from_mapping(
            {
                "data": {"train": [f"{folder}/text.txt"], "cache": f"{folder}/cache"},
                "tokenizer": {"kind": "byte"},
                "train": {"steps": 1},
                "checkpoint": {"dir": f"{folder}/run"},
            }
        )
        expect_disabled("train", lambda: tempra.train(settings))

    tokens = np.arange(8, dtype=np.int32)
    logits = model(
        tempra.from_numpy(tokens),
        tempra.from_numpy(np.array([0, 8], dtype=np.int32)),
        tempra.from_numpy(tokens),
    )
    assert logits.shape == (8, 17)
    assert np.isfinite(logits.numpy()).all()
    print("without training: forward works, training raises TrainingDisabled")


if __name__ == "__main__":
    main()
