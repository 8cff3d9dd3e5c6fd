"""A language-model run put together from its configuration: text, model, optimizer, trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tempra import _core
from tempra._core import ConfigError
from tempra.checkpoint import Checkpoint, load_weights
from tempra.data.chat_template import ChatTemplate
from tempra.data.preparation import PrepareProgress
from tempra.data.tokenizer import Tokenizer
from tempra.models import GenerationOptions, Transformer, TransformerConfig
from tempra.optim.adamw import AdamW
from tempra.train.callbacks import Callback, EarlyStopping
from tempra.train.chat import ChatSession
from tempra.train.config import LlmTrainingConfig, StageRun, named_stage
from tempra.train.context import Context
from tempra.train.objective import AutoregressiveObjective, DeferredAutoregressiveObjective
from tempra.train.overrides import dump_config, with_stage_values
from tempra.train.plan import describe_machine_use, describe_plan
from tempra.train.report import TrainingReport, TrainingResult
from tempra.train.resume import Resumption, with_recorded_schedule
from tempra.train.run_folder import RunFolder, choose_run_folder
from tempra.train.run_text import RunText, StageText, open_run_text
from tempra.train.sample_text import SampleText
from tempra.train.shutdown import ShutdownSignals
from tempra.train.stage import Stage
from tempra.train.stage_data import StageBatches, StageEvaluator, steps_of_epochs
from tempra.train.stage_report import describe_stages, source_record
from tempra.train.text_generation import stream_text
from tempra.train.train_state import TrainState, load_weights_into
from tempra.train.trainer import Trainer
from tempra.train.trainer_settings import TrainerSettings

Announce = Callable[[str], None]

_ACTIVATIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


def _ignore(line: str) -> None:
    """Announce nothing: the library never prints by itself."""


def train(config: LlmTrainingConfig, *, callbacks: Sequence[Callback] = ()) -> TrainingReport:
    """Train a new model as the configuration says; return the numbers."""
    return train_with_result(config, callbacks=callbacks).report


def train_with_result(
    config: LlmTrainingConfig, *, callbacks: Sequence[Callback] = ()
) -> TrainingResult:
    """Train a new model as the configuration says; return the numbers and the model."""
    if not isinstance(config, LlmTrainingConfig):
        raise ConfigError(
            f"train: config: {type(config).__name__} given; needs a LlmTrainingConfig, such as "
            "from LlmTrainingConfig.from_mapping"
        )
    folder = choose_run_folder(config.checkpoint.dir)
    return continue_run(Resumption(folder, config, None), callbacks=callbacks)


def continue_run(
    resumption: Resumption,
    *,
    callbacks: Sequence[Callback] = (),
    signals: ShutdownSignals | None = None,
    announce: Announce = _ignore,
    progress: PrepareProgress | None = None,
) -> TrainingResult:
    """Run a new or resumed run in its folder, to its end or a signal."""
    config = resumption.config
    _core.check_device(config.train.device)  # before text is prepared
    if config.train.device != "cpu":
        _core.set_cuda_deterministic(config.train.deterministic)
    for note in resumption.notes:
        announce(note)
    text = open_run_text(config, checkpoint=resumption.checkpoint, progress=progress)
    if resumption.checkpoint is None:
        config = with_recorded_schedule(with_known_steps(config, text))
    with RunFolder(
        resumption.folder,
        run_config=dump_config(config),
        keep_last=config.checkpoint.keep_last,
        resume_from=resumption.checkpoint,
    ) as run_folder:
        trainer = LanguageModelTrainer(
            config,
            checkpoint=resumption.checkpoint,
            run_folder=run_folder,
            callbacks=callbacks,
            signals=signals,
            announce=announce,
            text=text,
        )
        return trainer.fit()


def with_known_steps(config: LlmTrainingConfig, text: RunText) -> LlmTrainingConfig:
    """Return the configuration with train.epochs turned into train.steps, in every stage."""
    changes = {}
    for number, run in enumerate(config.stage_runs()):
        if run.config.train.epochs is not None:
            with named_stage(run.name):
                steps = steps_of_epochs(run.config, text.stages[number], stage=number)
            changes[run.name] = {"epochs": None, "steps": steps}
    return with_stage_values(config, "train", changes)


class LanguageModelTrainer(Trainer):
    """A trainer whose parts come from a configuration, and from a checkpoint to continue."""

    def __init__(
        self,
        config: LlmTrainingConfig,
        *,
        checkpoint: Checkpoint | None = None,
        run_folder: RunFolder | None = None,
        callbacks: Sequence[Callback] = (),
        signals: ShutdownSignals | None = None,
        announce: Announce = _ignore,
        progress: PrepareProgress | None = None,
        text: RunText | None = None,
    ) -> None:
        folder = run_folder.path if run_folder is not None else None
        train = config.train
        self.context = Context(folder, train.seed, train.threads, train.device).apply()
        text = text or open_run_text(config, checkpoint=checkpoint, progress=progress)
        self.config = config = with_known_steps(config, text)
        self.tokenizer, self.template = text.tokenizer(), text.template()
        # A prompt that cannot be encoded is to stop the run now, not at its first sample.
        self.tokenizer.encode(config.evaluation.sample_prompt or "")
        if run_folder is not None:
            run_folder.tokenizer_files = text.model_files()
        runs = config.stage_runs()
        sizes = model_config(runs[0].config, self.tokenizer.vocab_size)
        batches = []
        for number, (run, stage) in enumerate(zip(runs, text.stages, strict=True)):
            with named_stage(run.name):
                batches.append(StageBatches(run.config, stage, stage=number))
        for line in (
            *describe_machine_use(config),
            *describe_plan(config, sizes),
            *describe_stages(runs, text.stages, batches),
        ):
            announce(line)
        self.model = Transformer(sizes, seed=config.train.seed)
        self.model.recompute = config.train.recompute
        self.model.to(config.train.device)
        if self.template is not None and config.evaluation.sample_prompt:
            self._chat(self.template, 0).check(config.evaluation.sample_prompt)
        state = build_state(config, self.model)
        state.callbacks = (*callbacks, *self._own_callbacks())
        if checkpoint is not None:
            state.restore(checkpoint)
        elif config.train.init_from is not None:
            load_initial_weights(self.model, config.train.init_from)
        stages = [
            self._stage(run, stage, source, named=config.has_stages())
            for run, stage, source in zip(runs, text.stages, batches, strict=True)
        ]
        super().__init__(
            state,
            stages,
            run_folder=run_folder,
            callbacks=tuple(state.callbacks),  # type: ignore[arg-type]
            signals=signals,
        )

    def _stage(self, run: StageRun, text: StageText, source: StageBatches, *, named: bool) -> Stage:
        objective = AutoregressiveObjective(self.model)
        settings = trainer_settings(run.config)
        return Stage(
            source,
            settings,
            StageEvaluator(run.config, text, objective, source.shares)
            if text.has_validation
            else None,
            name=run.name,
            flops_per_token=self.model.flops_per_token(run.config.sequence_length),
            reset_optimizer=run.reset_optimizer,
            record=source_record(run, text, source) if named or source.names else {},
        )

    def fit(self) -> TrainingResult:
        """Train, and let a finished model write a sample where samples are asked for."""
        result = super().fit()
        if result.report.status == "interrupted" or not self.config.evaluation.sample_tokens:
            return result
        return replace(result, sample=self.write_sample(result.report.step))

    def _own_callbacks(self) -> tuple[Callback, ...]:
        evaluation = self.config.evaluation
        own: list[Callback] = []
        if evaluation.sample_tokens:
            own.append(SampleText(self.write_sample))
        last = self.config.stage_runs()[-1].config.evaluation
        if last.patience is not None:
            stages = len(self.config.stages)
            own.append(EarlyStopping(last.patience, stage=max(0, stages - 1)))
        return tuple(own)

    def _chat(self, template: ChatTemplate, step: int) -> ChatSession:
        options = sample_options(
            self.config.evaluation.sample_tokens, self.config.train.seed + step
        )
        return ChatSession(self.model, self.tokenizer, template, options)

    def write_sample(self, step: int) -> str:
        """Return text of the model as it is now; the same step gives the same choices."""
        evaluation = self.config.evaluation
        prompt = evaluation.sample_prompt or ""
        if self.template is not None and prompt:
            return f"{prompt}\n{''.join(self._chat(self.template, step).reply(prompt))}"
        return generate_text(
            self.model,
            self.tokenizer,
            prompt,
            max_tokens=evaluation.sample_tokens,
            seed=self.config.train.seed + step,
        )


class LlamaTrainer(LanguageModelTrainer):
    """A `LanguageModelTrainer` that takes the llama family only."""

    def __init__(self, config: LlmTrainingConfig, **options: Any) -> None:
        if config.model.resolved_family() != "llama":
            raise ConfigError(
                f"LlamaTrainer: got the family {config.model.resolved_family()}, needs llama"
            )
        super().__init__(config, **options)


def model_config(config: LlmTrainingConfig, tokenizer_size: int) -> TransformerConfig:
    """Return the transformer a configuration asks for."""
    model, sizes = config.model, config.model_sizes()
    given = {
        "tie_embeddings": model.tie_embeddings,
        "bias": model.bias,
        "norm_epsilon": model.norm_epsilon,
        "rope_theta": model.rope_theta,
    }
    return TransformerConfig.for_family(
        sizes.family,
        vocab_size=config.check_vocabulary(tokenizer_size),
        width=sizes.width,
        layers=sizes.layers,
        heads=sizes.heads,
        kv_heads=sizes.kv_heads,
        context=sizes.context,
        feed_forward=sizes.feed_forward,
        dropout=model.dropout,
        dtype=_ACTIVATIONS[config.train.dtype],
        **{name: value for name, value in given.items() if value is not None},
    )


def build_state(config: LlmTrainingConfig, model: Transformer) -> TrainState:
    """Return the state of a run before its first step."""
    optimizer = AdamW(
        model.named_parameters(),
        betas=config.optimizer.betas,
        epsilon=config.optimizer.eps,
        weight_decay=config.optimizer.weight_decay,
        # The CPU's products round fp32 weights as they read them; a device's read a copy.
        low_precision=model.dtype if model.device != "cpu" and model.dtype.itemsize == 2 else None,
        scale_losses=config.train.dtype == "fp16",
    )
    objective = DeferredAutoregressiveObjective(model)
    return TrainState(objective, {"adamw": optimizer}, _core.default_generator())


def trainer_settings(config: LlmTrainingConfig) -> TrainerSettings:
    """Translate the configuration for the loop."""
    return TrainerSettings(
        steps=config.steps,
        learning_rate=config.learning_rate(),
        batches_per_step=config.gradient_accumulation,
        max_gradient_norm=config.train.max_gradient_norm or 0.0,
        log_interval=config.logging.interval,
        evaluation_interval=config.evaluation_interval,
        checkpoint_interval=config.checkpoint.interval,
        keep_best=config.checkpoint.keep_best,
        asynchronous_checkpoints=config.checkpoint.asynchronous,
        non_finite_limit=config.train.non_finite_limit,
        cuda_graph=config.train.cuda_graph,
    )


def load_initial_weights(model: Transformer, source: str) -> None:
    """Copy weights alone: the optimizer, the schedule and the data start afresh."""
    tensors, _ = load_weights(source)
    load_weights_into(model, model.from_hugging_face(tensors))


def generate_text(
    model: Transformer, tokenizer: Tokenizer, prompt: str, *, max_tokens: int, seed: int
) -> str:
    """Return the prompt and what the model makes of it."""
    options = sample_options(max_tokens, seed)
    return prompt + "".join(stream_text(model, tokenizer, prompt, options))


def sample_options(max_tokens: int, seed: int) -> GenerationOptions:
    """Return how samples are written."""
    return GenerationOptions(max_tokens=max_tokens, temperature=0.8, top_k=50, seed=seed)
