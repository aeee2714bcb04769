"""Pair figures against scikit-learn and by hand, and where they are undefined."""

from __future__ import annotations

import logging
import math
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config_data import METRIC_NAMES
from common.evaluation.hf_evaluate import load_package
from common.evaluation.tasks.pairs import PairMetrics
from common.inference.pair_metrics import pair_metrics
from common.inference.thresholds.best_f1_on_valid import best_f1_threshold


def _figures_of_scikit_learn(
    scores: np.ndarray, labels: np.ndarray, threshold: float
) -> dict[str, float]:
    """Every figure, NaN where scikit-learn calls it undefined or has only a convention."""
    calls = (scores >= threshold).astype(int)
    both = len(set(labels)) == 2
    nan = {"zero_division": np.nan}
    return {
        "auroc": sk.roc_auc_score(labels, scores) if both else math.nan,
        "auprc": sk.average_precision_score(labels, scores) if both else math.nan,
        "accuracy": sk.accuracy_score(labels, calls),
        "sensitivity": sk.recall_score(labels, calls, **nan),
        "specificity": sk.recall_score(labels, calls, pos_label=0, **nan),
        "precision": sk.precision_score(labels, calls, **nan),
        "recall": sk.recall_score(labels, calls, **nan),
        "f1": sk.f1_score(labels, calls, **nan),
        # scikit-learn's 0 for a table with an empty margin is a convention, not a correlation.
        "mcc": sk.matthews_corrcoef(labels, calls) if both and len(set(calls)) == 2 else math.nan,
    }


def _assert_equal_to_scikit_learn(
    scores: np.ndarray, labels: np.ndarray, threshold: float = 0.5
) -> None:
    expected = _figures_of_scikit_learn(scores, labels, threshold)
    figures = pair_metrics(scores, labels, threshold)
    assert list(figures) == list(METRIC_NAMES)
    for name, value in figures.items():
        assert (value is None) == math.isnan(expected[name]), name
        if value is not None:
            assert value == pytest.approx(expected[name], abs=1e-12), name


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_figures_equal_scikit_learn_with_and_without_ties(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random(500) < 0.2).astype(int)
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1).round(decimals)
    _assert_equal_to_scikit_learn(scores, labels, threshold=0.5)
    _assert_equal_to_scikit_learn(scores, labels, threshold=0.7)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ([0.1, 0.9], [0, 0]),
        ([0.1, 0.2], [0, 0]),
        ([0.8, 0.9], [0, 0]),
        ([0.1, 0.9], [1, 1]),
        ([0.1, 0.2], [1, 1]),
        ([0.8, 0.9], [1, 1]),
        ([0.1, 0.2], [0, 1]),
        ([0.8, 0.9], [0, 1]),
        ([0.9, 0.1], [0, 1]),
        ([0.5, 0.5, 0.5], [0, 1, 1]),
        ([0.3], [1]),
    ],
)
def test_degenerate_figures_are_undefined_exactly_where_scikit_learn_says(
    scores: Any, labels: Any
) -> None:
    _assert_equal_to_scikit_learn(np.array(scores), np.array(labels))


@settings(max_examples=60, deadline=None, database=None)
@given(st.lists(st.tuples(st.sampled_from([0, 0.25, 0.5, 0.75, 1]), st.integers(0, 1)), min_size=1))
def test_figures_equal_scikit_learn_on_small_tied_inputs(pairs: list[tuple[float, int]]) -> None:
    scores, labels = map(np.array, zip(*pairs, strict=True))
    _assert_equal_to_scikit_learn(scores, labels)


def test_figures_by_hand() -> None:
    scores = [0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1]
    labels = [1, 1, 0, 1, 0, 1, 0, 0]
    figures = pair_metrics(scores, labels)  # tp 3, fp 1, tn 3, fn 1
    rates = ["accuracy", "sensitivity", "specificity", "precision", "recall", "f1"]
    assert [figures[name] for name in rates] == [0.75] * 6
    assert figures["mcc"] == pytest.approx(0.5)
    assert figures["auroc"] == pytest.approx(13 / 16)
    assert figures["auprc"] == pytest.approx((1 + 1 + 3 / 4 + 4 / 6) / 4)


def test_no_pairs_at_all_is_undefined_and_no_crash() -> None:
    assert pair_metrics([], []) == dict.fromkeys(METRIC_NAMES)


def test_undefined_figures_are_named_in_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="relic"):
        pair_metrics([0.1, 0.2], [0, 0])
    assert [record.getMessage() for record in caplog.records] == [
        "metrics_undefined | metrics=auroc,auprc,sensitivity,precision,recall,f1,mcc"
        " | positives=0 | negatives=2 | called_positive=0"
    ]


def test_a_figure_nobody_asked_for_gives_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    """An untrained model calls nothing positive: precision is undefined, but not wanted."""
    with caplog.at_level(logging.WARNING, logger="relic"):
        figures = pair_metrics([0.1, 0.2], [0, 1], names=("auprc", "auroc"))
    assert list(figures.items()) == [("auprc", 1.0), ("auroc", 1.0)]
    assert not caplog.records


def test_mcc_of_a_million_pairs_does_not_overflow() -> None:
    """The product of the four margins, 6e22 here, is beyond int64."""
    labels = np.arange(1_000_000) % 2
    figures = pair_metrics(np.where(np.arange(1_000_000) % 4 < 2, labels, 1 - labels), labels)
    assert figures["mcc"] == pytest.approx(0.0, abs=1e-12)
    assert pair_metrics(labels, labels, names=["mcc"]) == {"mcc": 1.0}


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, math.nan, math.nan], [0, 1, 1], "2 of 3 probabilities are not finite"),
        ([0.1, math.inf], [0, 1], "1 of 2 probabilities are not finite"),
        ([0.1, 0.2], [0, 2], "labels must be 0 or 1"),
        ([0.1, 0.2], [0, 0.5], "labels must be 0 or 1"),
        ([0.1, 0.2], [1], "equally long"),
        ([[0.1, 0.2]], [[0, 1]], "equally long"),
    ],
)
def test_unusable_input_is_refused(scores: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair_metrics(scores, labels)
    with pytest.raises(ValueError, match=message):
        best_f1_threshold(scores, labels)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_metric_gives_the_same_figures_over_batches(dtype: type[np.floating[Any]]) -> None:
    rng = np.random.default_rng(47)
    scores, labels = rng.random(300).astype(dtype), rng.integers(0, 2, 300)
    metric = PairMetrics()
    for part in np.array_split(np.arange(300), 7):
        metric.add_batch(predictions=scores[part], references=labels[part])
    assert metric.compute(threshold=0.3) == pair_metrics(scores, labels, 0.3)
    # Used again, it starts afresh, and takes lists too.
    assert metric.compute(predictions=[0.1, 0.9], references=[0, 1])["mcc"] == 1.0


def test_the_metric_does_not_round_scores() -> None:
    """In float32 these two scores would tie, and the AUROC would be 0.5."""
    figures = PairMetrics().compute(predictions=[0.1, 0.1 + 1e-12], references=[0, 1])
    assert figures["auroc"] == 1.0


def test_the_metric_refuses_nan_and_says_how_many() -> None:
    with pytest.raises(ValueError, match="1 of 2 probabilities"):
        PairMetrics().compute(predictions=[0.1, math.nan], references=[0, 1])


def test_the_metric_writes_no_file_and_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the metric opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(load_package().config, "HF_METRICS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    PairMetrics().compute(predictions=[0.1, 0.9], references=[0, 1])
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_source_never_imports_the_shadowed_name() -> None:
    """`import evaluate` finds our script; only the loader may ask for the package."""
    root = Path(__file__).parents[1]
    sources = [*root.glob("*.py"), *root.glob("common/**/*.py"), *root.glob("benchmarks/*.py")]
    guilty = [
        str(path)
        for path in sources
        if any(
            line.strip().startswith(("import evaluate", "from evaluate ", "from evaluate."))
            for line in path.read_text(encoding="utf-8").splitlines()
        )
    ]
    assert guilty == []
