"""Build the HTML report of an evaluation, and write it to the run's log folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from common.evaluation.report.blocks import Judged, Section
from common.evaluation.report.calibration import show_calibration
from common.evaluation.report.mistakes import show_mistakes
from common.evaluation.report.origin import Origin, show_origin
from common.evaluation.report.overview import (
    show_density,
    show_headline,
    show_verdict,
    show_warnings,
)
from common.evaluation.report.page import Page, render
from common.evaluation.report.subgraph import show_subgraph
from common.evaluation.report.tasks import show_functional_tasks, show_pair_tasks
from common.evaluation.report.training import show_training
from common.files import write_atomically

REPORT_FILE = "report.html"
# In the order of the page; each function yields only sections that have content.
SECTIONS: Sequence[Callable[[Judged], Iterator[Section]]] = (
    show_verdict,
    show_headline,
    show_warnings,
    show_density,
    show_pair_tasks,
    show_calibration,
    show_subgraph,
    show_functional_tasks,
    show_training,
    show_mistakes,
)


def write_report(judged: Judged, origin: Origin) -> Path:
    """Write `report.html` into the run's log folder; equal arguments give identical files."""
    path = judged.run.log_dir / REPORT_FILE
    write_atomically(path, render(build_page(judged, origin)))
    return path


def build_page(judged: Judged, origin: Origin) -> Page:
    """Build all sections of the report."""
    sections = [show_origin(judged, origin)]
    sections += [section for show in SECTIONS for section in show(judged)]
    subject = judged.scored.subject(judged.side)
    return Page(subject, f"RELIC report of the run {judged.run.run_id}", sections)
