"""The data that predictions are judged on: test sets of one or more species, and the tasks.

`open_test_side` reads what the tasks need and nothing else. `TestSide.needed_pairs` are the pairs
that a model has to score for them, each once, however many tasks use it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import xxhash

from common.config import Config
from common.data.benchmarks.base import Benchmark
from common.data.benchmarks.registry import open_benchmark, prepare_benchmark
from common.data.pair_hashes import digest_pairs
from common.data.tables.ids import places_of
from common.data.tables.pairs import MissingReport, PairTable, check_sequences
from common.errors import UserError, excerpt
from common.evaluation.networks import Network, pair_keys
from common.evaluation.tasks.base import PairSet, Task
from common.files import hash_file
from common.registry import TASKS
from common.run import OneProcess

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True, eq=False)
class TestSet:
    """The test pairs and the test network of one species, each read when it is first used."""

    __test__: ClassVar = False  # not for pytest

    benchmark: Benchmark

    @property
    def species(self) -> str:
        """The species' name."""
        return self.benchmark.species

    @cached_property
    def _checked_table(self) -> tuple[PairTable, MissingReport | None]:
        table = self.benchmark.pairs("test")
        if self.benchmark.settings.missing_sequences != "drop":
            return table, None
        # Dropped here and not in scoring, so that a prediction file is judged on the same pairs.
        sequences = self.benchmark.sequences()
        return check_sequences(table, sequences, "drop", f"{self.species} test pairs")

    @property
    def table(self) -> PairTable:
        """The labelled test pairs, without those that the configuration drops."""
        return self._checked_table[0]

    @cached_property
    def network(self) -> Network:
        """The true network of the test proteins."""
        return Network.from_graph(self.benchmark.test_graph())

    @property
    def network_name(self) -> str:
        """The name of all pairs of the test proteins in notes."""
        return f"the {self.species} test graph"

    @property
    def network_pairs(self) -> PairSet:
        """All pairs of the test proteins."""
        return PairSet(self.network_name, self.network.nodes)

    def describe(self) -> dict[str, object]:
        """Return how many test pairs and interactions have been read, by species."""
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
        """Return digests of the pairs and of the network with its node sets, if they were read."""
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
        """Name the configuration key if functional data belong to other proteins."""
        try:
            yield
        except UserError as error:
            raise UserError(
                f"data_config.benchmark.functional_dir ({self.benchmark.settings.functional_dir})"
                f" does not fit {self.species} {self.benchmark.strategy}: {error}"
            ) from None

    def check_species(self, proteins: Collection[str], origin: str) -> None:
        """Check that at least one of the proteins is of this species.

        Raises:
            UserError: The species' sequences contain none of the proteins.
        """
        if not self.benchmark.has("sequences"):  # A prediction file needs none.
            return
        if self.benchmark.sequences().keys().isdisjoint(proteins):
            names = " and ".join(map(excerpt, sorted(proteins)[:2]))
            raise UserError(
                f"none of the {len(proteins)} proteins of the {origin}, such as {names}, is among"
                f" the sequences of {self.species}: use the {origin} of the same species"
            )


@dataclass(frozen=True, eq=False)
class TestSide:
    """The test set of the configured species, those of other species, and the open tasks."""

    __test__: ClassVar = False  # not for pytest

    sets: tuple[TestSet, ...]
    tasks: Mapping[str, Task]
    config: Config

    @property
    def pair_sets(self) -> list[PairSet]:
        """The distinct sets of pairs that the tasks use."""
        asked = [pairs for task in self.tasks.values() for pairs in task.asks()]
        return list({pairs.name: pairs for pairs in asked}.values())

    def whole_networks(self) -> list[TestSet]:
        """Return the test sets of which some task uses all pairs."""
        asked = {pairs.name for pairs in self.pair_sets if pairs.pairs is None}
        # A network that no task uses need not have a file, so it is not opened here.
        return [each for each in self.sets if each.network_name in asked]

    def proteins(self) -> set[str]:
        """Return the proteins of all pairs that tasks use."""
        return set().union(*(pairs.proteins for pairs in self.pair_sets))

    def needed_pairs(self) -> PairTable:
        """Return every pair that tasks use, once, with the label 0."""
        names = tuple(sorted(self.proteins()))
        keys = []
        for pairs in self.pair_sets:
            first, second = places_of(pairs.proteins, names)[pairs.rows()].T
            keys.append(pair_keys(first, second, len(names)))
        rows = np.stack(np.divmod(np.unique(np.concatenate(keys)), max(len(names), 1)), axis=1)
        return PairTable(names, rows, np.zeros(len(rows), dtype=np.int8))

    def describe(self) -> dict[str, object]:
        """Return the fields of the event `data_ready`."""
        described: dict[str, object] = {"strategy": self.sets[0].benchmark.strategy}
        parts: list[TestSet | Task] = [*self.sets, *self.tasks.values()]
        for part in parts:
            described |= part.describe()
        return described | self.sets[0].digests()

    def sequences(self) -> dict[str, str]:
        """Return the sequence of every protein that the files contain.

        Raises:
            UserError: Two files have different sequences of one protein.
        """
        sources = {test_set.species: test_set.benchmark.sequences() for test_set in self.sets}
        sources |= {f"the {name}": task.sequences() for name, task in self.tasks.items()}
        joined: dict[str, str] = {}
        for source, sequences in sources.items():
            for protein in joined.keys() & sequences.keys():
                if joined[protein] != sequences[protein]:
                    first = next(name for name in sources if protein in sources[name])
                    raise UserError(
                        f"the protein {protein} has one sequence in {first} and another in"
                        f" {source}; predictions name proteins by id alone, so correct one of the"
                        " files"
                    )
            joined |= sequences
        return joined


def open_test_side(config: Config, accelerator: Accelerator | OneProcess | None = None) -> TestSide:
    """Read the data of the configured tasks; rank 0 first provides missing files.

    Raises:
        UserError: A file is missing or wrong, or data do not fit the test proteins.
    """
    own, evaluate = config.data.benchmark, config.evaluate
    # In the registry's order, so that files and notes do not depend on how the tasks are listed.
    tasks = {name: TASKS.get(name) for name in TASKS.names() if name in evaluate.tasks}
    files = [file for task in tasks.values() for file in task.files]
    others, ranks = evaluate.cross_species, accelerator or OneProcess()
    prepare_benchmark(config.data, config.run.seed, ranks, others, functional=files)
    species = dict.fromkeys((own.species, *others))
    settings = [own.model_copy(update={"species": name}) for name in species]
    sets = tuple(TestSet(open_benchmark(each)) for each in settings)
    return TestSide(sets, {name: task(sets, config) for name, task in tasks.items()}, config)
