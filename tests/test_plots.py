"""Pictures: what is drawn where there is little or nothing to draw."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from common.csv_log import EpochRow
from common.evaluation import plots
from common.evaluation.networks import Network
from common.training import plots as training_plots


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, laid out as they would be."""
    saved: list[Figure] = []

    def keep(figure: Figure, path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figure.draw_without_rendering()
        saved.append(figure)

    for module in (plots, training_plots):
        monkeypatch.setattr(module, "save_plot", keep)
    return saved


def test_one_epoch_has_one_tick(drawn: list[Figure]) -> None:
    """The axis showed epochs 0.945 to 1.050."""
    row = EpochRow(1, 3.2, 0.69, 0.68, {"auroc": 0.61, "auprc": None}, 3e-5)
    training_plots.plot_training([row], ["auroc", "auprc"], "v3, synthetic BFS", Path("x.png"))
    for axes in drawn[0].axes:
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


@pytest.mark.parametrize("true", [0, 3])
def test_degrees_of_no_interactions_are_drawn(drawn: list[Figure], true: int) -> None:
    """Two networks without an edge ended in a traceback, after `topology.csv` was written."""
    nodes = "ABCD"
    pairs = [(a, b) for a in nodes for b in nodes if a < b] if true else []
    none, complete = Network.from_pairs([]), Network.from_pairs(pairs, nodes)
    assert complete.degrees().tolist() == [true] * 4
    plots.plot_degrees(none, complete, "tiny", Path("x.png"))
    legend = drawn[0].axes[0].get_legend()
    assert legend is not None
    assert legend.get_texts()[1].get_text() == "predicted (no interactions)"


def test_centralities_that_are_all_zero_have_a_readable_axis(drawn: list[Figure]) -> None:
    """It was marked in billionths."""
    none = np.zeros(5)
    plots.plot_centralities(none, none, 1.0, "tiny", Path("x.png"))
    assert drawn[0].axes[0].get_xlim()[1] > 0.5
