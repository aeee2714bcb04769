"""Render the sections of a report as a single self-contained HTML page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from common.charts import Panel
from common.evaluation.report.blocks import Numbers, Section, identifier
from common.plot_style import DARK, LIGHT, css_variables
from common.plotting import draw_svg

TEMPLATES = Path(__file__).with_name("templates")
PANEL_DIGITS = 6
_BREAK = re.compile(r"([_/=]+)(?=.)")


@dataclass(frozen=True)
class Page:
    """The content of a report: title, subtitle and sections."""

    title: str
    subtitle: str
    sections: Sequence[Section]


@dataclass(frozen=True)
class Figure:
    """A drawn chart panel with a title, a note, and a table of the plotted numbers."""

    title: str
    note: str
    svg: Markup
    numbers: Numbers


def render(page: Page) -> str:
    """Render a page as HTML; all content except the drawings is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    template = environment.get_template("page.html.j2")
    themes = {"light": css_variables(LIGHT), "dark": css_variables(DARK)}
    return template.render(page=page, draw=draw_figure, themes=themes)


def breakable(text: str) -> Markup:
    """Escape a text, and allow a line break after each underscore, slash and equals sign."""
    return Markup(_BREAK.sub(r"\1<wbr>", str(escape(text))))


def draw_figure(panel: Panel, name: str) -> Figure:
    """Draw one panel of a chart as SVG, with a table of the plotted numbers.

    Args:
        panel: The panel.
        name: A name that is unique among the panels of the page.
    """
    # Safe: matplotlib escapes all texts in a drawing, and `draw_svg` escapes the description.
    svg = Markup(draw_svg(panel, name))
    numbers = Numbers(panel.tabulate(), identifier(name), "Plotted numbers", PANEL_DIGITS)
    return Figure(panel.title, panel.note, svg, numbers)
