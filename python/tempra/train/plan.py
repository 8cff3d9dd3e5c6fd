"""What a run will compute and hold, by arithmetic alone: shown before it starts, and by `plan`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tempra import _core, cuda
from tempra.data.batch_source import DataLoader
from tempra.data.prepared import PreparedDataset
from tempra.models import TransformerConfig
from tempra.train.config import LlmTrainingConfig

# Rows of logits that exist at a time in the chunked loss, and room for code, tables and buffers.
_LOSS_CHUNK_ROWS = 1024
_PROCESS_BYTES = 90_000_000
_SHOWN_LINES = 20


@dataclass(frozen=True)
class RunPlan:
    """Sizes of a run; all memory in bytes."""

    parameters: int
    tokens_per_step: int
    steps: int
    flops_per_token: int
    weight_bytes: int
    gradient_bytes: int
    moment_bytes: int
    activation_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Everything at once, with the process itself."""
        state = self.weight_bytes + self.gradient_bytes + self.moment_bytes
        return state + self.activation_bytes + _PROCESS_BYTES


def plan_run(config: LlmTrainingConfig, model: TransformerConfig) -> RunPlan:
    """Return the sizes of a run."""
    parameters = model.parameter_count()
    bf16 = config.train.dtype == "bf16"
    return RunPlan(
        parameters=parameters,
        tokens_per_step=config.tokens_per_step,
        steps=config.train.steps,
        flops_per_token=model.flops_per_token(config.sequence_length),
        weight_bytes=parameters * (6 if bf16 else 4),
        gradient_bytes=parameters * 4,
        moment_bytes=parameters * 8,
        activation_bytes=_activation_bytes(config, model),
    )


def _activation_bytes(config: LlmTrainingConfig, model: TransformerConfig) -> int:
    """Estimate what the tape keeps of one batch, and the largest passing tensors beside it."""
    tokens = config.train.batch_size * config.sequence_length
    element = 2 if config.train.dtype == "bf16" else 4
    width, inner = model.width, model.feed_forward
    key_value = 2 * model.kv_heads * model.head_dim
    # residual before and after attention, q, k, v, attention, and the feed-forward part before its
    # activation (two tensors where it is gated); norms and activations are made again
    kept = 4 * width + key_value + (1 if model.family == "gpt2" else 2) * inner
    layers = 1 if config.train.recompute else model.layers
    inputs = model.layers * width if config.train.recompute else 0
    passing = 3 * width + 2 * inner
    logits = 2 * 4 * min(tokens, _LOSS_CHUNK_ROWS) * model.vocab_size
    return tokens * element * (kept * layers + inputs + passing) + logits


def describe_plan(config: LlmTrainingConfig, model: TransformerConfig) -> list[str]:
    """Return lines on the sizes of a run."""
    plan = plan_run(config, model)
    total = plan.tokens_per_step * plan.steps
    free = _core.available_memory_bytes()
    batch = f"{config.train.batch_size} x {config.sequence_length}"
    if config.gradient_accumulation > 1:
        batch += f" x {config.gradient_accumulation} batches"
    return [
        f"model       {model.family}, {model.layers} layers of width {model.width}, "
        f"{model.heads} heads ({model.kv_heads} for keys and values), "
        f"vocabulary {model.vocab_size}",
        f"parameters  {plan.parameters:,}",
        f"step        {plan.tokens_per_step:,} tokens ({batch}), "
        f"{plan.tokens_per_step * plan.flops_per_token / 1e9:,.1f} GFLOP",
        f"run         {plan.steps:,} steps, {total:,} tokens, "
        f"{total * plan.flops_per_token / 1e12:,.2f} TFLOP",
        f"memory      {plan.peak_bytes / 1e6:,.0f} MB expected at the peak "
        f"(weights {plan.weight_bytes / 1e6:,.0f}, gradients {plan.gradient_bytes / 1e6:,.0f}, "
        f"moments {plan.moment_bytes / 1e6:,.0f}, activations "
        f"{plan.activation_bytes / 1e6:,.0f}), {free / 1e6:,.0f} MB free",
    ]


def describe_machine_use(config: LlmTrainingConfig) -> list[str]:
    """Return lines on where and in which numbers the kernels compute."""
    bf16 = config.train.dtype == "bf16"
    products = "bf16 operands, fp32 sums" if bf16 else "fp32"
    return [
        f"device      cpu, {_core.current_isa()} kernels, {_core.get_num_threads()} threads",
        f"numbers     matrix products and attention {products}; norms, softmax and loss fp32; "
        f"weights, gradients and AdamW moments fp32{', weights also bf16' if bf16 else ''}",
    ]


def describe_cuda() -> list[str]:
    """Return lines on the CUDA library, driver and devices, or on why there are none."""
    return [f"CUDA        {line}" for line in cuda.describe()]


def describe_instructions(text: PreparedDataset) -> list[str]:
    """Return lines on conversations: how they were read, what is learned, what was left out."""
    record = text.manifest.instructions
    if record is None:
        return []
    split = text.manifest.splits["train"]
    marks = ", ".join(record.spelled_out)
    more = record.left_out_count - min(_SHOWN_LINES, len(record.left_out))
    return [
        f"data        {split.documents:,} conversations, {'; '.join(record.formats)}",
        f"template    {record.template}, learning {record.train_on}: {split.trained_tokens or 0:,} "
        f"of {split.tokens:,} tokens",
        *([f"marks       {marks} spelled out, not in the vocabulary"] if marks else []),
        *([f"left out    {record.left_out_count:,} lines:"] if record.left_out else []),
        *(f"            {line}" for line in record.left_out[:_SHOWN_LINES]),
        *([f"            and {more:,} more, see dataset.json"] if more > 0 else []),
    ]


def describe_packing(source: DataLoader) -> list[str]:
    """Return lines on packed sequences: how full they are, what became of long documents."""
    options = source.options
    if options.packing is None:
        return []
    documents = tokens = overlong = excess = rejected = 0
    for shard in source.shards:
        lengths = np.diff(shard.bounds().astype(np.int64))
        long = lengths[lengths > source.block]
        documents += int(lengths.size)
        tokens += int(lengths.sum())
        overlong += int(long.size)
        rejected += int(long.sum())
        excess += int(long.sum()) - source.block * int(long.size)
    lost = {"split": 0, "truncate": excess, "reject": rejected}[options.overlong]
    rows = source.rows_per_epoch
    lines = [
        f"packing     {options.packing}, {documents:,} documents in {rows:,} sequences an epoch, "
        f"{100 * (tokens - lost) / (rows * source.block):.2f} % full"
    ]
    if overlong:
        does = {"split": "split", "truncate": "truncated", "reject": "rejected"}[options.overlong]
        lines.append(
            f"            {overlong:,} documents longer than {source.block} tokens {does}, "
            f"{lost:,} tokens lost"
        )
    return lines
