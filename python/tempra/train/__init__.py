"""Training: configuration, the step, the trainer and what it reports.

Names are imported at first use, so that help texts need no native core.
"""

import sys as _sys
from importlib import import_module as _import_module
from types import ModuleType as _ModuleType
from typing import Any as _Any

_LAZY = {
    "AutoregressiveObjective": "objective",
    "Callback": "callbacks",
    "Context": "context",
    "EarlyStopping": "callbacks",
    "LanguageModelTrainer": "language_model",
    "LlamaTrainer": "language_model",
    "LlmTrainingConfig": "config",
    "Loss": "objective",
    "Objective": "objective",
    "OptimizerConfig": "config",
    "OptimizerType": "config",
    "PhasedObjective": "objective",
    "RunFolder": "run_folder",
    "SchedulerConfig": "config",
    "Tracker": "callbacks",
    "Stage": "stage",
    "TrainError": "errors",
    "TrainState": "train_state",
    "TrainableModel": "protocols",
    "TrainableModelConfig": "protocols",
    "Trainer": "trainer",
    "TrainerSettings": "trainer_settings",
    "TrainingConfig": "config",
    "TrainingReport": "report",
    "TrainingResult": "report",
    "import_abi_model": "abi_import",
    "read_abi_model": "abi_import",
    "train": "language_model",
    "train_with_result": "language_model",
}


class _CallableModule(_ModuleType):
    """Lets `tempra.train(config)` be the function while `tempra.train` is this package."""

    def __call__(self, *arguments: _Any, **options: _Any) -> _Any:
        return self.train(*arguments, **options)


_sys.modules[__name__].__class__ = _CallableModule


def __getattr__(name: str) -> _Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tempra.train' has no attribute '{name}'")
    return getattr(_import_module(f"tempra.train.{_LAZY[name]}"), name)


__all__ = list(_LAZY)
