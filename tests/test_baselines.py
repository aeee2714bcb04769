"""Baselines: the contract, by a toy, and the two that need nothing of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from common.config_file import load_config
from common.evaluation import test_side
from common.evaluation.baselines.base import predict_baseline
from common.evaluation.judging import judge
from common.evaluation.predictions import Predictions
from common.registry import BASELINES, TASKS
from tests.tiny_benchmark import TinyProject, make_project


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> TinyProject:
    """A project that is only read."""
    return make_project(tmp_path_factory.mktemp("baselines"))


def open_tasks(project: TinyProject, *tasks: str) -> test_side.TestSide:
    config = load_config(project.config, "evaluate", [f"evaluate.tasks=[{','.join(tasks)}]"])
    return test_side.open_test_side(config)


def by_pair(predictions: Predictions) -> dict[tuple[str, str], float]:
    names, scores = predictions.ids, predictions.scores.tolist()
    pairs = ((names[a], names[b]) for a, b in predictions.pairs.tolist())
    return dict(zip(pairs, scores, strict=True))


def pair_rows(side: test_side.TestSide, predictions: Predictions) -> list[Mapping[str, object]]:
    """The rows of `evaluate.csv` at the threshold 0.5."""
    return list(judge(side, predictions, 0.5).results["pairs"].tables["evaluate.csv"].rows)


def test_random_scores_are_uniform_and_know_nothing(shared: TinyProject) -> None:
    """The AUROC is the mean over seeds: on 50 pairs a single one strays by 0.1."""
    side = open_tasks(shared, "pairs", "topology")
    drawn = [predict_baseline("random", side, seed) for seed in range(40)]
    scores = np.concatenate([predictions.scores for predictions in drawn])
    assert np.histogram(scores, 10, (0, 1))[0] / len(scores) == pytest.approx(0.1, abs=0.01)
    assert np.corrcoef(drawn[0].scores, drawn[1].scores)[0, 1] == pytest.approx(0, abs=0.2)
    found = [pair_rows(side, predictions)[0]["auroc"] for predictions in drawn]
    assert np.mean(np.array(found, dtype=float)) == pytest.approx(0.5, abs=0.04)


def test_random_scores_follow_from_seed_and_pair_alone(shared: TinyProject) -> None:
    """The metrics of the test pairs would depend on what else is judged."""
    some, all_of_them = (
        by_pair(predict_baseline("random", open_tasks(shared, *tasks), 47))
        for tasks in (["pairs"], ["pairs", "topology", "complexes"])
    )
    assert len(some) < len(all_of_them) == 24 * 25 // 2
    assert some.items() <= all_of_them.items()
    # Made once by this code: the same on every machine.
    assert all_of_them["P040", "P041"] == pytest.approx(0.3889797705234387)
    assert by_pair(predict_baseline("random", open_tasks(shared, "pairs"), 48)) != some


def test_self_pairs_are_all_that_is_predicted(shared: TinyProject) -> None:
    side = open_tasks(shared, *TASKS.names())
    predictions = predict_baseline("self_pairs", side, 47)
    assert len(side.needed_pairs()) == 24 * 25 // 2  # each once, whatever the number of tasks
    edges = predictions.edges().edges
    assert edges.tolist() == [[i, i] for i in range(24)]
    judgement = judge(side, predictions, 0.5)
    with_them, without = judgement.results["pairs"].tables["evaluate.csv"].rows
    assert (with_them["precision"], without["recall"]) == (1.0, 0.0)
    assert judgement.results["complexes"].metrics["pathway_recall"] == 0
    # All pairs have a score, so nothing is missing.
    assert not [note for note in judgement.notes if "no score" in note]


def test_a_baseline_of_one_file_is_judged(shared: TinyProject) -> None:
    """It may read all of the benchmark: here, how often a protein is in the test network."""

    def by_degree(side: test_side.TestSide, seed: int) -> Predictions:
        table, network = side.needed_pairs(), side.sets[0].network
        degrees = network.degrees()[[network.index[name] for name in table.proteins]]
        return Predictions.gather(table.proteins, table.pairs, degrees[table.pairs].sum(1) * 1.0)

    BASELINES.add("toy", by_degree)
    try:
        side = open_tasks(shared, "pairs", "topology")
        (row, _) = pair_rows(side, predict_baseline("toy", side, 47))
    finally:
        BASELINES._entries.pop("toy")
    assert isinstance(row["auroc"], float)
    assert row["auroc"] > 0.6
