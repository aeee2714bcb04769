"""The common look of all plots, which are saved as PNG files beside a run's CSVs."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # a cluster node has no screen

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.files import write_atomically

DOTS_PER_INCH = 120
WHOLE_NUMBERS = partial(MaxNLocator, integer=True, min_n_ticks=1)  # one epoch has one tick


def save_plot(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=DOTS_PER_INCH)
    write_atomically(path, image.getvalue())
