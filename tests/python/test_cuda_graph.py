"""Steps as CUDA graphs: every bit as without them, no waiting, one recording for a shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tempra
from device_runs import CONTEXT, Run, packed_batches, small_model
from tempra import _core, cuda
from tempra.data import Batch
from tempra.data.batch import padded
from tempra.train.captured_step import CapturedStep
from tempra.train.objective import DeferredAutoregressiveObjective, Loss
from tempra.train.train_step import train_step
from test_cuda_training import TOLERANCE

pytestmark = pytest.mark.any_cuda

STEPS = 20


def device_batches(count: int) -> list[Batch]:
    """Packed batches as a device is given them: as many tokens in each."""
    return [padded(each, tokens=4 * CONTEXT, longest=CONTEXT) for each in packed_batches(count)]


def compared(model: Any, batches: list[Batch], per_step: int = 1) -> tuple[Run, Run]:
    """Take the same steps by `train_step` and by graphs, and compare all there is."""
    runs, traces = [], []
    for step_function in (train_step, CapturedStep()):
        tempra.manual_seed(7)
        run = Run(model(), step_function)
        results = [
            run.step(*batches[first : first + per_step])
            for first in range(0, len(batches), per_step)
        ]
        traces.append([(r.loss(), r.terms, r.tokens, r.learning_rate) for r in results])
        runs.append(run)
        traces[-1].append(run.generator.state())
    plain, captured = runs
    assert traces[1] == traces[0]
    assert captured.optimizer.state_dict() == plain.optimizer.state_dict()
    assert captured.optimizer.gradient_norm == plain.optimizer.gradient_norm
    expected = plain.bits()
    different = [name for name, bits in captured.bits().items() if bits != expected[name]]
    assert not different
    return plain, captured


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_no_bit_differs(family: str, dtype: str) -> None:
    """Over 20 steps of two packed micro-batches, with dropout; one recording serves them all."""
    before = cuda.traffic()
    compared(lambda: small_model(family, dtype, "cuda", dropout=0.1), device_batches(2 * STEPS), 2)
    after = cuda.traffic()
    assert after["captures"] - before["captures"] == 2, "the pass and the update"
    assert after["graph_launches"] - before["graph_launches"] == (STEPS - 1) * 3


def test_recomputation_in_a_graph() -> None:
    def model() -> Any:
        made = small_model("llama", "bf16", "cuda", dropout=0.1)
        made.recompute = True
        return made

    compared(model, device_batches(4))


def test_padding_changes_nothing() -> None:
    """Neither masks nor sums: beside the CPU, which pads nothing."""
    tempra.manual_seed(7)
    run = Run(small_model("llama", "f32", "cpu", dropout=0.2))
    expected = [run.step(batch).loss() for batch in packed_batches(6)]
    tempra.manual_seed(7)
    run = Run(small_model("llama", "f32", "cuda", dropout=0.2), CapturedStep())
    got = [run.step(batch).loss() for batch in device_batches(6)]
    np.testing.assert_allclose(got, expected, rtol=TOLERANCE["f32"])
    without = Run(small_model("llama", "f32", "cuda"))
    assert abs(without.step(device_batches(1)[0]).loss() / expected[0] - 1) > 1e-3


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_a_step_never_waits(dtype: str) -> None:
    run = Run(small_model("gpt2", dtype, "cuda", dropout=0.1), CapturedStep())
    batches = device_batches(8)
    for first in (0, 2):
        run.step(*batches[first : first + 2])
    before = cuda.traffic()
    results = [run.step(*batches[first : first + 2]) for first in (4, 6)]
    after = cuda.traffic()
    moved = {name: after[name] - before[name] for name in after}
    assert (moved["waits"], moved["held_back"], moved["copies_to_host"]) == (0, 0, 0)
    # A step: two batches, each in one copy, and the three scalars; two passes and an update.
    assert moved["copies_to_device"] == 2 * 3
    assert (moved["captures"], moved["graph_launches"]) == (0, 2 * 3)
    assert all(np.isfinite(result.loss()) for result in results)


def test_shapes_that_change() -> None:
    """A single batch of another shape is run as it is; a new shape is recorded once it stays."""
    small, large = device_batches(9), [padded(b, tokens=5 * CONTEXT) for b in device_batches(9)]
    order = [*small[:3], large[3], *small[4:6], *large[6:9]]
    before = cuda.traffic()["captures"]
    compared(lambda: small_model("gpt2", "f32", "cuda", dropout=0.1), order)
    assert cuda.traffic()["captures"] - before == 4


def without_labels(b: Batch) -> Batch:
    empty = np.full_like(b.labels, -100)
    return Batch(b.tokens, empty, b.offsets, b.positions, 0, b.longest, b.padding)


def window_batch(rows: int) -> Batch:
    tokens = np.arange(rows * CONTEXT, dtype=np.int32)
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(CONTEXT)
    return Batch(tokens, tokens, offsets, tokens % np.int32(CONTEXT), tokens.size, CONTEXT)


def test_a_first_step_without_labels_is_not_what_is_repeated() -> None:
    """It has no backward pass, in which kernels are chosen; so the next step is run as it is."""
    batch = device_batches(1)[0]
    unlabelled = without_labels(batch)
    run = Run(small_model("gpt2", "f32", "cuda"), CapturedStep())
    captures = []
    for each in (unlabelled, batch, batch):
        run.step(each)
        captures.append(cuda.traffic()["captures"])
    assert captures[1] == captures[0]
    assert captures[2] == captures[0] + 2


def test_another_model_is_recorded_anew() -> None:
    step, batch = CapturedStep(), device_batches(1)[0]
    tempra.manual_seed(7)
    first, second = (Run(small_model("gpt2", "f32", "cuda"), step) for _ in range(2))
    for _ in range(3):
        first.step(batch)
    before = second.bits()
    second.step(batch)
    assert second.bits() != before


def test_batches_without_a_label() -> None:
    """One micro-batch of nothing to learn adds nothing; a whole step of them is no update."""
    batches = device_batches(8)
    for number in (3, 6, 7):
        batches[number] = without_labels(batches[number])
    plain, _ = compared(
        lambda: small_model("llama", "bf16", "cuda", dropout=0.1), batches, per_step=2
    )
    assert plain.optimizer.step_count == 3


def test_a_batch_without_a_label_may_overflow() -> None:
    """It is not learned from, so its infinite numbers are not either: 0 times those is none."""
    batches = device_batches(8)
    for number, batch in enumerate(batches):
        batch.tokens[:] = np.where(batch.tokens == 5, 6, batch.tokens)
        if number in (3, 6):
            batch.tokens[:] = 5
            batches[number] = without_labels(batch)

    def model() -> Any:
        made = small_model("llama", "f16", "cuda")  # whose head is a matrix of its own
        with tempra.no_grad():
            made.token_embedding.weight.narrow(0, 5, 1).fill_(1e30)
        return made

    plain, _ = compared(model, batches, per_step=2)
    assert (plain.optimizer.step_count, plain.optimizer.skipped_total) == (4, 0)


def test_graphs_can_be_released() -> None:
    """Their memory is free then; a step runs as it is, and the next is recorded again."""
    step, batches = CapturedStep(), device_batches(6)
    run = Run(small_model("gpt2", "f32", "cuda"), step)
    run.step(batches[0])
    before = cuda.memory_statistics()["bytes_in_use"]
    run.step(batches[1])
    assert cuda.memory_statistics()["bytes_in_use"] > before + 100_000
    step.release()
    assert cuda.memory_statistics()["bytes_in_use"] == before
    captures = cuda.traffic()["captures"]
    run.step(batches[2])
    assert cuda.traffic()["captures"] == captures
    run.step(batches[3])
    assert cuda.traffic()["captures"] == captures + 2


def test_a_skipped_update() -> None:
    """An overflow of fp16 within a graph: not counted, and the scale halved, as without."""
    traces = []
    for step_function in (train_step, CapturedStep()):
        tempra.manual_seed(7)
        run = Run(small_model("gpt2", "f16", "cuda"), step_function)
        batches = device_batches(6)
        for batch in batches[:3]:
            run.step(batch)
        run.optimizer.load_state_dict({**run.optimizer.state_dict(), "loss_scale": 2.0**30})
        for batch in batches[3:]:
            run.step(batch)
        traces.append((run.optimizer.state_dict(), run.bits()))
    assert traces[0] == traces[1]
    state = traces[0][0]
    assert state["skipped_total"] > 0
    assert state["step_count"] + state["skipped_total"] == 6


def test_weights_written_between_steps() -> None:
    """The copy that products read follows, although a graph does not look at versions."""
    bits = []
    for step_function in (train_step, CapturedStep()):
        tempra.manual_seed(7)
        run = Run(small_model("gpt2", "bf16", "cuda"), step_function)
        for batch in device_batches(6):
            run.step(batch)
            if run.steps < 3:  # not yet recorded: a copy made then would be a part of the graph
                continue
            with tempra.no_grad():
                run.objective.model.blocks[0].attention.qkv.weights[0].fill_(0.01)
        bits.append(run.bits())
    assert bits[0] == bits[1]


def test_memory_of_a_graph_is_counted() -> None:
    run = Run(small_model("gpt2", "f32", "cuda"), CapturedStep())
    batches = device_batches(4)
    run.step(batches[0])
    before = cuda.memory_statistics()["bytes_in_use"]
    run.step(batches[1])
    held = cuda.memory_statistics()["bytes_in_use"]
    assert held > before + 100_000, "activations of a step are the graph's"
    cuda.reset_peak_memory()
    run.step(batches[2])
    assert held <= cuda.memory_statistics()["peak_bytes_in_use"] < held + 100_000
    run.step_function = train_step
    assert cuda.memory_statistics()["bytes_in_use"] < held - 100_000


def test_an_index_out_of_range_is_found() -> None:
    run = Run(small_model("gpt2", "f32", "cuda"), CapturedStep())
    batches = device_batches(3)
    for batch in batches[:2]:
        run.step(batch)
    batches[2].tokens[3] = 1000
    result = run.step(batches[2])
    with pytest.raises(tempra.ShapeError, match="an index is outside the table's rows"):
        result.loss()


class _Curious(DeferredAutoregressiveObjective):
    """Reads a number from the device in its loss."""

    def loss(self, batch: Any) -> Loss:
        loss = super().loss(batch)
        loss.total.item()
        return loss


class _PerSequence(DeferredAutoregressiveObjective):
    """Averages over sequences instead of labels."""

    def loss(self, batch: Any) -> Loss:
        return Loss(super().loss(batch).total, 4)


class _Phased:
    def __init__(self, model: Any) -> None:
        self.model = model

    def step(self, batch: Batch, update: Any) -> Loss:
        raise AssertionError("not to be run")


def test_what_cannot_be_captured_is_named() -> None:
    run = Run(small_model("gpt2", "f32", "cuda"), CapturedStep())
    batches = device_batches(4)
    plain = run.objective
    run.objective = _Curious(plain.model)
    run.step(batches[0])
    with pytest.raises(
        tempra.ConfigError, match=r"the step of _Curious cannot be captured: .*wait"
    ):
        run.step(batches[1])
    # The device goes on.
    run.objective = plain
    assert np.isfinite(run.step(batches[2]).loss())
    run.objective = _PerSequence(plain.model)
    run.step(batches[0])
    with pytest.raises(tempra.ConfigError, match="_PerSequence averages over something else than"):
        run.step(batches[1])
    run.objective = plain
    assert np.isfinite(run.step(batches[2]).loss())
    run.objective = _Phased(plain.model)  # type: ignore[assignment]
    with pytest.raises(tempra.ConfigError, match="_Phased makes its step of phases"):
        run.step(batches[3])
    on_cpu = Run(small_model("gpt2", "f32", "cpu"), CapturedStep())
    with pytest.raises(tempra.ConfigError, match="the model is on the CPU"):
        on_cpu.step(packed_batches(1)[0])


def test_graphs_by_hand() -> None:
    """What a recording holds is the arguments and memory of its time; what it refuses is said."""
    x = _core.zeros([3], device="cuda")
    one = _core.ones([3], device="cuda")
    with cuda.capture() as graph:
        x.copy_(x + one)
    assert x.tolist() == [0, 0, 0]
    graph.launch()
    one.fill_(10)
    graph.launch()
    assert x.tolist() == [11, 11, 11]
    with pytest.raises(tempra.DeviceError, match="being captured"), cuda.capture():
        x.tolist()
    with pytest.raises(tempra.DeviceError, match="being captured"), cuda.capture():
        _core.from_numpy(np.ones(3, np.float32)).to("cuda")
    unfinished = cuda.CudaGraph("cuda")
    with pytest.raises(tempra.TempraError, match="before its recording ended"):
        unfinished.launch()
    unfinished.discard()
    assert x.tolist() == [11, 11, 11]


def test_the_step_of_random_numbers_is_read_on_the_device() -> None:
    generator = tempra.default_generator()
    x = _core.ones([4, 64], device="cuda")
    step = _core.from_numpy(np.array([5], np.int32)).to("cuda")
    expected = {}
    for number in (5, 6):
        generator.set_step(number)
        expected[number] = _core.dropout(x, 0.5).tolist()
    assert expected[5] != expected[6]
    generator.set_step(0)
    generator.read_step_from(step)
    try:
        assert _core.dropout(x, 0.5).tolist() == expected[5]
        step.fill_(6)
        generator.set_step(0)
        assert _core.dropout(x, 0.5).tolist() == expected[6]
        generator.set_step(5)
        assert _core.dropout(x.cpu(), 0.5).tolist() == expected[5], "not the CPU's"
        with pytest.raises(tempra.DeviceError, match="read from cpu; needs a CUDA device"):
            generator.read_step_from(step.cpu())
    finally:
        generator.read_step_from(None)
