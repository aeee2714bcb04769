"""Render the sections of a report to one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from common.charts import Panel
from common.evaluation.report.blocks import Numbers, Section, identifier
from common.plot_style import DARK, LIGHT, css_variables
from common.plotting import draw_svg

TEMPLATES = Path(__file__).with_name("templates")
PANEL_DIGITS = 6


@dataclass(frozen=True)
class Page:
    """A whole report."""

    title: str
    subtitle: str
    sections: Sequence[Section]


@dataclass(frozen=True)
class Figure:
    """A drawn panel with its text and the table of its numbers."""

    title: str
    note: str
    svg: Markup
    numbers: Numbers


def render(page: Page) -> str:
    """Render a page; everything but the drawings is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.j2")
    themes = {"light": css_variables(LIGHT), "dark": css_variables(DARK)}
    return template.render(page=page, draw=draw_figure, themes=themes)


def draw_figure(panel: Panel, name: str) -> Figure:
    """Draw one panel of a chart.

    Args:
        panel: The panel.
        name: A name that no other panel of the page has.
    """
    # Safe: the library escapes all texts of a drawing, and `draw_svg` its description.
    svg = Markup(draw_svg(panel, name))
    numbers = Numbers(panel.tabulate(), identifier(name), "The numbers", PANEL_DIGITS)
    return Figure(panel.title, panel.note, svg, numbers)
