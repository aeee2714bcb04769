"""The benchmark contract: a benchmark is one class, and nothing else needs to know of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import yaml

from common.config_data import BenchmarkConfig, DataConfig, Strategy
from common.data.benchmarks.base import Benchmark, Split
from common.data.benchmarks.registry import open_benchmark, prepare_benchmark
from common.data.tables.pairs import PairTable
from common.errors import UserError
from common.registry import BENCHMARKS
from common.run import OneProcess
from tests.tiny_benchmark import TinyProject, call_main, make_config
from tests.tiny_esm import save_tiny_esm

PROTEINS = tuple(f"T{number:02d}" for number in range(30))
TRAIN, TEST = PROTEINS[:16], PROTEINS[16:]


def table(proteins: Sequence[str], shift: int) -> PairTable:
    """Every pair of neighbours on a ring, and as many that are not."""
    numbers = np.arange(len(proteins))
    near = np.stack([numbers, np.roll(numbers, -1)], axis=1)
    far = np.stack([numbers, np.roll(numbers, -shift)], axis=1)
    labels = np.repeat([1, 0], len(proteins)).astype(np.int8)
    return PairTable(tuple(proteins), np.concatenate([near, far]).astype(np.int64), labels)


class Toy(Benchmark):
    """Pairs, sequences and a network that exist in memory alone."""

    provided: list[tuple[str, int, Sequence[Split], Sequence[str]]] = []  # noqa: RUF012

    @classmethod
    def provide(
        cls,
        settings: BenchmarkConfig,
        seed: int,
        splits: Sequence[Split] = (),
        functional: Sequence[str] = (),
    ) -> None:
        cls.provided.append((settings.species, seed, tuple(splits), tuple(functional)))

    def pairs(self, split: Split) -> PairTable:
        return {"train": table(TRAIN, 5), "val": table(TRAIN, 3)}.get(split) or table(TEST, 4)

    def sequences(self) -> dict[str, str]:
        rng = np.random.default_rng(0)
        return {name: "".join(rng.choice(list("LAGVSERT"), 20)) for name in PROTEINS}

    def test_graph(self) -> nx.Graph:
        graph = nx.Graph()
        graph.add_nodes_from(TEST)
        graph.add_edges_from(zip(TEST, (*TEST[1:], TEST[0]), strict=True))
        return graph

    def node_sets(
        self, strategies: Sequence[Strategy] = ()
    ) -> dict[Strategy, dict[int, list[frozenset[str]]]]:
        return {"DFS": {6: [frozenset(TEST[:6]), frozenset(TEST[4:10])]}}


@pytest.fixture
def toy() -> Iterator[type[Toy]]:
    """The toy, registered as long as the test runs."""
    BENCHMARKS.add("toy", Toy)
    Toy.provided.clear()
    yield Toy
    BENCHMARKS._entries.pop("toy")


@pytest.mark.pipeline
def test_a_toy_benchmark_trains_and_is_judged(tmp_path: Path, toy: type[Toy]) -> None:
    save_tiny_esm(tmp_path / "esm")
    content: dict[str, Any] = make_config(tmp_path, epochs=1)
    content["data_config"]["benchmark"] |= {
        "name": "toy",
        "root_dir": str(tmp_path / "nowhere"),
        "species": "toyish",
        "split_strategy": "DFS",
    }
    content["run_config"]["pretrain_run_id"] = content["run_config"]["eval_run_id"] = "one"
    content["evaluate"] = {"decision_threshold": {"mode": "best_f1_on_valid"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    project = TinyProject(tmp_path, tmp_path / "config.yaml")

    call_main(project, "pretrain.py")
    # The audit looks at the test pairs too.
    audited = ("toyish", 47, ("train", "val", "test"), ())
    assert toy.provided == [audited, ("toyish", 47, ("train", "val"), ())]
    call_main(project, "evaluate.py", "--tasks", "pairs", "topology")
    assert toy.provided[2:] == [("toyish", 47, ("test",), ())] * 2
    logs = project.output / "logs" / "v3"
    trained = (logs / "pretrain" / "one" / "log.log").read_text()
    assert "species=toyish | strategy=DFS | train=32 pairs (16 positive, 16 proteins)" in trained
    judged = logs / "evaluate" / "one"
    rows = (judged / "topology.csv").read_text().splitlines()
    assert [row.split(",")[:3] for row in rows[1:]] == [
        ["node_size", "6", "2"],
        ["summary", "", "2"],
    ]
    assert (
        "toyish=28 test pairs, 14 proteins with 14 interactions" in (judged / "log.log").read_text()
    )
    assert not (tmp_path / "nowhere").exists()


def test_rank_0_provides_every_species_and_opens_the_configured_one(toy: type[Toy]) -> None:
    own = {"name": "toy", "species": "a", "split_strategy": "DFS"}
    settings = DataConfig.model_validate({"benchmark": own})
    benchmark = prepare_benchmark(
        settings, 3, OneProcess(), ["b"], splits=("val",), functional=("x.pkl",)
    )
    assert toy.provided == [("a", 3, ("val",), ("x.pkl",)), ("b", 3, ("test",), ())]
    assert (benchmark.name, benchmark.species, benchmark.strategy) == ("toy", "a", "DFS")
    prepare_benchmark(settings, 3, OneProcess(process_index=1, is_main_process=False), ["b"])
    assert len(toy.provided) == 2


def test_what_another_rank_is_refused_is_refused_before_any_rank_opens(toy: type[Toy]) -> None:
    class Unready(toy):  # type: ignore[misc, valid-type]
        def __init__(self, settings: BenchmarkConfig) -> None:
            if settings.species == "b":
                raise UserError("no b")
            super().__init__(settings)

    BENCHMARKS.add("toy", Unready)
    settings = DataConfig.model_validate({"benchmark": {"name": "toy", "species": "a"}})
    with pytest.raises(UserError, match="no b"):
        prepare_benchmark(settings, 3, OneProcess(), ["b"])


def test_a_benchmark_gives_its_functional_files_or_one_sentence(
    tmp_path: Path, toy: type[Toy]
) -> None:
    def opened(folder: Path | None) -> Benchmark:
        named = None if folder is None else str(folder)
        return open_benchmark(BenchmarkConfig(name="toy", functional_dir=named))

    with pytest.raises(UserError, match=r"functional_dir is not set, but the task clubs needs"):
        opened(None).functional_file("clubs.json", "clubs")
    missing = tmp_path / "missing"
    with pytest.raises(
        UserError, match=rf"functional_dir \({missing}\) is not an existing directory, but"
    ):
        opened(missing).functional_file("clubs.json", "clubs")
    with pytest.raises(UserError, match=r"has no clubs.json, but the task clubs needs .*; set"):
        opened(tmp_path).functional_file("clubs.json", "clubs")
    (tmp_path / "clubs.json").write_text(json.dumps({}))
    path = opened(tmp_path).functional_file("clubs.json", "clubs")
    assert path == tmp_path / "clubs.json"
