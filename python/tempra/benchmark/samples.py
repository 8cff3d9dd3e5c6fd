"""Samples of a benchmark: their spread, and which of them a busy machine has spoilt."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

# A sample counts when its process got at least this share of its threads' time: with less, the
# machine was busy with something else. The same rule holds for every library.
LEAST_CPU_SHARE = 0.96
# With fewer samples than this the median says little.
FEWEST_SAMPLES = 3


def spread(samples: Sequence[float]) -> float:
    """Return the median absolute deviation as a share of the median."""
    middle = statistics.median(samples)
    return statistics.median(abs(sample - middle) for sample in samples) / middle


@dataclass
class Samples:
    """Seconds per step, and the share of its threads' time that the process got meanwhile."""

    seconds: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def add(self, seconds: float, share: float) -> None:
        """Take one sample."""
        self.seconds.append(seconds)
        self.shares.append(share)

    @property
    def undisturbed(self) -> int:
        """How many samples count."""
        return sum(share >= LEAST_CPU_SHARE for share in self.shares)

    def judged(self) -> JudgedSamples:
        """Drop what a busy machine has spoilt.

        Where fewer than three remain, which may be the machine or a library that leaves threads
        idle, the three that came closest are used instead, and the result says so.
        """
        order = sorted(range(len(self.seconds)), key=lambda i: self.shares[i], reverse=True)
        used = max(self.undisturbed, min(FEWEST_SAMPLES, len(order)))
        kept = order[:used]
        return JudgedSamples(
            seconds=[self.seconds[i] for i in kept],
            shares=[self.shares[i] for i in kept],
            dropped=len(order) - used,
            below=used - self.undisturbed,
        )


@dataclass(frozen=True)
class JudgedSamples:
    """The samples a result rests on; `below` of them lie under the least share all the same."""

    seconds: list[float]
    shares: list[float]
    dropped: int
    below: int

    @property
    def too_few(self) -> bool:
        """Whether fewer samples than needed were undisturbed."""
        return len(self.seconds) - self.below < FEWEST_SAMPLES
