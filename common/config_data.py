"""The configuration's section `data_config`: benchmark, own data, embeddings, batches, validation.

The base class of all sections is here too; `config.py` has the other sections and `Config`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from common.errors import excerpt
from common.registry import BASELINES, BENCHMARKS, MODELS, READERS, TASKS, THRESHOLD_MODES

Strategy = Literal["BFS", "DFS", "RANDOM_WALK"]
MetricName = Literal[
    "auroc", "auprc", "accuracy", "sensitivity", "specificity", "precision", "recall", "f1", "mcc"
]

METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

# The commit of github.com/SophieSarceau/PRING that `download` fetches.
PRING_COMMIT = "bdf3a5fe6800a8cea321f0e7484bb045c3146a45"

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
# Names a directory.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
# Names of registry entries.
BenchmarkName = Annotated[str, AfterValidator(BENCHMARKS.check)]
ModelName = Annotated[str, AfterValidator(MODELS.check)]
TaskName = Annotated[str, AfterValidator(TASKS.check)]
BaselineName = Annotated[str, AfterValidator(BASELINES.check)]
ThresholdMode = Annotated[str, AfterValidator(THRESHOLD_MODES.check)]


class Section(BaseModel):
    """A section that refuses unknown keys and does not convert types."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=()
    )

    @field_validator("*")
    @classmethod
    def _strings_are_printable(cls, value: Any) -> Any:
        """Refuse a NUL or line break in a name or path, which would fail obscurely later."""
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and not (text and text.isprintable()):
                raise ValueError(f"'{excerpt(text)}' is empty or contains non-printable characters")
        return value


class BenchmarkConfig(Section):
    """Which benchmark, where its files are, and which part of it is used."""

    name: BenchmarkName = "pring"
    root_dir: str = "data/pring"
    species: str = "human"
    split_strategy: Strategy = "BFS"
    functional_dir: str | None = None
    download: bool = False
    download_url: str = f"https://raw.githubusercontent.com/SophieSarceau/PRING/{PRING_COMMIT}"
    missing_sequences: Literal["refuse", "drop"] = "refuse"
    cache_dir: str = "cache/pring"


class EmbeddingsConfig(Section):
    """Which protein language model computes the embeddings, and how they are stored."""

    model_name: str = "facebook/esm2_t33_650M_UR50D"
    revision: str | None = None
    cache_dir: str = "cache/embeddings"
    dtype: Literal["float16", "float32"] = "float16"
    layer: int = -1
    tokens_per_batch: Count | Literal["auto"] = "auto"
    shard_mib: Count = 256


class NegativesConfig(Section):
    """Which negative pairs an epoch trains on: the file's, or new ones drawn for every epoch."""

    source: Literal["file", "resampled"] = "file"
    per_positive: Positive = 1.0
    draw: Literal["uniform", "degree"] = "uniform"


class SamplingConfig(Section):
    """Which pairs a training step uses: all in turn, or the hardest of a pool (OHEM)."""

    strategy: Literal["none", "ohem"] = "none"
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    warmup_pos_neg_ratio: Positive = 1.0
    keep_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    min_keep: Count = 1
    pool_multiplier: Count = 1
    cap_protein: Count | None = None
    negatives: NegativesConfig = NegativesConfig()


class DataloaderConfig(Section):
    """How batches are made and loaded."""

    num_workers: Annotated[int, Field(ge=0)] = 0
    pin_memory: bool = False
    drop_last: bool = False
    sampling: SamplingConfig = SamplingConfig()


class GivenSplitsConfig(Section):
    """Files of labelled pairs that are used as they are, instead of splitting `files`."""

    train: str | None = None
    val: str | None = None
    test: str | None = None


class InteractionsConfig(Section):
    """The user's own interactions and sequences, from which a benchmark is prepared."""

    files: tuple[str, ...] = ()
    sequences: str | None = None
    format: Annotated[str, AfterValidator(READERS.check)] = "auto"
    min_score: float | None = None
    taxid: Count | None = None
    id_map: str | None = None
    splits: GivenSplitsConfig = GivenSplitsConfig()
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    max_identity: Annotated[float, Field(gt=0, lt=1)] | None = None
    negatives_per_positive: Positive = 1.0

    @model_validator(mode="after")
    def _something_trains(self) -> InteractionsConfig:
        if self.test_fraction + self.val_fraction < 1:
            return self
        raise ValueError("test_fraction and val_fraction together must be less than 1")


class ValidationConfig(Section):
    """Which pairs a stage validates on: the file's, or pairs of proteins set aside from training.

    Attributes:
        mode: `benchmark` for the file's pairs, `protein_disjoint` for pairs of proteins that no
            training pair contains.
        fraction: The share of the training and validation proteins that is set aside.
        walks: How many disjoint sets of proteins are set aside; each is validated separately.
    """

    mode: Literal["benchmark", "protein_disjoint"] = "benchmark"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    walks: Count = 5


class DataConfig(Section):
    """Benchmark, embeddings, batches and validation."""

    benchmark: BenchmarkConfig = BenchmarkConfig()
    interactions: InteractionsConfig = InteractionsConfig()
    embeddings: EmbeddingsConfig = EmbeddingsConfig()
    max_sequence_length: Count = 1000
    dataloader: DataloaderConfig = DataloaderConfig()
    validation: ValidationConfig = ValidationConfig()
    audit: Literal["off", "warn", "strict"] = "warn"

    @model_validator(mode="after")
    def _interactions_are_given(self) -> DataConfig:
        own, given = self.interactions, any(self.interactions.splits.model_dump().values())
        usable = own.sequences is not None and bool(own.files) != given
        if usable or self.benchmark.name != "interactions":
            return self
        raise ValueError(
            "data_config.benchmark.name: interactions needs data_config.interactions.sequences"
            " and either data_config.interactions.files or data_config.interactions.splits"
        )
