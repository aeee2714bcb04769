"""The PRING reader: layouts, and facts of the real data."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

from common.config_data import STRATEGIES, BenchmarkConfig, Strategy
from common.data.benchmarks.pring import HOLDERS
from common.data.benchmarks.registry import open_benchmark
from common.data.tables.pairs import (
    PairTable,
    all_pairs,
    check_sequences,
    overlap,
)
from common.errors import UserError

SHARED = Path(__file__).parents[2] / "shared"
needs_pring = pytest.mark.skipif(
    not (SHARED / "pring").is_dir(), reason="needs the real PRING files"
)
NESTED_FILES = {
    "train": "BFS/human_train_ppi.txt",
    "val": "BFS/human_val_ppi.txt",
    "test": "BFS/human_test_ppi.txt",
    "all_test": "BFS/all_test_ppi.txt",
    "test_graph": "BFS/human_test_graph.pkl",
    "node_sets": "BFS/test_sampled_nodes.pkl",
    "sequences": "human_simple.fasta",
}
FLAT_FILES = {
    "test": "yeast_test_ppi.txt",
    "test_graph": "yeast_test_graph.pkl",
    "node_sets": "yeast_BFS_sampled_nodes.pkl",
    "sequences": "yeast_simple.fasta",
}


def write_species(folder: Path, files: dict[str, str]) -> Path:
    """A species of three proteins; every file tells what it is by its content."""
    contents: dict[str, bytes] = {
        "train": b"A\tB\t1\nA\tA\t1\nB\tC\t0\n",
        "val": b"A\tC\t1\n",
        "test": b"X\tY\t1\nX\tZ\t0\n",
        "all_test": b"X\tX\t0\nX\tY\t1\n",
        "test_graph": pickle.dumps(nx.Graph([("X", "Y"), ("Z", "Z")])),
        "node_sets": pickle.dumps({2: [{"X", "Y"}]}),
        "sequences": b">A\nAC\n>X\nDE\n",
    }
    for kind, name in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents[kind])
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., BenchmarkConfig]:
    def make(**changes: Any) -> BenchmarkConfig:
        paths = {"root_dir": str(tmp_path / "root"), "cache_dir": str(tmp_path / "cache")}
        return BenchmarkConfig(**(paths | changes))

    return make


def rows(table: PairTable) -> list[tuple[str, str, int]]:
    return [
        (table.proteins[a], table.proteins[b], int(label))
        for (a, b), label in zip(table.pairs, table.labels, strict=True)
    ]


# Layouts


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize(
    ("species", "files"), [("human", NESTED_FILES), ("yeast", FLAT_FILES)], ids=["nested", "flat"]
)
def test_finds_either_layout_below_every_known_root(
    tmp_path: Path,
    settings: Callable[..., BenchmarkConfig],
    holder: str,
    species: str,
    files: dict[str, str],
) -> None:
    write_species(tmp_path / "root" / holder / species, files)
    benchmark = open_benchmark(settings(species=species))
    assert rows(benchmark.pairs("test")) == [("X", "Y", 1), ("X", "Z", 0)]
    assert benchmark.sequences() == {"A": "AC", "X": "DE"}
    assert set(benchmark.test_graph().edges) == {("X", "Y"), ("Z", "Z")}
    assert benchmark.node_sets() == {"BFS": {2: [frozenset("XY")]}}
    assert set(benchmark.files()) == set(files)


def test_all_test_is_the_file_where_there_is_one_else_follows_from_the_graph(
    tmp_path: Path, settings: Callable[..., BenchmarkConfig]
) -> None:
    write_species(tmp_path / "root/human", NESTED_FILES)
    write_species(tmp_path / "root/yeast", FLAT_FILES)
    assert len(open_benchmark(settings()).pairs("all_test")) == 2
    derived = open_benchmark(settings(species="yeast")).pairs("all_test")
    assert rows(derived)[1] == ("X", "Y", 1)
    assert (len(derived), int(derived.labels.sum())) == (6, 2)


def test_the_release_with_more_of_the_wanted_files_wins(
    tmp_path: Path, settings: Callable[..., BenchmarkConfig]
) -> None:
    write_species(tmp_path / "root/human", {"sequences": NESTED_FILES["sequences"]})
    complete = write_species(tmp_path / "root/species_processed_data/human", NESTED_FILES)
    assert open_benchmark(settings()).files()["train"] == complete / NESTED_FILES["train"]


def test_flat_files_beside_nested_splits_are_not_mixed_in(
    tmp_path: Path, settings: Callable[..., BenchmarkConfig]
) -> None:
    """They belong to another split: its train proteins may be the nested split's test proteins."""
    nested = {kind: name for kind, name in NESTED_FILES.items() if kind != "train"}
    folder = write_species(tmp_path / "root/human", nested)
    (folder / "human_train_ppi.txt").write_text("mine")
    with pytest.raises(UserError, match=r"BFS/human_train_ppi\.txt is missing"):
        open_benchmark(settings()).pairs("train")
    with pytest.raises(UserError, match=r"DFS/human_train_ppi\.txt is missing"):
        open_benchmark(settings(split_strategy="DFS")).pairs("train")


def test_only_strategies_that_sample_this_network_have_node_sets_the_configured_one_first(
    tmp_path: Path, settings: Callable[..., BenchmarkConfig]
) -> None:
    human = {kind: name.replace("BFS", "DFS") for kind, name in NESTED_FILES.items()}
    write_species(tmp_path / "root/human", NESTED_FILES)
    write_species(tmp_path / "root/human", human)
    nested = open_benchmark(settings())
    assert list(nested.node_sets()) == list(nested.node_sets(("BFS",))) == ["BFS"]
    with pytest.raises(UserError, match=r"strategies lists DFS, but human has no DFS node sets"):
        nested.node_sets(("BFS", "DFS"))
    write_species(tmp_path / "root/yeast", FLAT_FILES)
    write_species(tmp_path / "root/yeast", {"node_sets": "yeast_DFS_sampled_nodes.pkl"})
    flat = open_benchmark(settings(species="yeast", split_strategy="DFS"))
    assert list(flat.node_sets()) == list(flat.node_sets(("BFS", "DFS"))) == ["DFS", "BFS"]
    with pytest.raises(UserError, match="has no node_sets file"):
        open_benchmark(settings(species="yeast", split_strategy="RANDOM_WALK")).node_sets()


def test_packed_text_files_are_found(
    tmp_path: Path, settings: Callable[..., BenchmarkConfig]
) -> None:
    folder = write_species(tmp_path / "root/yeast", FLAT_FILES)
    for name in ("yeast_test_ppi.txt", "yeast_simple.fasta"):
        content = (folder / name).read_bytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        (folder / name).unlink()
    benchmark = open_benchmark(settings(species="yeast"))
    assert len(benchmark.pairs("test")) == len(benchmark.sequences()) == 2


def test_a_test_species_has_no_train_pairs_and_says_where_they_should_be(
    tmp_path: Path, settings: Callable[..., BenchmarkConfig]
) -> None:
    folder = write_species(tmp_path / "root/yeast", FLAT_FILES)
    with pytest.raises(UserError) as error:
        open_benchmark(settings(species="yeast")).pairs("train")
    assert str(folder / "yeast_train_ppi.txt") in str(error.value)
    assert "data_config.benchmark.root_dir" in str(error.value)


def test_an_unknown_species_names_those_found(
    tmp_path: Path, settings: Callable[..., BenchmarkConfig]
) -> None:
    write_species(tmp_path / "root/yeast", FLAT_FILES)
    write_species(tmp_path / "root/human", NESTED_FILES)
    (tmp_path / "root/notes").mkdir()
    with pytest.raises(UserError, match="no species 'arath', only human, yeast;"):
        open_benchmark(settings(species="arath"))


@pytest.mark.parametrize("level", ["root/human", ""])
def test_a_root_one_level_off_is_told(
    tmp_path: Path, settings: Callable[..., BenchmarkConfig], level: str
) -> None:
    """The advice was to download the benchmark into a species' folder."""
    write_species(tmp_path / "root" / "human", NESTED_FILES)
    with pytest.raises(UserError, match=rf"no species folders; set .* {tmp_path}/root,"):
        open_benchmark(settings(root_dir=str(tmp_path / level)))


@pytest.mark.parametrize("exists", [True, False])
def test_a_missing_root_says_how_to_get_the_data(
    tmp_path: Path, settings: Callable[..., BenchmarkConfig], exists: bool
) -> None:
    if exists:
        (tmp_path / "root").mkdir()
    with pytest.raises(UserError) as error:
        open_benchmark(settings())
    assert "data_config.benchmark.download: true" in str(error.value)
    clone = "clone https://github.com/SophieSarceau/PRING"
    assert clone in str(error.value)
    assert "set root_dir to its data_process/pring_dataset" in str(error.value)


# Facts of the real data


@needs_pring
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_real_all_test_file_equals_what_follows_from_the_graph(
    settings: Callable[..., BenchmarkConfig], strategy: Strategy
) -> None:
    root = str(SHARED / "pring_nested")
    benchmark = open_benchmark(settings(root_dir=root, species="yeast", split_strategy=strategy))
    read, derived = benchmark.pairs("all_test"), all_pairs(benchmark.test_graph())
    assert len(read) == 634 * 635 // 2
    assert read.proteins == derived.proteins
    assert np.array_equal(read.pairs, derived.pairs)
    assert np.array_equal(read.labels, derived.labels)
    assert overlap(benchmark.pairs("train"), benchmark.pairs("test")) == set()
    assert len(overlap(benchmark.pairs("train"), benchmark.pairs("val"))) > 2000
    assert set().union(*benchmark.node_sets()[strategy][200]) <= set(benchmark.test_graph())


@needs_pring
def test_every_real_self_pair_is_positive(settings: Callable[..., BenchmarkConfig]) -> None:
    """Counts as the notes beside the data give them."""
    benchmark = open_benchmark(settings(root_dir=str(SHARED / "pring")))
    for split, loops, positives in (("test", 1812, 34075), ("train", 4741, 42346)):
        table = benchmark.pairs(split)  # type: ignore[arg-type]
        assert int(table.is_self.sum()) == loops
        assert set(table.labels[table.is_self].tolist()) == {1}
        assert int(table.labels.sum()) == positives


@needs_pring
def test_a_real_test_species_is_read_in_full(settings: Callable[..., BenchmarkConfig]) -> None:
    for strategy in STRATEGIES:
        benchmark = open_benchmark(
            settings(root_dir=str(SHARED / "pring"), species="ecoli", split_strategy=strategy)
        )
        node_sets = benchmark.node_sets((strategy,))[strategy]
        sizes = {size: {len(s) for s in sets} for size, sets in node_sets.items()}
        assert sizes == {size: {size} for size in range(20, 201, 20)}
    pairs = benchmark.pairs("all_test")
    assert len(pairs) == 500_500
    assert int(pairs.labels.sum()) == benchmark.test_graph().number_of_edges()
    assert check_sequences(pairs, benchmark.sequences(), "refuse", "x")[1] is None
