"""What predictions are judged on: species' test pairs and test networks, and functional data.

`open_materials` reads what the tasks need and nothing else; `needed_pairs` says which pairs a model
has to score for them, each once, whatever the number of tasks that look at it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.config import BenchmarkConfig, Config, EvaluateConfig, Strategy
from common.data.benchmarks.base import Benchmark
from common.data.benchmarks.pickles import load_go_terms, load_graphs
from common.data.benchmarks.registry import open_benchmark
from common.data.tables.fasta import read_sequences
from common.data.tables.pairs import MissingReport, PairTable, check_sequences
from common.data.tables.protein_list import read_protein_list
from common.errors import UserError
from common.evaluation.networks import Network
from common.evaluation.tasks.enrichment import Annotations, GoTerms, GProfiler
from common.evaluation.tasks.essential_proteins import known_ids
from common.evaluation.tasks.topology import NodeSets

NETWORK_TASKS: frozenset[str] = frozenset({"topology", "go_modules", "essential_proteins"})
FUNCTIONAL_FILES: Mapping[str, tuple[str, ...]] = {
    "complexes": ("complex_graphs.pkl",),
    "go_modules": ("test_go_terms.pkl",),
    "essential_proteins": (
        "selected_essential_proteins.txt",
        "selected_non_essential_proteins.txt",
    ),
}


@dataclass(frozen=True, eq=False)
class Scope:
    """One species' test side.

    Attributes:
        benchmark: Its files.
        table: The labelled test pairs; None where no task looks at them.
        network: The true network of the test proteins; None where no task looks at it.
        node_sets: Sampled node sets by strategy; empty where no task looks at them.
        dropped: Test pairs left out of `table`, where the configuration says so.
    """

    benchmark: Benchmark
    table: PairTable | None
    network: Network | None
    node_sets: Mapping[Strategy, NodeSets]
    dropped: MissingReport | None = None

    @property
    def species(self) -> str:
        """The species' name."""
        return self.benchmark.species


@dataclass(frozen=True, eq=False)
class FunctionalData:
    """Complexes, GO terms and essential proteins; empty where no task looks at them."""

    folder: Path
    complexes: tuple[Network, ...] = ()
    go_terms: GoTerms | None = None
    essential: tuple[str, ...] = ()
    non_essential: tuple[str, ...] = ()

    def check_fit(self, scope: Scope) -> None:
        """Refuse data of another species before hours of scoring.

        Raises:
            UserError: None of the test proteins has a GO term, or is essential, or is not.
        """
        if scope.network is None:
            return
        try:
            if self.go_terms is not None:
                Annotations.of(scope.network.nodes, self.go_terms)
            if self.essential:
                known_ids(self.essential, scope.network, "essential")
                known_ids(self.non_essential, scope.network, "non-essential")
        except UserError as error:
            raise UserError(
                f"data_config.benchmark.functional_dir ({self.folder}) does not fit"
                f" {scope.species} {scope.benchmark.strategy}: {error}"
            ) from None

    def describe(self, scope: Scope) -> dict[str, object]:
        """What the log tells of it: complexes, and how many test proteins have GO terms."""
        told: dict[str, object] = {}
        if self.complexes:
            told["complexes"] = len(self.complexes)
        if scope.network is not None and self.go_terms is not None:
            annotations = Annotations.of(scope.network.nodes, self.go_terms)
            count = len(np.unique(annotations.pairs[:, 0]))
            told["go_terms"] = f"of {count} of {len(scope.network.nodes)} test proteins"
        return told


@dataclass(frozen=True, eq=False)
class Materials:
    """All that the tasks look at: the configured species first, then those of transfer."""

    tasks: tuple[str, ...]
    scopes: tuple[Scope, ...]
    functional: FunctionalData | None

    def proteins(self) -> set[str]:
        """All whose pairs some task looks at."""
        functional = self.functional.complexes if self.functional is not None else ()
        networks = [scope.network for scope in self.scopes if scope.network is not None]
        tables = [scope.table for scope in self.scopes if scope.table is not None]
        named = [network.nodes for network in (*networks, *functional)]
        return set().union(*named, *(table.proteins for table in tables))

    def needed_pairs(self) -> PairTable:
        """Every pair that some task looks at, once, unlabelled (label 0)."""
        parts = []
        for scope in self.scopes:
            if scope.table is not None:
                parts.append((scope.table.proteins, scope.table.pairs))
            if scope.network is not None:
                table = all_pairs_of(scope.network.nodes)
                parts.append((table.proteins, table.pairs))
        if self.functional is not None:
            parts.append(pairs_within(self.functional.complexes))
        return _unite(parts)

    def describe(self) -> dict[str, object]:
        """What the log tells of it: test pairs and true interactions by species, complexes."""
        told: dict[str, object] = {"strategy": self.scopes[0].benchmark.strategy}
        for scope in self.scopes:
            parts = [] if scope.table is None else [f"{len(scope.table)} test pairs"]
            if scope.network is not None:
                nodes, edges = len(scope.network.nodes), len(scope.network.edges)
                parts.append(f"{nodes} proteins with {edges} interactions")
            told[scope.species] = ", ".join(parts) or "not looked at"
            if scope.dropped is not None:
                told[f"{scope.species}_dropped"] = scope.dropped
        if self.functional is not None:
            told.update(self.functional.describe(self.scopes[0]))
        return told

    def sequences(self) -> dict[str, str]:
        """The sequence of every protein that the files know.

        Raises:
            UserError: Two files know different sequences of one protein.
        """
        sources = {scope.species: scope.benchmark.sequences() for scope in self.scopes}
        if self.functional is not None and self.functional.complexes:
            path = self.functional.folder / "complex_proteins.fasta"
            cache = self.scopes[0].benchmark.cache_dir
            sources["the complexes"] = read_sequences(path, cache)
        return _join_sequences(sources)


def open_materials(config: Config) -> Materials:
    """Read what the configured tasks are judged on.

    Raises:
        UserError: A file is missing or wrong, or the functional tasks have no `functional_dir`.
    """
    tasks = config.evaluate.tasks
    settings = config.data.benchmark
    species = dict.fromkeys((settings.species, *config.evaluate.cross_species))
    own = settings.species
    scopes = tuple(
        _open_scope(settings, name, config.evaluate, own=name == own) for name in species
    )
    functional = _open_functional(settings, tasks)
    if "go_modules" in tasks and config.evaluate.enrichment == "gprofiler":
        GProfiler.of_species(settings.species)  # A species it lacks is told before all scoring.
    if functional is not None:
        functional.check_fit(scopes[0])
    return Materials(tasks, scopes, functional)


def _open_scope(
    settings: BenchmarkConfig, species: str, evaluate: EvaluateConfig, own: bool
) -> Scope:
    """A species; those of transfer are looked at for pairs and topology alone."""
    tasks = evaluate.tasks
    strategies = () if evaluate.strategies == "all" else evaluate.strategies
    chosen = settings.model_copy(update={"species": species})
    benchmark = open_benchmark(chosen)
    networked = NETWORK_TASKS.intersection(tasks) if own else {"topology"}.intersection(tasks)
    network = Network.from_graph(benchmark.test_graph()) if networked else None
    node_sets = benchmark.node_sets(strategies) if "topology" in tasks else {}
    table = benchmark.pairs("test") if "pairs" in tasks else None
    dropped = None
    if table is not None and settings.missing_sequences == "drop":
        # Here, and not where they are scored: a file of predictions is judged on the same pairs.
        sequences = benchmark.sequences()
        table, dropped = check_sequences(table, sequences, "drop", f"{species} test pairs")
    return Scope(benchmark, table, network, node_sets, dropped)


def _open_functional(settings: BenchmarkConfig, tasks: Sequence[str]) -> FunctionalData | None:
    wanted = [task for task in tasks if task in FUNCTIONAL_FILES]
    if not wanted:
        return None
    if settings.functional_dir is None:
        raise UserError(
            f"the task {wanted[0]} needs data_config.benchmark.functional_dir, the folder with the"
            " benchmark's complexes, GO terms and essential proteins"
        )
    folder = Path(settings.functional_dir)
    if not folder.is_dir():
        raise UserError(
            f"data_config.benchmark.functional_dir ({folder}) is no existing directory; name the"
            " folder with the benchmark's complexes, GO terms and essential proteins"
        )
    _check_files(folder, wanted)
    paths = {task: [folder / name for name in FUNCTIONAL_FILES[task]] for task in wanted}
    graphs = load_graphs(paths["complexes"][0]) if "complexes" in wanted else []
    terms = load_go_terms(paths["go_modules"][0]) if "go_modules" in wanted else None
    lists: list[tuple[str, ...]] = [(), ()]
    if "essential_proteins" in wanted:
        lists = [tuple(read_protein_list(path)) for path in paths["essential_proteins"]]
    return FunctionalData(folder, tuple(map(Network.from_graph, graphs)), terms, *lists)


def _check_files(folder: Path, tasks: Sequence[str]) -> None:
    for task in tasks:
        for name in FUNCTIONAL_FILES[task]:
            if not (folder / name).is_file():
                raise UserError(
                    f"data_config.benchmark.functional_dir ({folder}) has no {name}, which the task"
                    f" {task} needs; name the folder that has it, or leave the task out"
                )


def all_pairs_of(nodes: Sequence[str]) -> PairTable:
    """Every unordered pair of these proteins, self-pairs included, unlabelled."""
    first, second = np.triu_indices(len(nodes))
    pairs = np.stack([first, second], axis=1)
    return PairTable(tuple(nodes), pairs, np.zeros(len(pairs), dtype=np.int8))


def pairs_within(complexes: Iterable[Network]) -> tuple[tuple[str, ...], np.ndarray]:
    """Every pair of different proteins within a complex, as the benchmark's own pair file has."""
    pairs = {pair for network in complexes for pair in itertools.combinations(network.nodes, 2)}
    names = tuple(sorted({name for pair in pairs for name in pair}))
    index = {name: place for place, name in enumerate(names)}
    numbers = [[index[a], index[b]] for a, b in sorted(pairs)]
    return names, np.array(numbers, dtype=np.int64).reshape(-1, 2)


def _unite(parts: Sequence[tuple[tuple[str, ...], np.ndarray]]) -> PairTable:
    """The distinct unordered pairs of several tables, over the union of their proteins."""
    names = sorted({name for proteins, _ in parts for name in proteins})
    index = {name: place for place, name in enumerate(names)}
    keys = []
    for proteins, pairs in parts:
        places = np.array([index[name] for name in proteins], dtype=np.int64)
        ends = np.sort(places[pairs], axis=1)
        keys.append(ends[:, 0] * len(names) + ends[:, 1])
    distinct = np.unique(np.concatenate(keys))
    pairs = np.stack(np.divmod(distinct, max(len(names), 1)), axis=1)
    return PairTable(tuple(names), pairs, np.zeros(len(pairs), dtype=np.int8))


def _join_sequences(sources: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    origin: dict[str, str] = {}
    for source, sequences in sources.items():
        for protein, sequence in sequences.items():
            if joined.setdefault(protein, sequence) != sequence:
                raise UserError(
                    f"the protein {protein} has one sequence in {origin[protein]} and another in"
                    f" {source}; predictions name proteins by id alone, so mend one of the files"
                )
            origin.setdefault(protein, source)
    return joined
