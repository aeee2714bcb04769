"""Generates the synthetic benchmark, in PRING's layout, for runs without an internet connection.

    <root>/demo.json, README.txt               the seed, the parameters and a description
    <root>/synthetic/…, <root>/synthetic2/…    a species with all splits; a test species
    <root>/functional/…                        complexes, GO-like terms, essential proteins
    <root>/esm/                                a small protein language model

A seed gives byte-identical files on every machine, except for the language model's weights; for
this reason, the pickles contain sorted lists instead of the sets in PRING's pickles.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from common.config_data import STRATEGIES, Strategy
from common.data import splitting
from common.data.benchmarks.demo import functional, world
from common.data.benchmarks.demo.esm import build_language_model
from common.data.benchmarks.demo.world import DemoSpec, Families, Network, Proteins
from common.data.benchmarks.pring import FileKind, file_names
from common.data.splitting import LabelledPairs, Pairs
from common.data.turns import in_turn
from common.errors import UserError
from common.files import new_directory

SPECIES, TRANSFER_SPECIES = "synthetic", "synthetic2"
# Increase this number when a seed gives another benchmark; older directories are then replaced.
VERSION = 1

_MARKER = "demo.json"
_README = """\
Everything in this directory is SYNTHETIC: a program generated it with the seed {seed}, and none of
the proteins exists. Sequences contain planted motifs ("families"), proteins with compatible
families interact (with {noise:.0%} of noise), GO ids (GO:91…, GO:92…, GO:93…) are invented,
"essential" proteins are the hubs of the test network, and esm/ is a tiny language model trained on
generated sequences. The files have the layout of the PRING benchmark, so that the same program can
read both. Metrics measured here show whether a model learns, but say nothing about real proteins.
families.tsv lists the families that were planted in each protein.
"""
# Every part has a separate random stream, so changing one part does not change the other parts.
_STREAMS = ("families", "proteins", "network", "transfer", "unlabelled", "terms", *STRATEGIES)


@dataclass(frozen=True, eq=False)
class Split:
    """The train, validation and test pairs of one split strategy, with sorted protein numbers."""

    train: Pairs
    test: Pairs
    train_pairs: LabelledPairs
    val_pairs: LabelledPairs
    test_pairs: LabelledPairs


def ensure_demo(root: Path, seed: int = 47, spec: DemoSpec | None = None) -> Path:
    """Generate the synthetic benchmark under `root`, unless it exists; return `root`.

    The directory is never left half-written. A benchmark of another seed, version or size is
    replaced.

    Raises:
        UserError: `root` contains something else, or cannot be written.
    """
    spec = spec or DemoSpec()
    identity = {"synthetic": True, "seed": seed, "version": VERSION, "sizes": asdict(spec)}
    # Tuples become lists, as in the identity that is read back from JSON.
    identity = json.loads(json.dumps(identity))
    if _read_marker(root) == identity:
        return root
    with in_turn(root):
        if _read_marker(root) != identity:  # Another process may have generated the benchmark.
            with new_directory(root) as directory:
                _generate(directory, seed, spec)
                _write_text(directory / _MARKER, json.dumps(identity, indent=2) + "\n")
    return root


def _read_marker(root: Path) -> dict[str, Any] | None:
    """Return the content of an existing demo's `demo.json`, or None if there is no demo."""
    try:
        if not root.exists() or (root.is_dir() and not any(root.iterdir())):
            return None
        marker = json.loads((root / _MARKER).read_text(encoding="utf-8"))
        if isinstance(marker, dict) and marker.get("synthetic") is True:
            return marker
    except (OSError, ValueError):
        pass  # reported below
    raise UserError(
        f"data_config.benchmark.root_dir ({root}) contains something other than a synthetic"
        " benchmark and will not be replaced; set root_dir to a directory that does not exist yet"
    )


def _generate(directory: Path, seed: int, spec: DemoSpec) -> None:
    rngs = {name: np.random.default_rng([seed, at]) for at, name in enumerate(_STREAMS)}
    families = world.draw_families(spec, rngs["families"])
    proteins = world.draw_proteins(spec, families, spec.proteins, "SYNA", rngs["proteins"])
    network = world.draw_network(spec, families, proteins, spec.mean_degree, rngs["network"])
    species = _Writer(directory / SPECIES, proteins, spec)
    species.write_sequences()
    splits = {}
    for strategy in STRATEGIES:
        splits[strategy] = draw_split(spec, network, strategy, rngs[strategy])
        _write_split(species, strategy, splits[strategy], rngs[strategy])
    _write_transfer(directory / TRANSFER_SPECIES, spec, families, rngs["transfer"])
    _write_functional(directory / "functional", species, splits["BFS"], families, rngs["terms"])
    _write_text(directory / "families.tsv", _describe_families(proteins))
    _write_text(directory / "README.txt", _README.format(seed=seed, noise=spec.noise))
    # The language model must not be trained on test proteins of any split.
    tested = {int(number) for split in splits.values() for number in split.test}
    corpus = [text for number, text in enumerate(proteins.sequences) if number not in tested]
    corpus += world.draw_unlabelled(spec, families, spec.unlabelled, rngs["unlabelled"])
    build_language_model(corpus, directory / "esm", spec.language_model_steps, seed)


def draw_split(
    spec: DemoSpec, network: Network, strategy: Strategy, rng: np.random.Generator
) -> Split:
    """Divide the proteins into train and test, and draw the labelled pairs of all splits."""
    count = round(spec.test_share * len(network.binds))
    neighbours = splitting.list_neighbours(network.binds)
    test = splitting.draw_test_proteins(neighbours, count, strategy, rng, spec.walk_length)
    train = np.setdiff1d(np.arange(len(network.binds)), test)
    draw_pairs = _pair_drawer(spec, network)
    pairs = draw_pairs(train, rng, spec.train_positives)
    validating = round(spec.validation_share * len(pairs))
    return Split(train, test, pairs[validating:], pairs[:validating], draw_pairs(test, rng))


def _pair_drawer(spec: DemoSpec, network: Network) -> Callable[..., LabelledPairs]:
    """Return a function that draws labelled pairs, with few negatives that can bind."""
    return partial(
        splitting.draw_pairs,
        network.binds,
        plausible=network.can_bind,
        plausible_share=spec.noise,
    )


@dataclass(frozen=True, eq=False)
class _Writer:
    """Writes the benchmark files of a species, replacing protein numbers by their ids."""

    folder: Path
    proteins: Proteins
    spec: DemoSpec

    def names(self, numbers: Iterable[int]) -> list[str]:
        return [self.proteins.names[number] for number in numbers]

    def graph(self, members: Pairs, edges: Pairs) -> nx.Graph:
        return _build_graph(self.names(members), zip(*map(self.names, edges.T), strict=True))

    def path(self, kind: FileKind, strategy: Strategy, nested: bool) -> Path:
        return self.folder / file_names(kind, self.folder.name, strategy, nested)[0]

    def write_sequences(self) -> None:
        records = zip(self.proteins.names, self.proteins.sequences, strict=True)
        _write_fasta(self.path("sequences", "BFS", nested=False), records)

    def write_pairs(self, path: Path, pairs: LabelledPairs) -> None:
        sides = (self.names(column) for column in pairs.pairs.T)
        _write_pairs(path, zip(*sides, pairs.labels, strict=True))

    def write_test_side(
        self,
        members: Pairs,
        pairs: LabelledPairs,
        strategies: Sequence[Strategy],
        nested: bool,
        rng: np.random.Generator,
    ) -> None:
        """Write the test pairs, test network, all pairs, and node sets of the given strategies."""
        own = strategies[0]
        self.write_pairs(self.path("test", own, nested), pairs)
        graph = self.graph(members, pairs.positives)
        _write_pickle(self.path("test_graph", own, nested), graph)
        every = combinations_with_replacement(sorted(graph), 2)
        labelled = ((a, b, int(graph.has_edge(a, b))) for a, b in every)
        _write_pairs(self.path("all_test", own, nested), labelled)
        neighbours = splitting.list_neighbours(nx.to_numpy_array(graph, dtype=np.bool_))
        sizes, number = self.spec.set_sizes, self.spec.sets_per_size
        for strategy in strategies:
            sets = splitting.draw_node_sets(neighbours, sizes, number, strategy, rng)
            named = {
                size: [self.names(members[chosen]) for chosen in of_size]
                for size, of_size in sets.items()
            }
            _write_pickle(self.path("node_sets", strategy, nested), named)


def _write_split(
    writer: _Writer, strategy: Strategy, split: Split, rng: np.random.Generator
) -> None:
    writer.write_pairs(writer.path("train", strategy, nested=True), split.train_pairs)
    writer.write_pairs(writer.path("val", strategy, nested=True), split.val_pairs)
    writer.write_test_side(split.test, split.test_pairs, [strategy], nested=True, rng=rng)
    folder, species = writer.folder / strategy, writer.folder.name
    known = np.concatenate([split.train_pairs.positives, split.val_pairs.positives])
    _write_pickle(folder / f"{species}_train_graph.pkl", writer.graph(split.train, known))
    sides = {"train": writer.names(split.train), "test": writer.names(split.test)}
    _write_pickle(folder / f"{species}_{strategy}_split.pkl", sides)


def _write_transfer(
    folder: Path, spec: DemoSpec, families: Families, rng: np.random.Generator
) -> None:
    """Write the second species, which is only tested on: new proteins with the same families."""
    proteins = world.draw_proteins(spec, families, spec.transfer_proteins, "SYNB", rng)
    network = world.draw_network(spec, families, proteins, spec.transfer_mean_degree, rng)
    members = np.arange(len(proteins))
    pairs = _pair_drawer(spec, network)(members, rng)
    writer = _Writer(folder, proteins, spec)
    writer.write_sequences()
    writer.write_test_side(members, pairs, STRATEGIES, nested=False, rng=rng)


def _write_functional(
    folder: Path, species: _Writer, split: Split, families: Families, rng: np.random.Generator
) -> None:
    """Write the complexes, GO-like terms and essential proteins among a split's test proteins."""
    proteins = species.proteins
    network = species.graph(split.test, split.test_pairs.positives)
    complexes = functional.find_complexes(network)
    _write_pickle(folder / "complex_graphs.pkl", [_induce(network, group) for group in complexes])
    sequences = dict(zip(proteins.names, proteins.sequences, strict=True))
    members = sorted({name for group in complexes for name in group})
    _write_fasta(folder / "complex_proteins.fasta", ((name, sequences[name]) for name in members))
    pairs = functional.label_complex_pairs(network, complexes)
    _write_pairs(folder / "complex_test_pairs.txt", pairs)
    terms = functional.assign_terms(sorted(network), proteins, families, rng)
    _write_pickle(folder / "test_go_terms.pkl", terms)
    essential, others = functional.rank_by_degree(network)
    for kind, names in (("essential", essential), ("non_essential", others)):
        _write_text(folder / f"selected_{kind}_proteins.txt", "".join(f"{n}\n" for n in names))


def _build_graph(nodes: Iterable[str], edges: Iterable[tuple[str, ...]]) -> nx.Graph:
    """Build a graph whose pickle does not depend on the order of the edges."""
    graph = nx.Graph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from(sorted(edges))
    return graph


def _induce(network: nx.Graph, group: Iterable[str]) -> nx.Graph:
    """Copy the subgraph of a group, so that its pickle does not include the whole network."""
    nodes = sorted(group)
    pairs = combinations_with_replacement(nodes, 2)
    return _build_graph(nodes, (pair for pair in pairs if network.has_edge(*pair)))


def _describe_families(proteins: Proteins) -> str:
    lines = ["protein\tfamilies (synthetic)\n"]
    for name, carries in zip(proteins.names, proteins.carries, strict=True):
        lines.append(f"{name}\t{' '.join(map(str, np.flatnonzero(carries)))}\n")
    return "".join(lines)


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _write_pairs(path: Path, rows: Iterable[tuple[str, str, int]]) -> None:
    _write_text(path, "".join(f"{a}\t{b}\t{label}\n" for a, b, label in rows))


def _write_fasta(path: Path, records: Iterable[tuple[str, str]]) -> None:
    _write_text(path, "".join(f">{name}\n{sequence}\n" for name, sequence in records))


def _write_pickle(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=4))
