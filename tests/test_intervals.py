"""Weighted metrics, and bootstrap intervals by protein: by hand, by scikit-learn, and coverage."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk

from common.config_data import METRIC_NAMES
from common.config_file import load_config
from common.data.tables.pairs import PairTable
from common.evaluation import intervals, test_side
from common.evaluation.intervals import Interval, Resamples, ScoredPairs
from common.evaluation.predictions import Predictions
from common.evaluation.results import format_results, write_results
from common.inference.pair_metrics import Ranking, pair_metrics
from tests.tiny_benchmark import TinyProject, make_project

# Three proteins; the pairs AA, AB, BC, CC.
PAIRS = np.array([[0, 0], [0, 1], [1, 2], [2, 2]])
TABLE = PairTable(("A", "B", "C"), PAIRS, np.array([1, 0, 1, 0], np.int8))
SCORED = ScoredPairs(PAIRS, TABLE.labels, np.array([0.9, 0.8, 0.4, 0.1]), threshold=0.5)


def some_pairs(seed: int, decimals: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, or without, and labels that they tell something about."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(300) < 0.3).astype(int)
    return rng.normal(0.4 + 0.2 * labels, 0.2).round(decimals), labels


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_equal_weights_give_the_metrics_of_the_pairs(decimals: int) -> None:
    scores, labels = some_pairs(3, decimals)
    found = Ranking.of(scores, labels, 0.5).measure(np.full((1, 300), 2, np.int32))
    expected = pair_metrics(scores, labels, 0.5)
    assert {*found} == {*METRIC_NAMES}
    for name, value in expected.items():
        assert found[name] == pytest.approx([value], abs=1e-12), name


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_weighted_metrics_equal_scikit_learn(decimals: int) -> None:
    """With weights 0 too, also of the highest scores and of all of a level."""
    scores, labels = some_pairs(4, decimals)
    ranking = Ranking.of(scores, labels, 0.5)
    weights = np.random.default_rng(5).integers(0, 4, (6, 300)).astype(np.int32)
    weights[0, :40] = 0
    found = ranking.measure(weights)
    truth, ranked = labels[ranking.order], scores[ranking.order]
    for row, each in enumerate(weights):
        calls, given = ranked >= 0.5, {"sample_weight": each}
        expected = {
            "auroc": sk.roc_auc_score(truth, ranked, **given),
            "auprc": sk.average_precision_score(truth, ranked, **given),
            "accuracy": sk.accuracy_score(truth, calls, **given),
            "sensitivity": sk.recall_score(truth, calls, **given),
            "specificity": sk.recall_score(truth, calls, pos_label=0, **given),
            "precision": sk.precision_score(truth, calls, **given),
            "recall": sk.recall_score(truth, calls, **given),
            "f1": sk.f1_score(truth, calls, **given),
            "mcc": sk.matthews_corrcoef(truth, calls, **given),
        }
        assert {name: found[name][row] for name in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("truth", [0, 1])
def test_a_weighting_with_one_class_has_no_ranking(truth: int) -> None:
    weights = np.array([[1, 1, 1, 1], [truth, 1 - truth, truth, 1 - truth]])
    found = Ranking.of(SCORED.scores, SCORED.labels, 0.5).measure(weights)
    assert np.isnan(found["auroc"]).tolist() == [False, True]
    assert np.isnan(found["auprc"]).tolist() == [False, True]


def test_a_pair_counts_as_the_product_of_its_proteins_and_a_self_pair_once() -> None:
    """The proteins A A B, and then A A C: AA 2, AB 2; then AA 2, CC 1."""
    found = Resamples(np.array([[2, 1, 0, 1], [2, 0, 1, 1]])).measure(SCORED)
    assert found["precision"].tolist() == [0.5, 1.0]
    assert found["auroc"].tolist() == [1.0, 1.0]
    assert found["accuracy"].tolist() == [0.5, 1.0]


def test_resamples_have_as_many_proteins_and_follow_from_the_seed() -> None:
    drawn = Resamples.draw(TABLE, 200, seed=47).counts
    assert drawn[:, :3].sum(axis=1).tolist() == [3] * 200
    assert drawn[:, 3].tolist() == [1] * 200
    assert (drawn == Resamples.draw(TABLE, 200, seed=47).counts).all()
    assert (drawn != Resamples.draw(TABLE, 200, seed=48).counts).any()


def test_an_interval_is_between_percentiles_of_what_is_defined() -> None:
    values = np.array([np.nan, *np.arange(1001), np.nan])
    found = Interval.of(np.random.default_rng(0).permutation(values))
    assert found is not None
    assert (found.low, found.high, found.undefined) == pytest.approx((25, 975, 2))
    assert Interval.of(np.full(3, np.nan)) is None


def test_all_pairs_of_some_proteins_may_be_absent_from_a_resample() -> None:
    """The metrics are undefined there; the intervals count how often."""
    measured = Resamples.draw(TABLE, 400, seed=1).measure(SCORED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = {name: Interval.of(values) for name, values in measured.items()}
    # No positive pair: A is absent, and B or C is. No negative pair: C, and A or B.
    absent = Resamples.draw(TABLE, 400, seed=1).counts[:, :3] == 0
    one_class = (absent[:, 0] & absent[:, 1:].any(1)) | (absent[:, 2] & absent[:, :2].any(1))
    assert found["auroc"] is not None
    assert found["auroc"].undefined == one_class.sum() > 0


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    resamples = Resamples.draw(TABLE, 50, seed=2)
    whole = resamples.measure(SCORED)
    for size in (1, 7, 12):  # smaller than a resample's pairs, and not a multiple of them
        monkeypatch.setattr(intervals, "_AT_A_TIME", size)
        np.testing.assert_equal(resamples.measure(SCORED), whole)


def test_the_difference_is_taken_on_the_same_resamples() -> None:
    """Equal predictions differ by exactly 0, though each has a wide interval of its own."""
    resamples = Resamples.draw(TABLE, 300, seed=3)
    first = resamples.measure(SCORED)["auroc"]
    worse = ScoredPairs(PAIRS, TABLE.labels, SCORED.scores[::-1], threshold=0.5)
    same, other = (
        Interval.of(first - resamples.measure(each)["auroc"]) for each in (SCORED, worse)
    )
    assert same is not None
    assert (same.low, same.high) == (0, 0)
    alone = Interval.of(first)
    assert alone is not None
    assert alone.low < alone.high
    assert other is not None
    # The reverse has the AUROC 1 - x, and so the difference is 2x - 1, resample by resample.
    assert (other.low, other.high) == pytest.approx((2 * alone.low - 1, 2 * alone.high - 1))


def test_intervals_by_protein_cover_the_truth_and_those_by_pair_do_not() -> None:
    """Scores and labels are sums of two proteins' numbers that have nothing to do with each other.

    The true AUROC is therefore 0.5. A bootstrap of the pairs takes chance for knowledge.
    """
    rng = np.random.default_rng(6)
    covered: list[list[bool]] = []
    rows, columns = np.triu_indices(30, 1)
    for seed in range(120):
        chosen = rng.permutation(len(rows))[:200]
        pairs = np.stack([rows[chosen], columns[chosen]], axis=1)
        score, label = (rng.normal(size=30)[pairs].sum(1) for _ in range(2))
        scored = ScoredPairs(pairs, (label > 0).astype(np.int8), score, 0.0)
        table = PairTable(tuple(map(str, range(30))), pairs, scored.labels)
        by_protein = Resamples.draw(table, 200, seed).measure(scored)["auroc"]
        by_pair = Ranking.of(scored.scores, scored.labels, 0.0).measure(
            rng.multinomial(200, np.full(200, 1 / 200), size=200)
        )["auroc"]
        both = [Interval.of(values) for values in (by_protein, by_pair)]
        covered.append([each is not None and each.low <= 0.5 <= each.high for each in both])
    share = np.mean(covered, axis=0)
    assert share[0] > 0.9
    assert share[1] < 0.7


def test_sums_beyond_int32_are_exact() -> None:
    """Of a hundred million pairs the sums would overflow."""
    table = PairTable(("A",), np.zeros((1, 2), np.int64), np.ones(1, np.int8))
    assert Resamples.draw(table, 2, seed=0).counts.dtype == np.int32
    many = PairTable(("A",), *(np.broadcast_to(0, (2**30, *rest)) for rest in ((2,), ())))
    assert Resamples.draw(many, 2, seed=0).counts.dtype == np.int64


@pytest.fixture(scope="module")
def to_judge(tmp_path_factory: pytest.TempPathFactory) -> TinyProject:
    """A project that is only read."""
    return make_project(tmp_path_factory.mktemp("intervals"))


def judge(project: TinyProject, folder: Path, *overrides: str) -> tuple[list[Path], str]:
    """Judge scores that follow from the ids: what was written, and what the console shows."""
    config = load_config(project.config, "evaluate", ["evaluate.tasks=[pairs]", *overrides])
    side = test_side.open_test_side(config)
    table = side.needed_pairs()
    scores = (table.pairs.sum(axis=1) * 37 % 101) / 101
    predictions = Predictions.gather(table.proteins, table.pairs, scores)
    results = {"pairs": side.tasks["pairs"].judge(predictions, 0.5)}
    folder.mkdir()
    list(write_results(results, folder))
    return sorted(folder.iterdir()), format_results(results)


def read_intervals(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "evaluate_intervals.json").read_text())
    return found


def test_intervals_stand_beside_the_metrics(to_judge: TinyProject, tmp_path: Path) -> None:
    _, shown = judge(to_judge, tmp_path / "a", "evaluate.intervals.resamples=60")
    found = read_intervals(tmp_path / "a")
    assert (found["resamples"], found["seed"], found["level"]) == (60, 47, 0.95)
    lines = (tmp_path / "a" / "evaluate.csv").read_text().splitlines()
    header, *rows = (line.split(",") for line in lines)
    assert [*found["splits"]] == [row[0] for row in rows]
    for split, *values in rows:
        metrics = found["splits"][split]["metrics"]
        assert [repr(metrics[name]["value"]) for name in header[1:]] == values
        assert all(each["low"] <= each["value"] <= each["high"] for each in metrics.values())
    (file,) = (to_judge.folder / "data").rglob("*_test_ppi.txt")
    pairs = [line.split() for line in file.read_text().splitlines()]
    labels = [int(label) for a, b, label in pairs if a != b]
    without = found["splits"]["test_without_self_pairs"]
    assert without["prevalence"] == pytest.approx(np.mean(labels)) != 0.5
    test = found["splits"]["test"]
    auroc = test["metrics"]["auroc"]
    assert f"{auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]" in shown
    assert test["pairs"] == 50
    assert f"{test['prevalence']:.4f}" in shown
    assert max(map(len, shown.splitlines())) <= 110


def test_the_seed_of_the_run_decides_the_intervals(to_judge: TinyProject, tmp_path: Path) -> None:
    few = "evaluate.intervals.resamples=20"
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        judge(to_judge, tmp_path / name, few, f"run_config.seed={seed}")
    first, again, other = (read_intervals(tmp_path / name) for name in "abc")
    assert first == again
    assert first["splits"] != other["splits"]


def test_without_resamples_there_are_no_intervals(to_judge: TinyProject, tmp_path: Path) -> None:
    files, shown = judge(to_judge, tmp_path / "a", "evaluate.intervals.resamples=0")
    assert [path.name for path in files if path.suffix != ".png"] == ["evaluate.csv"]
    assert "[" not in shown


def test_metrics_that_are_not_asked_for_are_not_shown(
    to_judge: TinyProject, tmp_path: Path
) -> None:
    few = "evaluate.intervals.resamples=5"
    _, ranked = judge(to_judge, tmp_path / "a", few, "evaluate.metrics=[auprc]")
    assert ["split", "pairs", "prevalence", "auprc"] in map(str.split, ranked.splitlines())
    assert "threshold" not in ranked
    _, called = judge(to_judge, tmp_path / "b", few, "evaluate.metrics=[f1]")
    assert [line.split()[0] for line in called.splitlines()[-2:]] == ["threshold", "f1"]
