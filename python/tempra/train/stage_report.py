"""What the stages of a run read: lines for people, and records for metrics.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tempra.data.counted import counted
from tempra.data.prepared import PreparedDataset
from tempra.data.row_options import RowOptions
from tempra.data.token_dataset import TokenizedDataset
from tempra.train.config import StageRun
from tempra.train.run_text import StageText
from tempra.train.stage_data import StageBatches

_SHOWN_LINES = 20


def describe_stages(
    runs: Sequence[StageRun], texts: Sequence[StageText], batches: Sequence[StageBatches]
) -> list[str]:
    """Return lines on the text of each stage: its sources, their shares, conversations, packing."""
    lines: list[str] = []
    for run, text, source in zip(runs, texts, batches, strict=True):
        record = source_record(run, text, source)["sources"]
        for number, (part, numbers) in enumerate(zip(text.sources, record, strict=True)):
            name = ": ".join(filter(None, (run.name, part.name)))
            if name:
                lines.append(
                    f"source      {name}: {numbers['tokens']:,} tokens, "
                    f"{100 * numbers['share']:.1f} % of the sequences, "
                    f"read {numbers['epochs']:.2f} times"
                )
            dataset, options = source.part(number)
            rows = source.rows_per_epoch_by_source[number]
            lines += describe_instructions(part.text)
            lines += describe_packing(dataset, options, rows, source.block)
    return lines


def source_record(run: StageRun, text: StageText, source: StageBatches) -> dict[str, Any]:
    """Return what metrics.jsonl keeps of a stage: its steps, and each source's share of them."""
    steps = run.config.steps
    read = source.epochs_by_source(steps * run.config.gradient_accumulation)
    record: dict[str, Any] = {} if run.name is None else {"stage": run.name}
    record["steps"] = steps
    record["sources"] = [
        {
            "name": part.name,
            "tokens": part.text.manifest.splits["train"].tokens,
            "share": share,
            "epochs": round(epochs, 4),
        }
        for part, share, epochs in zip(text.sources, source.shares, read, strict=True)
    ]
    return record


def describe_instructions(text: PreparedDataset) -> list[str]:
    """Return lines on conversations: how they were read, what is learned, what was left out."""
    record = text.manifest.instructions
    if record is None:
        return []
    split = text.manifest.splits["train"]
    marks = ", ".join(record.spelled_out)
    more = record.left_out_count - min(_SHOWN_LINES, len(record.left_out))
    return [
        f"data        {counted(split.documents, 'conversation')}, {'; '.join(record.formats)}",
        f"template    {record.template}, learning {record.train_on}: {split.trained_tokens or 0:,} "
        f"of {counted(split.tokens, 'token')}",
        *([f"marks       {marks} spelled out, not in the vocabulary"] if marks else []),
        *([f"left out    {counted(record.left_out_count, 'line')}:"] if record.left_out else []),
        *(f"            {line}" for line in record.left_out[:_SHOWN_LINES]),
        *([f"            and {more:,} more, see dataset.json"] if more > 0 else []),
    ]


def describe_packing(
    dataset: TokenizedDataset, options: RowOptions, rows: int, block: int
) -> list[str]:
    """Return lines on packed sequences: how full they are, what became of long documents."""
    if options.packing is None:
        return [f"order       {options.order}"] if options.order != "shuffled" else []
    documents = tokens = overlong = excess = rejected = 0
    for shard in dataset.shards:
        lengths = np.diff(shard.bounds().astype(np.int64))
        long = lengths[lengths > block]
        documents += int(lengths.size)
        tokens += int(lengths.sum())
        overlong += int(long.size)
        rejected += int(long.sum())
        excess += int(long.sum()) - block * int(long.size)
    lost = {"split": 0, "truncate": excess, "reject": rejected}[options.overlong]
    order = "" if options.order == "shuffled" else f", {options.order}"
    lines = [
        f"packing     {options.packing}{order}, {counted(documents, 'document')} in "
        f"{counted(rows, 'sequence')} an epoch, {100 * (tokens - lost) / (rows * block):.2f} % full"
    ]
    if overlong:
        does = {"split": "split", "truncate": "truncated", "reject": "rejected"}[options.overlong]
        lines.append(
            f"            {counted(overlong, 'document')} longer than {block} tokens {does}, "
            f"{counted(lost, 'token')} lost"
        )
    return lines
