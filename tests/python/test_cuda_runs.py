"""Whole runs on a CUDA device: resume across devices, asynchronous checkpoints, commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tempra
from device_runs import configuration, losses, resumed
from tempra import cuda
from tempra.models import GenerationOptions, generate_tokens
from tempra.train.trained_model import load_trained_model
from test_cuda_training import TOLERANCE

pytestmark = pytest.mark.any_cuda


def test_a_run_resumes_across_devices(tmp_path: Path) -> None:
    whole = {}
    for device in ("cpu", "cuda"):
        tempra.train(configuration(tmp_path, f"whole-{device}", device))
        whole[device] = losses(tmp_path / f"whole-{device}")
        assert len(whole[device]) == 8 + 2  # steps and validations
    np.testing.assert_allclose(whole["cuda"], whole["cpu"], rtol=TOLERANCE["f32"])
    for first, then in (("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")):
        name = f"{first}-{then}"
        tempra.train(configuration(tmp_path, name, first, steps=4))
        trace = resumed(tmp_path, name, then)
        np.testing.assert_allclose(trace, whole["cpu"], rtol=TOLERANCE["f32"])
        if first == then:
            assert trace == whole[then]


def test_a_run_in_fp16_resumes_to_the_last_bit(tmp_path: Path) -> None:
    tempra.train(configuration(tmp_path, "whole", "cuda", dtype="fp16"))
    tempra.train(configuration(tmp_path, "halves", "cuda", dtype="fp16", steps=4))
    assert resumed(tmp_path, "halves", "cuda") == losses(tmp_path / "whole")
    tempra.train(configuration(tmp_path, "plain", "cpu"))
    np.testing.assert_allclose(losses(tmp_path / "whole"), losses(tmp_path / "plain"), rtol=5e-3)
    # The CPU, which has no kernels for fp16, reads such a model in fp32.
    texts = []
    for device in ("cpu", "cuda"):
        model = load_trained_model(tmp_path / "whole", device=device).model
        assert model.config.dtype == ("f32" if device == "cpu" else "f16")
        texts.append(
            list(generate_tokens(model, [3], GenerationOptions(max_tokens=5, temperature=0)))
        )
    assert len(texts[0]) == len(texts[1]) == 5


def test_a_resume_says_where_the_run_was(tmp_path: Path) -> None:
    from tempra.train.resume import prepare_resume

    tempra.train(configuration(tmp_path, "run", "cuda", steps=4))
    notes = prepare_resume(tmp_path / "run", ["train.device=cpu"]).notes
    assert "the run was on cuda, now it is on cpu: numbers may differ in the last bits" in notes
    assert not prepare_resume(tmp_path / "run").notes


def test_asynchronous_checkpoints_are_of_their_step(tmp_path: Path) -> None:
    config = configuration(tmp_path, "run", "cuda")
    background = config.model_copy(
        update={"checkpoint": config.checkpoint.model_copy(update={"asynchronous": True})}
    )
    tempra.train(background)
    tempra.train(configuration(tmp_path, "other", "cuda"))
    for step in (4, 8):
        file = f"checkpoints/step-{step:08d}/model.safetensors"
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_commands_on_the_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model trained on the device measures and writes there as on the CPU."""
    from tempra.cli.main import main

    tempra.train(configuration(tmp_path, "run", "cuda"))
    said = {}
    for device in ("cpu", "cuda"):
        options = ["--checkpoint", str(tmp_path / "run"), "--device", device]
        assert main(["eval", *options, "--data", str(tmp_path / "text.txt"), "--json"]) == 0
        measured = json.loads(capsys.readouterr().out)
        assert main(["generate", *options, "--max-tokens", "12", "--temperature", "0"]) == 0
        said[device] = (measured["loss"], capsys.readouterr().out)
    assert said["cuda"][0] == pytest.approx(said["cpu"][0], rel=1e-5)
    assert said["cuda"][1] == said["cpu"][1]
    before = cuda.traffic()["copies_to_device"]
    assert main(["generate", *options, "--max-tokens", "2"]) == 0
    assert cuda.traffic()["copies_to_device"] > before, "it was computed elsewhere"
    assert main(["train", "info"]) == 0
    shown = capsys.readouterr().out
    assert "cuda:0" in shown
    assert str(cuda.status().library_path) in shown
    plan = ["train", "plan", "train.device=cuda", f"data.train={tmp_path / 'text.txt'}"]
    assert main(plan) == 0
    assert f"device      cuda, {cuda.status().devices[0].name}" in capsys.readouterr().out
