"""What a run will compute and hold, by arithmetic alone: shown before it starts, and by `plan`."""

from __future__ import annotations

from dataclasses import dataclass

from tempra import _core, cuda
from tempra.data.counted import counted
from tempra.models import TransformerConfig
from tempra.train.config import LlmTrainingConfig, StageRun

# Rows of logits that exist at a time in the chunked loss, and room for code, tables and buffers.
_LOSS_CHUNK_ROWS = 1024
_PROCESS_BYTES = 90_000_000
_DEVICE_LOSS_CHUNK_BYTES = 512 << 20


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
    process_bytes: int = _PROCESS_BYTES  # 0 on a device

    @property
    def peak_bytes(self) -> int:
        """Everything at once, on the CPU with the process itself."""
        state = self.weight_bytes + self.gradient_bytes + self.moment_bytes
        return state + self.activation_bytes + self.process_bytes


def plan_run(config: LlmTrainingConfig, model: TransformerConfig) -> RunPlan:
    """Return the sizes of a run."""
    parameters = model.parameter_count()
    on_device = config.train.device != "cpu"
    # On a device products read a copy of the weights in the dtype of activations.
    weight = 6 if on_device and config.train.dtype != "fp32" else 4
    return RunPlan(
        parameters=parameters,
        tokens_per_step=config.tokens_per_step,
        steps=config.steps,
        flops_per_token=model.flops_per_token(config.sequence_length),
        weight_bytes=parameters * weight,
        gradient_bytes=parameters * 4,
        moment_bytes=parameters * 8,
        activation_bytes=_activation_bytes(config, model),
        process_bytes=0 if on_device else _PROCESS_BYTES,
    )


def _activation_bytes(config: LlmTrainingConfig, model: TransformerConfig) -> int:
    """Estimate what the tape keeps of one batch, and the largest passing tensors beside it."""
    tokens = config.train.batch_size * config.sequence_length
    element = 4 if config.train.dtype == "fp32" else 2
    width, inner = model.width, model.feed_forward
    key_value = 2 * model.kv_heads * model.head_dim
    # residual before and after attention, q, k, v, attention, and the feed-forward part before its
    # activation (two tensors where it is gated); norms and activations are made again
    kept = 4 * width + key_value + (1 if model.family == "gpt2" else 2) * inner
    layers = 1 if config.train.recompute else model.layers
    inputs = model.layers * width if config.train.recompute else 0
    passing = 3 * width + 2 * inner
    logits = 2 * 4 * min(tokens, _LOSS_CHUNK_ROWS) * model.vocab_size
    if config.train.device != "cpu":
        logits = min(4 * tokens * model.vocab_size, _DEVICE_LOSS_CHUNK_BYTES)
    return tokens * element * (kept * layers + inputs + passing) + logits


def describe_plan(config: LlmTrainingConfig, model: TransformerConfig) -> list[str]:
    """Return lines on the sizes of a run, stage by stage where it has several."""
    runs = config.stage_runs()
    plans = [plan_run(run.config, model) for run in runs]
    largest = max(range(len(runs)), key=lambda number: plans[number].peak_bytes)
    steps = sum(plan.steps for plan in plans)
    tokens = sum(plan.tokens_per_step * plan.steps for plan in plans)
    flops = sum(plan.tokens_per_step * plan.steps * plan.flops_per_token for plan in plans)
    plan, device = plans[largest], device_of(config)
    free = _core.available_memory_bytes() if device is None else device.free_bytes
    of_stage = "" if runs[largest].name is None else f" of stage {runs[largest].name}"
    if config.has_stages():
        lengths = [_describe_stage(run, each) for run, each in zip(runs, plans, strict=True)]
    else:
        lengths = [
            f"step        {plan.tokens_per_step:,} tokens ({_batch(config)}), "
            f"{plan.tokens_per_step * plan.flops_per_token / 1e9:,.1f} GFLOP"
        ]
    return [
        f"model       {model.family}, {counted(model.layers, 'layer')} of width {model.width}, "
        f"{counted(model.heads, 'head')} ({model.kv_heads} for keys and values), "
        f"vocabulary {model.vocab_size}",
        f"parameters  {plan.parameters:,}",
        *lengths,
        f"run         {counted(steps, 'step')}, {tokens:,} tokens, {flops / 1e12:,.2f} TFLOP",
        f"memory      {plan.peak_bytes / 1e6:,.0f} MB expected at the peak{of_stage} "
        f"(weights {plan.weight_bytes / 1e6:,.0f}, gradients {plan.gradient_bytes / 1e6:,.0f}, "
        f"moments {plan.moment_bytes / 1e6:,.0f}, activations "
        f"{plan.activation_bytes / 1e6:,.0f}), {free / 1e6:,.0f} MB free",
    ]


def _describe_stage(run: StageRun, plan: RunPlan) -> str:
    rate = run.config.learning_rate()
    moves = f"{rate.peak:g}"
    if rate.minimum != rate.peak:
        moves += f" to {rate.minimum:g}, {rate.kind.value}"
    if rate.warmup_steps:
        moves += f", warm-up {rate.warmup_steps:,}"
    return (
        f"stage       {run.name}: {counted(plan.steps, 'step')} of {plan.tokens_per_step:,} tokens "
        f"({_batch(run.config)}), {plan.tokens_per_step * plan.steps:,} tokens, learning rate "
        f"{moves}{', fresh optimizer' if run.reset_optimizer else ''}"
    )


def _batch(config: LlmTrainingConfig) -> str:
    batch = f"{config.train.batch_size} x {config.sequence_length}"
    if config.gradient_accumulation > 1:
        batch += f" x {config.gradient_accumulation} batches"
    return batch


def describe_machine_use(config: LlmTrainingConfig) -> list[str]:
    """Return lines on where and in which numbers the kernels compute."""
    dtype = config.train.dtype
    products = "fp32" if dtype == "fp32" else f"{dtype} operands, fp32 sums"
    place = f"cpu, {_core.current_isa()} kernels, {_core.get_num_threads()} threads"
    if config.train.device != "cpu":
        device = device_of(config)
        place = f"{config.train.device}, {device.name}" if device else config.train.device
        if config.train.cuda_graph:
            place += "; steps are launched as CUDA graphs"
    return [
        f"device      {place}",
        f"numbers     matrix products and attention {products}; norms, softmax and loss fp32; "
        "weights, gradients and AdamW moments fp32",
    ]


def device_of(config: LlmTrainingConfig) -> cuda.CudaDevice | None:
    """Return the CUDA device of a run, if it is on one and there is one."""
    name, _, number = config.train.device.partition(":")
    devices = cuda.status().devices if name == "cuda" else []
    return devices[int(number or 0)] if int(number or 0) < len(devices) else None


def describe_cuda() -> list[str]:
    """Return lines on the CUDA library, driver and devices, or on why there are none."""
    return [f"CUDA        {line}" for line in cuda.describe()]
