"""The tape: what is recorded, what is freed, what is refused."""

import numpy as np
import pytest

import tempra
from tempra import TempraError, Tensor, ops


def leaf(*shape: int, seed: int = 0) -> Tensor:
    values = np.random.default_rng(seed).standard_normal(shape)
    return tempra.tensor(values, "f32").requires_grad_(True)


def test_backward_and_grad_agree() -> None:
    x, w = leaf(3, 4), leaf(4, 2, seed=1)
    loss = ops.tanh(x @ w).sum()
    gx, gw = tempra.grad(loss, [x, w], retain_graph=True)
    assert x.grad is None
    assert w.grad is None
    loss.backward()
    np.testing.assert_array_equal(gx.numpy(), x.grad.numpy())
    np.testing.assert_array_equal(gw.numpy(), w.grad.numpy())


def test_backward_adds_to_what_is_there() -> None:
    x = leaf(3)
    (x * 2.0).sum().backward()
    (x * 3.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [5, 5, 5])
    x.grad = None
    assert x.grad is None


def test_the_gradient_a_leaf_keeps_is_its_own() -> None:
    x = leaf(3)
    seed = tempra.ones(3)
    (x * 1.0).backward(seed)
    x.grad.fill_(7)
    np.testing.assert_array_equal(seed.numpy(), [1, 1, 1])


def test_a_leaf_used_often_collects_all_its_gradients() -> None:
    x = leaf(4)
    (x * x + x + x[1:3].sum()).sum().backward()
    expected = 2 * x.detach().numpy() + 1 + np.array([0, 4, 4, 0])
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-6)


def test_one_gradient_for_two_consumers_is_not_shared() -> None:
    """add hands the same tensor to both sides; adding into one must not change the other."""
    x, y = leaf(3), leaf(3, seed=1)
    a, b = x * 1.0, y * 1.0
    total = a + b
    (total + a * 2.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 3, 3])
    np.testing.assert_array_equal(y.grad.numpy(), [1, 1, 1])


def test_walking_a_freed_tape_names_the_operation() -> None:
    x = leaf(3)
    y = ops.exp(x)
    loss = y.sum()
    loss.backward()
    with pytest.raises(TempraError, match=r"freed.*retain_graph=True"):
        loss.backward()


def test_retain_graph_keeps_the_tape() -> None:
    x = leaf(3)
    loss = ops.exp(x).sum()
    loss.backward(retain_graph=True)
    once = x.grad.numpy().copy()
    loss.backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * once)


def test_writing_a_saved_tensor_is_caught() -> None:
    x = leaf(3)
    middle = x * 2.0
    loss = ops.square(middle).sum()
    with tempra.no_grad():
        middle.fill_(1.0)
    with pytest.raises(TempraError, match=r"square.*written in place"):
        loss.backward()


def test_writing_through_a_view_is_caught() -> None:
    x = leaf(4)
    middle = x * 2.0
    loss = ops.square(middle).sum()
    with tempra.no_grad():
        middle[1:2].zero_()
    with pytest.raises(TempraError, match="written in place"):
        loss.backward()


def test_writing_what_was_not_saved_is_allowed() -> None:
    x = leaf(3)
    middle = x * 2.0
    loss = (middle + 1.0).sum()
    with tempra.no_grad():
        middle.fill_(0.0)
    loss.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 2, 2])


def test_in_place_writes_are_refused_while_recording() -> None:
    x = leaf(3)
    with pytest.raises(TempraError, match="no_grad"):
        x.fill_(0.0)


@pytest.mark.parametrize("kind", ["strided", "bf16"])
def test_a_gradient_of_another_layout_is_added_to(kind: str) -> None:
    """Kernels write straight into a leaf's gradient only where it has their layout."""
    w = leaf(6, 4)
    x = leaf(3, 4, seed=2)
    (expected,) = tempra.grad(ops.linear(x, w).sum(), [w])
    w.grad = tempra.ones((4, 6)).transpose(0, 1) if kind == "strided" else tempra.ones((6, 4), kind)
    ops.linear(x, w).sum().backward()
    tolerance = 1e-6 if kind == "strided" else 0.02
    np.testing.assert_allclose(w.grad.to("f32").numpy(), expected.numpy() + 1, atol=tolerance)


def test_no_grad_records_nothing() -> None:
    x = leaf(3)
    with tempra.no_grad():
        assert not tempra.is_grad_enabled()
        y = x * 2.0
        with tempra.enable_grad():
            assert tempra.is_grad_enabled()
            z = x * 2.0
        assert not tempra.is_grad_enabled()
    assert tempra.is_grad_enabled()
    assert not y.requires_grad
    assert z.requires_grad


def test_no_grad_is_restored_after_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), tempra.no_grad():
        raise ZeroDivisionError
    assert tempra.is_grad_enabled()


def test_detach_cuts_the_path() -> None:
    x = leaf(3)
    ((x * 2.0).detach() * x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.detach().numpy(), rtol=1e-6)


def test_a_chain_of_100000_nodes_needs_no_stack() -> None:
    x = leaf(1)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    (gradient,) = tempra.grad(y, [x], retain_graph=True)
    assert gradient.item() == 1.0
    y.backward()
    assert x.grad.item() == 1.0


def test_a_long_unused_chain_is_freed_without_recursion() -> None:
    x = leaf(1)
    y = x
    for _ in range(100_000):
        y = -y
    del y
    assert x.requires_grad


def test_bytes_return_after_backward() -> None:
    x = leaf(64, 256)
    w = leaf(256, 256, seed=1)
    x.grad = tempra.zeros((64, 256))
    w.grad = tempra.zeros((256, 256))
    before = tempra.memory_statistics()["bytes_in_use"]
    h = x
    for _ in range(6):
        h = ops.gelu(ops.layer_norm(h @ w))
    loss = h.sum()
    during = tempra.memory_statistics()["bytes_in_use"]
    assert during > before + 6 * 64 * 256 * 4
    loss.backward()
    del h
    # The loss itself may stay: one element, rounded up to a block.
    assert tempra.memory_statistics()["bytes_in_use"] <= before + 4096
    del loss
    assert tempra.memory_statistics()["bytes_in_use"] == before


def test_saved_tensors_are_freed_while_the_loss_is_still_held() -> None:
    x = leaf(256, 256)
    x.grad = tempra.zeros((256, 256))
    before = tempra.memory_statistics()["bytes_in_use"]
    loss = ops.exp(ops.exp(x * 1e-3)).sum()
    held = tempra.memory_statistics()["bytes_in_use"]
    loss.backward()
    assert tempra.memory_statistics()["bytes_in_use"] < held - 256 * 256 * 4
    assert tempra.memory_statistics()["bytes_in_use"] <= before + 4096


def test_grad_of_an_intermediate_result() -> None:
    x = leaf(3)
    middle = x * 2.0
    loss = ops.square(middle).sum()
    gx, gm = tempra.grad(loss, [x, middle])
    np.testing.assert_allclose(gm.numpy(), 2 * middle.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(gx.numpy(), 4 * middle.detach().numpy(), rtol=1e-6)


def test_grad_of_several_outputs_with_weights() -> None:
    x = leaf(3)
    outputs = [x * 2.0, x * 3.0]
    seeds = [tempra.full(3, 10.0), tempra.full(3, 1.0)]
    (gradient,) = tempra.grad(outputs, [x], seeds)
    np.testing.assert_array_equal(gradient.numpy(), [23, 23, 23])


def test_an_input_named_twice_gets_its_gradient_twice() -> None:
    x = leaf(3)
    first, second = tempra.grad((x * 2.0).sum(), [x, x])
    np.testing.assert_array_equal(first.numpy(), second.numpy())


def test_unused_inputs_are_an_error_unless_allowed() -> None:
    x, y = leaf(3), leaf(3, seed=1)
    loss = (x * 2.0).sum()
    with pytest.raises(TempraError, match=r"input 1.*allow_unused"):
        tempra.grad(loss, [x, y], retain_graph=True)
    gx, gy = tempra.grad(loss, [x, y], allow_unused=True)
    assert gx is not None
    assert gy is None


def test_grad_walks_only_paths_to_its_inputs() -> None:
    """The other branch is left whole: its saved tensors may even have been written since."""
    x, y = leaf(3), leaf(3, seed=1)
    other = y * 2.0
    loss = (x * 3.0).sum() + ops.square(other).sum()
    with tempra.no_grad():
        other.fill_(0.0)
    (gradient,) = tempra.grad(loss, [x])
    np.testing.assert_array_equal(gradient.numpy(), [3, 3, 3])


def test_grad_leaves_arenas_untouched() -> None:
    from tempra._core import ParameterArena

    w, b = leaf(5, 4), leaf(5, seed=1)
    arena = ParameterArena([("w", w), ("b", b)])
    x = leaf(3, 4, seed=2)
    ops.linear(x, w, b).sum().backward()
    kept = arena.gradients.numpy().copy()
    assert np.abs(kept).max() > 0
    gw, gb = tempra.grad(ops.layer_norm(ops.linear(x, w, b), b, b).sum(), [w, b])
    np.testing.assert_array_equal(arena.gradients.numpy(), kept)
    assert gw.data_pointer != w.grad.data_pointer
    assert gb.data_pointer != b.grad.data_pointer


def test_backward_adds_into_the_arena() -> None:
    from tempra._core import ParameterArena

    w = leaf(5, 4)
    arena = ParameterArena([("w", w)])
    pointer = w.grad.data_pointer
    assert pointer == arena.gradients.data_pointer
    x = leaf(3, 4, seed=2)
    for _ in range(2):
        ops.linear(x, w).sum().backward()
    assert w.grad.data_pointer == pointer
    expected = 2 * np.tile(x.detach().numpy().sum(0), (5, 1))
    np.testing.assert_allclose(arena.gradients.numpy()[:20].reshape(5, 4), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tempra.zeros(3).backward(), r"does not depend"),
        (lambda: (leaf(3) * 2.0).backward(), r"\[3\].*one element"),
        (lambda: (leaf(3) * 2.0).backward(tempra.ones(4)), r"\[4\].*\[3\]"),
        (lambda: tempra.grad(leaf(3).sum(), [tempra.zeros(3)]), r"input 0.*require"),
        (lambda: tempra.grad([leaf(1)], [leaf(1)], [tempra.ones(1)] * 2), r"2 grad_outputs"),
        (lambda: tempra.arange(3).requires_grad_(True), r"i64"),
        (lambda: (leaf(3) * 2.0).requires_grad_(False), r"leaves"),
    ],
)
def test_misuse_names_what_was_given(call, words: str) -> None:
    with pytest.raises(TempraError, match=words):
        call()


def test_integers_take_no_part() -> None:
    x = leaf(5)
    values, indices = ops.sort(x)
    assert values.requires_grad
    assert not indices.requires_grad
    assert not (x > 0.0).requires_grad
    assert not ops.argmax(x, 0).requires_grad


def test_recompute_gives_the_same_gradients_and_keeps_less() -> None:
    w = leaf(64, 64)

    def block(x: Tensor) -> Tensor:
        return ops.dropout(ops.gelu(x @ w), 0.5)

    def run(wrap: bool) -> tuple[np.ndarray, np.ndarray, int]:
        tempra.manual_seed(3)
        x = leaf(128, 64, seed=1)
        w.grad = None
        before = tempra.memory_statistics()["bytes_in_use"]
        h = tempra._core.recompute(block, x) if wrap else block(x)
        kept = tempra.memory_statistics()["bytes_in_use"] - before
        (h * h).sum().backward()
        return x.grad.numpy().copy(), w.grad.numpy().copy(), kept

    plain_x, plain_w, plain_kept = run(False)
    again_x, again_w, again_kept = run(True)
    np.testing.assert_array_equal(plain_x, again_x)
    np.testing.assert_array_equal(plain_w, again_w)
    assert again_kept < plain_kept
