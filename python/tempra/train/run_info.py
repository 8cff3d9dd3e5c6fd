"""What `tempra train info` shows: how far a run is, or what this machine offers."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

import tempra
from tempra import _core, cuda
from tempra.checkpoint import CheckpointStore, find_checkpoints, verify_folder
from tempra.checkpoint.contents import step_of_folder
from tempra.checkpoint.load import CHECKPOINTS_FOLDER, checkpoints_root
from tempra.data.counted import counted
from tempra.train.errors import TrainError
from tempra.train.metrics import METRICS_FILE, read_metrics
from tempra.train.resume import run_folder_of


def describe_machine() -> list[str]:
    """Return lines on this build and this machine."""
    return [
        f"tempra           {tempra.__version__}, training {'on' if _core.is_enabled() else 'off'}",
        f"Python           {platform.python_version()} ({sys.executable})",
        f"device           cpu, {platform.machine()}",
        f"instruction set  {_core.current_isa()} (of {', '.join(_core.supported_isas())})",
        *(f"CUDA             {line}" for line in cuda.describe()),
        f"threads          {_core.get_num_threads()}",
        f"free memory      {_core.available_memory_bytes() / 1e9:.1f} GB",
    ]


def describe_run(path: Path) -> list[str]:
    """Return lines on a run: progress, last losses, and each checkpoint with its condition."""
    folder = run_folder_of(path)
    root = checkpoints_root(folder)
    store = CheckpointStore(root)
    steps = store.steps()
    if not steps and not (folder / METRICS_FILE).exists():
        raise TrainError(
            f"{folder} is no run: it has no {CHECKPOINTS_FOLDER} and no {METRICS_FILE}"
        )
    lines = [f"run         {folder}", *_progress(folder)]
    lines += [_describe_checkpoint(store, found) for found in find_checkpoints(root)]
    lines.append(f"to continue: tempra train resume --checkpoint {path}")
    return lines


def _progress(folder: Path) -> list[str]:
    last: dict[str, dict[str, Any]] = {}
    if (folder / METRICS_FILE).exists():
        for record in read_metrics(folder / METRICS_FILE):
            last[record.get("kind", "")] = record
    lines = []
    if "step" in last:
        step = last["step"]
        lines.append(
            f"last step   {step['step']}{_stage_of(step)}, loss {step['loss']}, "
            f"{step['tokens']:,} tokens"
        )
        lines += _read_so_far(folder)
    if "validation" in last:
        validation = last["validation"]
        lines.append(
            f"validation  step {validation['step']}{_stage_of(validation)}, "
            f"loss {validation['loss']}"
        )
        for name, loss in validation.get("source_losses", {}).items():
            lines.append(f"            {name}: loss {loss}")
    return lines


def _stage_of(record: dict[str, Any]) -> str:
    return f" ({record['stage']})" if "stage" in record else ""


def _read_so_far(folder: Path) -> list[str]:
    """Return a line on each stage that was begun: its steps, and how often it read its sources."""
    begun: dict[str | None, dict[str, Any]] = {}
    read: dict[str | None, dict[str, Any]] = {}
    for record in read_metrics(folder / METRICS_FILE):
        if record.get("kind") == "stage":
            begun[record.get("stage")] = record
        elif "epoch" in record:
            read[record.get("stage")] = record
    lines = []
    for stage, record in begun.items():
        last = read.get(stage, {})
        epochs = last.get("source_epochs") or {"the text": last.get("epoch", 0.0)}
        first, steps = record["step"], record["steps"]
        name = "run" if stage is None else stage
        shown = ", ".join(f"{source} {times:.2f} times" for source, times in epochs.items())
        lines.append(
            f"stage       {name}: {counted(steps, 'step')} from {first:,} on, read {shown}"
        )
    return lines


def _describe_checkpoint(store: CheckpointStore, folder: Path) -> str:
    step = step_of_folder(folder.name)
    try:
        manifest = verify_folder(folder)
        size = sum(record.size for record in manifest.files.values())
        condition = f"{size / 1e6:.1f} MB, verified"
    except _core.CheckpointError as error:
        condition = f"DAMAGED: {error}"
    marks = [
        name for name, of in (("latest", store.latest()), ("best", store.best())) if of == step
    ]
    return f"checkpoint  {folder.name}  {condition}{'  ' + ', '.join(marks) if marks else ''}"
