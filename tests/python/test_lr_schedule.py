"""Learning-rate schedules against numbers worked out by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempra.optim.lr_schedule import LearningRate, LearningRateSchedule

COSINE, LINEAR, CONSTANT = LearningRateSchedule


@pytest.mark.parametrize(
    ("kind", "step", "expected"),
    [
        # Warm-up over 4 steps to 1.0: (s + 1) / 5.
        (COSINE, 0, 0.2),
        (COSINE, 3, 0.8),
        (LINEAR, 1, 0.4),
        (CONSTANT, 2, 0.6),
        (COSINE, 4, 1.0),
        (LINEAR, 4, 1.0),
        (CONSTANT, 4, 1.0),
        # 8 steps from 1.0 to 0.2: a quarter, half and all of the way.
        (LINEAR, 6, 0.8),
        (LINEAR, 8, 0.6),
        (LINEAR, 11, 0.3),
        (LINEAR, 12, 0.2),
        (COSINE, 6, 0.2 + 0.8 * 0.5 * (1.0 + math.sqrt(0.5))),
        (COSINE, 8, 0.6),
        (COSINE, 12, 0.2),
        (COSINE, 13, 0.2),
        (COSINE, 10**12, 0.2),
        (LINEAR, 10**12, 0.2),
        (CONSTANT, 10**12, 1.0),
    ],
)
def test_by_hand(kind: LearningRateSchedule, step: int, expected: float) -> None:
    rate = LearningRate(peak=1.0, minimum=0.2, warmup_steps=4, decay_steps=12, kind=kind)
    assert rate(step) == pytest.approx(expected, rel=1e-14)


def test_without_warmup_the_first_step_runs_at_the_peak() -> None:
    assert LearningRate(peak=3e-4, minimum=0.0, warmup_steps=0, decay_steps=10)(0) == 3e-4


@given(
    st.sampled_from(LearningRateSchedule),
    st.integers(0, 100),
    st.integers(1, 200),
    st.floats(1e-6, 1.0),
    st.floats(0.0, 1.0),
)
def test_rises_then_never_rises_again(
    kind: LearningRateSchedule, warmup: int, length: int, peak: float, share: float
) -> None:
    rate = LearningRate(peak, peak * share, warmup, warmup + length, kind)
    values = [rate(step) for step in range(warmup + length + 2)]
    rise, fall = values[: warmup + 1], values[warmup:]
    assert all(a < b for a, b in pairwise(rise))
    tolerance = 1e-12 * peak
    assert all(a >= b - tolerance for a, b in pairwise(fall))
    assert all(0 < value <= peak for value in rise)
    assert min(fall) >= peak * share - tolerance
