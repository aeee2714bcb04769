"""The typed schema of the YAML configuration, how it is loaded, and what it says when it is wrong.

A file has the shared sections `run_config`, `data_config`, `model_config`, `training_config` and
`evaluate`, and may have `pretrain:` and `finetune:`, whose entries override the shared sections for
that stage alone. `load_config` merges, applies `--set key.path=value`, validates, and returns a
`Config`. Only PyYAML and pydantic are imported here: a wrong config is told in a blink.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from common.errors import UserError, excerpt
from common.yaml_file import Lines, NotYamlError, format_yaml, parse_yaml, read_yaml

Stage = Literal["pretrain", "finetune", "evaluate"]
Strategy = Literal["BFS", "DFS", "RANDOM_WALK"]
MetricName = Literal[
    "auroc", "auprc", "accuracy", "sensitivity", "specificity", "precision", "recall", "f1", "mcc"
]
Batching = Literal["shuffled", "hub"]
Task = Literal["pairs", "topology", "complexes", "go_modules", "essential_proteins"]

METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
TASKS: tuple[Task, ...] = get_args(Task)
OVERRIDING_STAGES = ("pretrain", "finetune")

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
RunId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Section(BaseModel):
    """A section that refuses what it does not know and does not guess types."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=()
    )

    @field_validator("*")
    @classmethod
    def _texts_can_be_seen(cls, value: Any) -> Any:
        """Names and paths with a NUL or a line end fail far from here, and not in one sentence."""
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and not (text and text.isprintable()):
                raise ValueError(f"'{excerpt(text)}' is empty or holds what cannot be seen")
        return value


class RunConfig(Section):
    """Where a run writes, what it is called, where it starts from."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 47
    output_dir: str = "runs"
    pretrain_run_id: RunId | None = None
    finetune_run_id: RunId | None = None
    eval_run_id: RunId | None = None
    load_checkpoint_path: str | None = None
    save_best_only: bool = True

    def run_id(self, stage: Stage) -> str | None:
        """The configured run id of a stage, or None where a timestamp shall name the run."""
        ids = {"pretrain": self.pretrain_run_id, "finetune": self.finetune_run_id}
        return ids.get(stage, self.eval_run_id)


class BenchmarkConfig(Section):
    """Which benchmark, where it lies, and which part of it."""

    name: Literal["pring", "demo"] = "pring"
    root_dir: str = "data/pring"
    species: str = "human"
    split_strategy: Strategy = "BFS"
    functional_dir: str | None = None
    download: bool = False
    hub_repo: str = "piaolaidangqu/PRING"
    missing_sequences: Literal["refuse", "drop"] = "refuse"
    cache_dir: str = "cache/pring"


class EmbeddingsConfig(Section):
    """Which protein language model gives the per-residue states, and how they are stored."""

    model_name: str = "facebook/esm2_t33_650M_UR50D"
    revision: str | None = None
    cache_dir: str = "cache/embeddings"
    dtype: Literal["float16", "float32"] = "float16"
    layer: int = -1
    tokens_per_batch: Count | Literal["auto"] = "auto"
    shard_mib: Count = 256


class SamplingConfig(Section):
    """Which pairs a training step sees: all in turn, or the hardest of a pool (OHEM)."""

    strategy: Literal["none", "ohem"] = "none"
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    warmup_pos_neg_ratio: Positive = 1.0
    keep_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    min_keep: Count = 1
    pool_multiplier: Count = 1
    cap_protein: Count | None = None


class DataloaderConfig(Section):
    """How batches reach the model."""

    num_workers: Annotated[int, Field(ge=0)] = 0
    pin_memory: bool = False
    drop_last: bool = False
    batching: Batching = "shuffled"
    sampling: SamplingConfig = SamplingConfig()


class DataConfig(Section):
    """Benchmark, embeddings and batches."""

    benchmark: BenchmarkConfig = BenchmarkConfig()
    embeddings: EmbeddingsConfig = EmbeddingsConfig()
    max_sequence_length: Count = 1000
    dataloader: DataloaderConfig = DataloaderConfig()


class MlpHeadConfig(Section):
    """The classifier on top of the pair's representation."""

    hidden_dims: tuple[Count, ...] = (512, 256)
    dropout: Fraction = 0.1
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    norm: Literal["layernorm", "none"] = "layernorm"


class RegularizationConfig(Section):
    """What is dropped at random while training."""

    dropout: Fraction = 0.1
    token_dropout: Fraction = 0.0
    cross_attention_dropout: Fraction = 0.0
    stochastic_depth: Fraction = 0.0


class ModelConfig(Section):
    """The pair model: an architecture by its registered name, and its sizes."""

    model: str = "v3"
    input_dim: Count | Literal["auto"] = "auto"
    standardize_input: bool = True
    d_model: Count = 640
    encoder_layers: Annotated[int, Field(ge=0)] = 5
    cross_attn_layers: Count = 5
    n_heads: Count = 8
    mlp_head: MlpHeadConfig = MlpHeadConfig()
    regularization: RegularizationConfig = RegularizationConfig()

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> ModelConfig:
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads ({self.n_heads}) must divide d_model ({self.d_model})")
        return self


class LoggingConfig(Section):
    """Which validation metrics are columns of the CSV, and how often a step is logged."""

    validation_metrics: tuple[MetricName, ...] = ("auroc", "auprc")
    heartbeat_every_n_steps: Count = 50


class OptimizerConfig(Section):
    """AdamW."""

    type: Literal["adamw"] = "adamw"
    lr: Positive = 1e-4
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    eps: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.01


class SchedulerConfig(Section):
    """The learning rate over the updates of a stage."""

    type: Literal["onecycle", "constant"] = "onecycle"
    max_lr: Positive | None = None
    pct_start: Annotated[float, Field(gt=0, lt=1)] = 0.3
    div_factor: Positive = 25.0
    final_div_factor: Positive = 1e4
    anneal_strategy: Literal["cos", "linear"] = "cos"


class LossConfig(Section):
    """Binary cross-entropy on logits."""

    type: Literal["bce_with_logits"] = "bce_with_logits"
    pos_weight: Positive = 1.0
    label_smoothing: Fraction = 0.0


class StrategyConfig(Section):
    """Which parameters train from the start, and when the rest join."""

    type: Literal["none", "staged_unfreeze"] = "none"
    unfreeze_epoch: Count = 1
    initial_trainable_prefixes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _staged_needs_prefixes(self) -> StrategyConfig:
        if self.type == "staged_unfreeze" and not self.initial_trainable_prefixes:
            raise ValueError("staged_unfreeze needs initial_trainable_prefixes, such as [head]")
        return self


class TrainingConfig(Section):
    """How long, how much at a time, by which optimizer, schedule, loss and strategy."""

    epochs: Count = 10
    batch_size: Count = 32
    gradient_accumulation_steps: Count = 1
    max_grad_norm: Positive | None = 1.0
    early_stopping_patience: Count | None = None
    monitor_metric: MetricName | Literal["loss"] = "auprc"
    logging: LoggingConfig = LoggingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    loss: LossConfig = LossConfig()
    strategy: StrategyConfig = StrategyConfig()


class DecisionThresholdConfig(Section):
    """From which probability on a pair is called an interaction."""

    mode: Literal["fixed", "best_f1_on_valid"] = "fixed"
    value: Annotated[float, Field(ge=0, le=1)] = 0.5


class ScoringConfig(Section):
    """How many pairs are scored at a time, and where the proteins' states are held meanwhile."""

    tile_residues: Annotated[int, Field(ge=64)] | Literal["auto"] = "auto"
    memory_gib: Positive | Literal["auto"] = "auto"
    state_dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"


class EvaluateConfig(Section):
    """What is measured, on which species, and how a score becomes a call."""

    metrics: tuple[MetricName, ...] = METRIC_NAMES
    tasks: tuple[Task, ...] = ("pairs",)
    cross_species: tuple[str, ...] = ()
    enrichment: Literal["offline", "gprofiler"] = "offline"
    decision_threshold: DecisionThresholdConfig = DecisionThresholdConfig()
    scoring: ScoringConfig = ScoringConfig()


class Config(BaseModel):
    """The whole configuration of one stage, overrides merged in.

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
        """The resolved configuration as YAML that `load_config` takes again."""
        content = self.model_dump(mode="json", by_alias=True)
        return format_yaml(content)


def load_config(path: str | Path, stage: Stage, overrides: Sequence[str] = ()) -> Config:
    """Load, merge, override and check a configuration file for one stage.

    Args:
        path: The YAML file.
        stage: Whose section (`pretrain:` or `finetune:`) overrides the shared ones.
        overrides: `key.path=value` texts as `--set` takes them; values are read as YAML and win
            over the stage's section.

    Raises:
        UserError: One sentence that names the file, the line, the key path and the remedy.
    """
    path = Path(path)
    document, lines = _read_document(path)
    assignments = [_parse_assignment(text) for text in overrides]
    for key, value in assignments:
        if key[0] in OVERRIDING_STAGES:
            _assign(document, key, value)
    _refuse_device_config(document, assignments, path)
    # Every stage's merge is checked, not only this one's: a slip under `finetune:` should not
    # surface after a day of pretraining. What is set on the command line is meant for this one.
    for other in (*OVERRIDING_STAGES, "evaluate"):
        merged = _merge_stage(document, other, path)
        for key, value in assignments:
            if key[0] not in OVERRIDING_STAGES and other == stage:
                _assign(merged, key, value)
        config = _validate(merged, path, lines, other, {key for key, _ in assignments})
        if other == stage:
            chosen = config
    return chosen


def read_resolved_config(path: Path) -> Config:
    """Load the configuration that a run saved (`Config.to_yaml`)."""
    return load_config(path, "evaluate")


def _read_document(path: Path) -> tuple[dict[str, Any], Lines]:
    document, lines = read_yaml(path)
    if not isinstance(document, dict) or not document:
        raise UserError(f"{path} holds no sections; expected run_config, data_config, …")
    return document, lines


def _parse_assignment(text: str) -> tuple[tuple[str, ...], Any]:
    key, equals, value = text.partition("=")
    parts = tuple(key.strip().split("."))
    if not equals or not all(parts) or not key.isprintable():
        raise UserError(
            f"--set takes key.path=value, such as training_config.epochs=5, not '{excerpt(text)}'"
        )
    try:
        return parts, parse_yaml(value)[0]
    except NotYamlError:
        raise UserError(
            f"--set {excerpt(key, limit=120)}: the value '{excerpt(value)}' is not valid YAML"
        ) from None


def _assign(document: dict[str, Any], key: tuple[str, ...], value: Any) -> None:
    for part in key[:-1]:
        inner = document.get(part)
        if not isinstance(inner, dict):
            inner = document[part] = {}
        document = inner
    document[key[-1]] = value


def _refuse_device_config(
    document: Mapping[str, Any], assignments: Sequence[tuple[tuple[str, ...], Any]], path: Path
) -> None:
    """Tell where settings of the device belong: other programs take them in the same file."""
    assigned = any("device_config" in key[:2] for key, _ in assignments)
    sections = [document, *(document.get(stage) for stage in OVERRIDING_STAGES)]
    if assigned or any("device_config" in part for part in sections if isinstance(part, Mapping)):
        raise UserError(
            f"{'--set' if assigned else path}: device_config does not exist here; device,"
            " processes and precision belong to `accelerate config` or accelerate_configs/*.yaml,"
            " so remove it"
        )


def _merge_stage(document: Mapping[str, Any], stage: str, path: Path) -> dict[str, Any]:
    """The shared sections with the stage's own laid over them."""
    shared = {key: value for key, value in document.items() if key not in OVERRIDING_STAGES}
    overriding = document.get(stage) if stage in OVERRIDING_STAGES else None
    if overriding is None:
        return copy.deepcopy(shared)
    if not isinstance(overriding, dict):
        raise UserError(f"{path}: '{stage}' must be a section (key: value lines)")
    return _deep_merge(shared, overriding)


def _deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(base))
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _deep_merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _validate(
    merged: dict[str, Any],
    path: Path,
    lines: Mapping[tuple[str, ...], int],
    stage: str,
    assigned: set[tuple[str, ...]],
) -> Config:
    try:
        # YAML knows lists only; the schema's tuples are lists there.
        return Config.model_validate(_lists_to_tuples(merged))
    except ValidationError as error:
        errors = error.errors()
    first = errors[0]
    key = _written_path(first["loc"], merged)
    # One for every kind of value that the key may have.
    reasons = [each["msg"] for each in errors if _written_path(each["loc"], merged) == key]
    prefix: tuple[str, ...] = ()
    if _is_assigned(key, assigned):
        where = "--set"
    elif _is_assigned((stage, *key), assigned):
        where, prefix = "--set", (stage,)
    else:
        if key and (stage, *key) in lines:
            prefix = (stage,)
        line = lines.get((stage, *key)) or lines.get(key)
        where = f"{path}, line {line}" if line else str(path)
        if not prefix and (stage,) in lines and first["type"] == "value_error":
            where += f" (for {stage})"
    raise UserError(f"{where}: {_explain({**first, 'msg': _join(reasons)}, key, prefix)}")


def _is_assigned(key: tuple[str, ...], assigned: set[tuple[str, ...]]) -> bool:
    """Whether `--set` gave this key, a section that holds it, or something below it."""
    return any(
        given[: len(key)] == key[: len(given)] for given in assigned if key and key[0] == given[0]
    )


def _lists_to_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists_to_tuples(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return tuple(_lists_to_tuples(inner) for inner in value)
    return value


def _written_path(location: Sequence[Any], document: Mapping[str, Any]) -> tuple[str, ...]:
    """The part of a pydantic location that the user wrote: no indices, no union members."""
    key: list[str] = []
    node: Any = document
    for part in location:
        if not isinstance(node, Mapping) or part not in node:
            break
        key.append(part)
        node = node[part]
    return tuple(key)


def _join(reasons: Sequence[str]) -> str:
    """What pydantic says of one value, as one sentence."""
    first, *others = dict.fromkeys(reasons)
    return " or ".join([first, *(reason.removeprefix("Input should be ") for reason in others)])


def _explain(error: Mapping[str, Any], key: tuple[str, ...], prefix: tuple[str, ...]) -> str:
    name = excerpt(".".join((*prefix, *key)), limit=120)
    kind, given = error["type"], error.get("input")
    if kind in ("extra_forbidden", "invalid_key"):
        nearest = _nearest_key(key)
        hint = f"; did you mean '{'.'.join((*prefix, nearest))}'?" if nearest else "; remove it"
        return f"unknown key '{name}'{hint}"
    if kind == "value_error":
        reason = str(error["ctx"]["error"])
        return f"{name}: {reason}" if name else reason
    if kind in ("model_type", "model_attributes_type"):
        return f"'{name}' must be a section (key: value lines), not {_describe(given)}"
    reason = str(error["msg"]).replace("Input should be", "must be").replace("tuple", "list")
    return f"{name} {reason[0].lower()}{reason[1:]}, not {_describe(given)}"


def _describe(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, tuple):
        value = list(value)
    return f"'{excerpt(value)}' (text)" if isinstance(value, str) else excerpt(repr(value))


def _nearest_key(key: tuple[str, ...]) -> str | None:
    """The known key path most like an unknown one: a slip in its last part, or a wrong section."""
    known = [
        k for k in (*known_keys(), *OVERRIDING_STAGES) if not ".".join(key).startswith(f"{k}.")
    ]
    siblings = [k for k in known if k.rpartition(".")[0] == ".".join(key[:-1])]
    close = difflib.get_close_matches(key[-1], [k.rpartition(".")[2] for k in siblings], 1, 0.6)
    if close:
        return ".".join((*key[:-1], close[0]))
    elsewhere = [k for k in known if k.rpartition(".")[2] == key[-1]]
    if elsewhere:
        return elsewhere[0]
    return next(iter(difflib.get_close_matches(".".join(key), known, 1, 0.6)), None)


def known_keys(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every key path of the schema, sections included, in order."""
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        yield key
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from known_keys(field.annotation, f"{key}.")
