"""Opens the data of a stage: the benchmark's splits with the embeddings of their proteins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from common.config import Config
from common.data.batches import PairData
from common.data.benchmarks.base import Split
from common.data.benchmarks.registry import prepare_benchmark
from common.data.embeddings.build import EmbeddingStore, prepare_store
from common.data.embeddings.means import open_means
from common.data.embeddings.store import Store
from common.data.held_out import HeldOut, find_held_out, set_aside
from common.data.tables.pairs import PairTable, check_sequences
from common.errors import UserError
from common.registry import MODELS

HELD_OUT = "held_out"


@dataclass(frozen=True)
class Splits:
    """The benchmark splits that a stage uses, with the embeddings of their proteins.

    Attributes:
        parts: Pairs with embeddings, by split.
        notes: Counts and other facts about the splits, for the log.
        known: Pairs of the other splits, whose positives are never drawn as training negatives;
            empty if the file's negatives are used.
        held_out: The proteins that no training pair contains, all of which are in `store`; None
            if they were not requested.
    """

    parts: dict[str, PairData]
    notes: dict[str, object]
    known: tuple[PairTable, ...] = ()
    held_out: HeldOut | None = None

    @property
    def store(self) -> Store:
        """The embeddings of the proteins of all splits."""
        return next(iter(self.parts.values())).store

    @property
    def monitored(self) -> PairData:
        """The validation pairs: pairs of held-out proteins if there are any, or else `val`."""
        return self.parts.get(HELD_OUT) or self.parts["val"]


def open_splits(
    config: Config, names: Sequence[Split], accelerator: Accelerator, needed_by: str = ""
) -> Splits:
    """Read splits of the configured benchmark and open the embeddings of their proteins.

    Embeddings that the cache lacks are computed. With `data_config.validation.mode:
    protein_disjoint`, training pairs that contain a held-out protein are left out, and a further
    part named `held_out` contains pairs among held-out proteins.

    Args:
        config: The configuration of the stage.
        names: The splits to open.
        accelerator: The processes of the run.
        needed_by: The setting that needs a network of held-out proteins in any validation mode.

    Raises:
        UserError: The data are missing or wrong, do not fit the model, or have no network of
            held-out proteins although `needed_by` needs one.
    """
    others: tuple[Split, ...] = ()
    if "train" in names and config.data.dataloader.sampling.negatives.source == "resampled":
        others = ("val", "test")
    apart = bool(needed_by) or config.data.validation.mode == "protein_disjoint"
    every: tuple[Split, ...] = ("train", "val", "test") if apart else ()
    needed = tuple(dict.fromkeys([*names, *others, *every]))
    benchmark = prepare_benchmark(config.data, config.run.seed, accelerator, splits=needed)
    read, sequences = {str(name): benchmark.pairs(name) for name in needed}, benchmark.sequences()
    known = tuple(read[name] for name in others)
    notes: dict[str, object] = {"species": benchmark.species, "strategy": benchmark.strategy}
    held_out = None
    if apart:
        both, notes_on_both = check_tables(config, {n: read[n] for n in every[:2]}, sequences)
        read, held_out = hold_out(config, read | both, needed_by)
        notes |= notes_on_both
        if HELD_OUT in read:
            left_out = len(both["train"]) - len(read["train"])
            notes["set_aside"] = f"{held_out}, {left_out} training pairs left out"
    tables = {name: table for name, table in read.items() if name in (*names, HELD_OUT)}
    parts, described = embed_tables(config, tables, sequences, accelerator)
    return Splits(parts, notes | described, known, held_out)


def hold_out(
    config: Config, tables: Mapping[str, PairTable], needed_by: str = ""
) -> tuple[dict[str, PairTable], HeldOut]:
    """Hold out proteins as configured, or check that training contains no validation protein.

    Args:
        config: The configuration of the stage.
        tables: The pairs of all splits.
        needed_by: The setting that needs held-out proteins, for the message.

    Returns:
        The remaining pairs by split, with the additional split `held_out` if proteins were held
        out here; and the held-out proteins.

    Raises:
        UserError: There are too few proteins, or training contains validation proteins.
    """
    settings, benchmark = config.data.validation, config.data.benchmark
    train, validation = tables["train"], tables["val"]
    if settings.mode == "benchmark":
        held_out = find_held_out(train, validation)
        if held_out is None:
            raise UserError(
                f"{needed_by} needs validation proteins that no training pair contains, but the"
                f" validation pairs of {benchmark.species} {benchmark.split_strategy} share"
                " proteins with training; set data_config.validation.mode: protein_disjoint"
            )
        return dict(tables), held_out
    strategy, seed = benchmark.split_strategy, config.run.seed
    train, held_out = set_aside(train, validation, [tables["test"]], settings, strategy, seed)
    return {**tables, "train": train, HELD_OUT: held_out.table}, held_out


def embed_tables(
    config: Config,
    tables: Mapping[str, PairTable],
    sequences: Mapping[str, str],
    accelerator: Accelerator,
) -> tuple[dict[str, PairData], dict[str, object]]:
    """Combine tables of pairs with protein embeddings, computing those that the cache lacks.

    Returns:
        The pairs with embeddings by the tables' names, and notes about the tables for the log.

    Raises:
        UserError: Proteins have no sequence (unless such pairs are dropped by configuration), or
            the embeddings do not fit the model.
    """
    kept, notes = check_tables(config, tables, sequences)
    needed = sorted({protein for table in kept.values() for protein in table.proteins})
    store = prepare_store(
        {protein: sequences[protein] for protein in needed},
        config.data.embeddings,
        config.data.max_sequence_length,
        accelerator,
    )
    if config.model.input_dim not in ("auto", store.dim):
        raise UserError(
            f"model_config.input_dim is {config.model.input_dim}, but the embeddings of"
            f" {config.data.embeddings.model_name} have {store.dim} dimensions; set input_dim to"
            " auto"
        )
    read = read_for_model(store, config, accelerator)
    return {name: PairData(table, read) for name, table in kept.items()}, notes


def check_tables(
    config: Config, tables: Mapping[str, PairTable], sequences: Mapping[str, str]
) -> tuple[dict[str, PairTable], dict[str, object]]:
    """Keep the pairs whose proteins have sequences; return these pairs and notes for the log.

    Raises:
        UserError: Proteins have no sequence, unless such pairs are dropped by configuration.
    """
    kept: dict[str, PairTable] = {}
    notes: dict[str, object] = {}
    policy = config.data.benchmark.missing_sequences
    for name, table in tables.items():
        kept[name], missing = check_sequences(table, sequences, policy, f"{name} pairs")
        positives, proteins = int(kept[name].labels.sum()), len(kept[name].proteins)
        notes[name] = f"{len(kept[name])} pairs ({positives} positive, {proteins} proteins)"
        if missing is not None:
            notes[f"{name}_dropped"] = missing
    return kept, notes


def read_for_model(store: EmbeddingStore, config: Config, accelerator: Accelerator) -> Store:
    """Return the embeddings that the configured model reads: per residue, or per-protein means."""
    if MODELS.get(config.model.model).reads_means:
        return open_means(store, accelerator)
    return store


def residue_statistics(data: PairData) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation (D,) over all residues of all proteins, in float32."""
    sums = np.zeros((2, data.store.dim))
    for protein in data.table.proteins:
        sums += data.store.sums(protein)
    count = int(data.residues.sum())
    mean, squares = sums[0] / count, sums[1]
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return torch.from_numpy(mean).float(), torch.from_numpy(deviation).float()
