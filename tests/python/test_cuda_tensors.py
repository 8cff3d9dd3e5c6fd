"""Tensors on a CUDA device: making, moving, reading, sharing and counting."""

from __future__ import annotations

import sys
import threading
import time
from functools import partial
from typing import Any

import numpy as np
import pytest

import tempra
from tempra import Tensor, _core, cuda, ops
from tempra.nn import Linear, Module
from tempra.optim import clip_grad_norm_

pytestmark = pytest.mark.any_cuda

DTYPES = ("f32", "bf16", "f16", "f64", "i64", "i32", "u32", "u16", "u8", "bool")


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_survive_the_way_there_and_back(dtype: str) -> None:
    x = tempra.tensor(np.arange(12).reshape(3, 4) % 5, dtype)
    there = x.to("cuda:0")
    assert (there.device, there.dtype, there.shape) == ("cuda:0", x.dtype, x.shape)
    assert there.cpu().tolist() == x.tolist()
    assert there.tolist() == x.tolist()
    assert there.transpose(0, 1).cpu().tolist() == x.transpose(0, 1).tolist()
    assert there.narrow(1, 1, 2).to("cpu").tolist() == x.narrow(1, 1, 2).tolist()
    assert there[2, 1].item() == x[2, 1].item()
    assert there.to("cuda") is not None
    assert there.cuda().data_pointer == there.data_pointer, "already there, and copied"


def test_more_than_a_page_locked_buffer_holds() -> None:
    x = np.random.default_rng(0).random((1500, 1001)).astype(np.float32)  # 6 MB
    np.testing.assert_array_equal(tempra.from_numpy(x).to("cuda").cpu().numpy(), x)


def test_buffers_are_used_again() -> None:
    """More copies than there are buffers, each from memory that changes right after."""
    source = np.zeros(1000, np.float32)
    copies = []
    for i in range(100):
        source[:] = i
        copies.append(tempra.from_numpy(source).to("cuda"))
    assert [copy[999].item() for copy in copies] == list(range(100))


def test_creation_takes_a_device() -> None:
    made = {
        "zeros": tempra.zeros((2, 3), device="cuda"),
        "ones": tempra.ones((2, 3), device="cuda"),
        "full": tempra.full((2, 3), 2.5, device="cuda"),
        "arange": tempra.arange(6, device="cuda"),
        "tensor": tempra.tensor([[1, 2], [3, 4]], device="cuda"),
        "empty": tempra.empty((2, 0), device="cuda"),
        "zeros_like": ops.zeros_like(tempra.ones((2,), device="cuda")),
    }
    assert {x.device for x in made.values()} == {"cuda:0"}
    assert made["zeros"].tolist() == [[0.0] * 3] * 2
    assert made["ones"].tolist() == [[1.0] * 3] * 2
    assert made["full"].tolist() == [[2.5] * 3] * 2
    assert made["arange"].tolist() == list(range(6))
    assert made["tensor"].tolist() == [[1, 2], [3, 4]]
    assert made["empty"].tolist() == [[], []]
    assert made["zeros_like"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("draw", [tempra.uniform, tempra.normal])
def test_random_numbers_are_the_cpus(draw: Any) -> None:
    drawn = []
    for device in ("cpu", "cuda"):
        tempra.manual_seed(11)
        drawn.append(draw((5, 7), device=device).cpu().numpy())
    np.testing.assert_allclose(drawn[0], drawn[1], rtol=1e-6, atol=1e-7)


def test_printing() -> None:
    x = tempra.tensor([[1.0, 2.0], [3.0, 4.0]], device="cuda")
    assert repr(x) == ("tensor([[1, 2],\n        [3, 4]], shape=[2, 2], dtype=f32, device=cuda:0)")
    assert "..." in repr(tempra.zeros((100, 100), device="cuda"))
    assert f"{x.sum().item():.1f}" == "10.0"
    assert int(tempra.tensor(7, device="cuda").item()) == 7
    assert bool(tempra.tensor(1, device="cuda"))


def test_writing_in_place_counts_and_crosses_devices() -> None:
    x = tempra.zeros((2, 3), device="cuda")
    version = x.version
    x.copy_(tempra.tensor([1.0, 2.0, 3.0]))
    assert x.tolist() == [[1.0, 2.0, 3.0]] * 2
    assert x.version == version + 1
    here = tempra.zeros((3,), "bf16")
    here.copy_(x[0])
    assert here.tolist() == [1.0, 2.0, 3.0]
    assert x.fill_(4.0).tolist() == [[4.0] * 3] * 2


def test_a_saved_tensor_notices_a_write() -> None:
    x = tempra.tensor([1.0, 2.0], device="cuda")
    x.requires_grad = True
    kept = x * 2.0
    y = (kept * kept).sum()
    with tempra.no_grad():
        kept.fill_(0.0)
    with pytest.raises(tempra.TempraError, match="written in place after it was used"):
        y.backward()


def test_gradients_cross_devices() -> None:
    x = tempra.tensor([1.0, 2.0])
    x.requires_grad = True
    (x.to("cuda") * 3.0).sum().backward()
    assert (x.grad.device, x.grad.tolist()) == ("cpu", [3.0, 3.0])
    moved = tempra.tensor([1.0, 2.0], device="cuda")
    moved.requires_grad = True
    (moved.cpu() * 2.0).sum().backward()
    assert (moved.grad.device, moved.grad.tolist()) == ("cuda:0", [2.0, 2.0])


def test_second_derivatives_on_the_device() -> None:
    x = tempra.tensor([0.5, -1.0], device="cuda")
    x.requires_grad = True
    (first,) = tempra.grad([(ops.tanh(x) * x).sum()], [x], create_graph=True)
    (second,) = tempra.grad([(first * first).sum()], [x])
    here = tempra.tensor([0.5, -1.0])
    here.requires_grad = True
    (first,) = tempra.grad([(ops.tanh(here) * here).sum()], [here], create_graph=True)
    (expected,) = tempra.grad([(first * first).sum()], [here])
    np.testing.assert_allclose(second.tolist(), expected.tolist(), rtol=1e-5)


def test_a_module_moves_with_its_handles_and_gradients() -> None:
    layer = Linear(3, 2, bias=True)
    handle = layer.weight
    layer(tempra.ones((1, 3))).sum().backward()
    assert layer.to("cuda") is layer
    assert {p.device for p in layer.parameters()} == {"cuda:0"}
    assert handle.device == "cuda:0"
    assert handle.grad.device == "cuda:0"
    assert handle.requires_grad
    assert layer(tempra.ones((1, 3), device="cuda")).device == "cuda:0"
    layer.to("cpu")
    assert handle.grad.numpy().tolist() == [[1.0] * 3] * 2


class Pair(Module):
    """Two layers, which move in this order."""

    def __init__(self) -> None:
        self.first = Linear(3, 2)
        self.second = Linear(2, 2)


def in_an_arena(pair: Pair) -> Any:
    return _core.ParameterArena(pair.second.named_parameters())


def computed(pair: Pair) -> None:
    pair.second.table = pair.second.weight * 2.0


def too_large(pair: Pair) -> None:
    pair.second.table = tempra.zeros((1, 1)).expand((1 << 20, 1 << 20))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (in_an_arena, "optimizer's arena on cpu"),
        (computed, "was computed"),
        (too_large, "out of memory"),
    ],
)
def test_a_module_that_cannot_move_stays_whole(spoil: Any, said: str) -> None:
    pair = Pair()
    (pair.second(pair.first(tempra.ones((1, 3))))).sum().backward()
    held = spoil(pair)
    version = pair.first.weight.version
    with pytest.raises(tempra.TempraError, match=said):
        pair.to("cuda")
    assert {p.device for p in pair.parameters()} == {"cpu"}
    assert {p.grad.device for p in pair.parameters()} == {"cpu"}
    assert pair.first.weight.version == version
    del held


def test_a_shared_parameter_moves_once() -> None:
    pair = Pair()
    pair.second.weight = pair.first.weight
    pair.to("cuda")
    assert pair.second.weight.data_pointer == pair.first.weight.data_pointer
    before = cuda.traffic()["copies_to_device"]
    pair.to("cpu").to("cuda")
    assert cuda.traffic()["copies_to_device"] - before == len(pair.parameters())


def test_clipping_reads_the_norm_from_the_device() -> None:
    x = tempra.tensor([3.0, 4.0], device="cuda")
    x.requires_grad = True
    (x * tempra.tensor([3.0, 4.0], device="cuda")).sum().backward()
    assert clip_grad_norm_([x], 1.0) == pytest.approx(5.0)
    np.testing.assert_allclose(x.grad.tolist(), [0.6, 0.8], rtol=1e-5)


# --- the border ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read", ["item", "__float__", "__bool__", "__int__", "tolist", "cpu", "to"]
)
def test_reading_lets_other_threads_run(read: str) -> None:
    """With so long a switch interval, another thread runs only while this one gives the GIL up."""
    x = tempra.ones((1,), device="cuda")
    call = partial(getattr(x, read), *(["cpu"] if read == "to" else []))
    runs, done = 0, False

    def count() -> None:
        nonlocal runs
        while not done:
            runs += 1
            time.sleep(0)

    other = threading.Thread(target=count)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        other.start()
        time.sleep(0.01)
        before, until = runs, time.monotonic() + 5
        while runs == before and time.monotonic() < until:
            call()
        assert runs > before
    finally:
        done = True
        sys.setswitchinterval(interval)
        other.join()


def test_numpy_cannot_share_the_memory() -> None:
    x = tempra.zeros((2,), device="cuda")
    for read in (x.numpy, lambda: np.asarray(x)):
        with pytest.raises(tempra.DeviceError, match=r"is on cuda:0.*copy it with \.cpu\(\)"):
            read()


def test_dlpack_shares_the_memory() -> None:
    x = tempra.arange(6, device="cuda").reshape(2, 3)
    assert x.__dlpack_device__() == (2, 0)
    shared = tempra.from_dlpack(x)
    assert (shared.device, shared.dtype, shared.tolist()) == ("cuda:0", x.dtype, x.tolist())
    assert shared.data_pointer == x.data_pointer
    x.fill_(9)
    assert shared[1, 2].item() == 9
    del x
    assert shared.tolist() == [[9] * 3] * 2
    assert tempra.zeros((1,)).__dlpack_device__() == (1, 0)


class Producer:
    """Another library's tensor: it is told the stream that its reader works on."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.streams = tensor, []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.tensor.__dlpack_device__()

    def __dlpack__(self, stream: Any = None) -> Any:
        self.streams.append(stream)
        return self.tensor.__dlpack__(stream=-1)


def test_dlpack_orders_streams() -> None:
    x = tempra.ones((3,), device="cuda")
    producer = Producer(x)
    assert tempra.from_dlpack(producer).tolist() == [1.0] * 3
    (stream,) = producer.streams
    assert stream > 2, "our stream, not a default one"
    host = Producer(tempra.ones((3,)))
    tempra.from_dlpack(host)
    assert host.streams == [None]
    for good in (None, 1, 2, -1, stream):
        capsule = x.__dlpack__(stream=good)
        del capsule
    for bad in (0, -2):
        with pytest.raises(tempra.DeviceError, match=f"stream {bad} given"):
            x.__dlpack__(stream=bad)


@pytest.mark.cuda
@pytest.mark.torch
def test_dlpack_with_pytorch_on_the_device() -> None:
    """Both ways without a copy; each library's later work comes after the other's earlier one."""
    import torch

    ours = tempra.arange(1 << 20, dtype="f32", device="cuda") * 2.0
    theirs = torch.from_dlpack(ours)
    assert theirs.data_ptr() == ours.data_pointer
    assert float((theirs[-1] - theirs[0]).item()) == 2.0 * ((1 << 20) - 1)
    made = torch.full((1 << 20,), 3.0, device="cuda").mul_(2.0)
    back = tempra.from_dlpack(made)
    assert back.data_pointer == made.data_ptr()
    assert back.sum().item() == 6.0 * (1 << 20)
    del made
    torch.empty((1 << 20,), device="cuda").fill_(-1.0)
    assert back[5].item() == 6.0


# --- memory and traffic --------------------------------------------------------------------------


def test_memory_is_counted() -> None:
    before = cuda.memory_statistics()["bytes_in_use"]
    x = tempra.zeros((1 << 20,), device="cuda")
    held = cuda.memory_statistics("cuda:0")
    assert held["bytes_in_use"] - before >= 4 << 20
    assert held["peak_bytes_in_use"] >= held["bytes_in_use"]
    del x
    assert cuda.memory_statistics()["bytes_in_use"] == before
    assert cuda.memory_statistics()["peak_bytes_in_use"] - before >= 4 << 20
    cuda.reset_peak_memory()
    assert cuda.memory_statistics()["peak_bytes_in_use"] == before
    cuda.release_free_memory()
    assert cuda.memory_statistics()["bytes_reserved"] < held["bytes_reserved"]


def test_waiting_is_counted() -> None:
    x = tempra.ones((4,), device="cuda")
    before = cuda.traffic()
    y = (x * 2.0).sum()
    assert cuda.traffic() == before
    y.item()
    after = cuda.traffic()
    assert after["waits"] == before["waits"] + 1
    assert after["copies_to_host"] == before["copies_to_host"] + 1
    assert after["bytes_to_host"] == before["bytes_to_host"] + 4
    cuda.synchronize()
    assert cuda.traffic()["waits"] == after["waits"] + 1
