"""The report's section on the calibration of the model's probabilities."""

from __future__ import annotations

from collections.abc import Iterator

from common.csv_log import Cell, Table
from common.evaluation.report.blocks import Judged, Numbers, Section


def show_calibration(judged: Judged) -> Iterator[Section]:
    """Yield a section with calibration errors before and after calibration, if applied."""
    report = judged.judgement.calibration
    if report is None:
        return
    rows: list[dict[str, Cell]] = [
        {"prevalence": prevalence, "probabilities": name, **measures}
        for prevalence, each in report.at.items()
        for name, measures in each.items()
    ]
    header = tuple(rows[0])
    numbers = Numbers(Table(header, rows), "calibration_measures")
    yield Section("Calibration", [numbers], report.sentence())
