"""What is refused on a CUDA device, in one line each, and what is found out there."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import tempra
from tempra import _core, cuda, ops

pytestmark = pytest.mark.any_cuda


def mixed(name: str) -> Any:
    here, there = tempra.ones((2, 2)), tempra.ones((2, 2), device="cuda")
    labels = tempra.zeros((2,), "i64")
    heads = there.reshape(2, 1, 2)
    offsets = tempra.tensor([0, 2], "i32")
    calls = {
        "add": lambda: there + here,
        "matmul": lambda: here @ there,
        "where": lambda: ops.where(here > 0, there, there),
        "concatenate": lambda: ops.concatenate([there, here]),
        "gather": lambda: ops.gather(there, 0, labels.reshape(1, 2)),
        "embedding": lambda: ops.embedding(there, labels),
        "linear": lambda: ops.linear(there, here),
        "layer_norm": lambda: ops.layer_norm(there, here[0]),
        "attention": lambda: ops.attention(heads, heads, heads, offsets_q=offsets, longest_q=2),
        "linear_cross_entropy": lambda: ops.linear_cross_entropy(there, there, labels),
        "backward": lambda: (there.clone().requires_grad_() * 2.0).backward(here),
        "grad": lambda: setattr(there.clone(), "grad", here),
        "arena": lambda: _core.ParameterArena([("a", here), ("b", there)]),
    }
    return calls[name]


@pytest.mark.parametrize(
    "name",
    [
        *("add", "matmul", "where", "concatenate", "gather", "embedding", "linear", "layer_norm"),
        *("attention", "linear_cross_entropy", "arena", "backward", "grad"),
    ],
)
def test_tensors_of_two_devices(name: str) -> None:
    with pytest.raises(tempra.DeviceError) as caught:
        mixed(name)()
    said = str(caught.value)
    assert said.startswith(f"{name}: tensors on "), said
    assert "cpu" in said
    assert "cuda:0" in said
    assert "\n" not in said


def test_offsets_on_the_device_need_the_longest() -> None:
    heads = tempra.ones((4, 1, 8), device="cuda")
    offsets = tempra.tensor([0, 1, 4], "i32", device="cuda")
    for longest in (0, 5):
        with pytest.raises(tempra.ShapeError, match=f"a longest sequence of {longest}; needs 1 to"):
            ops.attention(heads, heads, heads, offsets_q=offsets, longest_q=longest)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tempra.zeros((2,), device="cuda:7"),
        lambda: tempra.zeros((2,)).to("cuda:7"),
        lambda: tempra.zeros((2,)).cuda(7),
        lambda: cuda.memory_statistics("cuda:7"),
        lambda: tempra.Context(device="cuda:7").apply(),
    ],
)
def test_a_device_that_does_not_exist(make: Any) -> None:
    with pytest.raises(tempra.DeviceError, match="device 7 does not exist; this machine has "):
        make()


@pytest.mark.parametrize("name", ["cuda:x", "cudaa"])
def test_a_word_that_is_no_device(name: str) -> None:
    with pytest.raises(tempra.DeviceError, match=f"device {name}: not a device"):
        tempra.zeros((2,)).to(name)


def test_too_much_memory_is_one_line() -> None:
    with pytest.raises(tempra.TempraError) as caught:
        tempra.empty((1 << 40,), device="cuda")
    assert "\n" not in str(caught.value)
    for word in ("out of device memory: 4194328.0 MiB asked for", "smaller batch"):
        assert word in str(caught.value)


@pytest.mark.parametrize("label", [-2, 4])
def test_a_label_out_of_range_is_found_on_the_device(label: int) -> None:
    logits = tempra.ones((2, 4), device="cuda")
    labels = tempra.tensor([1, label], "i64", device="cuda")
    for loss in (
        lambda: ops.cross_entropy(logits, labels),
        lambda: ops.linear_cross_entropy(logits, tempra.ones((4, 4), device="cuda"), labels),
    ):
        result = loss()
        with pytest.raises(tempra.ShapeError, match=r"\(found on the device\)"):
            result.item()
    ignored = tempra.tensor([1, -100], "i64", device="cuda")
    assert ops.cross_entropy(logits, ignored).item() == pytest.approx(np.log(4))


def test_a_forked_process_is_refused_and_ends_well() -> None:
    """Its handles of the parent's tensors may be dropped; the parent goes on."""
    x = tempra.ones((2,), device="cuda")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            x + x
            said = "computed"
        except tempra.DeviceError as error:
            said = str(error)
        del x
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 1000).decode()
    os.close(reader)
    assert os.waitpid(child, 0)[1] == 0
    assert said.startswith("CUDA cannot be used in a forked process"), said
    assert (x + x).tolist() == [2.0, 2.0]
