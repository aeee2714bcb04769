"""Write `compare.html`, with the tables of compared runs and their curves in shared plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from common.charts import Chart
from common.csv_log import Table
from common.data.benchmarks.registry import open_benchmark
from common.data.pair_hashes import digest_pairs
from common.errors import UserError, count_of
from common.evaluation.intervals import ScoredPairs
from common.evaluation.prediction_file import read_predictions
from common.evaluation.ranking_plots import chart_ranking
from common.evaluation.report.blocks import Block, Drawings, Numbers, Section, Sentences
from common.evaluation.report.page import Page, render
from common.evaluation.runs.grouping import HEADER, Group
from common.evaluation.runs.judged import PREDICTIONS_FILE, JudgedRun
from common.evaluation.tasks.pairs import scores_of_table
from common.evaluation.test_set import TestSet
from common.files import write_atomically
from common.inference.pair_metrics import RANKINGS, pair_metrics
from common.long_work import LongWork
from common.plot_style import COLOURS

SAME = 1e-9  # AUROCs that differ by less are equal up to rounding


def write_page(path: Path, groups: Sequence[Group], notes: Sequence[str]) -> None:
    """Write the HTML report that compares runs.

    Args:
        path: The HTML file.
        groups: The compared runs, grouped by test data.
        notes: Sentences about the whole comparison.
    """
    sections = [Section("Notes", [Sentences(notes)])] if notes else []
    count = sum(len(group.runs) for group in groups)
    with LongWork("reading predictions", count, "runs") as work:
        sections += [_show(number, group, work) for number, group in enumerate(groups, 1)]
    write_atomically(path, render(Page("Comparison of runs", count_of(count, "run"), sections)))


def _show(number: int, group: Group, work: LongWork) -> Section:
    """Return a section with the table of a group, and the curves of all runs with predictions."""
    every = Table([name for name in HEADER if name != "test_side"], group.rows)
    blocks: list[Block] = [
        Numbers(group.tabulate(), f"compare_{number}"),
        Numbers(every, f"compare_{number}_all", "All columns, with the folders of the runs"),
    ]
    charts: dict[str, Chart] = {}
    missing: list[str] = []
    for row, run in zip(group.rows, group.runs, strict=True):
        try:
            charts[str(row["run"])] = chart_run(run)
        except UserError as error:
            missing.append(f"The curves of {row['run']} are not shown, because {error}.")
        work.advance()
    names = list(charts)
    drawn = {}
    for start in range(0, len(names), len(COLOURS)):
        first, *others = names[start : start + len(COLOURS)]
        chart = charts[first].beside(first, {name: charts[name] for name in others})
        drawn[f"ranking_{number}_{start}"] = chart
    blocks += [Drawings(drawn)] if drawn else []
    blocks += [Sentences(missing)] if missing else []
    return Section(f"{number}. {group.side.heading()}", blocks)


def chart_run(run: JudgedRun) -> Chart:
    """Create a chart of a run's ROC and precision–recall curves from the prediction file.

    Raises:
        UserError: The prediction file or the test pairs are missing, or have changed since the run.
    """
    file = run.directory / PREDICTIONS_FILE
    file = Path(run.predictions) if run.predictions is not None else file
    if not file.is_file():
        raise UserError(f"the prediction file {file} does not exist")
    table = TestSet(open_benchmark(run.config.data.benchmark)).table
    if run.side.pairs not in ("", digest_pairs(table)):
        raise UserError("the test pairs have changed since the run")
    predictions = read_predictions(file, table.proteins)
    threshold = run.config.evaluate.decision_threshold.value
    scores, _ = scores_of_table(table, predictions, threshold)
    metrics = pair_metrics(scores, table.labels, threshold, tuple(RANKINGS), warn=False)
    recorded, found = run.metrics.get("test", {}).get("auroc"), metrics["auroc"]
    if recorded is None or found is None or not math.isclose(recorded, found, abs_tol=SAME):
        raise UserError(
            f"its recorded AUROC is {recorded}, but {file} now gives {found}, so the file or the"
            " test pairs have changed since the run"
        )
    scored = ScoredPairs(table.pairs, table.labels, scores, threshold)
    chart = chart_ranking(scored, metrics, run.side.species)
    assert chart is not None, "an AUROC needs both classes"
    return chart
