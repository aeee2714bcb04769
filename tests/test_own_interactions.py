"""A benchmark prepared from own interactions: its parts, its files, when it is made."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from pydantic import ValidationError

from common.config_data import STRATEGIES, BenchmarkConfig, DataConfig, InteractionsConfig, Strategy
from common.data.audit import audit_splits
from common.data.benchmarks.base import Benchmark, Split
from common.data.benchmarks.registry import prepare_benchmark
from common.data.preparation import MARKER, ensure_prepared
from common.data.splitting import draw_sides
from common.data.tables.pairs import PairTable
from common.errors import UserError
from common.run import OneProcess
from tests.test_interaction_readers import write_forms
from tests.test_similarity import draw, mutate, needs_mmseqs
from tests.tiny_esm import record_log

Pair = tuple[str, str]
PARTS: tuple[Split, ...] = ("train", "val", "test")
PROTEINS = 120


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    """The interactions of a network with hubs and self-pairs, as a user's file has them."""
    graph = nx.barabasi_albert_graph(PROTEINS, 6, seed=1)
    graph.add_edges_from((node, node) for node in range(0, PROTEINS, 9))
    return sorted((f"P{10_000 + a}", f"P{10_000 + b}") for a, b in map(sorted, graph.edges))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, pairs: list[Pair]) -> dict[str, Path]:
    """The interactions in four formats, and a FASTA of their proteins and others."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    names = [f"P{10_000 + number}" for number in range(PROTEINS + 5)]
    records = (
        f">{name} of a test\n{''.join(rng.choice(list('LAGVSERT'), 30))}\n" for name in names
    )
    (folder / "sequences.fasta").write_text("".join(records))
    return write_forms(pairs, folder) | {"sequences": folder / "sequences.fasta"}


def settings_of(
    inputs: Mapping[str, Path], form: str = "delimited", **more: Any
) -> InteractionsConfig:
    files = () if "splits" in more else (str(inputs[form]),)
    return InteractionsConfig(sequences=str(inputs["sequences"]), files=files, **more)


def open_prepared(
    root: Path, own: InteractionsConfig, strategy: Strategy = "BFS", seed: int = 47
) -> Benchmark:
    benchmark = BenchmarkConfig(
        name="interactions",
        root_dir=str(root),
        species="mine",
        split_strategy=strategy,
        cache_dir=str(root.parent / "cache"),
    )
    data = DataConfig(benchmark=benchmark, interactions=own)
    return prepare_benchmark(data, seed, OneProcess())


def named(table: PairTable) -> dict[Pair, int]:
    ends = [sorted((table.proteins[a], table.proteins[b])) for a, b in table.pairs]
    return {(a, b): int(label) for (a, b), label in zip(ends, table.labels, strict=True)}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_proteins_are_divided_and_nothing_known_is_a_negative(
    tmp_path: Path, inputs: dict[str, Path], pairs: list[Pair], strategy: Strategy
) -> None:
    benchmark = open_prepared(tmp_path / "own", settings_of(inputs), strategy)
    tables = {part: named(benchmark.pairs(part)) for part in PARTS}
    proteins = [{name for pair in table for name in pair} for table in tables.values()]
    assert sum(map(len, proteins)) == len(set.union(*proteins)) <= PROTEINS
    assert 0.1 * PROTEINS < len(proteins[2]) <= 0.2 * PROTEINS
    assert 0 < len(proteins[1]) <= 0.1 * PROTEINS
    kept = 0
    for table, side in zip(tables.values(), proteins, strict=True):
        positives = {pair for pair, label in table.items() if label}
        assert positives == {pair for pair in pairs if set(pair) <= side}
        negatives = set(table) - positives
        assert len(negatives) == len(positives)
        assert not negatives & set(pairs)
        assert all(a != b for a, b in negatives)
        kept += len(positives)
    record = json.loads((tmp_path / "own" / MARKER).read_text())["splits"][strategy]
    assert record["dropped"] == len(pairs) - kept
    assert record["test"]["positives"] == sum(tables["test"].values())


def test_networks_node_sets_and_sequences(
    tmp_path: Path, inputs: dict[str, Path], pairs: list[Pair]
) -> None:
    with record_log() as log:
        benchmark = open_prepared(tmp_path / "own", settings_of(inputs, test_fraction=0.4))
    *_, itself, left = (line for line in log.lines if line.startswith("interactions_read | "))
    counted = "of=files | step=self-interactions, kept | count=14 | such_as=P10000,P10009,P10018"
    assert itself == f"interactions_read | {counted}"
    assert left == f"interactions_read | of=files | step=interactions left | count={len(pairs)}"
    test = named(benchmark.pairs("test"))
    graph = benchmark.test_graph()
    assert {tuple(sorted(edge)) for edge in graph.edges} == {
        p for p, label in test.items() if label
    }
    assert set(graph) == {name for pair in test for name in pair}
    assert set(benchmark.sequences()) == {f"P{10_000 + number}" for number in range(PROTEINS)}
    sets = benchmark.node_sets()["BFS"]
    assert set(sets) == {20, 40}
    assert all(
        len(one) == size and one <= set(graph) for size, many in sets.items() for one in many
    )
    assert {len(many) for many in sets.values()} == {50}
    seen = pickle.loads((tmp_path / "own/mine/BFS/mine_train_graph.pkl").read_bytes())
    assert not set(seen) & set(graph)
    assert (tmp_path / "own/README.md").read_text().startswith("# mine")


def test_every_format_gives_the_same_bytes(tmp_path: Path, inputs: dict[str, Path]) -> None:
    for form in ("delimited", "string", "biogrid", "mitab"):
        ensure_prepared(tmp_path / form, "mine", settings_of(inputs, form), 47)
    files = [
        file.relative_to(tmp_path / "string") for file in (tmp_path / "string/mine").rglob("*")
    ]
    assert len(files) == 3 + 1 + 3 * 6
    for file in files:
        if (tmp_path / "string" / file).is_file():
            contents = {
                (tmp_path / form / file).read_bytes()
                for form in ("delimited", "string", "biogrid", "mitab")
            }
            assert len(contents) == 1, file


def test_runs_with_several_seeds_share_one_split(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """A model of another seed would be judged on proteins that it was trained on."""
    own, root = settings_of(inputs), tmp_path / "own"
    first, other = (open_prepared(root, own, seed=seed).pairs("test") for seed in (47, 48))
    assert named(first) == named(other)
    drawn_anew = open_prepared(root, own.model_copy(update={"seed": 48})).pairs("test")
    assert named(drawn_anew) != named(first)


def test_it_is_made_once_and_anew_for_other_input(tmp_path: Path, inputs: dict[str, Path]) -> None:
    root, own = tmp_path / "own", settings_of(inputs)

    def prepared(settings: InteractionsConfig, seed: int = 47) -> tuple[int, bytes]:
        ensure_prepared(root, "mine", settings, seed)
        return (root / MARKER).stat().st_ino, (root / "mine/BFS/mine_test_ppi.txt").read_bytes()

    first = prepared(own)
    assert prepared(own) == first
    other_seed = prepared(own, 48)
    assert other_seed[1] != first[1]
    assert prepared(own)[1] == first[1]
    assert prepared(settings_of(inputs, negatives_per_positive=2.0))[1] != first[1]
    copy = tmp_path / "copy.txt"
    copy.write_bytes(inputs["delimited"].read_bytes())
    changing = settings_of({**inputs, "delimited": copy})
    before = prepared(changing)
    copy.write_bytes(copy.read_bytes() + b"P10001\tP10002\nP10050\tP10119\n")
    assert prepared(changing)[0] != before[0]


def test_jobs_that_start_at_once_share_what_one_of_them_prepares(
    tmp_path: Path, inputs: dict[str, Path]
) -> None:
    """Each prepares it if it is missing; the first that ends gives it its place."""
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(4), context.Queue()

    def prepare() -> None:
        start.wait(timeout=60)
        benchmark = open_prepared(tmp_path / "own", settings_of(inputs))
        results.put({kind: sorted(named(benchmark.pairs(kind)).items()) for kind in PARTS})

    jobs = [context.Process(target=prepare) for _ in range(4)]
    for job in jobs:
        job.start()
    found = [results.get(timeout=60) for _ in jobs]
    for job in jobs:
        job.join(timeout=60)
    assert [job.exitcode for job in jobs] == [0, 0, 0, 0]
    assert found[0] == found[1] == found[2] == found[3]
    assert [path.name for path in tmp_path.glob("own*")] == ["own"]
    assert [path.name for path in tmp_path.rglob(".*.tmp")] == []


def test_nothing_else_is_overwritten(tmp_path: Path, inputs: dict[str, Path]) -> None:
    root = tmp_path / "own"
    root.mkdir()
    ensure_prepared(root, "mine", settings_of(inputs), 47)
    for name, content in ((MARKER, "[]"), (MARKER, "{"), ("thesis.tex", "x")):
        other = tmp_path / f"other-{len(list(tmp_path.iterdir()))}"
        other.mkdir()
        (other / name).write_text(content)
        with pytest.raises(UserError, match="and are not overwritten"):
            ensure_prepared(other, "mine", settings_of(inputs), 47)
        assert [file.read_text() for file in other.iterdir()] == [content]


def test_a_refused_input_leaves_nothing(tmp_path: Path, inputs: dict[str, Path]) -> None:
    bad = tmp_path / "bad.txt"
    for text, sentence in (
        ("A B\nC\n", "line 2"),
        ("A B\nC D\n", "'A' and 'B'"),
        ("P10000 P10001\nP10002 P10003\n", "split has no interaction|not known to interact"),
    ):
        bad.write_text(text)
        with pytest.raises(UserError, match=sentence):
            ensure_prepared(tmp_path / "own", "mine", settings_of({**inputs, "delimited": bad}), 47)
        assert [path.name for path in tmp_path.iterdir()] == ["bad.txt"]
    with pytest.raises(UserError, match="not a file"):
        ensure_prepared(
            tmp_path / "own", "mine", settings_of({**inputs, "delimited": tmp_path}), 47
        )


def test_given_negatives_count_and_contradictions_are_never_drawn(
    tmp_path: Path, inputs: dict[str, Path]
) -> None:
    names = [f"P{10_000 + number}" for number in range(40)]
    every = [(a, b) for at, a in enumerate(names) for b in names[at + 1 :]]
    rng = np.random.default_rng(3)
    kinds = rng.choice(["1", "0", "both", "free"], len(every), p=[0.12, 0.06, 0.3, 0.52])
    lines = [
        f"{a}\t{b}\t{label}\n"
        for (a, b), kind in zip(every, kinds, strict=True)
        for label in {"both": "01", "free": ""}.get(kind, kind)
    ]
    file = tmp_path / "labelled.tsv"
    file.write_text("".join(lines))
    own = settings_of({**inputs, "delimited": file}, test_fraction=0.3, val_fraction=0.3)
    benchmark = open_prepared(tmp_path / "own", own)
    kind_of = dict(zip(every, kinds.tolist(), strict=True))
    for part in PARTS:
        table = named(benchmark.pairs(part))
        side = {name for pair in table for name in pair}
        assert all(kind_of[pair] in ("0", "free") for pair, label in table.items() if not label)
        given = {pair for pair, kind in kind_of.items() if kind == "0" and set(pair) <= side}
        assert given <= set(table)
        assert list(table.values()).count(0) == max(sum(table.values()), len(given))


def test_similar_proteins_are_on_one_side() -> None:
    rng = np.random.default_rng(5)
    positives = rng.integers(400, size=(1500, 2))
    groups = rng.integers(150, size=400)
    groups[:90] = 0  # a family larger than the test side
    for strategy in STRATEGIES:
        side = draw_sides(positives, groups, (0.1, 0.2), strategy, np.random.default_rng(1))
        for group in np.unique(groups):
            assert len(set(side[groups == group].tolist())) == 1
        assert set(side[:90].tolist()) == {0}
        assert 0.1 < (side == 2).mean() < 0.3
        assert 0.04 < (side == 1).mean() < 0.16


@pytest.mark.pipeline
def test_max_identity_puts_copies_on_one_side(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """Every protein has a copy with another name, and no interaction with it."""
    text = inputs["sequences"].read_text()
    copies = tmp_path / "copies.fasta"
    copies.write_text(text + text.replace(">P1", ">Q1"))
    pairs = inputs["delimited"].read_text()
    file = tmp_path / "pairs.tsv"
    file.write_text(pairs + pairs.replace("P1", "Q1"))
    files = {"delimited": file, "sequences": copies}
    own = settings_of(files, max_identity=0.9, test_fraction=0.3)
    benchmark = open_prepared(tmp_path / "own", own)
    sides = [set(benchmark.pairs(part).proteins) for part in PARTS]
    for side in sides:
        others = set.union(*(other for other in sides if other is not side))
        assert not {name[1:] for name in side} & {name[1:] for name in others}
    record = json.loads((tmp_path / "own" / MARKER).read_text())
    assert record["similarity"] in ("mmseqs2", "k-mers")
    assert record["similarity"] in (tmp_path / "own/README.md").read_text()


@pytest.mark.pipeline
@needs_mmseqs
def test_mmseqs_finds_no_similar_pair_across_the_cut(tmp_path: Path) -> None:
    """Families of four, at 42 to 100 % identity, in a network that does not know of them.

    Searched from outside, test against train and val. Without `max_identity` families are torn.
    """
    rng = np.random.default_rng(3)
    records = {}
    for row in range(40):
        parent = draw(rng, int(rng.integers(80, 200)))
        for kept in (100, 70, 50, 42):
            records[f"F{row}x{kept}"] = mutate(parent, kept / 100, rng)
    files = {"delimited": tmp_path / "pairs.tsv", "sequences": tmp_path / "x.fasta"}
    write_fasta(files["sequences"], records, records)
    ends = rng.choice(list(records), (900, 2)).tolist()
    files["delimited"].write_text("".join(f"{a}\t{b}\n" for a, b in ends))
    for identity in (None, 0.4):
        own = settings_of(files, max_identity=identity, test_fraction=0.3)
        benchmark = open_prepared(tmp_path / f"own{identity}", own)
        train, val, test = (set(benchmark.pairs(part).proteins) for part in PARTS)
        torn = {name.split("x")[0] for name in test} & {n.split("x")[0] for n in train | val}
        assert (len(torn) > 10) == (identity is None)
    write_fasta(tmp_path / "test", records, test)
    write_fasta(tmp_path / "rest", records, train | val)
    paths = [str(tmp_path / name) for name in ("test", "rest", "hits", "work")]
    options = [
        "--min-seq-id",
        "0.4",
        "--format-output",
        "query,target,qcov,tcov",
        "-v",
        "1",
        "-k",
        "5",
    ]
    subprocess.run(["mmseqs", "easy-search", *paths, *options], check=True, capture_output=True)
    hits = [line.split("\t") for line in (tmp_path / "hits").read_text().splitlines()]
    assert not [hit for hit in hits if max(map(float, hit[2:])) >= 0.8]
    assert len(test) > 20


def write_fasta(path: Path, sequences: Mapping[str, str], names: Iterable[str]) -> None:
    path.write_text("".join(f">{name}\n{sequences[name]}\n" for name in names))


def test_given_splits_are_taken_as_they_are(tmp_path: Path, inputs: dict[str, Path]) -> None:
    texts = {"train": "P10000\tP10001\t1\nP10002\tP10003\t0\n", "val": "P10004\tP10005\t1\n"}
    for name, text in texts.items():
        (tmp_path / f"{name}.tsv").write_text(text)
    splits = {name: str(tmp_path / f"{name}.tsv") for name in texts}
    benchmark = open_prepared(tmp_path / "own", settings_of(inputs, splits=splits))
    assert named(benchmark.pairs("train")) == {("P10000", "P10001"): 1, ("P10002", "P10003"): 0}
    assert named(benchmark.pairs("val")) == {("P10004", "P10005"): 1}
    with pytest.raises(UserError, match=r"no test file: .*; set the split's file in data_config"):
        benchmark.pairs("test")


def test_a_protein_shared_by_given_splits_is_named(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """Bernett's gold standard shares none; here some are planted, and a pair turned around."""
    texts = {
        "train": "P10000\tP10001\t1\nP10002\tP10003\t0\n",
        "val": "P10004\tP10005\t1\nP10004\tP10006\t0\nP10007\tP10002\t0\n",
        "test": "P10009\tP10008\t1\nP10001\tP10000\t0\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.tsv").write_text(text)
    splits = {name: str(tmp_path / f"{name}.tsv") for name in texts}
    benchmark = open_prepared(tmp_path / "own", settings_of(inputs, splits=splits))
    tables = {str(part): benchmark.pairs(part) for part in PARTS}
    findings = audit_splits(tables, benchmark.sequences(), 1000).findings()
    said = {found.sentence: found.level for found in findings if found.level != "info"}
    assert said == {
        "1 pair is in both train and test (P10000 P10001)": "refused",
        "2 proteins are in both train and test (P10000, P10001)": "refused",
        "1 protein is in both train and val (P10002)": "warning",
        "1 pair is positive in one of train and test but negative in the other (P10000 P10001)":
            "warning",
    }  # fmt: skip


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"files": ("a",)},
        {"sequences": "f"},
        {"sequences": "f", "files": ("a",), "splits": {"train": "t"}},
        {"sequences": "f", "files": ("a",), "test_fraction": 0.6, "val_fraction": 0.4},
    ],
)
def test_settings_that_cannot_work_are_rejected(own: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DataConfig(
            benchmark=BenchmarkConfig(name="interactions"), interactions=InteractionsConfig(**own)
        )
