"""The schema of the section `data_config`: benchmark, embeddings, batches and validation.

The base class of all sections is also here; `config.py` has the other sections and `Config`.
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
Layer = int | Literal["thirds"]
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
    """Base class of the configuration's sections, which reject unknown keys and wrong types."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=()
    )

    @field_validator("*")
    @classmethod
    def _strings_are_printable(cls, value: Any) -> Any:
        """Reject strings that are empty or contain non-printable characters, such as NUL."""
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and not (text and text.isprintable()):
                raise ValueError(f"'{excerpt(text)}' is empty or contains non-printable characters")
        return value


class BenchmarkConfig(Section):
    """The benchmark, the location of its files, and the species and split to use."""

    name: BenchmarkName = "pring"
    """The kind of benchmark: PRING's files, your own interactions, or the generated demo."""
    root_dir: str = "data/pring"
    """The directory of the benchmark's files."""
    species: str = "human"
    """The species whose pairs are used; its name is part of the file names."""
    split_strategy: Strategy = "BFS"
    """The sampling strategy by which the benchmark chose its test proteins."""
    functional_dir: str | None = None
    """The directory of complexes, GO terms and essential proteins, which three tasks need."""
    download: bool = False
    """Whether missing files are downloaded from `download_url`."""
    download_url: str = f"https://raw.githubusercontent.com/SophieSarceau/PRING/{PRING_COMMIT}"
    """The address of the benchmark's repository at one commit."""
    missing_sequences: Literal["refuse", "drop"] = "refuse"
    """Whether a pair that lacks a sequence is an error, or is dropped and counted."""
    cache_dir: str = "cache/pring"
    """The directory where parsed files and the scores of baselines are cached."""


class EmbeddingsConfig(Section):
    """The protein language model that computes the embeddings, and how embeddings are stored."""

    model_name: str = "facebook/esm2_t33_650M_UR50D"
    """The protein language model: its name on the Hugging Face hub, or a directory."""
    revision: str | None = None
    """The branch, tag or commit of the language model on the hub."""
    cache_dir: str = "cache/embeddings"
    """The directory where embeddings are cached for all runs."""
    dtype: Literal["float16", "float32"] = "float16"
    """The number format of stored embeddings."""
    layer: Layer = -1
    """The layer of the language model whose states are used; -1 is the last. `thirds` joins the
    states after a third, two thirds and all of the layers, in three times the space."""
    long: Literal["truncate", "windows"] = "truncate"
    """How to embed proteins longer than `max_sequence_length`: truncated or in windows."""
    tokens_per_batch: Count | Literal["auto"] = "auto"
    """The number of residues that are embedded at a time; `auto` depends on the device."""
    shard_mib: Count = 256
    """The maximum size of a file of embeddings in MiB."""


class NegativesConfig(Section):
    """The negative pairs of an epoch, either read from a file or drawn anew for every epoch."""

    source: Literal["file", "resampled"] = "file"
    """Whether negatives are read from the benchmark's file or drawn anew for every epoch."""
    per_positive: Positive = 1.0
    """The number of negatives that are drawn for each positive."""
    draw: Literal["uniform", "degree"] = "uniform"
    """Whether proteins are drawn uniformly, or as often as they occur in the positives."""


class SamplingConfig(Section):
    """The choice of a training step's pairs: the next pairs, or the hardest of a pool (OHEM)."""

    strategy: Literal["none", "ohem"] = "none"
    """Whether a step trains on the next pairs, or on the hardest pairs of a pool (OHEM)."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    """The number of initial epochs with class-balanced batches instead of pools (`ohem`)."""
    warmup_pos_neg_ratio: Positive = 1.0
    """The number of positives for each negative in a warm-up batch (`ohem`)."""
    keep_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The number of pairs kept from a pool, as a fraction of the batch size (`ohem`)."""
    min_keep: Count = 1
    """The minimum number of pairs kept from the pool of all processes (`ohem`)."""
    pool_multiplier: Count = 1
    """The number of batches that form a pool (`ohem`)."""
    cap_protein: Count | None = None
    """The maximum number of kept pairs with the same protein; null sets no limit (`ohem`)."""
    negatives: NegativesConfig = NegativesConfig()


class DataloaderConfig(Section):
    """The sampling and the loading of batches of pairs."""

    num_workers: Annotated[int, Field(ge=0)] = 0
    """The number of worker processes that load batches; 0 loads in the training process."""
    pin_memory: bool = False
    """Whether batches are put into pinned memory, from which copies to a GPU are faster."""
    drop_last: bool = False
    """Whether the last batch of an epoch is dropped if it is incomplete."""
    sampling: SamplingConfig = SamplingConfig()


class GivenSplitsConfig(Section):
    """The user's own splits: files of labelled pairs, used instead of splitting `files`."""

    train: str | None = None
    """The file of training pairs."""
    val: str | None = None
    """The file of validation pairs."""
    test: str | None = None
    """The file of test pairs, which training does not need."""


class InteractionsConfig(Section):
    """The user's own interactions and sequences, from which a benchmark is prepared."""

    files: tuple[str, ...] = ()
    """The files of known interactions."""
    sequences: str | None = None
    """The FASTA file with the sequences of the proteins."""
    format: Annotated[str, AfterValidator(READERS.check)] = "auto"
    """The format of the interaction files; `auto` recognises formats by their headers."""
    min_score: float | None = None
    """The lowest score of an interaction that is kept; null keeps all interactions."""
    taxid: Count | None = None
    """The organism (NCBI taxonomy id) of both proteins of a kept interaction; null keeps all."""
    id_map: str | None = None
    """A two-column file that maps ids of the interaction files to ids of the FASTA file."""
    splits: GivenSplitsConfig = GivenSplitsConfig()
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The fraction of the proteins that is used for testing."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The fraction of the proteins that is used for validation."""
    max_identity: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Proteins of at least this sequence identity are put in the same split; null ignores it."""
    negatives_per_positive: Positive = 1.0
    """The number of negatives that are drawn for each positive."""
    seed: int = 47
    """The seed of the split and its negatives, which do not depend on `run_config.seed`."""

    @model_validator(mode="after")
    def _something_trains(self) -> InteractionsConfig:
        if self.test_fraction + self.val_fraction < 1:
            return self
        raise ValueError("test_fraction and val_fraction together must be less than 1")


class ValidationConfig(Section):
    """The validation pairs: the benchmark's pairs, or pairs of held-out proteins."""

    mode: Literal["benchmark", "protein_disjoint"] = "benchmark"
    """Whether to validate on the benchmark's pairs or on pairs of held-out proteins."""
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The fraction of the training and validation proteins that is held out."""
    walks: Count = 5
    """The number of disjoint sets of held-out proteins; each set is validated separately."""


class DataConfig(Section):
    """The data of a stage: benchmark, embeddings, batches and validation."""

    benchmark: BenchmarkConfig = BenchmarkConfig()
    interactions: InteractionsConfig = InteractionsConfig()
    embeddings: EmbeddingsConfig = EmbeddingsConfig()
    max_sequence_length: Count = 1000
    """The number of residues after which a sequence is truncated."""
    dataloader: DataloaderConfig = DataloaderConfig()
    validation: ValidationConfig = ValidationConfig()
    audit: Literal["off", "warn", "strict"] = "warn"
    """Whether the splits are searched for leaks, and whether a leak is a warning or an error."""

    @property
    def cut_length(self) -> int | None:
        """The number of residues after which sequences are truncated; None if windows are used."""
        return self.max_sequence_length if self.embeddings.long == "truncate" else None

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
