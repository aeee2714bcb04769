"""The typed schema of the configuration: every section, every key, its type and its default.

Each section is a class that refuses unknown keys and checks its own values; `Config` checks
values that depend on two sections. `common/config_file.py` reads a file into it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from common.config_data import (
    METRIC_NAMES,
    BaselineName,
    Count,
    DataConfig,
    Fraction,
    MetricName,
    ModelName,
    Name,
    Positive,
    Section,
    Strategy,
    TaskName,
    ThresholdMode,
)
from common.errors import UserError
from common.yaml_file import format_yaml

Share = Annotated[float, Field(gt=0, lt=1)]
Stage = Literal["pretrain", "finetune", "evaluate"]
TrackerName = Literal[
    "aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "tensorboard", "trackio", "wandb"
]


class RunConfig(Section):
    """Where a run writes, its id, and the checkpoint that it starts from."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 47
    """The seed of everything random: weights, order of pairs, dropout, resamples."""
    output_dir: str = "runs"
    """The directory for logs and models, which is created where it is missing."""
    pretrain_run_id: Name | None = None
    """The name of a pretraining run; without one, the time of its start."""
    finetune_run_id: Name | None = None
    """The name of a finetuning run; without one, the time of its start."""
    eval_run_id: Name | None = None
    """The name of an evaluation run; without one, the time of its start."""
    load_checkpoint_path: str | None = None
    """The model that finetuning or evaluation starts from, unless `--checkpoint` names one."""
    save_best_only: bool = True
    """Whether only the best model is kept; if false, that of every epoch is kept as well."""
    trackers: tuple[TrackerName, ...] = ()
    """The experiment trackers that receive the rows of `training_step.csv`, by their packages."""
    rank_timeout_seconds: Positive = 300.0
    """Seconds after which a process of the run that gives no sign of life counts as lost."""

    def run_id(self, stage: Stage) -> str | None:
        """Return the configured run id of a stage, or None if a timestamp names the run."""
        ids = {"pretrain": self.pretrain_run_id, "finetune": self.finetune_run_id}
        return ids.get(stage, self.eval_run_id)


class MlpHeadConfig(Section):
    """The classifier on top of the pair's representation."""

    hidden_dims: tuple[Count, ...] = (512, 256)
    """The widths of the hidden layers, from first to last."""
    dropout: Fraction = 0.1
    """The dropout rate after every hidden layer."""
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    """The activation function of the hidden layers."""
    norm: Literal["layernorm", "none"] = "layernorm"
    """The normalisation of the hidden layers."""


class RegularizationConfig(Section):
    """Dropout rates, which act only while training."""

    dropout: Fraction = 0.1
    """The rate for every branch's output and the feed-forward layers' hidden units."""
    token_dropout: Fraction = 0.0
    """The rate for whole residues, after the input projection."""
    cross_attention_dropout: Fraction = 0.0
    """The rate for the outputs of the heads of the cross and CLS attentions.

    They are dropped before their output projection. It is not dropout of attention weights, which
    the fast kernel for sequences of all lengths does not support.
    """
    stochastic_depth: Fraction = 0.0
    """The rate at which a protein skips a branch of the last encoder layer.

    The rate rises linearly from the first layer to the last.
    """


class ModelConfig(Section):
    """The pair model: the registered name of its architecture, and its sizes."""

    model: ModelName = "v3"
    """The architecture."""
    input_dim: Count | Literal["auto"] = "auto"
    """The width of the embeddings; `auto` takes it from the language model."""
    standardize_input: bool = True
    """Whether each embedding dimension is scaled to mean 0 and deviation 1 of the training side."""
    d_model: Count = 640
    """The width of the model's states; for `factorised`, of the two vectors of a protein."""
    encoder_layers: Annotated[int, Field(ge=0)] = 5
    """The number of encoder layers (`v3`)."""
    cross_attn_layers: Count = 5
    """The number of cross-attention blocks (`v3`)."""
    n_heads: Count = 10
    """The number of attention heads, which must divide `d_model` (`v3`)."""
    mlp_head: MlpHeadConfig = MlpHeadConfig()
    regularization: RegularizationConfig = RegularizationConfig()


class LoggingConfig(Section):
    """Which validation metrics the CSV contains, and how often a training step is logged."""

    validation_metrics: tuple[MetricName, ...] = ("auroc", "auprc")
    """The metrics that are computed after every epoch, in the order of the CSV's columns."""
    heartbeat_every_n_steps: Count = 50
    """After how many training steps the event `step` is logged again."""


class OptimizerConfig(Section):
    """The settings of the AdamW optimizer."""

    type: Literal["adamw"] = "adamw"
    """The optimizer."""
    lr: Positive = 1e-4
    """The learning rate; with `onecycle`, the peak unless `scheduler.max_lr` is set."""
    beta1: Fraction = 0.9
    """The decay rate of the mean of gradients."""
    beta2: Fraction = 0.999
    """The decay rate of the mean of squared gradients."""
    eps: Positive = 1e-8
    """The number that is added to the denominator of an update."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """The weight decay, which is decoupled from the gradient."""


class SchedulerConfig(Section):
    """How the learning rate changes over the updates of a stage."""

    type: Literal["onecycle", "constant"] = "onecycle"
    """Whether the learning rate rises and falls once over the stage or stays constant."""
    max_lr: Positive | None = None
    """The peak of `onecycle`; by default `optimizer.lr`."""
    pct_start: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """The share of the updates during which the learning rate rises (`onecycle`)."""
    div_factor: Positive = 25.0
    """The peak over the first learning rate (`onecycle`)."""
    final_div_factor: Positive = 1e4
    """The first learning rate over the last (`onecycle`)."""
    anneal_strategy: Literal["cos", "linear"] = "cos"
    """The shape of the rise and the fall (`onecycle`)."""


class LossConfig(Section):
    """The settings of the loss, binary cross-entropy on logits."""

    type: Literal["bce_with_logits"] = "bce_with_logits"
    """The loss."""
    pos_weight: Positive = 1.0
    """The weight of a positive pair's loss; that of a negative pair is 1."""
    label_smoothing: Fraction = 0.0
    """Labels are moved towards 0.5 by half of this number."""
    teacher: str | None = None
    """The directory of a trained model whose probabilities are mixed into the labels."""
    teacher_weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The weight of these probabilities; the label has the rest."""


class StrategyConfig(Section):
    """Which parameters train from the start, and when the others join."""

    type: Literal["none", "staged_unfreeze"] = "none"
    """Whether all parameters train from the start or some join later."""
    unfreeze_epoch: Count = 1
    """The number of epochs after which all parameters train (`staged_unfreeze`)."""
    initial_trainable_prefixes: tuple[str, ...] = ()
    """The prefixes of the names of the parameters that train from the start, such as `head`."""

    @model_validator(mode="after")
    def _staged_needs_prefixes(self) -> StrategyConfig:
        if self.type == "staged_unfreeze" and not self.initial_trainable_prefixes:
            raise ValueError("staged_unfreeze needs initial_trainable_prefixes, such as [head]")
        return self


class TrainingConfig(Section):
    """Number of epochs, batch size, optimizer, learning rate schedule, loss and strategy."""

    epochs: Count = 10
    """The number of passes over the training pairs."""
    batch_size: Count = 32
    """The number of pairs in a batch of one process."""
    gradient_accumulation_steps: Count = 1
    """The number of batches whose gradients are averaged for one update."""
    max_grad_norm: Positive | None = 1.0
    """Gradients of a larger norm are scaled down to it; null never scales."""
    early_stopping_patience: Count | None = None
    """Stop after this many epochs without a better `monitor_metric`; null never stops."""
    monitor_metric: MetricName | Literal["loss"] = "auprc"
    """The validation metric that chooses the best epoch."""
    logging: LoggingConfig = LoggingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    loss: LossConfig = LossConfig()
    strategy: StrategyConfig = StrategyConfig()


class DecisionThresholdConfig(Section):
    """The score from which a pair counts as an interaction."""

    mode: ThresholdMode = "fixed"
    """How the threshold is chosen."""
    value: Annotated[float, Field(allow_inf_nan=False)] = 0.5
    """In the mode `fixed`, the threshold."""
    density: Share | Literal["auto"] = "auto"
    """In the mode `match_density`, the share of all pairs of new proteins to call interactions.

    `auto` takes the share that interacts in node sets of held-out proteins.
    """
    precision: Share = 0.5
    """In the mode `precision`, the share of the called pairs that should interact."""

    def as_probability(self) -> float:
        """Return the value as a threshold for a model's scores, which are probabilities.

        Raises:
            UserError: It is not between 0 and 1.
        """
        if not 0 <= self.value <= 1:
            raise UserError(
                f"evaluate.decision_threshold.value is {self.value}, but a model's scores are"
                " probabilities: choose a number from 0 to 1 (other numbers are for files given"
                " with --predictions)"
            )
        return self.value


class PrefilterConfig(Section):
    """A fast model that ranks all pairs of own proteins, so that only the best are scored."""

    checkpoint: str | None = None
    """The fast model's directory; without it all pairs are scored."""
    share: Share = 0.01
    """The share of all pairs that is scored."""
    sample: Count = 20_000
    """How many random pairs both models score, to estimate what is lost."""


class ScoringConfig(Section):
    """How many pairs are scored at a time, and how much memory the encoded proteins take."""

    tile_residues: Annotated[int, Field(ge=64)] | Literal["auto"] = "auto"
    """The number of residues in the pairs that are scored at a time."""
    memory_gib: Positive | Literal["auto"] = "auto"
    """The memory for encoded proteins in GiB; those that do not fit are kept in a file."""
    state_dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """The number format of encoded proteins in memory."""
    prefilter: PrefilterConfig = PrefilterConfig()


class IntervalsConfig(Section):
    """Confidence intervals of the metrics of labelled pairs, by a bootstrap of the proteins."""

    resamples: Annotated[int, Field(ge=0)] = 1000
    """How many bootstrap samples of the proteins are drawn; 0 computes no intervals."""


class EvaluateConfig(Section):
    """Which tasks and metrics are evaluated, on which species, and the decision threshold."""

    metrics: tuple[MetricName, ...] = METRIC_NAMES
    """The metrics of labelled pairs that are computed; the other columns of the CSV stay empty."""
    tasks: Annotated[tuple[TaskName, ...], Field(min_length=1)] = ("pairs",)
    """The tasks by which predictions are judged."""
    strategies: Annotated[tuple[Strategy, ...], Field(min_length=1)] | Literal["all"] = "all"
    """The sampling strategies whose node sets `topology` uses."""
    cross_species: tuple[str, ...] = ()
    """Further species on whose test pairs the predictions are judged."""
    enrichment: Literal["offline", "gprofiler"] = "offline"
    """Whether enriched GO terms are computed here or requested from g:Profiler."""
    decision_threshold: DecisionThresholdConfig = DecisionThresholdConfig()
    calibration: Literal["none", "temperature"] = "none"
    """Whether the probabilities of your own pairs are calibrated."""
    prevalence: Share | Literal["auto"] = "auto"
    """The share of pairs that interact, to which probabilities are calibrated.

    `auto` takes the density of the network of held-out proteins.
    """
    intervals: IntervalsConfig = IntervalsConfig()
    baselines: tuple[BaselineName, ...] = ()
    """The baselines to compare with; if it is empty, `--with-baselines` takes all."""
    baseline_checkpoint: str | None = None
    """The directory of a further model to compare with."""
    report: bool = True
    """Whether `report.html` is written beside the results of a judged run."""
    scoring: ScoringConfig = ScoringConfig()


class Config(BaseModel):
    """The whole configuration of one stage, with overrides merged in.

    The YAML sections `run_config`, … are the attributes `run`, `data`, `model`, `training` and
    `evaluate` here (pydantic reserves the name `model_config`).
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=False)

    run: RunConfig = Field(RunConfig(), alias="run_config")
    data: DataConfig = Field(DataConfig(), alias="data_config")
    model: ModelConfig = Field(ModelConfig(), alias="model_config")
    training: TrainingConfig = Field(TrainingConfig(), alias="training_config")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), alias="evaluate")

    @model_validator(mode="after")
    def _pool_can_keep_min_keep(self) -> Config:
        sampling = self.data.dataloader.sampling
        pool = sampling.pool_multiplier * self.training.batch_size
        if sampling.strategy == "ohem" and sampling.min_keep > pool:
            raise ValueError(
                f"data_config.dataloader.sampling.min_keep ({sampling.min_keep}) is larger than"
                f" the pool of pool_multiplier * batch_size = {pool} pairs"
            )
        return self

    @model_validator(mode="after")
    def _unfreezes_before_the_end(self) -> Config:
        strategy = self.training.strategy
        if strategy.type == "staged_unfreeze" and strategy.unfreeze_epoch >= self.training.epochs:
            raise ValueError(
                f"training_config.strategy.unfreeze_epoch ({strategy.unfreeze_epoch}) must be"
                f" below training_config.epochs ({self.training.epochs})"
            )
        return self

    def to_yaml(self) -> str:
        """Return the resolved configuration as YAML that `load_config` reads back."""
        content = self.model_dump(mode="json", by_alias=True)
        return format_yaml(content)


def known_keys(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Yield every key path of the schema, including sections, in order."""
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        yield key
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from known_keys(field.annotation, f"{key}.")


def flat_values(section: BaseModel) -> dict[str, Any]:
    """Return every value of a section by its key path below it, such as `mlp_head.dropout`."""
    return dict(flatten(section.model_dump(by_alias=True)))


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the key path and value of every leaf of nested dicts; an empty dict is a leaf."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
