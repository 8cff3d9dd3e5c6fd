"""Tempra: native training of neural networks.

Importing this package loads NumPy and the native core; everything else is imported at first use.
"""

from importlib import import_module as _import_module
from typing import Any as _Any

from tempra._core import (
    CheckpointError,
    ConfigError,
    DeviceError,
    DType,
    DtypeError,
    FormatError,
    Generator,
    IoError,
    Profile,
    ShapeError,
    TempraError,
    Tensor,
    TrainingDisabled,
    __version__,
    arange,
    composed,
    current_isa,
    default_generator,
    empty,
    enable_grad,
    from_dlpack,
    from_numpy,
    full,
    get_num_threads,
    grad,
    is_enabled,
    is_grad_enabled,
    manual_seed,
    memory_statistics,
    no_grad,
    normal,
    ones,
    set_isa,
    set_num_threads,
    supported_isas,
    tensor,
    uniform,
    zeros,
)

float32 = DType.f32
bfloat16 = DType.bf16
float16 = DType.f16
float64 = DType.f64
int64 = DType.i64
int32 = DType.i32
uint32 = DType.u32
uint16 = DType.u16
uint8 = DType.u8
bool_ = DType.boolean

# Public names that live in submodules, imported at first use.
_LAZY: dict[str, str] = {
    "Batch": "tempra.data.batch",
    "BatchIterator": "tempra.data.batch_source",
    "Checkpoint": "tempra.checkpoint",
    "CheckpointStore": "tempra.checkpoint",
    "Context": "tempra.train.context",
    "DataLoader": "tempra.data.batch_source",
    "LearningRateSchedule": "tempra.optim.lr_schedule",
    "LlamaTrainer": "tempra.train.language_model",
    "LlmTrainingConfig": "tempra.train.config",
    "OptimizerConfig": "tempra.train.config",
    "OptimizerType": "tempra.train.config",
    "SchedulerConfig": "tempra.train.config",
    "SequencePacker": "tempra.data.sequence_packer",
    "TokenizedDataset": "tempra.data.token_dataset",
    "TrainError": "tempra.train.errors",
    "TrainableModel": "tempra.train.protocols",
    "TrainableModelConfig": "tempra.train.protocols",
    "Trainer": "tempra.train.trainer",
    "TrainingConfig": "tempra.train.config",
    "TrainingReport": "tempra.train.report",
    "TrainingResult": "tempra.train.report",
    "WdbxTokenDataset": "tempra.data.wdbx",
    "load_checkpoint": "tempra.checkpoint",
    "parse_instruction_dataset": "tempra.data.instruction_dataset",
    "read_token_bin_file": "tempra.data.token_bin",
    "save_checkpoint": "tempra.checkpoint",
    "token_bin_to_wdbx": "tempra.data.wdbx",
    "train_with_result": "tempra.train.language_model",
    "wdbx_to_token_bin": "tempra.data.wdbx",
    "write_token_bin_file": "tempra.data.token_bin",
}
_SUBMODULES = ("checkpoint", "data", "models", "nn", "ops", "optim", "train")


def __getattr__(name: str) -> _Any:
    if name in _LAZY:
        value = getattr(_import_module(_LAZY[name]), name)
    elif name in _SUBMODULES:
        value = _import_module(f"tempra.{name}")
    else:
        raise AttributeError(f"module 'tempra' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_SUBMODULES})


__all__ = [
    "CheckpointError",
    "ConfigError",
    "DType",
    "DeviceError",
    "DtypeError",
    "FormatError",
    "Generator",
    "IoError",
    "Profile",
    "ShapeError",
    "TempraError",
    "Tensor",
    "TrainingDisabled",
    "__version__",
    "arange",
    "bfloat16",
    "bool_",
    "composed",
    "current_isa",
    "default_generator",
    "empty",
    "enable_grad",
    "float16",
    "float32",
    "float64",
    "from_dlpack",
    "from_numpy",
    "full",
    "get_num_threads",
    "grad",
    "int32",
    "int64",
    "is_enabled",
    "is_grad_enabled",
    "manual_seed",
    "memory_statistics",
    "no_grad",
    "normal",
    "ones",
    "set_isa",
    "set_num_threads",
    "supported_isas",
    "tensor",
    "uint8",
    "uint16",
    "uint32",
    "uniform",
    "zeros",
]
