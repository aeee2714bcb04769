"""The test data of one species: labelled pairs and the true network."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import xxhash

from common.data.benchmarks.base import Benchmark
from common.data.pair_hashes import TrainedOn, digest_pairs, find_proteins
from common.data.tables.pairs import MissingReport, PairTable, check_sequences
from common.errors import UserError, excerpt
from common.evaluation.networks import Network
from common.evaluation.pair_sets import PairSet
from common.files import hash_file


@dataclass(frozen=True, eq=False)
class TestSet:
    """The test pairs and the test network of one species, which are read on first use.

    Attributes:
        benchmark: The benchmark.
        trained_on: What the evaluated model was trained on, if it is known.
    """

    __test__: ClassVar = False  # not for pytest

    benchmark: Benchmark
    trained_on: TrainedOn | None = None

    @property
    def species(self) -> str:
        """The name of the species."""
        return self.benchmark.species

    @cached_property
    def _checked_table(self) -> tuple[PairTable, MissingReport | None]:
        table = self.benchmark.pairs("test")
        if self.benchmark.settings.missing_sequences != "drop":
            return table, None
        # Dropped here and not when scoring, so that prediction files are evaluated on these pairs.
        sequences = self.benchmark.sequences()
        return check_sequences(table, sequences, "drop", f"{self.species} test pairs")

    @property
    def table(self) -> PairTable:
        """The labelled test pairs, without pairs that the configuration drops."""
        return self._checked_table[0]

    @cached_property
    def training_proteins(self) -> tuple[str, ...] | None:
        """The proteins of this benchmark that the evaluated model was trained on, sorted.

        Without the model's own list, those of the train split; None if there is no such split.
        """
        if self.trained_on is None or self.trained_on.proteins is None:
            return self.benchmark.pairs("train").proteins if self.benchmark.has("train") else None
        named = set(self.table.proteins)
        if self.benchmark.has("sequences"):
            named |= self.benchmark.sequences().keys()
        return find_proteins(named, self.trained_on.proteins)

    @cached_property
    def network(self) -> Network:
        """The true network of the test proteins."""
        return Network.from_graph(self.benchmark.test_graph())

    @property
    def network_name(self) -> str:
        """The name that notes use for the set of all pairs of the test proteins."""
        return f"the {self.species} test graph"

    @property
    def network_pairs(self) -> PairSet:
        """The set of all pairs of the test proteins."""
        return PairSet(self.network_name, self.network.nodes)

    def describe(self) -> dict[str, object]:
        """Return the numbers of test pairs and interactions that were read, as fields to log."""
        parts, described = [], {}
        if "_checked_table" in vars(self):
            parts.append(f"{len(self.table)} test pairs")
            if self._checked_table[1] is not None:
                described[f"{self.species}_dropped"] = self._checked_table[1]
        if "network" in vars(self):
            nodes, edges = len(self.network.nodes), len(self.network.edges)
            parts.append(f"{nodes} proteins with {edges} interactions")
        return {self.species: ", ".join(parts) or "not used", **described}

    def digests(self) -> dict[str, str]:
        """Return digests of the test pairs and of the test network with its node sets, if read."""
        found = {}
        if "_checked_table" in vars(self):
            found["pairs_digest"] = digest_pairs(self.table)
        if "network" in vars(self):
            content = xxhash.xxh3_64("\t".join(self.network.nodes).encode())
            content.update(self.network.edges.tobytes())
            if "node_sets" in (files := self.benchmark.files()):
                content.update(hash_file(files["node_sets"]).encode())
            found["network_digest"] = content.hexdigest()
        return found

    @contextlib.contextmanager
    def explaining_misfit(self) -> Iterator[None]:
        """Add the configuration key to errors about functional data of the wrong proteins."""
        try:
            yield
        except UserError as error:
            raise UserError(
                f"data_config.benchmark.functional_dir ({self.benchmark.settings.functional_dir})"
                f" does not fit {self.species} {self.benchmark.strategy}: {error}"
            ) from None

    def check_species(self, proteins: Collection[str], origin: str) -> None:
        """Check that at least one of the proteins belongs to this species.

        Raises:
            UserError: None of the proteins has a sequence in this species' data.
        """
        if not self.benchmark.has("sequences"):  # Evaluating a prediction file needs no sequences.
            return
        if self.benchmark.sequences().keys().isdisjoint(proteins):
            names = " and ".join(map(excerpt, sorted(proteins)[:2]))
            raise UserError(
                f"none of the {len(proteins)} proteins in the {origin} (such as {names}) has a"
                f" sequence in the data of {self.species}; use the {origin} of the same species"
            )
