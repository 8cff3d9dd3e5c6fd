"""Whole training steps on a CUDA device: the CPU's traces, no waiting, resume across devices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tempra
from device_runs import (
    VOCABULARY,
    Run,
    configuration,
    losses,
    packed_batches,
    resumed,
    small_model,
)
from device_runs import trace as trace_of
from tempra import cuda
from tempra.models import GenerationOptions, Transformer, generate_tokens
from tempra.train.train_state import TrainState
from tempra.train.trained_model import load_trained_model

pytestmark = pytest.mark.any_cuda

STEPS = 20
# Relative, of a step's mean loss. Both devices add up in fp32, in another order: what PyTorch's
# trace is allowed (test_loss_trace.py). In bf16 activations are rounded after other sums.
TOLERANCE = {"f32": 1e-5, "bf16": 1e-2, "f16": 1e-3}


def trace(model: Transformer, steps: int = STEPS) -> list[float | None]:
    return trace_of(model, packed_batches(steps))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_the_trace_equals_the_cpus(family: str, dtype: str) -> None:
    expected = trace(small_model(family, dtype, "cpu"))
    got = trace(small_model(family, dtype, "cuda"))
    np.testing.assert_allclose(got, expected, rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_trace_in_fp16(family: str) -> None:
    """Beside the CPU's in f32, as it has no kernels for f16."""
    expected = trace(small_model(family, "f32", "cpu"))
    got = trace(small_model(family, "f16", "cuda"))
    np.testing.assert_allclose(got, expected, rtol=TOLERANCE["f16"])


def test_losses_are_scaled_on_the_device() -> None:
    """An overflow skips the update and halves the scale, without waiting; a checkpoint has it."""
    model = small_model("gpt2", "f16", "cuda")
    run = Run(model)
    batches = packed_batches(4)
    assert run.optimizer.loss_scale.item() == 65536.0
    run.step(batches[0])
    state = {**run.optimizer.state_dict(), "loss_scale": 2.0**30}
    run.optimizer.load_state_dict(state)
    bits = [parameter.detach().cpu().numpy().tobytes() for parameter in model.parameters()]
    before = cuda.traffic()["waits"]
    run.step(batches[1])
    assert cuda.traffic()["waits"] == before
    assert bits == [p.detach().cpu().numpy().tobytes() for p in model.parameters()]
    assert run.optimizer.loss_scale.item() == 2.0**29
    assert (run.optimizer.step_count, run.optimizer.skipped_total) == (1, 1)
    saved = run.optimizer.state_dict()
    assert (saved["loss_scale"], saved["clean_steps"]) == (2.0**29, 0)
    run.optimizer.load_state_dict({**saved, "loss_scale": 1024.0, "clean_steps": 1999})
    run.step(batches[2])
    assert run.optimizer.loss_scale.item() == 2048.0, "2,000 clean steps double it"
    # What is scaled is taken out again: the reported norm is that of the loss itself.
    other = Run(small_model("gpt2", "f32", "cuda"))
    other.step(batches[0])
    fresh = Run(small_model("gpt2", "f16", "cuda"))
    fresh.step(batches[0])
    assert fresh.optimizer.gradient_norm == pytest.approx(other.optimizer.gradient_norm, rel=1e-2)


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


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_dropout_draws_the_cpus_masks(family: str) -> None:
    """Of activations and of attention weights: another mask would move the loss by percents."""
    expected = trace(small_model(family, "f32", "cpu", dropout=0.2), 6)
    got = trace(small_model(family, "f32", "cuda", dropout=0.2), 6)
    np.testing.assert_allclose(got, expected, rtol=TOLERANCE["f32"])
    without = trace(small_model(family, "f32", "cpu"), 6)
    assert abs(without[-1] / expected[-1] - 1) > 100 * TOLERANCE["f32"]


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_rerun_is_equal_to_the_last_bit(dtype: str) -> None:
    first, second = (small_model("gpt2", dtype, "cuda", dropout=0.1) for _ in range(2))
    assert trace(first, 5) == trace(second, 5)
    for (name, one), (_, other) in zip(
        first.named_parameters(), second.named_parameters(), strict=True
    ):
        assert one.cpu().detach().numpy().tobytes() == other.cpu().detach().numpy().tobytes(), name


def test_recomputation_changes_no_bit() -> None:
    again = small_model("llama", "bf16", "cuda", dropout=0.1)
    again.recompute = True
    assert trace(again, 3) == trace(small_model("llama", "bf16", "cuda", dropout=0.1), 3)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_a_step_never_waits(family: str, dtype: str) -> None:
    run = Run(small_model(family, dtype, "cuda", dropout=0.1))
    batches = packed_batches(4)
    results = [run.step(batches[0])]
    before = cuda.traffic()
    results += [run.step(batch) for batch in batches[1:]]
    after = cuda.traffic()
    assert after["waits"] == before["waits"]
    assert after["copies_to_host"] == before["copies_to_host"]
    # Tokens, labels, offsets, positions, and the three scalars of a step.
    assert after["copies_to_device"] - before["copies_to_device"] == 3 * 5
    assert all(np.isfinite(result.loss()) for result in results)
    assert cuda.traffic()["waits"] == after["waits"] + len(results), "reading a loss was not seen"


def test_a_skipped_update_is_decided_on_the_device() -> None:
    model = small_model("gpt2", "f32", "cuda")
    run = Run(model)
    batches = packed_batches(3)
    run.step(batches[0])
    bits = [parameter.detach().cpu().numpy().tobytes() for parameter in model.parameters()]
    before = cuda.traffic()["waits"]
    run.optimizer.zero_gradients()
    model.loss(batches[1]).backward()
    run.optimizer.gradients()["final_norm.weight"].fill_(float("inf"))
    run.optimizer.step(learning_rate=3e-3, gradient_scale=1.0, max_gradient_norm=1.0)
    assert cuda.traffic()["waits"] == before
    after = [parameter.detach().cpu().numpy().tobytes() for parameter in model.parameters()]
    assert after == bits
    optimizer = run.optimizer
    assert (optimizer.step_count, optimizer.skipped_in_a_row, optimizer.skipped_total) == (1, 1, 1)
    run.step(batches[2])
    assert (optimizer.step_count, optimizer.skipped_in_a_row, optimizer.skipped_total) == (2, 0, 1)


def test_a_model_in_an_arena_stays_where_it_is() -> None:
    model = small_model("gpt2", "f32", "cpu")
    Run(model)
    with pytest.raises(tempra.TempraError, match="move the model before making the optimizer"):
        model.to("cuda")


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_writing_equals_the_cpus(family: str) -> None:
    options = GenerationOptions(max_tokens=30, temperature=0.0)
    texts = [
        list(generate_tokens(small_model(family, "f32", device), [5, 1, 8], options))
        for device in ("cpu", "cuda")
    ]
    assert texts[0] == texts[1]


def test_a_run_resumes_across_devices(tmp_path: Path) -> None:
    whole = {}
    for device in ("cpu", "cuda"):
        tempra.train(configuration(tmp_path, f"whole-{device}", device))
        whole[device] = losses(tmp_path / f"whole-{device}")
        assert len(whole[device]) == 8 + 2  # steps and validations
    np.testing.assert_allclose(whole["cuda"], whole["cpu"], rtol=1e-5)
    for first, then in (("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")):
        name = f"{first}-{then}"
        tempra.train(configuration(tmp_path, name, first, steps=4))
        trace = resumed(tmp_path, name, then)
        np.testing.assert_allclose(trace, whole["cpu"], rtol=1e-5)
        if first == then:
            assert trace == whole[then]


def test_a_resume_says_where_the_run_was(tmp_path: Path) -> None:
    from tempra.train.resume import prepare_resume

    tempra.train(configuration(tmp_path, "run", "cuda", steps=4))
    notes = prepare_resume(tmp_path / "run", ["train.device=cpu"]).notes
    assert "the run was on cuda, now it is on cpu: numbers may differ in the last bits" in notes
    assert not prepare_resume(tmp_path / "run").notes


def test_a_snapshot_is_the_hosts_own() -> None:
    run = Run(small_model("llama", "f32", "cuda"))
    batches = packed_batches(2)
    run.step(batches[0])
    state = TrainState(run.objective, {"adamw": run.optimizer}, run.generator)
    snapshot = state.to_checkpoint().snapshot()
    tensors = {**snapshot.model, **snapshot.optimizer}
    assert {tensor.device for tensor in tensors.values()} == {"cpu"}
    before = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
    run.step(batches[1])
    assert before == {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
    now = state.to_checkpoint()
    later = {**now.model, **now.optimizer}
    assert before != {name: tensor.cpu().numpy().tobytes() for name, tensor in later.items()}


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


def test_an_index_out_of_range_is_found() -> None:
    model = small_model("gpt2", "f32", "cuda")
    batch = packed_batches(1)[0]
    batch.tokens[3] = VOCABULARY
    loss = model.loss(batch)
    with pytest.raises(tempra.ShapeError, match="embedding: an index is outside the table's rows"):
        loss.item()
    assert np.isfinite(model.loss(packed_batches(1)[0]).item()), "the fault stayed"
