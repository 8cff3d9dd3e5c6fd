"""Tensors at the Python border: indexing, views, dtypes, NumPy and DLPack, messages."""

import gc

import numpy as np
import pytest

import tempra
from tempra import DtypeError, ShapeError, TempraError, ops

ARRAY = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)

INDICES = [
    0,
    -1,
    (1, 2),
    (1, 2, 3),
    (slice(None), 1),
    (..., 2),
    (0, ..., 1),
    (slice(None), slice(1, 3), slice(0, 4, 2)),
    (slice(5, 9),),
    (slice(None, None, 3), None, 1),
    (None, ..., None),
    (slice(-2, None), slice(None, -1)),
    (slice(1, 1),),
    ...,
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indexing_equals_numpy_and_shares_memory(index: object) -> None:
    array = ARRAY.copy()
    view = tempra.from_numpy(array)[index]
    expected = array[index]
    np.testing.assert_array_equal(view.numpy(), expected)
    assert view.shape == expected.shape
    view.fill_(-7)
    expected_array = ARRAY.copy()
    expected_array[index] = -7
    np.testing.assert_array_equal(array, expected_array)


def test_indexing_with_a_tensor_picks_rows() -> None:
    index = np.array([[2, 0], [1, 1]])
    picked = tempra.from_numpy(ARRAY)[:, tempra.tensor(index)]
    np.testing.assert_array_equal(picked.numpy(), ARRAY[:, index])


@pytest.mark.parametrize("index", [1.5, True, [0, 1], "a", (0, None, {})])
def test_what_is_no_index(index: object) -> None:
    with pytest.raises(TypeError, match=r"index: \w+ given; needs integers, slices"):
        tempra.zeros((2, 3))[index]


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (2, "2"),
        (-3, "-3"),
        ((0, 0, 0, 0), "4 indices"),
        ((0, 5), "5"),
        (1 << 70, "cannot fit"),
        ((..., ..., 0), "2 ellipses"),
    ],
    ids=str,
)
def test_indexing_out_of_range(index: object, words: str) -> None:
    with pytest.raises((ShapeError, IndexError), match=words):
        tempra.from_numpy(ARRAY)[index]


def test_iteration_ends() -> None:
    rows = [row.numpy() for row in tempra.from_numpy(ARRAY)]
    assert len(rows) == 2
    np.testing.assert_array_equal(rows[1], ARRAY[1])


VIEWS = {
    "reshape": (lambda t: t.reshape(6, -1), lambda a: a.reshape(6, -1)),
    "view": (lambda t: t.view((4, 6)), lambda a: a.reshape(4, 6)),
    "transpose": (lambda t: t.transpose(0, -1), lambda a: a.swapaxes(0, -1)),
    "permute": (lambda t: t.permute(2, 0, 1), lambda a: a.transpose(2, 0, 1)),
    "narrow": (lambda t: t.narrow(1, 1, 2), lambda a: a[:, 1:3]),
    "unsqueeze": (lambda t: t.unsqueeze(1), lambda a: a[:, None]),
    "squeeze": (lambda t: t[:1].squeeze(0), lambda a: a[0]),
    "detach": (lambda t: t.detach(), lambda a: a),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_share_memory(name: str) -> None:
    array = ARRAY.copy()
    ours, theirs = VIEWS[name]
    view, expected = ours(tempra.from_numpy(array)), theirs(array)
    np.testing.assert_array_equal(view.numpy(), expected)
    assert np.shares_memory(view.numpy(), array)
    version = view.version
    tempra.from_numpy(array)  # another tensor over the same bytes has a version of its own
    view.fill_(1)
    assert view.version == version + 1
    assert expected.min() == expected.max() == 1


def test_expand_repeats_without_a_copy() -> None:
    row = tempra.arange(3, dtype="f32")
    wide = row.expand(4, 3)
    assert wide.strides == (0, 1)
    np.testing.assert_array_equal(wide.numpy(), np.tile(np.arange(3), (4, 1)))


def test_clone_and_contiguous_copy() -> None:
    t = tempra.from_numpy(ARRAY.copy())
    assert t.contiguous().data_pointer == t.data_pointer
    assert t.clone().data_pointer != t.data_pointer
    turned = t.transpose(0, 2)
    assert not turned.is_contiguous
    assert turned.contiguous().is_contiguous
    np.testing.assert_array_equal(turned.contiguous().numpy(), ARRAY.swapaxes(0, 2))


def test_a_view_that_needs_a_copy_is_refused() -> None:
    with pytest.raises(ShapeError, match="reshape"):
        tempra.from_numpy(ARRAY).transpose(0, 2).view(24)


@pytest.mark.parametrize("dtype", ["f32", "f16", "f64", "i64", "i32", "u32", "u16", "u8", "bool"])
def test_numpy_both_ways_without_a_copy(dtype: str) -> None:
    t = tempra.ones((2, 3), dtype)
    array = t.numpy()
    assert array.dtype.itemsize == t.dtype.itemsize
    assert array.ctypes.data == t.data_pointer
    assert tempra.from_numpy(array).data_pointer == t.data_pointer
    assert tempra.from_numpy(array).dtype == t.dtype


def test_numbers_that_are_not_aligned_are_refused() -> None:
    unaligned = np.frombuffer(bytearray(range(9)), dtype=np.uint8)[1:].view(np.float32)
    with pytest.raises(tempra.ShapeError, match="multiples of their size in memory; pass a copy"):
        tempra.from_numpy(unaligned)
    with pytest.raises(tempra.ShapeError, match="multiples of their size in memory; pass a copy"):
        tempra.from_dlpack(unaligned)
    assert tempra.tensor(unaligned).numpy().tobytes() == bytes(range(1, 9))
    assert tempra.from_numpy(unaligned[:0]).numel() == 0


def test_numpy_keeps_the_tensor_alive() -> None:
    array = tempra.full((1000,), 3.0).numpy()
    gc.collect()
    tempra.full((1000,), 5.0)
    assert (array == 3).all()


def test_a_tensor_keeps_the_array_alive() -> None:
    t = tempra.from_numpy(np.full(1000, 3.0))
    gc.collect()
    assert (t.numpy() == 3).all()


def test_bf16_has_no_numpy_dtype() -> None:
    t = tempra.full(3, 1.0009765625, "bf16")
    try:
        import ml_dtypes
    except ImportError:
        with pytest.raises(TypeError, match="float32"):
            t.numpy()
    else:
        assert t.numpy().dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(t.to("f32").numpy(), [1, 1, 1])


def test_strided_and_read_only_arrays() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    np.testing.assert_array_equal(tempra.from_numpy(array).numpy(), array)
    array.flags.writeable = False
    with pytest.raises(TempraError, match="read-only"):
        tempra.from_numpy(array).zero_()
    with pytest.raises(ShapeError, match="ascontiguousarray"):
        tempra.from_numpy(np.arange(4.0)[::-1])
    with pytest.raises(DtypeError, match="complex128"):
        tempra.from_numpy(np.zeros(2, complex))
    with pytest.raises(TypeError, match="list"):
        tempra.from_numpy([1.0])


@pytest.mark.parametrize("dtype", ["f32", "f64", "i64", "u8"])
def test_dlpack_with_numpy(dtype: str) -> None:
    t = tempra.arange(6).to(dtype).reshape(2, 3)
    array = np.from_dlpack(t)
    np.testing.assert_array_equal(array, np.arange(6).reshape(2, 3))
    assert array.ctypes.data == t.data_pointer
    back = tempra.from_dlpack(array[:, 1:].copy())
    np.testing.assert_array_equal(back.numpy(), array[:, 1:])


def read_only_tensor() -> tempra.Tensor:
    array = np.arange(6.0)
    array.flags.writeable = False
    return tempra.from_numpy(array)


def capsule_name(capsule: object) -> str:
    return repr(capsule).split('"')[1]


class Producer:
    """Hands a tensor out as a library of another version of DLPack would."""

    def __init__(self, tensor: tempra.Tensor, **asked: object) -> None:
        self.tensor, self.asked = tensor, asked

    def __dlpack__(self) -> object:
        return self.tensor.__dlpack__(**self.asked)


def test_dlpack_keeps_what_is_read_only() -> None:
    t = read_only_tensor()
    versioned = t.__dlpack__(max_version=(1, 0))
    assert capsule_name(versioned) == "dltensor_versioned"
    back = tempra.from_dlpack(versioned)
    assert back.data_pointer == t.data_pointer
    with pytest.raises(TempraError, match="read-only"):
        back.fill_(0)
    shared = np.from_dlpack(t)
    assert not shared.flags.writeable
    assert shared.ctypes.data == t.data_pointer
    assert not tempra.from_dlpack(shared).numpy().flags.writeable
    assert np.from_dlpack(tempra.arange(3)).flags.writeable


@pytest.mark.parametrize("version", [None, (0, 8)])
def test_dlpack_without_a_version_refuses_what_is_read_only(version: object) -> None:
    with pytest.raises(BufferError, match=r"__dlpack__: the tensor is read-only.*max_version"):
        read_only_tensor().__dlpack__(max_version=version)
    assert capsule_name(tempra.arange(3).__dlpack__(max_version=version)) == "dltensor"
    back = tempra.from_dlpack(Producer(tempra.arange(3), max_version=version))
    assert back.fill_(1).tolist() == [1] * 3


def test_dlpack_copies_on_request() -> None:
    t = read_only_tensor()
    copy = tempra.from_dlpack(Producer(t, copy=True))
    assert copy.data_pointer != t.data_pointer
    assert copy.fill_(1).tolist() == [1.0] * 6
    assert t.tolist() == list(range(6))
    assert np.from_dlpack(t, copy=True).flags.writeable


def test_dlpack_refuses_another_device() -> None:
    with pytest.raises(BufferError, match=r"on cpu, DLPack device \(2, 0\) is asked for"):
        tempra.arange(3).__dlpack__(dl_device=(2, 0))
    assert tempra.arange(3).__dlpack__(dl_device=(1, 0)) is not None


def test_a_capsule_that_nobody_takes_frees_its_memory() -> None:
    gc.collect()
    before = tempra.memory_statistics()
    for version in (None, (1, 0)):
        for _ in range(4):
            tempra.zeros((1 << 16,)).__dlpack__(max_version=version)
    assert tempra.memory_statistics()["bytes_in_use"] == before["bytes_in_use"]


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["f32", "bf16", "f64", "i64", "bool"])
def test_dlpack_with_torch(dtype: str) -> None:
    import torch

    t = tempra.arange(6, dtype="f32").reshape(2, 3).to(dtype)
    theirs = torch.from_dlpack(t)
    assert theirs.data_ptr() == t.data_pointer
    np.testing.assert_array_equal(theirs.float().numpy(), t.to("f32").numpy())
    turned = theirs.t()
    back = tempra.from_dlpack(turned)
    assert back.data_pointer == t.data_pointer
    assert back.strides == (1, 3)
    del theirs, turned
    gc.collect()
    np.testing.assert_array_equal(back.to("f32").numpy(), t.to("f32").numpy().T)


def test_tensor_copies_and_chooses_the_dtype() -> None:
    assert tempra.tensor([1.5, 2]).dtype == tempra.float32
    assert tempra.tensor([1, 2]).dtype == tempra.int64
    assert tempra.tensor([True]).dtype == tempra.bool_
    assert tempra.tensor(3.0).shape == ()
    assert tempra.tensor([[1, 2]], "bf16").dtype == tempra.bfloat16
    array = np.arange(3.0)
    copy = tempra.tensor(array)
    assert copy.dtype == tempra.float64
    array[0] = 9
    assert copy[0].item() == 0
    assert tempra.tensor(copy, "f32").dtype == tempra.float32
    with pytest.raises((DtypeError, ValueError)):
        tempra.tensor([[1], [1, 2]])


@pytest.mark.parametrize("source", ["f32", "bf16", "f16", "f64", "i64", "i32", "u8", "bool"])
@pytest.mark.parametrize("target", ["f32", "bf16", "f16", "f64", "i64", "i32", "u8", "bool"])
def test_casts(source: str, target: str) -> None:
    t = tempra.tensor([0, 1, 3, 100]).to(source).to(target)
    assert t.dtype.name.replace("boolean", "bool") == target
    expected = [0, 1, 1, 1] if "bool" in (source, target) else [0, 1, 3, 100]
    assert t.to("f64").tolist() == expected


def test_casts_round_to_nearest_even() -> None:
    halves = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20], np.float32)
    rounded = tempra.tensor(halves).to("bf16").to("f32")
    np.testing.assert_array_equal(rounded.numpy(), [1, 1 + 2**-6, 1 + 2**-7])
    assert tempra.tensor([1e30], "f32").to("f16").item() == float("inf")
    assert np.isnan(tempra.tensor([float("nan")]).to("bf16").item())


OPERATORS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "power": lambda a, b: a**b,
    "less": lambda a, b: a < b,
    "equal": lambda a, b: a == b,
    "greater_equal": lambda a, b: a >= b,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_with_tensors_and_numbers(name: str) -> None:
    operator = OPERATORS[name]
    a, b = np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.0, 0.5])
    ta, tb = tempra.tensor(a), tempra.tensor(b)
    np.testing.assert_allclose(operator(ta, tb).numpy(), operator(a, b), rtol=1e-15)
    np.testing.assert_allclose(operator(ta, 2.0).numpy(), operator(a, 2.0), rtol=1e-15)
    np.testing.assert_allclose(operator(2.0, ta).numpy(), operator(2.0, a), rtol=1e-15)
    np.testing.assert_allclose(operator(ta, 2).numpy(), operator(a, 2), rtol=1e-15)


@pytest.mark.parametrize("other", ["a", None, [1.0], np.ones(3)])
def test_operands_that_are_no_numbers(other: object) -> None:
    x = tempra.zeros(3)
    for operation in (
        lambda: x + other,
        lambda: x < other,
        lambda: ops.add(x, other),
        lambda: ops.where(x > 0, x, other),
    ):
        with pytest.raises(TypeError, match="None" if other is None else type(other).__name__):
            operation()


def test_equality_with_what_is_no_number_is_false() -> None:
    x = tempra.zeros(3)
    assert (x == None) is False  # noqa: E711
    assert (x != "a") is True
    assert x not in ("a", None)


def test_an_operation_on_two_numbers() -> None:
    with pytest.raises(TypeError, match="two numbers given; needs at least one Tensor"):
        ops.add(1, 2.0)


def test_numbers_do_not_widen() -> None:
    assert (tempra.ones(2, "bf16") * 0.5).dtype == tempra.bfloat16
    assert (tempra.ones(2, "i32") + 1).dtype == tempra.int32
    assert (tempra.ones(2, "i32") + 0.5).dtype == tempra.float32
    assert (tempra.ones(2, "bf16") + tempra.ones(2)).dtype == tempra.float32


def test_matmul_operator_and_t() -> None:
    a = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal((tempra.tensor(a) @ tempra.tensor(a).T).numpy(), a @ a.T)


def test_item_and_conversions() -> None:
    assert tempra.tensor([[2.5]]).item() == 2.5
    assert tempra.tensor(2**53 + 1).item() == 2**53 + 1
    assert tempra.tensor(True).item() is True
    assert float(tempra.tensor(1.5)) == 1.5
    assert int(tempra.tensor(3)) == 3
    assert int(tempra.tensor(2**60 + 1)) == 2**60 + 1
    assert int(tempra.tensor(-2.7)) == -2
    assert bool(tempra.tensor(0.0)) is False
    assert tempra.tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ShapeError, match=r"\[2\]"):
        tempra.zeros(2).item()
    with pytest.raises(ShapeError, match="0-d"):
        len(tempra.zeros(()))


def test_attributes() -> None:
    t = tempra.zeros((2, 3), "bf16")
    assert (t.ndim, t.numel(), t.nbytes, t.device, len(t)) == (2, 6, 12, "cpu", 2)
    assert t.size(-1) == 3
    assert t.strides == (3, 1)
    assert t.is_leaf
    assert not t.requires_grad


def test_repr_names_shape_and_dtype() -> None:
    assert repr(tempra.tensor([[1.0, 2.5]])) == "tensor([[1, 2.5]], shape=[1, 2], dtype=f32)"
    assert "requires_grad" in repr(tempra.zeros(2).requires_grad_(True))
    big = repr(tempra.zeros((100, 1000)))
    assert len(big) < 2000
    assert "[100, 1000]" in big


def test_copy_broadcasts_and_converts() -> None:
    t = tempra.zeros((2, 3))
    t.copy_(tempra.tensor([1, 2, 3]))
    np.testing.assert_array_equal(t.numpy(), [[1, 2, 3]] * 2)
    with pytest.raises(ShapeError):
        t.copy_(tempra.zeros(4))


def test_shapes_are_checked_before_memory_is_asked_for() -> None:
    with pytest.raises(ShapeError):
        tempra.empty((2**40, 2**40))
    with pytest.raises(ShapeError, match="8"):
        tempra.zeros((1,) * 9)
    with pytest.raises((ShapeError, ValueError)):
        tempra.zeros((-1, 2))


def test_a_dtype_can_be_named() -> None:
    assert tempra.zeros(2, "float32").dtype == tempra.float32
    assert tempra.zeros(2, "bf16").dtype == tempra.bfloat16
    assert tempra.tensor([1, 2], dtype="int64").dtype == tempra.int64
    for name in ("float99", "", "F32"):
        with pytest.raises(tempra.DtypeError, match=f"'{name}' is not a dtype; choose float32"):
            tempra.zeros(2, name)
        with pytest.raises(tempra.DtypeError, match=f"'{name}' is not a dtype"):
            tempra.DType(name)
    assert tempra.float32 != "float99"
