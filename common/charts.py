"""Describe charts as data, which can be drawn as PNG or SVG, tabulated and put into words.

A chart has panels. Panels with an x and a y axis are `Plot`s of some `Series`; other panels
implement `Panel` directly. `common/plotting.py` draws charts.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from common.csv_log import Cell, Table
from common.plot_style import COLOURS, DASHES, MARKERS, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = NDArray[np.float64]
Kind = Literal["line", "marked", "steps", "areas"]

MOST_TICKS = 6  # more labels of three digits would touch each other


class Panel(abc.ABC):
    """Base class of a chart's panels, each of which is a drawing with separate axes.

    Attributes:
        title: What the panel shows, in a few words.
        note: How to read the panel, in a sentence; may be empty.
    """

    title: str
    note: str

    @abc.abstractmethod
    def draw(self, axes: Axes) -> None:
        """Draw the panel, except for its title, on matplotlib axes."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Describe the panel in words, for people who cannot see it."""

    @abc.abstractmethod
    def tabulate(self) -> Table:
        """Return the plotted numbers as a table."""

    def beside(self, own: str, others: Mapping[str, Panel]) -> Panel:
        """Return a panel that shows these predictions, labelled `own`, beside other predictions."""
        return self


@dataclass(frozen=True, eq=False)
class Series:
    """A series of N points, drawn in the same style.

    Attributes:
        name: Its name in the legend. The evaluated predictions' series has no name.
        x: Positions on the x axis; for areas, the N + 1 borders of the bins.
        y: Heights; NaN leaves a gap.
        kind: How the points are drawn.
        value: A number that summarises the series in the legend.
        measure: The name of this number.
    """

    name: str
    x: Values
    y: Values
    kind: Kind = "line"
    value: float | None = None
    measure: str = ""

    @property
    def label(self) -> str:
        """The series' text in the legend: its name, and its measure with the value."""
        number = "" if self.value is None else f"{self.measure} {self.value:.3f}".strip()
        return ", ".join(part for part in (self.name, number) if part)

    def describe(self) -> str:
        """Describe in words where the series begins, ends, and is highest."""
        known = np.flatnonzero(np.isfinite(self.y))
        if not len(known):
            return f"{self.label}: no points" if self.label else "no points"
        first, last, top = known[0], known[-1], known[np.argmax(self.y[known])]
        points = ((self.x[i], self.y[i]) for i in (first, last, top))
        begin, end, highest = (f"{y:.3g} at {x:.3g}" for x, y in points)
        path = f"from {begin} to {end}, highest {highest}"
        return f"{self.label}: {path}" if self.label else path


@dataclass(frozen=True)
class Reference:
    """A reference line: horizontal at `y`, vertical at `x`, or diagonal if neither is given."""

    label: str
    y: float | None = None
    x: float | None = None

    def draw(self, axes: Axes) -> None:
        """Draw the reference line, thin and grey."""
        style: dict[str, Any] = {"color": MUTED, "linewidth": 1.0, "label": self.label}
        dashes, dots = (0, (4, 3)), (0, (1, 2))
        if self.y is not None:
            axes.axhline(self.y, linestyle=dashes, **style)
        elif self.x is not None:
            axes.axvline(self.x, linestyle=dots, **style)
        else:
            axes.axline((0, 0), slope=1, linestyle=dashes, **style)


@dataclass(frozen=True, eq=False)
class Plot(Panel):
    """A panel that draws series against an x axis and a y axis.

    Attributes:
        title: What the panel shows.
        x_label: The label of the x axis.
        y_label: The label of the y axis.
        series: The points.
        references: Lines to compare with.
        better: Which direction is better, such as `higher is better`.
        note: How to read the panel.
        log: Whether both axes are logarithmic.
        whole: Whether the x axis has ticks at whole numbers only.
        limits: The ends of the y axis; None fits them to the points.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    references: Sequence[Reference] = ()
    better: str = ""
    note: str = ""
    log: bool = False
    whole: bool = False
    limits: tuple[float | None, float | None] | None = None

    def draw(self, axes: Axes) -> None:
        """Draw the references, the series and a legend."""
        for reference in self.references:
            reference.draw(axes)
        for number, series in enumerate(self.series):
            _draw_series(axes, series, number % len(COLOURS))
        if self.log:
            _scale_logarithmically(axes)
        elif self.limits is not None:
            axes.set_ylim(*self.limits)
        if not self.log:
            axes.xaxis.set_major_locator(
                MaxNLocator(MOST_TICKS, integer=self.whole, min_n_ticks=1, steps=[1, 2, 5, 10])
            )
        axes.set_xlabel(self.x_label)
        axes.set_ylabel(f"{self.y_label} ({self.better})" if self.better else self.y_label)
        if any(series.label for series in self.series) or self.references:
            axes.legend(loc="best")

    def describe(self) -> str:
        """Describe the axes in words, and where each series begins, ends and is highest."""
        better = f" {self.better[0].upper()}{self.better[1:]}." if self.better else ""
        lines = "; ".join(series.describe() for series in self.series)
        references = "".join(f"; line: {reference.label}" for reference in self.references)
        return f"{self.title}: {self.y_label} against {self.x_label}.{better} {lines}{references}."

    def tabulate(self) -> Table:
        """Return a table with one row per x if all series share their x, or one row per point."""
        first = self.series[0]
        shared = all(np.array_equal(first.x, each.x) for each in self.series)
        if shared and len({each.name for each in self.series}) == len(self.series):
            return self._tabulate_shared()
        header = ("series", self.x_label, self.y_label)
        rows = [
            dict(zip(header, (each.name, *point), strict=True))
            for each in self.series
            for point in zip(*map(_cells, (each.x, each.y)), strict=False)
        ]
        return Table(header, rows)

    def _tabulate_shared(self) -> Table:
        names = [each.name or self.y_label for each in self.series]
        columns = [_cells(self.series[0].x), *(_cells(each.y) for each in self.series)]
        header = (self.x_label, *names)
        return Table(header, [dict(zip(header, row, strict=True)) for row in zip(*columns)])  # noqa: B905 (areas have one border more)

    def beside(self, own: str, others: Mapping[str, Panel]) -> Panel:
        """Add other predictions' series if this panel has a series of the evaluated predictions."""
        if not self.series or self.series[0].name:
            return self
        added = [
            replace(panel.series[0], name=name)
            for name, panel in others.items()
            if isinstance(panel, Plot) and panel.series and not panel.series[0].name
        ]
        first = replace(self.series[0], name=own)
        return replace(self, series=[first, *added, *self.series[1:]])


@dataclass(frozen=True, eq=False)
class Chart:
    """A chart: one or more panels that are shown together.

    Attributes:
        title: What the panels show, together with the name of the data.
        panels: At least one.
    """

    title: str
    panels: Sequence[Panel]

    def beside(self, own: str, others: Mapping[str, Chart]) -> Chart:
        """Return a chart that shows these predictions, labelled `own`, beside other predictions."""
        panels = [
            panel.beside(own, {name: chart.panels[number] for name, chart in others.items()})
            for number, panel in enumerate(self.panels)
        ]
        return Chart(self.title, panels)


def thin(x: Values, y: Values, tolerance: float = 5e-4) -> NDArray[np.int64]:
    """Choose the points that suffice to draw a curve (Ramer 1972; Douglas and Peucker 1973).

    Args:
        x: (N,) positions on an axis of about the length 1.
        y: (N,) heights.
        tolerance: How far any point left out may be from the drawn curve.

    Returns:
        The indices of the kept points, ascending; the first and the last are kept.
    """
    kept = {0, len(x) - 1}
    todo = [(0, len(x) - 1)]
    while todo:
        first, last = todo.pop()
        if last - first < 2:
            continue
        across, up = x[first + 1 : last] - x[first], y[first + 1 : last] - y[first]
        width, height = x[last] - x[first], y[last] - y[first]
        length = float(np.hypot(width, height))
        area = np.abs(across * height - up * width)
        off = area / length if length else np.hypot(across, up)
        middle = first + 1 + int(np.argmax(off))
        if off[middle - first - 1] > tolerance:
            kept.add(middle)
            todo += [(first, middle), (middle, last)]
    return np.array(sorted(kept), dtype=np.int64)


def _cells(values: Values) -> list[Cell]:
    """Convert numbers to the cells of a table; an undefined number is an empty cell."""
    return [value if np.isfinite(value) else None for value in np.asarray(values).tolist()]


def _draw_series(axes: Axes, series: Series, number: int) -> None:
    style = {"color": COLOURS[number], "linestyle": DASHES[number], "label": series.label or None}
    if series.kind == "areas":
        axes.stairs(series.y, series.x, fill=True, color=COLOURS[number], alpha=0.25)
        axes.stairs(series.y, series.x, linewidth=1.4, **style)
    elif series.kind == "steps":
        axes.step(series.x, series.y, where="pre", **style)
    else:
        marker = MARKERS[number] if series.kind == "marked" else ""
        axes.plot(series.x, series.y, marker=marker, **style)


def _scale_logarithmically(axes: Axes) -> None:
    """Make both axes logarithmic, with labels such as 0.01 and not 10⁻², if anything is drawn."""
    if not any(len(line.get_xdata()) for line in axes.get_lines()):  # type: ignore[arg-type]
        return
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(FuncFormatter(lambda *_: ""))
