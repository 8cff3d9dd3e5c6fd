"""Profiles count and time kernel calls, only while they are on."""

from __future__ import annotations

import tempra
from tempra import _core


def test_a_profile_counts_the_calls_inside_it() -> None:
    x = _core.ones((64, 64))
    _core.exp(x)
    with tempra.Profile() as profile:
        for _ in range(3):
            _core.matmul(x, x)
        _core.exp(x)
    _core.exp(x)
    rows = {name: (calls, seconds) for name, calls, seconds in profile.entries()}
    assert rows["matmul"][0] == 3
    assert rows["exp"][0] == 1
    assert all(seconds > 0.0 for _, seconds in rows.values())
    times = [seconds for _, _, seconds in profile.entries()]
    assert times == sorted(times, reverse=True)


def test_each_profile_starts_afresh() -> None:
    x = _core.ones((4,))
    with tempra.Profile() as first:
        _core.exp(x)
    with tempra.Profile() as second:
        _core.log(x)
    assert [name for name, _, _ in first.entries()] == ["exp"]
    assert [name for name, _, _ in second.entries()] == ["log"]
