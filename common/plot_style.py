"""The look of all plots: fonts, lines, and colours that colour-blind people can distinguish.

A PNG has the light colours. In an SVG drawing of the report every colour becomes a CSS variable,
`--plot-ink` for example, so that the page can show the same drawing in a light and a dark theme.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The series' colours are those of Okabe and Ito (2008, "Color universal design"); the dark theme's
# are lighter versions of them.
LIGHT = {
    "ink": "#1f2329",
    "muted": "#6a737d",
    "grid": "#dfe3e8",
    "series-0": "#0072b2",
    "series-1": "#d55e00",
    "series-2": "#009e73",
    "series-3": "#b8578f",
    "series-4": "#b87d00",
    "series-5": "#3a9bd1",
}
DARK = {
    "ink": "#e6e9ec",
    "muted": "#9aa4ae",
    "grid": "#3a4149",
    "series-0": "#5cb3e8",
    "series-1": "#ff8f4d",
    "series-2": "#3fd0a3",
    "series-3": "#e99bc8",
    "series-4": "#f2b63d",
    "series-5": "#a5d8f7",
}
INK, MUTED, GRID = (LIGHT[name] for name in ("ink", "muted", "grid"))
COLOURS = tuple(colour for name, colour in LIGHT.items() if name.startswith("series"))
# Lines of different colours also differ in their dashes, for prints without colours.
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)),
                           (0, (3, 1, 1, 1, 1, 1)))  # fmt: skip
MARKERS = "os^Dvx"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a user's name begins no formula
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.0,
    "svg.fonttype": "none",  # text remains text: it can be read aloud, copied and searched
    "svg.hashsalt": "relic",  # the same drawing gives the same bytes
}


def css_variables(theme: Mapping[str, str]) -> str:
    """Return CSS that declares a theme's colours as variables."""
    return "".join(f"--plot-{name}:{colour};" for name, colour in theme.items())
