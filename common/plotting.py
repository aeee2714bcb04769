"""Draw charts as PNG files beside a run's CSV files, and as SVG elements of the HTML report."""

from __future__ import annotations

import html
import io
import math
import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # a cluster node has no screen

from matplotlib.figure import Figure

from common.charts import Chart, Panel
from common.files import write_atomically
from common.plot_style import LIGHT, STYLE

DOTS_PER_INCH = 120
WIDTH, HEIGHT = 4.2, 3.1  # of a panel, in inches
IN_A_ROW = 3
_NOTHING = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", re.DOTALL)


def save_plot(figure: Figure, path: Path) -> None:
    """Write a figure to a PNG file atomically."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=DOTS_PER_INCH)
    write_atomically(path, image.getvalue())


def save_chart(chart: Chart, subject: str, path: Path) -> None:
    """Draw all panels of a chart to a PNG file.

    Args:
        chart: The chart.
        subject: What the chart's numbers belong to, such as the name of a model.
        path: The file.
    """
    with matplotlib.rc_context(STYLE):
        save_plot(compose(chart, subject), path)


def compose(chart: Chart, subject: str) -> Figure:
    """Arrange the panels of a chart in rows of at most three."""
    count = len(chart.panels)
    columns = min(count, IN_A_ROW)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows + 0.4), layout="constrained")
    heading = f"{subject}: {chart.title}" if subject else chart.title
    figure.suptitle(heading, fontsize=11)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(grid, chart.panels, strict=False):
        axes.set_title(panel.title)
        panel.draw(axes)
    for axes in grid[count:]:
        axes.remove()
    return figure


def draw_svg(panel: Panel, name: str) -> str:
    """Draw a panel, without its title, as an SVG element for an HTML page.

    Colours become CSS variables of the page, and the same panel always gives the same text.

    Args:
        panel: The panel.
        name: A prefix of letters and digits for the drawing's ids, unique on the page.
    """
    image = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        panel.draw(figure.subplots())
        figure.savefig(image, format="svg", transparent=True, metadata={"Date": None})
    text = _NOTHING.sub("", image.getvalue()).strip()
    text = re.sub(r'\bid="(?=[^"])', f'id="{name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\1{name}-", text)
    for variable, colour in LIGHT.items():
        text = text.replace(colour, f"var(--plot-{variable})")
    alternative = html.escape(panel.describe(), quote=True)
    size = f"0 0 {WIDTH * 72:g} {HEIGHT * 72:g}"
    head = f'<svg role="img" aria-label="{alternative}" viewBox="{size}"'
    return re.sub(r"<svg\b[^>]*", lambda _: head, text, count=1)
