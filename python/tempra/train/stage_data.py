"""The batches of a stage and its measurements, from the text it reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tempra._core import ConfigError
from tempra.data.batch import Batch, padded
from tempra.data.batch_source import DataLoader, check_length, validation_batches
from tempra.data.document_batches import document_batches
from tempra.data.mixture import Mixture
from tempra.data.row_options import RowOptions
from tempra.data.token_dataset import TokenizedDataset
from tempra.train.config import LlmTrainingConfig
from tempra.train.evaluation import Evaluation, evaluate
from tempra.train.objective import Objective
from tempra.train.run_text import SourceText, StageText

# Far apart, as the sources of a mixture count up from the seed of their stage.
_SEEDS_OF_A_STAGE = 1_000_003


class StageBatches(DataLoader):
    """The training batches of a stage; `names` are those of its sources, if it has several.

    For a device all have as many tokens, and packed ones as many places for sequences, what is
    left being padding: kernels are then chosen once, and for the same shapes with and without a
    graph of the step. The places, a power of two, follow from how long the documents are; a batch
    that needs more has twice as many, or four times: whatever was read before.
    """

    def __init__(self, config: LlmTrainingConfig, text: StageText, *, stage: int = 0) -> None:
        sources = text.sources
        for source in sources:
            if source.packing is None and source.name is not None:
                dataset = source.text.dataset("train")
                check_length(dataset, config.sequence_length, f"training text of {source.name!r}")
        self.names = [source.name for source in sources if source.name is not None]
        options = [_row_options(source) for source in sources]
        mixed: TokenizedDataset | Mixture = sources[0].text.dataset("train")
        if len(sources) > 1:
            weights = [source.weight for source in sources if source.weight is not None]
            mixed = Mixture(
                [source.text.dataset("train") for source in sources],
                weights=weights or None,
                temperature=text.temperature,
                options=options,
            )
        super().__init__(
            mixed,
            batch_size=config.train.batch_size,
            block=config.sequence_length,
            seed=config.train.seed + stage * _SEEDS_OF_A_STAGE,
            mode=options[0].mode,
            packing=options[0].packing,
            order=options[0].order,
            overlong=options[0].overlong,
        )
        on_device = config.train.device != "cpu"
        self._padded_tokens = self.batch_size * self.block if on_device else 0
        self._places = self._places_for_sequences() if on_device else 0

    def batch(self, index: int) -> Batch:
        """Batch number `index`, counted from 0 through all epochs."""
        batch = super().batch(index)
        if not self._padded_tokens:
            return batch
        places = max(self._places, _power_of_two(batch.offsets.size - 1)) if self._places else 0
        return padded(batch, tokens=self._padded_tokens, longest=self.block, sequences=places)

    def _places_for_sequences(self) -> int:
        """Return a number of sequences that few packed batches have more of.

        A row of `block` tokens holds as many sequences as the text has on average in so many. Their
        sum over a batch varies by about its root, of which three are added. 0 where every row is
        one sequence of full length: attention has kernels for these, and nothing varies.
        """
        parts = [self.part(number) for number in range(len(self._datasets()))]
        of_rows = [_sequences_of_a_row(data, options, self.block) for data, options in parts]
        if all(of_a_row is None for of_a_row in of_rows):
            return 0
        shared = zip(self.shares, of_rows, strict=True)
        mean = self.batch_size * sum(share * (of_a_row or 1.0) for share, of_a_row in shared)
        return _power_of_two(mean + 3 * math.sqrt(mean))

    def part(self, number: int) -> tuple[TokenizedDataset, RowOptions]:
        """Return the data of one source, and how it is read."""
        if isinstance(self.dataset, Mixture):
            return self.dataset.datasets[number], self.dataset.options[number] or self.options
        return self.dataset, self.options

    @property
    def shares(self) -> list[float]:
        """The part of all sequences that each source gives."""
        quotas = self.dataset.quotas if isinstance(self.dataset, Mixture) else [1]
        return [quota / sum(quotas) for quota in quotas]


def _sequences_of_a_row(dataset: TokenizedDataset, options: RowOptions, block: int) -> float | None:
    """Return how many there are on average; None for always one of full length."""
    if options.packing is None:
        return None
    sequences, tokens, shorter = 0, 0, False
    for shard in dataset.shards:
        lengths = np.diff(shard.bounds().astype(np.int64))
        if options.overlong == "truncate":
            lengths = np.minimum(lengths, block)
        elif options.overlong == "reject":
            lengths = lengths[lengths <= block]
        full, rest = np.divmod(lengths, block)
        sequences += int(full.sum()) + int(np.count_nonzero(rest))  # longer ones are cut
        tokens += int(lengths.sum())
        shorter = shorter or bool(rest.any())
    if not shorter:
        return None
    cut_by_rows = 1.0 if options.packing == "concat" else 0.0
    return sequences / max(tokens, 1) * block + cut_by_rows


def _power_of_two(least: float) -> int:
    return 1 << max(math.ceil(least) - 1, 0).bit_length()


def _row_options(source: SourceText) -> RowOptions:
    data = source.data
    try:
        return RowOptions(
            mode=data.mode,
            packing=source.packing,
            order=data.order,
            overlong=data.overlong or "split",
        )
    except ConfigError as error:
        where = "data" if source.name is None else f"data.sources, {source.name!r}"
        raise ConfigError(f"{where}: {str(error).removeprefix('data loader: ')}") from None


def steps_of_epochs(config: LlmTrainingConfig, text: StageText, *, stage: int = 0) -> int:
    """Return how many updates it takes to read the text train.epochs times."""
    assert config.train.epochs is not None
    batches = StageBatches(config, text, stage=stage).batches_for(config.train.epochs)
    return -(-batches // config.gradient_accumulation)


@dataclass(frozen=True)
class _Measured:
    name: str | None
    validation: TokenizedDataset
    packed: bool
    share: float


class StageEvaluator:
    """Measures a model on what is kept of each source of a stage.

    The loss of a mixture is the mean of its sources' losses, weighed by their shares of the
    training sequences: what the training minimises, however much text is kept of each.
    """

    def __init__(
        self,
        config: LlmTrainingConfig,
        text: StageText,
        objective: Objective,
        shares: Sequence[float],
    ) -> None:
        self.config, self.objective = config, objective
        self._measured = [
            # Documents that never see another in training are measured in the same way.
            _Measured(
                source.name, source.text.dataset("validation"), source.packing is not None, share
            )
            for source, share in zip(text.sources, shares, strict=True)
            if source.text.has_validation
        ]

    def __call__(self, interrupted: Callable[[], bool]) -> Evaluation | None:
        """Measure every source; None when interrupted on the way."""
        found: dict[str, Evaluation] = {}
        for each in self._measured:
            result = self._measure(each, interrupted)
            if result is None:
                return None
            if each.name is None:
                return result
            found[each.name] = result
        weights = sum(each.share for each in self._measured)
        return Evaluation(
            loss=sum(found[each.name or ""].loss * each.share for each in self._measured) / weights,
            tokens=sum(result.tokens for result in found.values()),
            batches=sum(result.batches for result in found.values()),
            by_source=found,
        )

    def _measure(self, each: _Measured, interrupted: Callable[[], bool]) -> Evaluation | None:
        in_order = document_batches if each.packed else validation_batches
        batches = in_order(
            each.validation,
            batch_size=self.config.train.batch_size,
            block=self.config.sequence_length,
            limit=self.config.evaluation.batches,
        )
        return evaluate(self.objective, batches, interrupted=interrupted)
