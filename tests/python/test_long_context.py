"""Memory of a training step grows with the length of a sequence, not with its square."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tempra import _core
from tempra.models import Transformer, TransformerConfig

# Long enough that how attention is cut into tasks no longer depends on it.
SHORT, LONG = 4096, 8192


def step_bytes(family: str, dtype: str, length: int) -> int:
    """Return the peak bytes of a forward and backward pass over one sequence."""
    config = TransformerConfig.for_family(
        family, vocab_size=32, width=32, layers=1, heads=2, context=LONG, dtype=dtype
    )
    model = Transformer(config, seed=0)
    tokens = np.random.default_rng(0).integers(0, 32, length + 1).astype(np.int32)
    batch = SimpleNamespace(
        tokens=tokens[:-1],
        labels=tokens[1:],
        offsets=np.array([0, length], dtype=np.int32),
        positions=np.arange(length, dtype=np.int32),
    )
    before = _core.memory_statistics()["bytes_in_use"]
    _core.reset_peak_memory()
    loss = model.loss(batch, deferred=True)
    loss.backward()
    assert np.isfinite(loss.item())
    return int(_core.memory_statistics()["peak_bytes_in_use"]) - before


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_twice_the_context_takes_twice_the_memory(family, dtype):
    short, long = (step_bytes(family, dtype, length) for length in (SHORT, LONG))
    assert long < 2.1 * short
    # Not even one matrix of weights fits, at two bytes each.
    assert long < 2 * LONG * LONG / 2
