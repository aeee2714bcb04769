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
    """The kind of benchmark: PRING's files, your own interactions, or the generated demo."""
    root_dir: str = "data/pring"
    """The directory of the benchmark's files."""
    species: str = "human"
    """The species whose pairs are used; its name is part of the file names."""
    split_strategy: Strategy = "BFS"
    """The walk that chose the test proteins."""
    functional_dir: str | None = None
    """The directory of complexes, GO terms and essential proteins, which three tasks need."""
    download: bool = False
    """Whether missing files are fetched from `download_url`."""
    download_url: str = f"https://raw.githubusercontent.com/SophieSarceau/PRING/{PRING_COMMIT}"
    """The address of the benchmark's repository at one commit."""
    missing_sequences: Literal["refuse", "drop"] = "refuse"
    """Whether a pair without a sequence is an error or is dropped and counted."""
    cache_dir: str = "cache/pring"
    """The directory where parsed files and the scores of baselines are kept."""


class EmbeddingsConfig(Section):
    """Which protein language model computes the embeddings, and how they are stored."""

    model_name: str = "facebook/esm2_t33_650M_UR50D"
    """The protein language model: its name on the Hugging Face hub, or a directory."""
    revision: str | None = None
    """The branch, tag or commit of the language model on the hub."""
    cache_dir: str = "cache/embeddings"
    """The directory where embeddings are kept for all runs."""
    dtype: Literal["float16", "float32"] = "float16"
    """The number format of stored embeddings."""
    layer: int = -1
    """The layer of the language model whose states are used; -1 is the last."""
    long: Literal["truncate", "windows"] = "truncate"
    """Proteins longer than `max_sequence_length` are cut, or embedded in overlapping windows."""
    tokens_per_batch: Count | Literal["auto"] = "auto"
    """The number of residues that are embedded at a time; `auto` depends on the device."""
    shard_mib: Count = 256
    """The largest size of a file of embeddings in MiB."""


class NegativesConfig(Section):
    """Which negative pairs an epoch trains on: the file's, or new ones drawn for every epoch."""

    source: Literal["file", "resampled"] = "file"
    """Whether negatives are the file's or are drawn anew for every epoch."""
    per_positive: Positive = 1.0
    """The number of drawn negatives for each positive."""
    draw: Literal["uniform", "degree"] = "uniform"
    """Whether all proteins are drawn equally often, or each as often as in the positives."""


class SamplingConfig(Section):
    """Which pairs a training step uses: all in turn, or the hardest of a pool (OHEM)."""

    strategy: Literal["none", "ohem"] = "none"
    """Whether a step trains on the next pairs or on the hardest of a pool (OHEM)."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    """The number of first epochs with class-balanced batches instead of pools (`ohem`)."""
    warmup_pos_neg_ratio: Positive = 1.0
    """The number of positives for each negative in a warm-up batch (`ohem`)."""
    keep_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The pairs kept from a pool, as a share of the batch size (`ohem`)."""
    min_keep: Count = 1
    """The least number of pairs kept from a pool of all processes (`ohem`)."""
    pool_multiplier: Count = 1
    """The size of a pool in batches (`ohem`)."""
    cap_protein: Count | None = None
    """How often one protein may be among the kept pairs; null is no limit (`ohem`)."""
    negatives: NegativesConfig = NegativesConfig()


class DataloaderConfig(Section):
    """How batches are made and loaded."""

    num_workers: Annotated[int, Field(ge=0)] = 0
    """The number of further processes that load batches; 0 loads them in the main process."""
    pin_memory: bool = False
    """Whether batches are put into pinned memory, from which copies to a GPU are faster."""
    drop_last: bool = False
    """Whether an incomplete last batch of an epoch is left out."""
    sampling: SamplingConfig = SamplingConfig()


class GivenSplitsConfig(Section):
    """Files of labelled pairs that are used as they are, instead of splitting `files`."""

    train: str | None = None
    """The file of training pairs."""
    val: str | None = None
    """The file of validation pairs."""
    test: str | None = None
    """The file of test pairs, which training does not need."""


class InteractionsConfig(Section):
    """The user's own interactions and sequences, from which a benchmark is prepared."""

    files: tuple[str, ...] = ()
    """The interaction files."""
    sequences: str | None = None
    """The FASTA file with the sequences of the proteins."""
    format: Annotated[str, AfterValidator(READERS.check)] = "auto"
    """The format of all files; `auto` recognises it by the header."""
    min_score: float | None = None
    """Interactions of a lower score are dropped; null keeps all."""
    taxid: Count | None = None
    """Interactions with a protein of another organism are dropped; null keeps all."""
    id_map: str | None = None
    """A two-column file from the ids of the interactions to those of the FASTA file."""
    splits: GivenSplitsConfig = GivenSplitsConfig()
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The share of the proteins that is used for testing."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The share of the proteins that is used for validation."""
    max_identity: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Sequences of at least this identity are kept on one side of the split; null ignores them."""
    negatives_per_positive: Positive = 1.0
    """The number of negatives that are drawn for each positive."""
    seed: int = 47
    """The seed of the split and its negatives; `run_config.seed` does not change them."""

    @model_validator(mode="after")
    def _something_trains(self) -> InteractionsConfig:
        if self.test_fraction + self.val_fraction < 1:
            return self
        raise ValueError("test_fraction and val_fraction together must be less than 1")


class ValidationConfig(Section):
    """Which pairs a stage validates on: the file's, or pairs of proteins set aside in training."""

    mode: Literal["benchmark", "protein_disjoint"] = "benchmark"
    """Which pairs validate: the file's, or pairs of proteins that no training pair contains."""
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The share of the training and validation proteins that is set aside."""
    walks: Count = 5
    """How many disjoint sets of proteins are set aside; each is validated separately."""


class DataConfig(Section):
    """Benchmark, embeddings, batches and validation."""

    benchmark: BenchmarkConfig = BenchmarkConfig()
    interactions: InteractionsConfig = InteractionsConfig()
    embeddings: EmbeddingsConfig = EmbeddingsConfig()
    max_sequence_length: Count = 1000
    """The number of residues after which a sequence is cut."""
    dataloader: DataloaderConfig = DataloaderConfig()
    validation: ValidationConfig = ValidationConfig()
    audit: Literal["off", "warn", "strict"] = "warn"
    """Whether splits are compared, and whether leaks between them cause a warning or an error."""

    @property
    def cut_length(self) -> int | None:
        """Residues after which sequences are cut; None if windows cover them to their ends."""
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
