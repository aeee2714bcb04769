"""The typed schema of the configuration: all sections and keys, with their types and defaults.

Each section is a class that rejects unknown keys and checks its own values; `Config` checks
values that depend on two sections. `common/config_file.py` reads a file into a `Config`.
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
    """The settings of a run: seed, output directory, ids, checkpoint to start from, trackers."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 47
    """The seed of all random numbers: for weights, order of pairs, dropout, bootstrap samples."""
    output_dir: str = "runs"
    """The directory for logs and models, which is created if it does not exist."""
    pretrain_run_id: Name | None = None
    """The id of a pretraining run; null uses the time of the run's start."""
    finetune_run_id: Name | None = None
    """The id of a finetuning run; null uses the time of the run's start."""
    eval_run_id: Name | None = None
    """The id of an evaluation run; null uses the time of the run's start."""
    load_checkpoint_path: str | None = None
    """The checkpoint that finetuning or evaluation uses, unless `--checkpoint` names another."""
    save_best_only: bool = True
    """Whether only the best model is saved; if false, the model of every epoch is saved too."""
    trackers: tuple[TrackerName, ...] = ()
    """The packages of the experiment trackers that receive the rows of `training_step.csv`."""
    rank_timeout_seconds: Positive = 300.0
    """Seconds without a heartbeat after which a process of the run counts as lost."""

    def run_id(self, stage: Stage) -> str | None:
        """Return the configured run id of a stage, or None if a timestamp names the run."""
        ids = {"pretrain": self.pretrain_run_id, "finetune": self.finetune_run_id}
        return ids.get(stage, self.eval_run_id)


class MlpHeadConfig(Section):
    """The multilayer perceptron (MLP) that turns the representation of a pair into a logit."""

    hidden_dims: tuple[Count, ...] = (512, 256)
    """The widths of the hidden layers, from first to last."""
    dropout: Fraction = 0.1
    """The dropout rate after every hidden layer."""
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    """The activation function of the hidden layers."""
    norm: Literal["layernorm", "none"] = "layernorm"
    """The normalisation of the hidden layers."""


class RegularizationConfig(Section):
    """Dropout rates, which apply only during training."""

    dropout: Fraction = 0.1
    """The dropout rate of every branch's output and of the feed-forward layers' hidden units."""
    token_dropout: Fraction = 0.0
    """The rate at which whole residues are dropped after the input projection."""
    cross_attention_dropout: Fraction = 0.0
    """The dropout rate of the attention heads' outputs in cross-attention and CLS attention.

    The outputs are dropped before the output projection. Attention weights are not dropped, because
    the fast kernel for sequences of all lengths does not support that.
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
    """Whether embeddings are scaled to mean 0 and standard deviation 1 of the training residues."""
    d_model: Count = 640
    """The width of the model's states, or of a protein's two vectors (`factorised`)."""
    residues_per_state: Count = 1
    """The number of neighbouring residues whose mean is one state (`v3`); 8 trains much faster."""
    encoder_layers: Annotated[int, Field(ge=0)] = 5
    """The number of encoder layers (`v3`)."""
    cross_attn_layers: Count = 5
    """The number of cross-attention blocks (`v3`)."""
    n_heads: Count = 10
    """The number of attention heads, which must divide `d_model` (`v3`)."""
    mlp_head: MlpHeadConfig = MlpHeadConfig()
    regularization: RegularizationConfig = RegularizationConfig()


class LoggingConfig(Section):
    """The reported validation metrics, and how often a training step is logged."""

    validation_metrics: tuple[MetricName, ...] = ("auroc", "auprc")
    """The metrics that are computed after every epoch, in the order of the CSV's columns."""
    heartbeat_every_n_steps: Count = 50
    """The number of training steps between two `step` events in the log."""


class OptimizerConfig(Section):
    """The settings of the AdamW optimizer."""

    type: Literal["adamw"] = "adamw"
    """The optimizer."""
    lr: Positive = 1e-4
    """The learning rate; with `onecycle`, the peak unless `scheduler.max_lr` is set."""
    beta1: Fraction = 0.9
    """The decay rate of the running mean of gradients."""
    beta2: Fraction = 0.999
    """The decay rate of the running mean of squared gradients."""
    eps: Positive = 1e-8
    """The number that is added to the denominator of an update."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """The weight decay, which is decoupled from the gradient."""


class SchedulerConfig(Section):
    """The schedule of the learning rate over the optimizer updates of a stage."""

    type: Literal["onecycle", "constant"] = "onecycle"
    """Whether the learning rate rises and falls once during the stage, or stays constant."""
    max_lr: Positive | None = None
    """The peak of `onecycle`; by default `optimizer.lr`."""
    pct_start: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """The fraction of the updates during which the learning rate rises (`onecycle`)."""
    div_factor: Positive = 25.0
    """The ratio of the peak to the first learning rate (`onecycle`)."""
    final_div_factor: Positive = 1e4
    """The ratio of the first to the last learning rate (`onecycle`)."""
    anneal_strategy: Literal["cos", "linear"] = "cos"
    """The shape of the rise and the fall (`onecycle`)."""


class LossConfig(Section):
    """The settings of the loss, binary cross-entropy on logits."""

    type: Literal["bce_with_logits"] = "bce_with_logits"
    """The loss."""
    pos_weight: Positive = 1.0
    """The weight of a positive pair's loss; the loss of a negative pair has the weight 1."""
    label_smoothing: Fraction = 0.0
    """The label smoothing: labels are moved towards 0.5 by half of this number."""
    teacher: str | None = None
    """The directory of a trained model whose probabilities are mixed into the labels."""
    teacher_weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The weight of the teacher's probabilities; the label has the remaining weight."""


class StrategyConfig(Section):
    """The parameters that are trained from the start, and when all others are unfrozen."""

    type: Literal["none", "staged_unfreeze"] = "none"
    """Whether all parameters are trained from the start, or some are unfrozen later."""
    unfreeze_epoch: Count = 1
    """The number of epochs after which all parameters are trained (`staged_unfreeze`)."""
    initial_trainable_prefixes: tuple[str, ...] = ()
    """Name prefixes of the parameters that are trained from the start, such as `head`."""

    @model_validator(mode="after")
    def _staged_needs_prefixes(self) -> StrategyConfig:
        if self.type == "staged_unfreeze" and not self.initial_trainable_prefixes:
            raise ValueError("staged_unfreeze needs initial_trainable_prefixes, such as [head]")
        return self


class TrainingConfig(Section):
    """The settings of training: epochs, batches, optimizer, learning rate, loss and strategy."""

    epochs: Count = 10
    """The number of passes over the training pairs."""
    batch_size: Count = 32
    """The number of pairs in a batch of one process."""
    gradient_accumulation_steps: Count = 1
    """The number of batches whose gradients are averaged for one update."""
    max_grad_norm: Positive | None = 1.0
    """The norm to which gradients of a larger norm are clipped; null disables clipping."""
    early_stopping_patience: Count | None = None
    """Stop after this many epochs without a better `monitor_metric`; null never stops early."""
    monitor_metric: MetricName | Literal["loss"] = "auprc"
    """The validation metric by which the best epoch is chosen."""
    logging: LoggingConfig = LoggingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    loss: LossConfig = LossConfig()
    strategy: StrategyConfig = StrategyConfig()


class DecisionThresholdConfig(Section):
    """The decision threshold: the lowest score at which a pair is predicted to interact."""

    mode: ThresholdMode = "fixed"
    """How the threshold is chosen."""
    value: Annotated[float, Field(allow_inf_nan=False)] = 0.5
    """The threshold (`fixed`)."""
    density: Share | Literal["auto"] = "auto"
    """The fraction of all pairs of new proteins to predict as interactions (`match_density`).

    `auto` uses the fraction of interacting pairs in node sets of held-out proteins.
    """
    precision: Share = 0.5
    """The fraction of predicted interactions that should be true (`precision`)."""

    def as_probability(self) -> float:
        """Return the configured threshold, after checking that it is a probability.

        Raises:
            UserError: The threshold is not between 0 and 1.
        """
        if not 0 <= self.value <= 1:
            raise UserError(
                f"evaluate.decision_threshold.value is {self.value}, but a model's scores are"
                " probabilities; set a number from 0 to 1 (other numbers are allowed only with"
                " --predictions)"
            )
        return self.value


class PrefilterConfig(Section):
    """The prefilter, a fast model that selects which pairs of the user's proteins are scored."""

    checkpoint: str | None = None
    """The fast model's directory; null scores all pairs."""
    share: Share = 0.01
    """The fraction of all pairs that is scored."""
    sample: Count = 20_000
    """The number of random pairs that both models score, to estimate how many pairs are lost."""


class ScoringConfig(Section):
    """The number of pairs that are scored at a time, and the memory for encoded proteins."""

    tile_residues: Annotated[int, Field(ge=64)] | Literal["auto"] = "auto"
    """The maximum number of residues in the pairs that are scored at a time."""
    memory_gib: Positive | Literal["auto"] = "auto"
    """The memory for scoring in GiB; encoded proteins that do not fit are kept in a file."""
    state_dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """The number format of encoded proteins in memory."""
    prefilter: PrefilterConfig = PrefilterConfig()


class IntervalsConfig(Section):
    """Confidence intervals of the pair metrics, from a bootstrap over proteins."""

    resamples: Annotated[int, Field(ge=0)] = 1000
    """The number of bootstrap samples of the proteins; 0 computes no intervals."""


class EvaluateConfig(Section):
    """The settings of an evaluation: tasks, metrics, species and decision threshold."""

    metrics: tuple[MetricName, ...] = METRIC_NAMES
    """The metrics to compute for labelled pairs; the CSV columns of other metrics stay empty."""
    tasks: Annotated[tuple[TaskName, ...], Field(min_length=1)] = ("pairs",)
    """The tasks on which predictions are evaluated."""
    strategies: Annotated[tuple[Strategy, ...], Field(min_length=1)] | Literal["all"] = "all"
    """The sampling strategies whose node sets `topology` uses."""
    cross_species: tuple[str, ...] = ()
    """Additional species on whose test pairs the predictions are evaluated."""
    enrichment: Literal["offline", "gprofiler"] = "offline"
    """Whether enriched GO terms are computed here or requested from g:Profiler."""
    decision_threshold: DecisionThresholdConfig = DecisionThresholdConfig()
    calibration: Literal["none", "temperature"] = "none"
    """Whether the probabilities of your own pairs are calibrated."""
    prevalence: Share | Literal["auto"] = "auto"
    """The fraction of interacting pairs for which probabilities are calibrated.

    `auto` uses the density of the network of held-out proteins.
    """
    intervals: IntervalsConfig = IntervalsConfig()
    baselines: tuple[BaselineName, ...] = ()
    """The baselines to compare with; if the list is empty, `--with-baselines` uses all."""
    baseline_checkpoint: str | None = None
    """The checkpoint directory of another model to compare with."""
    report: bool = True
    """Whether an evaluation run writes `report.html` beside its results."""
    scoring: ScoringConfig = ScoringConfig()


class Config(BaseModel):
    """The complete configuration of one stage, with the overrides applied.

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
    """Yield the path of every section and key of the schema, in order."""
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        yield key
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from known_keys(field.annotation, f"{key}.")


def flat_values(section: BaseModel) -> dict[str, Any]:
    """Return all values of a section by their key paths in it, such as `mlp_head.dropout`."""
    return dict(flatten(section.model_dump(by_alias=True)))


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the key path and value of every leaf of nested dicts; an empty dict is a leaf."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
