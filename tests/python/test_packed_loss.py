"""The loss over packed documents is the loss over the same documents one by one."""

from __future__ import annotations

import numpy as np
import pytest

from tempra._core import Tensor
from tempra.data import Batch, SequencePacker
from tempra.data.sequence_packer import Strategy
from tempra.models import Transformer, TransformerConfig

VOCABULARY, CONTEXT = 50, 40


def documents_and_masks() -> tuple[list[np.ndarray], list[np.ndarray]]:
    random = np.random.default_rng(0)
    lengths = [1, 40, 3, 17, 2, 23, 30, 5, 1, 12]
    documents = [random.integers(0, VOCABULARY, n) for n in lengths]
    return documents, [random.integers(0, 2, n) for n in lengths]


def model_of(family: str) -> Transformer:
    config = TransformerConfig.for_family(
        family,  # type: ignore[arg-type]
        vocab_size=VOCABULARY,
        width=32,
        layers=2,
        heads=4,
        kv_heads=2 if family == "llama" else 4,
        context=CONTEXT,
    )
    return Transformer(config, seed=1)


def gradients(model: Transformer) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, parameter in model.named_parameters():
        gradient: Tensor | None = parameter.grad
        assert gradient is not None, name
        found[name] = gradient.numpy().astype(np.float64)
    return found


def loss_and_gradients(
    family: str, batches: list[Batch]
) -> tuple[float, int, dict[str, np.ndarray]]:
    model = model_of(family)
    total, terms = 0.0, 0
    for batch in batches:
        loss = model.loss(batch)
        total += float(loss.item())
        terms += batch.valid_tokens
        loss.backward()
    return total, terms, gradients(model)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
# `concat` cuts documents where rows end: what is cut off loses its context, by design.
@pytest.mark.parametrize("strategy", ["best_fit", "streaming", "none"])
def test_packed_documents_have_the_loss_of_single_ones(family: str, strategy: Strategy) -> None:
    documents, masks = documents_and_masks()
    packed = SequencePacker(CONTEXT, strategy, window=2).pack(documents, masks)
    assert packed.plan.counts["split"] == 0
    rows = [packed.rows(0, 2), packed.rows(2, len(packed))]
    alone = [
        SequencePacker(CONTEXT).pack([ids], [mask]).rows(0, 1)
        for ids, mask in zip(documents, masks, strict=True)
    ]
    padded = [packed.rows(0, len(packed), pad_token=0)]
    expected_loss, expected_terms, expected = loss_and_gradients(
        family, [batch for batch in alone if batch.valid_tokens]
    )
    largest = max(float(np.abs(gradient).max()) for gradient in expected.values())
    for batches in (rows, padded):
        loss, terms, found = loss_and_gradients(family, batches)
        assert terms == expected_terms
        # fp32 sums of the same terms in another order
        assert loss == pytest.approx(expected_loss, rel=1e-6)
        for name, gradient in expected.items():
            # Key biases cancel in the softmax: their gradient is nothing but rounding.
            tolerance = 1e-5 * float(np.abs(gradient).max()) + 1e-9 * largest
            assert np.abs(found[name] - gradient).max() <= tolerance, name


def test_a_wrong_boundary_changes_the_loss() -> None:
    """What the test above compares does depend on the boundaries."""
    documents, masks = documents_and_masks()
    packed = SequencePacker(CONTEXT).pack(documents, masks)
    batch = packed.rows(0, len(packed))
    moved = batch.offsets.copy()
    moved[1:-1] += 1
    wrong = Batch(batch.tokens, batch.labels, moved, batch.positions, batch.valid_tokens)
    right_loss, _, _ = loss_and_gradients("llama", [batch])
    wrong_loss, _, _ = loss_and_gradients("llama", [wrong])
    assert wrong_loss != pytest.approx(right_loss, rel=1e-4)
