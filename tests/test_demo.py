"""The synthetic benchmark: what it promises of its files, its splits, its labels, its model."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch

from common.config_data import STRATEGIES, BenchmarkConfig, EmbeddingsConfig, Strategy
from common.data.benchmarks.base import Benchmark
from common.data.benchmarks.demo import generate as demo
from common.data.benchmarks.demo.esm import build_language_model
from common.data.benchmarks.demo.functional import assign_terms
from common.data.benchmarks.demo.generate import draw_split, ensure_demo
from common.data.benchmarks.demo.world import (
    RESIDUES,
    DemoSpec,
    Families,
    Network,
    Proteins,
    draw_families,
    draw_network,
    draw_proteins,
    draw_unlabelled,
)
from common.data.benchmarks.pickles import load_go_terms, load_graph, load_graphs
from common.data.benchmarks.registry import open_benchmark
from common.data.embeddings.language_model import LanguageModel
from common.data.embeddings.model_files import locate_model
from common.data.splitting import draw_node_sets, draw_test_proteins, list_neighbours
from common.data.tables.pairs import all_pairs, overlap
from common.errors import UserError
from tests.tiny_demo import MINIATURE

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated miniature, for tests that only read it."""
    return ensure_demo(tmp_path_factory.mktemp("demo") / "mini", 47, MINIATURE)


def open_demo(paths: Path, strategy: Strategy, species: str = demo.SPECIES) -> Benchmark:
    return open_benchmark(
        BenchmarkConfig(
            root_dir=str(paths),
            species=species,
            split_strategy=strategy,
            cache_dir=str(paths.parent / "cache"),
        )
    )


@pytest.fixture(scope="module")
def world() -> tuple[Families, Proteins, Network]:
    """Families, proteins and network of the default sizes, seed 47."""
    spec, rng = DemoSpec(), np.random.default_rng(47)
    families = draw_families(spec, rng)
    proteins = draw_proteins(spec, families, spec.proteins, "P", rng)
    return families, proteins, draw_network(spec, families, proteins, spec.mean_degree, rng)


def read_all(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


# What is generated for a seed.


# Torch takes seconds to import: here the corpus stands for the model that is trained on it.
GENERATE = """
import json, sys, types
from pathlib import Path

stub = types.ModuleType("common.data.benchmarks.demo.esm")
def build_language_model(sequences, directory, steps, seed):
    directory.mkdir()
    (directory / "corpus.txt").write_text("\\n".join(sequences))
stub.build_language_model = build_language_model
sys.modules[stub.__name__] = stub

from common.data.benchmarks.demo.generate import ensure_demo
from common.data.benchmarks.demo.world import DemoSpec
sizes = {key: tuple(value) if isinstance(value, list) else value
         for key, value in json.loads(sys.argv[2]).items()}
ensure_demo(Path(sys.argv[1]), 47, DemoSpec(**sizes))
"""


@pytest.mark.pipeline
def test_a_seed_gives_the_same_bytes_under_any_hash_seed(tmp_path: Path, miniature: Path) -> None:
    sizes = json.dumps(asdict(MINIATURE))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", GENERATE, str(tmp_path / hash_seed), sizes],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
        )
        for hash_seed in ("1", "2")
    ]
    assert [process.wait() for process in started] == [0, 0]
    first, second = read_all(tmp_path / "1"), read_all(tmp_path / "2")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    here = read_all(miniature)
    both = first.keys() & here.keys()
    assert first.keys() - both == {"esm/corpus.txt"}
    assert [name for name in both if first[name] != here[name]] == []


def test_a_seed_gives_the_same_language_model(tmp_path: Path) -> None:
    corpus = ["ACDEFGHIKL" * 3, "MNPQRSTVWY" * 4]
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        build_language_model(corpus, tmp_path / folder, steps=2, seed=seed)
    assert read_all(tmp_path / "a") == read_all(tmp_path / "b")
    weights = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in "ac"]
    assert weights[0] != weights[1]


def test_another_seed_gives_other_proteins_and_pairs(tmp_path: Path, miniature: Path) -> None:
    other = read_all(ensure_demo(tmp_path / "other", 48, MINIATURE))
    same = {name for name, content in read_all(miniature).items() if other[name] == content}
    assert same <= {"esm/config.json", "esm/tokenizer_config.json", "esm/vocab.txt"}


def test_every_domain_stands_in_its_protein_and_mutates_at_the_stated_rate() -> None:
    spec = replace(MINIATURE, proteins=400, mutation=0.2)
    families = draw_families(spec, np.random.default_rng(1))
    exact = replace(spec, mutation=0.0)
    proteins = draw_proteins(exact, families, 400, "P", np.random.default_rng(2))
    motifs = ["".join(RESIDUES[residue] for residue in motif) for motif in families.motifs]
    for sequence, carries in zip(proteins.sequences, proteins.carries, strict=True):
        assert [motif in sequence for motif in motifs] == carries.tolist()
        assert spec.lengths[0] <= len(sequence) <= spec.lengths[1]
    # Without a background, a protein of one domain is its mutated motif and nothing else.
    bare = replace(spec, lengths=(13, 13), motif_lengths=(13, 13), domains=(1.0,))
    families = draw_families(bare, np.random.default_rng(1))
    proteins = draw_proteins(bare, families, 400, "P", np.random.default_rng(3))
    wanted = ["".join(RESIDUES[r] for r in families.motifs[f]) for f in proteins.carries.argmax(1)]
    pairs = list(zip("".join(proteins.sequences), "".join(wanted), strict=True))
    differing = np.mean([a != b for a, b in pairs])
    assert differing == pytest.approx(0.2 * 19 / 20, abs=0.02)  # one draw in 20 changes nothing


# The network and its labels.


def test_every_family_has_a_partner_and_binding_has_no_direction() -> None:
    compatible = draw_families(DemoSpec(), np.random.default_rng(0)).compatible
    assert (compatible == compatible.T).all()
    assert compatible.any(axis=1).all()
    assert compatible[0].sum() == 1 + DemoSpec().hub_partners
    assert compatible.diagonal().sum() == DemoSpec().homotypic


def test_two_proteins_can_bind_if_any_of_their_domains_can(
    world: tuple[Families, Proteins, Network],
) -> None:
    families, proteins, network = world
    for a, b in np.random.default_rng(0).integers(len(proteins), size=(300, 2)):
        domains = [np.flatnonzero(proteins.carries[protein]) for protein in (a, b)]
        possible = any(families.compatible[one, two] for one in domains[0] for two in domains[1])
        assert network.can_bind[a, b] == possible


def test_degrees_have_a_heavy_tail(world: tuple[Families, Proteins, Network]) -> None:
    """The tenth with most partners holds a quarter of them, the first ten times the median.

    In a random graph of this size and mean degree (30) these are 14 % and 1.6 times.
    """
    binds = world[2].binds
    degrees = np.sort(binds.sum(1) - binds.diagonal())
    assert degrees.mean() == pytest.approx(DemoSpec().mean_degree, rel=0.05)
    assert degrees[-100:].sum() / degrees.sum() > 0.25
    assert degrees[-1] > 8 * np.median(degrees)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_labels_follow_the_rule_up_to_the_stated_noise(
    world: tuple[Families, Proteins, Network], strategy: Strategy
) -> None:
    spec, network = DemoSpec(), world[2]
    split = draw_split(spec, network, strategy, np.random.default_rng(5))
    for pairs in (split.test_pairs, split.train_pairs, split.val_pairs):
        a, b = pairs.pairs.T
        others = a != b
        assert (pairs.labels[~others] == 1).all()
        can_bind = network.can_bind[a, b]
        positive = (pairs.labels == 1) & others
        # Walks and sampling move the shares a little; the whole network has them exactly.
        assert 0.0 < np.mean(~can_bind[positive]) < 2 * spec.noise
        assert 0.0 < np.mean(can_bind[pairs.labels == 0]) < 2 * spec.noise


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_default_split_is_balanced_and_node_disjoint(
    world: tuple[Families, Proteins, Network], strategy: Strategy
) -> None:
    spec, network = DemoSpec(), world[2]
    split = draw_split(spec, network, strategy, np.random.default_rng(5))
    assert len(split.test) == 200
    assert sorted([*split.test, *split.train]) == list(range(1000))
    assert set(split.test_pairs.pairs.flat) <= set(split.test)
    train_side = np.concatenate([split.train_pairs.pairs, split.val_pairs.pairs])
    assert set(train_side.flat) <= set(split.train)
    assert (len(split.train_pairs), len(split.val_pairs)) == (2400, 600)
    assert split.test_pairs.labels.mean() == 0.5
    assert len(np.unique(train_side, axis=0)) == 3000
    assert np.isin(split.test_pairs.positives[:, 0] == split.test_pairs.positives[:, 1], True).any()


# Walks.


def two_cliques(size: int) -> list[list[int]]:
    binds = np.zeros((2 * size, 2 * size), np.bool_)
    binds[:size, :size] = binds[size:, size:] = True
    return list_neighbours(binds)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_walk_for_test_proteins_starts_anew(strategy: Strategy) -> None:
    """An unbroken walk over two cliques would take one of them whole and nothing of the other."""
    rng = np.random.default_rng(0)
    drawn = draw_test_proteins(two_cliques(30), 30, strategy, rng, walk_length=4)
    assert len(set(drawn)) == 30
    assert 5 <= np.sum(drawn < 30) <= 25


def test_walks_take_the_order_of_their_name() -> None:
    """A hub (0) has four arms of two nodes: in breadth its ring (1 to 4) comes before any tip.

    Five nodes are then the hub and its ring, which no walk in depth yields; that one yields two
    whole arms and the hub, which no walk in breadth does.
    """
    arms = nx.Graph(
        [(0, ring) for ring in (1, 2, 3, 4)] + [(ring, ring + 4) for ring in range(1, 5)]
    )
    neighbours = list_neighbours(nx.to_numpy_array(arms, nodelist=range(9)).astype(np.bool_))
    rng = np.random.default_rng(0)
    sets = {
        strategy: set(map(tuple, draw_node_sets(neighbours, (5,), 300, strategy, rng)[5]))
        for strategy in STRATEGIES
    }
    ring, two_arms = (0, 1, 2, 3, 4), (0, 1, 2, 5, 6)
    holds = {name: (ring in of, two_arms in of) for name, of in sets.items()}
    assert holds == {"BFS": (True, False), "DFS": (False, True), "RANDOM_WALK": (True, True)}
    assert all(nx.is_connected(arms.subgraph(chosen)) for of in sets.values() for chosen in of)


def test_a_walk_that_ends_goes_on_elsewhere() -> None:
    for strategy in STRATEGIES:
        rng = np.random.default_rng(0)
        sets = draw_node_sets(two_cliques(4), (8, 9), 3, strategy, rng)
        assert sets == {8: [list(range(8))] * 3}


# Layouts.


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_nested_species_reads_as_the_benchmark_does(
    miniature: Path, strategy: Strategy
) -> None:
    opened = open_demo(miniature, strategy)
    train, val, test = (opened.pairs(split) for split in ("train", "val", "test"))
    assert not overlap(train, test)
    assert not overlap(val, test)
    assert {*train.proteins, *val.proteins, *test.proteins} <= opened.sequences().keys()
    for table in (train, val, test):
        assert (table.labels[table.is_self] == 1).all()
    assert train.is_self.any()
    graph = opened.test_graph()
    positives = {
        (test.proteins[a], test.proteins[b]) for a, b in test.pairs[test.labels == 1].tolist()
    }
    assert {tuple(sorted(edge)) for edge in graph.edges} == positives
    assert len(graph) == 24
    every, derived = opened.pairs("all_test"), all_pairs(graph)
    assert every.proteins == derived.proteins
    assert (every.pairs == derived.pairs).all()
    assert (every.labels == derived.labels).all()
    sets = opened.node_sets()[strategy]
    assert {size: [len(chosen) for chosen in of] for size, of in sets.items()} == {
        8: [8, 8, 8],
        16: [16, 16, 16],
    }
    assert all(chosen <= set(graph) for of in sets.values() for chosen in of)


def test_the_train_graph_holds_train_and_validation_positives(miniature: Path) -> None:
    """As in PRING: degrees taken from it have seen the validation answers."""
    opened = open_demo(miniature, "BFS")
    graph = load_graph(miniature / "synthetic/BFS/synthetic_train_graph.pkl")
    edges = {
        (table.proteins[a], table.proteins[b])
        for table in (opened.pairs("train"), opened.pairs("val"))
        for a, b in table.pairs[table.labels == 1].tolist()
    }
    assert {tuple(sorted(edge)) for edge in graph.edges} == edges
    split = pickle.loads((miniature / "synthetic/BFS/synthetic_BFS_split.pkl").read_bytes())
    assert sorted(graph) == split["train"]
    assert sorted(opened.test_graph()) == split["test"]


def test_the_second_species_lies_flat_and_shares_no_sequence(miniature: Path) -> None:
    opened = open_demo(miniature, "DFS", demo.TRANSFER_SPECIES)
    test = opened.pairs("test")
    assert set(test.proteins) <= opened.sequences().keys()
    assert len(opened.pairs("all_test")) == 40 * 41 / 2
    node_sets = opened.node_sets()
    assert list(node_sets) == ["DFS", "BFS", "RANDOM_WALK"]
    assert {sizes for of in node_sets.values() for sizes in of} == {8, 16}
    main = open_demo(miniature, "DFS").sequences()
    assert not set(opened.sequences().values()) & set(main.values())
    assert not opened.sequences().keys() & main.keys()


def test_it_is_called_synthetic_where_a_user_looks(miniature: Path) -> None:
    assert "SYNTHETIC" in (miniature / "README.txt").read_text()
    species = [name.name for name in miniature.iterdir() if name.name.startswith("synth")]
    assert sorted(species) == ["synthetic", "synthetic2"]


# Complexes, terms, essential proteins.


def read_pairs(path: Path) -> dict[tuple[str, ...], int]:
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert len({tuple(row[:2]) for row in rows}) == len(rows)
    return {tuple(row[:2]): int(row[2]) for row in rows}


def test_complexes_are_distinct_dense_groups_of_the_test_network(miniature: Path) -> None:
    graphs = load_graphs(miniature / "functional" / "complex_graphs.pkl")
    network = open_demo(miniature, "BFS").test_graph()
    groups = {tuple(sorted(graph)) for graph in graphs}
    assert len(groups) == len(graphs) > 0
    for graph in graphs:
        assert 4 <= len(graph) <= 8
        induced = network.subgraph(graph)
        assert {frozenset(edge) for edge in graph.edges} == {frozenset(e) for e in induced.edges}
        links = graph.number_of_edges() - nx.number_of_selfloops(graph)
        assert links >= 0.7 * len(graph) * (len(graph) - 1) / 2
    pairs = read_pairs(miniature / "functional" / "complex_test_pairs.txt")
    assert pairs.keys() == {pair for group in groups for pair in combinations(group, 2)}
    assert all(label == network.has_edge(*pair) for pair, label in pairs.items())
    text = (miniature / "functional" / "complex_proteins.fasta").read_text().splitlines()
    sequences = open_demo(miniature, "BFS").sequences()
    described = {name[1:]: sequence for name, sequence in zip(text[::2], text[1::2], strict=True)}
    assert described == {name: sequences[name] for group in groups for name in group}


def test_essential_proteins_are_the_hubs_of_the_test_network(miniature: Path) -> None:
    network = open_demo(miniature, "BFS").test_graph()
    network.remove_edges_from(list(nx.selfloop_edges(network)))
    essential, others = (
        (miniature / "functional" / f"selected_{kind}_proteins.txt").read_text().split()
        for kind in ("essential", "non_essential")
    )
    assert len(essential) == len(others) == 12
    assert not set(essential) & set(others)
    fewest = min(network.degree(name) for name in essential)
    assert fewest >= max(network.degree(name) for name in others)


def test_terms_cover_the_test_proteins_and_follow_their_families(miniature: Path) -> None:
    terms = load_go_terms(miniature / "functional" / "test_go_terms.pkl")
    assert terms.keys() == set(open_demo(miniature, "BFS").test_graph())
    for aspects in terms.values():
        assert aspects.keys() == {"go_p", "go_f", "go_c"}
        assert all(term.startswith("GO:9") for of in aspects.values() for term in of)


def test_one_term_in_ten_is_missing_and_as_many_are_added(
    world: tuple[Families, Proteins, Network],
) -> None:
    families, proteins, _ = world
    terms = assign_terms(proteins.names, proteins, families, np.random.default_rng(0))
    functions = np.zeros_like(proteins.carries)
    for row, name in enumerate(proteins.names):
        functions[row, [int(term[-2:]) for term in terms[name]["go_f"]]] = True
    missing = np.sum(proteins.carries & ~functions)
    added = np.sum(functions & ~proteins.carries)
    total = proteins.carries.sum()
    assert missing / total == pytest.approx(0.1, abs=0.03)
    assert added / total == pytest.approx(0.1, abs=0.03)


# The language model.


def test_the_language_model_never_sees_a_test_protein(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def record(sequences: Sequence[str], directory: Path, steps: int, seed: int) -> None:
        seen.extend(sequences)

    monkeypatch.setattr(demo, "build_language_model", record)
    paths = ensure_demo(tmp_path / "demo", 47, MINIATURE)
    sequences = open_demo(paths, "BFS").sequences()
    tested = {name for strategy in STRATEGIES for name in open_demo(paths, strategy).test_graph()}
    transfer = open_demo(paths, "BFS", demo.TRANSFER_SPECIES).sequences()
    assert not {sequences[name] for name in tested} & set(seen)
    assert not set(transfer.values()) & set(seen)
    untested = {text for name, text in sequences.items() if name not in tested}
    assert untested <= set(seen)
    assert len(seen) == len(untested) + MINIATURE.unlabelled


def test_the_checkpoint_loads_and_gives_one_state_per_residue(miniature: Path) -> None:
    files = locate_model(EmbeddingsConfig(model_name=str(miniature / "esm")))
    model = LanguageModel.load(files, -1, torch.device("cpu"))
    states = model.residue_states(["ACDEFGHIKL", "WY"])
    assert [tuple(state.shape) for state in states] == [(10, 64), (2, 64)]
    # Rotary positions: the same residue differs by where it stands.
    same = model.residue_states(["AACA"])[0]
    assert not torch.allclose(same[0], same[3], atol=1e-3)


def test_masked_residues_are_learned(tmp_path: Path) -> None:
    """On copies of a single motif the loss falls well below that of guessing, log(20) = 3."""
    losses = build_language_model(["ACDEFGHIKLMNPQRSTVWY" * 3], tmp_path, steps=30, seed=0)
    assert losses[0] > 2.9
    assert np.mean(losses[-5:]) < 2.0


def test_training_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    build_language_model(["ACDEFGHIKL"], tmp_path, steps=1, seed=0)
    assert torch.equal(torch.rand(4), expected)


def test_unlabelled_sequences_are_rich_in_domains() -> None:
    spec = replace(DemoSpec(), mutation=0.0)
    families = draw_families(spec, np.random.default_rng(0))
    motifs = ["".join(RESIDUES[residue] for residue in motif) for motif in families.motifs]
    for sequence in draw_unlabelled(spec, families, 20, np.random.default_rng(1)):
        assert sum(motif in sequence for motif in motifs) == 3
        assert len(sequence) <= 90


# Complete or absent.


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError(28, "No space left")])
def test_an_interrupted_generation_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException] | OSError
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(demo, "build_language_model", fail)
    told = UserError if isinstance(error, OSError) else error
    with pytest.raises(told):
        ensure_demo(tmp_path / "demo", 47, MINIATURE)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_demo_stays_until_another_seed_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "build_language_model", lambda *_: None)
    first = ensure_demo(tmp_path / "demo", 47, MINIATURE)
    before = read_all(first)
    (first / "mark").touch()
    ensure_demo(tmp_path / "demo", 47, MINIATURE)
    assert (first / "mark").exists()
    ensure_demo(tmp_path / "demo", 48, MINIATURE)
    assert not (first / "mark").exists()
    after = read_all(first)
    assert after.keys() == before.keys()
    assert after["synthetic/synthetic_simple.fasta"] != before["synthetic/synthetic_simple.fasta"]
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_a_failed_replacement_leaves_the_old_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "build_language_model", lambda *_: None)
    root = ensure_demo(tmp_path / "demo", 47, MINIATURE)
    before = read_all(root)
    monkeypatch.setattr("common.data.benchmarks.demo.world.draw_unlabelled", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ensure_demo(root, 48, MINIATURE)
    assert read_all(root) == before


@pytest.mark.parametrize("marker", [None, "{}", "[]", "not json"])
def test_a_directory_that_is_no_demo_is_left_alone(tmp_path: Path, marker: str | None) -> None:
    root = tmp_path / "precious"
    root.mkdir()
    (root / "data.txt").write_text("mine")
    if marker is not None:
        (root / "demo.json").write_text(marker)
    before = read_all(root)
    with pytest.raises(UserError, match=r"root_dir .*precious.* will not be replaced"):
        ensure_demo(root, 47, MINIATURE)
    assert read_all(root) == before


def test_a_file_in_the_way_and_a_place_that_cannot_be_made_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="will not be replaced"):
        ensure_demo(tmp_path / "file", 47, MINIATURE)
    with pytest.raises(UserError, match=r"cannot write .*below: "):
        ensure_demo(tmp_path / "file" / "below", 47, MINIATURE)
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_directory_becomes_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "build_language_model", lambda *_: None)
    (tmp_path / "demo").mkdir()
    paths = ensure_demo(tmp_path / "demo", 47, MINIATURE)
    assert (paths / "demo.json").is_file()
