"""The closing sentence: each comparison by hand, and none where nothing can be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.csv_log import Cell
from common.evaluation.closing import GUIDE, closing_sentence, compare_numbers, verdict
from common.evaluation.network_summary import Density, NetworkSummary
from tests.tiny_benchmark import TinyProject, call_main

ROWS: list[dict[str, Cell]] = [
    {"split": "test", "auroc": 0.7},
    {"split": "test_without_self_pairs", "auroc": 0.66},
]


def network(called: int, true: int) -> NetworkSummary:
    density = Density(called, 1000, true, None)
    return NetworkSummary("yeast", 45, density, Density(1, 1000, 1, None))


def close(networks: Any, rows: Any, validation: Any, baselines: Any) -> str | None:
    """The closing sentence of some numbers."""
    return closing_sentence(compare_numbers(networks, rows, validation, baselines, {}))


def test_every_number_is_compared_with_the_one_it_depends_on() -> None:
    baselines = {"random": 0.5, "composition": 0.63, "homology": None}
    sentence = close([network(92, 10)], ROWS, {"auroc": 0.87, "auprc": None}, baselines)
    assert sentence == (
        "The predicted network of yeast has 9.2 times as many interactions as the true one; the"
        " test AUROC is 0.700, and 0.660 without self-pairs; the validation AUROC, 0.870, is 0.170"
        " above the test's; the test AUROC is 0.070 above that of the best baseline, composition."
        f" {GUIDE}"
    )
    # The report's verdict: the network, the test, and what the test is compared with.
    first, second, third = verdict(
        compare_numbers([network(92, 10)], ROWS, {"auroc": 0.87}, baselines, {})
    )
    assert first.endswith("9.2 times as many interactions as the true one.")
    assert second == "The test AUROC is 0.700, and 0.660 without self-pairs."
    assert third.startswith("The validation AUROC, 0.870,")
    assert third.endswith("of the best baseline, composition.")


@pytest.mark.parametrize(
    ("validation", "words"),
    [
        (0.715, "is about the same as the test's"),
        (0.65, "is 0.050 below the test's"),
        (0.7, "is about the same as the test's"),
    ],
)
def test_close_numbers_are_about_the_same(validation: float, words: str) -> None:
    sentence = close([], ROWS, {"auroc": validation}, {})
    assert sentence is not None
    assert words in sentence


def test_a_model_below_a_baseline_is_said_to_be() -> None:
    sentence = close([], ROWS, {}, {"homology": 0.8, "random": 0.5})
    assert sentence is not None
    assert "is 0.100 below that of the best baseline, homology" in sentence


def test_what_is_undefined_is_left_out() -> None:
    assert close([], [], {"auroc": 0.9}, {"random": 0.5}) is None
    assert close([network(5, 0)], [{"split": "test", "auroc": None}], {}, {}) is None
    alone = close([network(5, 5), network(9, 1)], [], {}, {"random": 0.5})
    assert alone == (
        "The predicted network of yeast has about as many interactions as the true one. " + GUIDE
    )


def test_a_judged_model_closes_with_its_validation(
    pretrained: tuple[TinyProject, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    project, best = pretrained
    call_main(project, "evaluate.py", "--checkpoint", str(best), "--set",
              "run_config.eval_run_id=closing")  # fmt: skip
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("The test AUROC is 0.")
    assert "; the validation AUROC, 0." in last


@pytest.mark.parametrize(("low", "doubted"), [(-0.01, True), (0.01, False)])
def test_a_difference_whose_interval_contains_zero_may_be_chance(low: float, doubted: bool) -> None:
    """Only the best baseline's interval counts."""
    baselines = {"random": 0.5, "kernel": 0.6}
    facts = compare_numbers([], ROWS, {}, baselines, {"random": (-1, 1), "kernel": (low, 0.2)})
    words = ", which may be chance (95 % interval of the difference: -0.010 to +0.200)"
    assert facts[-1] == (
        f"the test AUROC is 0.100 above that of the best baseline, kernel{words if doubted else ''}"
    )
