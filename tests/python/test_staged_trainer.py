"""The loop over stages at library level: any stages, stopped anywhere, end with the same bits."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stop_at import StopAt
from tempra._core import CheckpointError
from tempra.checkpoint import load_checkpoint
from tempra.train.callbacks import Callback, RunView
from tempra.train.errors import TrainError
from tempra.train.evaluation import Evaluation, evaluate
from tempra.train.metrics import read_metrics
from tempra.train.run_folder import RunFolder
from tempra.train.stage import Stage
from tempra.train.train_state import TrainState
from tempra.train.trainer import Trainer
from tempra.train.trainer_settings import TrainerSettings
from tiny_model import TinySource, make_state, weights

# Steps, batches per step, whether the optimizer is reset, steps between validations.
Plan = Sequence[tuple[int, int, bool, int]]


class Begun(Callback):
    """The stages that a run went through, with the step at which it entered each."""

    def __init__(self) -> None:
        self.stages: list[tuple[str | None, int]] = []

    def on_stage_begin(self, run: RunView) -> None:
        self.stages.append((run.stage, run.state.step))


def stages_of(state: TrainState, plan: Plan) -> list[Stage]:
    stages = []
    for number, (steps, batches, reset, interval) in enumerate(plan):
        source = TinySource(seed=number, batches_per_epoch=4 + number)

        def validate(interrupted: Any, source: TinySource = source) -> Evaluation | None:
            batches = (source.batch(1_000_000 + index) for index in range(2))
            return evaluate(state.objective, batches, interrupted=interrupted)

        settings = TrainerSettings(
            steps=steps,
            learning_rate=lambda step, peak=0.05 / (1 + number): peak / (1 + step),  # type: ignore[misc]
            batches_per_step=batches,
            evaluation_interval=interval,
            checkpoint_interval=3,
            log_interval=2,
        )
        name, record = f"stage-{number}", {"steps": steps}
        stages.append(Stage(source, settings, validate, name, reset_optimizer=reset, record=record))
    return stages


def train(folder: Path, plan: Plan, *callbacks: Callback) -> TrainState:
    state = make_state(seed=3)
    checkpoint = None
    if any(folder.glob("checkpoints/step-*")):
        checkpoint = load_checkpoint(folder)
        state.restore(checkpoint)
    with RunFolder(folder, resume_from=checkpoint, keep_last=100) as run:
        Trainer(state, stages_of(state, plan), run_folder=run, callbacks=callbacks).fit()
    return state


def trace(folder: Path) -> list[dict[str, Any]]:
    dropped = ("tokens_per_second", "gradient_norm", "skipped", "epoch")
    return [
        {name: value for name, value in record.items() if name not in dropped}
        for record in read_metrics(folder / "metrics.jsonl")
    ]


plans = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 3), st.booleans(), st.integers(0, 3)),
    min_size=1,
    max_size=4,
)


@given(plan=plans, data=st.data())
@settings(deadline=None, max_examples=50)
def test_a_run_that_stops_anywhere_ends_with_the_same_bits(plan: Plan, data: st.DataObject) -> None:
    total = sum(steps for steps, *_ in plan)
    stops = sorted(data.draw(st.sets(st.integers(1, total), max_size=3)))
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # each save is flushed
    with tempfile.TemporaryDirectory(dir=memory) as place:
        whole, cut = Path(place, "whole"), Path(place, "cut")
        begun = Begun()
        expected = train(whole, plan, begun)
        first = [sum(steps for steps, *_ in plan[:number]) for number in range(len(plan))]
        assert begun.stages == [(f"stage-{n}", step) for n, step in enumerate(first)]
        assert expected.cursors["train"] == sum(steps * batches for steps, batches, *_ in plan)
        for stop in stops:
            train(cut, plan, StopAt(stop))
        state = train(cut, plan)
        assert weights(state) == weights(expected)
        assert trace(cut) == trace(whole)
        file = f"checkpoints/step-{total:08d}/state.json"
        assert (cut / file).read_bytes() == (whole / file).read_bytes()
        boundaries = {sum(steps for steps, *_ in plan[: number + 1]) for number in range(len(plan))}
        assert boundaries <= {int(path.name[5:]) for path in whole.glob("checkpoints/step-*")}


def test_batches_of_a_stage_begin_with_its_first() -> None:
    """Each stage reads from the start of its own data; randomness goes on over the run."""
    asked: list[tuple[int, int]] = []
    steps: list[int] = []
    state = make_state(seed=3)
    stages = stages_of(state, [(2, 2, False, 0), (3, 1, False, 0)])
    for number, stage in enumerate(stages):
        given = stage.source.batch

        def batch(index: int, given: Any = given, number: int = number) -> Any:
            asked.append((number, index))
            return given(index)

        stage.source.batch = batch  # type: ignore[method-assign]

    class Generator:
        def set_step(self, step: int) -> None:
            steps.append(step)

    state.generator = Generator()  # type: ignore[assignment]
    Trainer(state, [Stage(each.source, each.settings) for each in stages]).fit()
    assert asked == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)]
    assert steps == [0, 1, 2, 3, 4, 5, 6]


def test_a_checkpoint_of_other_stages_is_refused(tmp_path: Path) -> None:
    plan = [(3, 1, False, 0), (4, 1, False, 0)]
    train(tmp_path, plan, StopAt(5))
    for other, words in (
        ([(2, 1, False, 0), (4, 1, False, 0)], "began at step 3, but the stages before it"),
        ([(3, 1, False, 0)], "is of stage 2, the run has 1"),
        ([(3, 1, False, 0), (1, 1, False, 0)], "has had 2 steps, but is to have 1"),
    ):
        with pytest.raises(CheckpointError, match=words):
            train(tmp_path, other)


def test_a_source_needs_settings() -> None:
    with pytest.raises(TrainError, match="without settings"):
        Trainer(make_state(), TinySource())
