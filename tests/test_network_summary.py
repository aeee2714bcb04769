"""The size of a predicted network: counted by hand, written, logged, printed, and warned about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.console import format_table
from common.data.benchmarks.base import Benchmark
from common.data.tables.pairs import PairTable
from common.evaluation.network_summary import (
    Density,
    NetworkSummary,
    tabulate_networks,
    train_network,
)
from common.evaluation.networks import Network
from common.inference.thresholds import Threshold
from tests.tiny_benchmark import SPECIES, TEST, TRAIN, TinyProject, call_main

TRUE = Network.from_pairs([("A", "B"), ("C", "C")], "ABCD")
CALLED = Network.from_pairs([("A", "B"), ("A", "C"), ("A", "A"), ("X", "Y")])
NAMES = [f"P{i:03d}" for i in range(TRAIN, TRAIN + TEST)]


class OneSplit:
    """A benchmark with one split, which it may list."""

    def __init__(self, *files: str) -> None:
        self._files = dict.fromkeys(files, Path())

    has = Benchmark.has

    def files(self) -> dict[str, Path]:
        return self._files

    def pairs(self, split: str) -> PairTable:
        assert split == "train"
        pairs = np.array([[0, 1], [1, 0], [2, 2], [0, 2], [2, 3]])
        return PairTable(tuple("ABCD"), pairs, np.array([1, 1, 1, 0, 0], np.int8))


def test_pairs_are_counted_with_and_without_self_pairs_by_hand() -> None:
    train = Network.from_pairs([("P", "P")], "PQRS")
    found = NetworkSummary.of("toy", CALLED, TRUE, train).describe()
    assert found == {
        "proteins": 4,
        "with_self_pairs": {
            "called": 3, "possible": 10, "density": 0.3, "true": 2, "true_density": 0.2,
            "times_true_density": 1.5, "train_density": 0.1, "times_train_density": 0.3 / 0.1,
        },
        "without_self_pairs": {
            "called": 2, "possible": 6, "density": 2 / 6, "true": 1, "true_density": 1 / 6,
            "times_true_density": 2.0, "train_density": 0.0, "times_train_density": None,
        },
    }  # fmt: skip


def test_the_train_network_is_of_the_positives_among_all_training_proteins() -> None:
    benchmark: Any = OneSplit()
    network = train_network(benchmark)
    assert network is not None
    assert network.nodes == ("A", "B", "C", "D")
    assert network.edges.tolist() == [[0, 1], [2, 2]]
    listed: Any = OneSplit("train", "test")
    assert train_network(listed) is not None
    alone: Any = OneSplit("test")
    assert train_network(alone) is None


@pytest.mark.parametrize(("called", "warned"), [(20, False), (21, True)])
def test_a_network_more_than_four_times_as_dense_as_the_true_one_is_warned_about(
    called: int, warned: bool
) -> None:
    """The train network was compared with: it is sparser than right networks of test proteins."""
    density = Density(called, possible=1000, true=5, train=0.001)
    (*sentences,) = NetworkSummary("toy", 45, density, density).warnings()
    assert len(sentences) == warned
    if warned:
        assert sentences[0] == (
            "the predicted network of toy is far too dense: 21 of 1000 pairs are predicted to"
            " interact (density 0.021), 4.2 times as many as in the true network; raise"
            " evaluate.decision_threshold.value or, for a model, set"
            " evaluate.decision_threshold.mode to match_density"
        )


def test_without_a_train_split_or_a_true_interaction_there_is_no_ratio_and_no_warning() -> None:
    density = Density(10, possible=10, true=0, train=None)
    assert (density.times_true, density.times_train) == (None, None)
    assert NetworkSummary("toy", 4, density, density).warnings() == []
    table = format_table(tabulate_networks(
        [NetworkSummary("toy", 4, density, density)], Threshold(0.5, "fixed")
    ))  # fmt: skip
    assert table.splitlines()[1].split() == [
        "toy", "4", "10", "10", "1.0000", "0", "-", "-",
    ]  # fmt: skip


def test_a_judged_file_says_how_dense_its_network_is(
    project: TinyProject, capsys: pytest.CaptureFixture[str]
) -> None:
    """A threshold that called 141,560 of 201,295 pairs did so without a word."""
    called = [(a, b) for i, a in enumerate(NAMES) for b in NAMES[i:]][:270]
    (project.folder / "mine.txt").write_text("".join(f"{a} {b} 0.9\n" for a, b in called))
    call_main(project, "evaluate.py", "--predictions", str(project.folder / "mine.txt"),
              "--tasks", "topology", "--set", "run_config.eval_run_id=dense")  # fmt: skip
    logs = project.output / "logs" / "v3" / "evaluate" / "dense"
    saved = json.loads((logs / "network.json").read_text())
    assert (saved["threshold"], saved["threshold_mode"]) == (0.5, "fixed")
    found = saved["networks"][SPECIES]
    assert found["proteins"] == TEST
    assert (found["with_self_pairs"]["called"], found["with_self_pairs"]["possible"]) == (270, 300)
    loops = sum(a == b for a, b in called)
    plain = found["without_self_pairs"]
    assert (plain["called"], plain["possible"]) == (270 - loops, 276)
    log = (logs / "log.log").read_text()
    assert "WARNING prediction_note | note=the predicted network of tiny is " in log
    complete = log.splitlines()[-1]
    sentence = "270 of 300 pairs are predicted to interact (density 0.9), "
    assert f"| {SPECIES}_network={sentence}" in complete
    shown = capsys.readouterr().out
    assert "network (threshold 0.5, fixed)" in shown
    assert f"{SPECIES} without self-pairs" in shown


def test_a_judgement_without_a_whole_network_has_no_summary(project: TinyProject) -> None:
    (project.folder / "mine.txt").write_text(f"{NAMES[0]} {NAMES[1]} 0.9\n")
    call_main(project, "evaluate.py", "--predictions", str(project.folder / "mine.txt"),
              "--tasks", "pairs", "complexes", "--set", "run_config.eval_run_id=few")  # fmt: skip
    assert not (project.output / "logs" / "v3" / "evaluate" / "few" / "network.json").exists()
