"""Pictures: what is drawn where there is little or nothing to draw."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from common.charts import Chart
from common.csv_log import EpochRow
from common.evaluation import plots
from common.evaluation.networks import Network
from common.plotting import compose
from common.training_curves import chart_training


def draw(chart: Chart) -> Figure:
    """The figure of a chart, laid out without a warning."""
    figure = compose(chart, "toy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.draw_without_rendering()
    return figure


def test_one_epoch_has_one_tick() -> None:
    """The axis showed epochs 0.945 to 1.050."""
    row = EpochRow(1, 3.2, 0.69, 0.68, {"auroc": 0.61, "auprc": None}, 3e-5)
    for axes in draw(chart_training([row], ["auroc", "auprc"])).axes:
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


@pytest.mark.parametrize("true", [0, 3])
def test_degrees_of_no_interactions_are_drawn(true: int) -> None:
    """Two networks without an edge ended in a traceback, after `topology.csv` was written."""
    nodes = "ABCD"
    pairs = [(a, b) for a in nodes for b in nodes if a < b] if true else []
    none, complete = Network.from_pairs([]), Network.from_pairs(pairs, nodes)
    assert complete.degrees().tolist() == [true] * 4
    legend = draw(plots.chart_degrees(none, complete, "tiny")).axes[0].get_legend()
    assert legend is not None
    assert legend.get_texts()[1].get_text() == "predicted (no interactions)"


def test_centralities_that_are_all_zero_have_a_readable_axis() -> None:
    """It was marked in billionths."""
    none = np.zeros(5)
    figure = draw(plots.chart_centralities(none, none, 1.0, "tiny"))
    assert figure.axes[0].get_xlim()[1] > 0.5
