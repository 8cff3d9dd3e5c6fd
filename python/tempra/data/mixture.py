"""Several data sets read as one, each with a share of the rows."""

from __future__ import annotations

from collections.abc import Sequence

from tempra._core import ConfigError
from tempra.data.row_options import RowOptions
from tempra.data.token_dataset import TokenizedDataset

# Rows of which every set of them has exactly its share; weights are rounded to 1 in so many.
CYCLE_ROWS = 1024


class Mixture:
    """Data sets and how many of every `CYCLE_ROWS` rows each one gives.

    By `weights`, in any unit; or by `temperature` T, where a data set of n tokens weighs
    n ** (1 / T): 1 reads all sets equally often, larger values read small ones more often, and as T
    grows all get the same share. Each set is read through its own epochs, in its own order.

    `options` say how each set is cut or packed into rows, where they are not to be read all alike;
    a batch may well have rows of both kinds.
    """

    def __init__(
        self,
        datasets: Sequence[TokenizedDataset],
        *,
        weights: Sequence[float] | None = None,
        temperature: float | None = None,
        options: Sequence[RowOptions | None] | None = None,
    ) -> None:
        self.datasets = list(datasets)
        if not 1 <= len(self.datasets) <= CYCLE_ROWS:
            raise ConfigError(
                f"mixture: got {len(self.datasets)} data sets, needs 1 to {CYCLE_ROWS}"
            )
        _check_one_tokenizer(self.datasets)
        self.options = [None] * len(self.datasets) if options is None else list(options)
        if len(self.options) != len(self.datasets):
            raise ConfigError(
                f"mixture: got options for {len(self.options)} of {len(self.datasets)} data sets"
            )
        if weights is not None and temperature is not None:
            raise ConfigError("mixture: got weights and a temperature; give one of the two")
        if weights is None:
            weights = _weights_by_temperature(self.datasets, temperature)
        self.quotas = share_out(weights, len(self.datasets))

    def __len__(self) -> int:
        """Tokens in all."""
        return sum(map(len, self.datasets))

    @property
    def vocabulary_size(self) -> int:
        """Tokens that an id of any data set can have."""
        return max(dataset.vocabulary_size for dataset in self.datasets)


def _weights_by_temperature(
    datasets: Sequence[TokenizedDataset], temperature: float | None
) -> list[float]:
    temperature = 1.0 if temperature is None else temperature
    if not temperature > 0.0:
        raise ConfigError(f"mixture: got a temperature of {temperature}, needs more than 0")
    largest = max(map(len, datasets))
    if largest == 0:
        raise ConfigError("mixture: all data sets are empty")
    # Relative to the largest, so that no power overflows.
    return [(len(dataset) / largest) ** (1.0 / temperature) for dataset in datasets]


def share_out(weights: Sequence[float], count: int) -> list[int]:
    """Return whole quotas of `CYCLE_ROWS`, by largest remainder, at least 1 for each."""
    if len(weights) != count:
        raise ConfigError(f"mixture: got {len(weights)} weights for {count} data sets")
    if not all(0.0 < weight < float("inf") for weight in weights):
        raise ConfigError(f"mixture: got weights {list(weights)}, each needs to be finite and > 0")
    total = sum(weights)
    exact = [weight / total * CYCLE_ROWS for weight in weights]
    quotas = [max(1, int(value)) for value in exact]
    by_remainder = sorted(range(count), key=lambda i: int(exact[i]) - exact[i])
    for i in by_remainder[: max(0, CYCLE_ROWS - sum(quotas))]:
        quotas[i] += 1
    while sum(quotas) > CYCLE_ROWS:  # where many were raised to 1
        quotas[quotas.index(max(quotas))] -= 1
    return quotas


def _check_one_tokenizer(datasets: Sequence[TokenizedDataset]) -> None:
    found = {
        shard.sidecar.tokenizer_fingerprint: shard.path
        for dataset in datasets
        for shard in dataset.shards
        if shard.sidecar is not None
    }
    if len(found) > 1:
        one, other, *_ = found.values()
        raise ConfigError(f"mixture: {one} and {other} were made with different tokenizers")
