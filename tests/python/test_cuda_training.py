"""Whole training steps on a CUDA device: the CPU's traces, no waiting, resume across devices."""

from __future__ import annotations

import numpy as np
import pytest

import tempra
from device_runs import (
    VOCABULARY,
    Run,
    packed_batches,
    small_model,
)
from device_runs import trace as trace_of
from tempra import cuda
from tempra.models import GenerationOptions, Transformer, generate_tokens
from tempra.train.train_state import TrainState

pytestmark = pytest.mark.any_cuda

STEPS = 20
# Relative, of a step's mean loss. Both devices compute in fp32 (no TF32), add up in another order
# and have other exponentials. On these models another of the CPU's instruction sets moves a loss by
# up to 2e-7, a unit or two in its last place; and changing every weight at random by up to 2^-21 of
# itself (4 to 8 such units, more than a GPU's functions err by) before each of 20 steps, by up to
# 8e-7: 1e-5 is ten times that. AdamW does not blow it up: where a gradient is so small that its
# sign is noise, the loss hardly depends on the weight. TF32, which rounds by 2^-11, would be
# noticed: weights changed by that much move the losses by 3.5e-5 to 1.3e-4. In bf16 activations
# are rounded after other sums.
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


def test_a_model_moves_once_its_optimizer_is_gone() -> None:
    model = small_model("gpt2", "f32", "cpu")
    run = Run(model)
    batches = packed_batches(2)
    run.step(batches[0])
    with pytest.raises(tempra.TempraError, match="before making the optimizer, or after deleting"):
        model.to("cuda")
    values = [parameter.detach().numpy().copy() for parameter in model.parameters()]
    gradient = model.token_embedding.weight.grad.numpy().copy()
    del run
    model.to("cuda")
    for parameter, value in zip(model.parameters(), values, strict=True):
        assert parameter.device == "cuda:0"
        np.testing.assert_array_equal(parameter.detach().cpu().numpy(), value)
    np.testing.assert_array_equal(model.token_embedding.weight.grad.cpu().numpy(), gradient)
    Run(model).step(batches[1])
    model.to("cpu")


def test_an_earlier_optimizer_does_not_free_what_a_later_one_holds() -> None:
    model = small_model("gpt2", "f32", "cpu")
    earlier, later = Run(model), Run(model)
    del earlier
    with pytest.raises(tempra.TempraError, match="is in an optimizer's arena on cpu"):
        model.to("cuda")
    later.step(packed_batches(1)[0])


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_writing_equals_the_cpus(family: str) -> None:
    options = GenerationOptions(max_tokens=30, temperature=0.0)
    texts = [
        list(generate_tokens(small_model(family, "f32", device), [5, 1, 8], options))
        for device in ("cpu", "cuda")
    ]
    assert texts[0] == texts[1]


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


def test_an_index_out_of_range_is_found() -> None:
    model = small_model("gpt2", "f32", "cuda")
    batch = packed_batches(1)[0]
    batch.tokens[3] = VOCABULARY
    loss = model.loss(batch)
    with pytest.raises(tempra.ShapeError, match="embedding: an index is outside the table's rows"):
        loss.item()
    assert np.isfinite(model.loss(packed_batches(1)[0]).item()), "the fault stayed"
