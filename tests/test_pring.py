"""The PRING reader: pair files, layouts, the download, and facts of the real data."""

from __future__ import annotations

import gzip
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import STRATEGIES, BenchmarkConfig
from common.data import pring
from common.data.pring import (
    HOLDERS,
    MissingReport,
    PairTable,
    all_pairs,
    check_sequences,
    open_benchmark,
    overlap,
    read_pairs,
)
from common.errors import UserError

SHARED = Path(__file__).parents[2] / "shared"
needs_pring = pytest.mark.skipif(
    not (SHARED / "pring").is_dir(), reason="needs the real PRING files"
)
LINES = "P2\tP1\t1\nP1\tP1\t0\nP3\tP2\t1\n"
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


# Pair files


def rows(table: PairTable) -> list[tuple[str, str, int]]:
    return [
        (table.proteins[a], table.proteins[b], int(label))
        for (a, b), label in zip(table.pairs, table.labels, strict=True)
    ]


EXPECTED = [("P2", "P1", 1), ("P1", "P1", 0), ("P3", "P2", 1)]


def test_pairs_are_row_numbers_into_the_sorted_proteins(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(LINES)
    table = read_pairs(tmp_path / "p.txt", tmp_path / "cache")
    assert table.proteins == ("P1", "P2", "P3")
    assert table.pairs.tolist() == [[1, 0], [0, 0], [2, 1]]
    assert table.labels.tolist() == [1, 0, 1]
    assert (str(table.pairs.dtype), str(table.labels.dtype)) == ("int64", "int8")
    assert table.is_self.tolist() == [False, True, False]
    assert len(table) == 3


@pytest.mark.parametrize(
    "content",
    [
        LINES.replace("\t", " ").encode(),
        LINES.replace("\t", "  \t ").encode(),
        LINES.replace("\n", "\r\n").encode(),
        LINES.replace("\n", "\r").encode(),
        b"\xef\xbb\xbf" + LINES.encode(),
        LINES.encode() + b"\n \n\t\n",
        LINES.rstrip("\n").encode(),
        LINES.replace("\n", " \n").encode(),
    ],
)
def test_harmless_differences_of_form_change_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.txt").write_bytes(content)
    assert rows(read_pairs(tmp_path / "p.txt", tmp_path / "cache")) == EXPECTED
    (tmp_path / "p.txt.gz").write_bytes(gzip.compress(content, mtime=0))
    assert rows(read_pairs(tmp_path / "p.txt.gz", tmp_path / "other")) == EXPECTED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LINES + "P1\tP3\t2\n", "line 4: the label '2' is neither 0 nor 1"),
        (LINES + "P1\tP3\t1.0\n", "line 4: the label '1.0'"),
        (LINES + "P1\tP3\t01\n", "line 4: the label '01'"),
        (LINES + "P1\tP3\t-1\n", "line 4: the label '-1'"),
        ("protein_a\tprotein_b\tlabel\n" + LINES, "line 1: the label 'label'"),
        (LINES + "P1\tP3\n" + LINES, "line 4: 2 columns instead of three"),
        (LINES + "P1\t\t1\n", "line 4: 2 columns"),
        (LINES + "P1\tP3\t1\t0.5\n", "line 4: 4 columns"),
        (LINES + "\n\nP1 P3\n", "line 6: 2 columns"),
        ('"P1\tP2\t1\n' + 'P1"\tP2\n', "line 2: 2 columns"),
        ("", "holds no pairs"),
        ("\n\n", "holds no pairs"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        read_pairs(path, tmp_path / "cache")
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert not (tmp_path / "cache").exists()


def test_unreadable_pair_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*absent\.txt"):
        read_pairs(tmp_path / "absent.txt", tmp_path / "cache")
    (tmp_path / "p.txt").write_bytes(b"P1\tP\xff\t1\n")
    with pytest.raises(UserError, match="not a text file in UTF-8"):
        read_pairs(tmp_path / "p.txt", tmp_path / "cache")


@given(st.lists(st.sampled_from(["P1", "P2", "é", "0", "1", "\t", "\t", "\n", "\r", " ", '"'])))
def test_the_fast_parser_agrees_with_the_careful_one_wherever_it_answers(parts: list[str]) -> None:
    text = "".join(parts)
    fast = pring._parse_regular(text)
    if fast is not None:
        assert fast.to_pylist() == pring._parse_lines(text, Path("x")).to_pylist()


def test_the_fast_parser_answers_for_the_benchmarks_own_form() -> None:
    assert pring._parse_regular(LINES) is not None
    assert pring._parse_regular(LINES.replace("\n", "\r\n")) is not None


def test_a_changed_file_is_never_served_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.txt"
    path.write_text(LINES)
    first = read_pairs(path, tmp_path / "cache")
    path.write_text(LINES.replace("P3\tP2\t1", "P3\tP2\t0"))
    assert read_pairs(path, tmp_path / "cache").labels.tolist() == [1, 0, 0]
    path.write_text(LINES)
    monkeypatch.setattr(pring, "_parse_pairs", None)
    assert rows(read_pairs(path, tmp_path / "cache")) == rows(first)


def test_select_keeps_only_the_proteins_still_named(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(LINES)
    table = read_pairs(tmp_path / "p.txt", tmp_path / "cache")
    kept = table.select(np.array([False, False, True]))
    assert kept.proteins == ("P2", "P3")
    assert rows(kept) == EXPECTED[2:]
    assert rows(table.select(np.array([2, 0]))) == [EXPECTED[2], EXPECTED[0]]
    assert len(table.select(np.zeros(3, bool))) == 0


def test_all_pairs_by_hand() -> None:
    table = all_pairs(nx.Graph([("b", "a"), ("c", "c")]))
    assert rows(table) == [
        ("a", "a", 0), ("a", "b", 1), ("a", "c", 0), ("b", "b", 0), ("b", "c", 0), ("c", "c", 1),
    ]  # fmt: skip


# Sequences of the pairs


@pytest.fixture
def table(tmp_path: Path) -> PairTable:
    (tmp_path / "p.txt").write_text(LINES)
    return read_pairs(tmp_path / "p.txt", tmp_path / "cache")


def test_complete_sequences_pass(table: PairTable) -> None:
    sequences = dict.fromkeys(["P1", "P2", "P3", "P4"], "AC")
    assert check_sequences(table, sequences, "refuse", "x") == (table, None)


def test_missing_sequences_are_refused_with_count_names_and_remedy(table: PairTable) -> None:
    with pytest.raises(UserError) as error:
        check_sequences(table, {"P1": "AC", "P2": "AC"}, "refuse", "human train pairs")
    assert str(error.value) == (
        "human train pairs: 1 of 3 proteins (P3) have no sequence, which concerns 1 of 3 pairs;"
        " add them, or set data_config.benchmark.missing_sequences: drop"
    )


def test_missing_sequences_are_dropped_and_reported(table: PairTable) -> None:
    kept, report = check_sequences(table, {"P1": "AC", "P2": "AC"}, "drop", "x")
    assert rows(kept) == EXPECTED[:2]
    assert report == MissingReport(pairs=1, proteins=1, names=("P3",))


def test_dropping_every_pair_is_refused(table: PairTable) -> None:
    with pytest.raises(UserError, match=r"3 of 3 proteins \(P1, P2, P3\) have no sequence"):
        check_sequences(table, {}, "drop", "x")


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
    assert benchmark.node_sets() == {2: [frozenset("XY")]}
    assert set(benchmark.files) == set(files)


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
    assert open_benchmark(settings()).folder == complete


def test_flat_files_beside_nested_splits_are_not_mixed_in(
    tmp_path: Path, settings: Callable[..., BenchmarkConfig]
) -> None:
    """They belong to another split: its train proteins may be the nested split's test proteins."""
    nested = {kind: name for kind, name in NESTED_FILES.items() if kind != "train"}
    folder = write_species(tmp_path / "root/human", nested)
    (folder / "human_train_ppi.txt").write_text(LINES)
    with pytest.raises(UserError, match=r"BFS/human_train_ppi\.txt is missing"):
        open_benchmark(settings()).pairs("train")
    with pytest.raises(UserError, match=r"DFS/human_train_ppi\.txt is missing"):
        open_benchmark(settings(split_strategy="DFS")).pairs("train")


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


@pytest.mark.parametrize("exists", [True, False])
def test_a_missing_root_says_how_to_get_the_data(
    tmp_path: Path, settings: Callable[..., BenchmarkConfig], exists: bool
) -> None:
    if exists:
        (tmp_path / "root").mkdir()
    with pytest.raises(UserError) as error:
        open_benchmark(settings())
    root = tmp_path / "root"
    assert "data_config.benchmark.download: true" in str(error.value)
    command = f"`hf download piaolaidangqu/PRING --repo-type dataset --local-dir {root}`"
    assert command in str(error.value)


# Download


class FakeHub:
    """A repository on the disk that is copied from, and a list of what was asked for."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self.fetched: list[str] = []
        self.listings = 0

    def list_repo_files(self, repo_id: str, *, repo_type: str) -> list[str]:
        assert (repo_id, repo_type) == ("piaolaidangqu/PRING", "dataset")
        self.listings += 1
        files = [path for path in self.repository.rglob("*") if path.is_file()]
        return sorted(path.relative_to(self.repository).as_posix() for path in files)

    def hf_hub_download(
        self, repo_id: str, filename: str, *, repo_type: str, local_dir: Path
    ) -> str:
        assert (repo_id, repo_type) == ("piaolaidangqu/PRING", "dataset")
        self.fetched.append(filename)
        (local_dir / filename).parent.mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(self.repository / filename, local_dir / filename))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "list_repo_files", fake.list_repo_files)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake.hf_hub_download)
    return fake


@pytest.mark.parametrize("holder", ["", "species_processed_data"])
def test_download_fetches_only_what_the_species_and_strategy_need(
    hub: FakeHub, settings: Callable[..., BenchmarkConfig], holder: str
) -> None:
    write_species(hub.repository / holder / "human", NESTED_FILES)
    write_species(hub.repository / holder / "human/DFS", {"train": "human_train_ppi.txt"})
    write_species(hub.repository / holder / "yeast", FLAT_FILES)
    (hub.repository / holder / "human/human_graph.pkl").write_bytes(b"")
    benchmark = open_benchmark(settings(download=True))
    needed = [name for kind, name in NESTED_FILES.items() if kind != "all_test"]
    assert sorted(hub.fetched) == sorted((Path(holder) / "human" / n).as_posix() for n in needed)
    assert len(benchmark.pairs("train")) == 3
    assert len(benchmark.pairs("all_test")) == 6


def test_download_fetches_a_test_species_of_the_flat_layout(
    hub: FakeHub, settings: Callable[..., BenchmarkConfig]
) -> None:
    write_species(hub.repository / "yeast", FLAT_FILES)
    assert len(open_benchmark(settings(species="yeast", download=True)).pairs("test")) == 2
    assert sorted(hub.fetched) == sorted(f"yeast/{name}" for name in FLAT_FILES.values())


def test_download_leaves_alone_what_is_there(
    tmp_path: Path, hub: FakeHub, settings: Callable[..., BenchmarkConfig]
) -> None:
    write_species(hub.repository / "human", NESTED_FILES)
    mine = write_species(tmp_path / "root/human", {"train": NESTED_FILES["train"]})
    (mine / NESTED_FILES["train"]).write_text(LINES)
    open_benchmark(settings(download=True))
    assert "human/BFS/human_train_ppi.txt" not in hub.fetched
    assert len(hub.fetched) == 5
    assert (mine / NESTED_FILES["train"]).read_text() == LINES
    # Complete now: the hub is not even asked.
    open_benchmark(settings(download=True))
    assert (len(hub.fetched), hub.listings) == (5, 1)


def test_download_of_what_the_repository_lacks_is_one_sentence(
    hub: FakeHub, settings: Callable[..., BenchmarkConfig]
) -> None:
    write_species(hub.repository / "raw", {"train": "ppi.txt"})
    with pytest.raises(UserError, match=r"piaolaidangqu/PRING holds no files of human \(BFS\)"):
        open_benchmark(settings(download=True))


@pytest.mark.parametrize("failing", ["list_repo_files", "hf_hub_download"])
def test_a_network_failure_is_one_sentence(
    hub: FakeHub,
    settings: Callable[..., BenchmarkConfig],
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
) -> None:
    def fail(*_arguments: object, **_keywords: object) -> None:
        raise ConnectionError("Name or service not known\nRequest ID: 7")

    write_species(hub.repository / "human", NESTED_FILES)
    monkeypatch.setattr(huggingface_hub, failing, fail)
    with pytest.raises(UserError) as error:
        open_benchmark(settings(download=True))
    assert "piaolaidangqu/PRING: Name or service not known; try again" in str(error.value)
    assert "\n" not in str(error.value)


# Facts of the real data


@needs_pring
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_real_all_test_file_equals_what_follows_from_the_graph(
    settings: Callable[..., BenchmarkConfig], strategy: str
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
    assert set().union(*benchmark.node_sets()[200]) <= set(benchmark.test_graph())


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
        sizes = {size: {len(s) for s in sets} for size, sets in benchmark.node_sets().items()}
        assert sizes == {size: {size} for size in range(20, 201, 20)}
    pairs = benchmark.pairs("all_test")
    assert len(pairs) == 500_500
    assert int(pairs.labels.sum()) == benchmark.test_graph().number_of_edges()
    assert check_sequences(pairs, benchmark.sequences(), "refuse", "x")[1] is None
