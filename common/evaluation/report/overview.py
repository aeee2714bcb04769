"""The report's sections on the summary, the main metrics, warnings, and network density."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.csv_log import Cell, Table
from common.data.benchmark_audit import AUDIT_FILE
from common.evaluation.intervals import LEVEL, Interval
from common.evaluation.network_summary import tabulate_networks
from common.evaluation.report.blocks import Block, Judged, Numbers, Section, Sentences
from common.evaluation.tasks.base import TaskResult

COMPARISON = "baselines"  # the result that `judge_beside_baselines` adds


def show_verdict(judged: Judged) -> Iterator[Section]:
    """Yield a section of at most three sentences that compare the main results."""
    sentences = judged.judgement.verdict()
    if sentences:
        yield Section("Summary", [Sentences(sentences, strong=True)])


def show_headline(judged: Judged) -> Iterator[Section]:
    """Yield the section with the main metrics of the predictions and of all baselines."""
    results = judged.judgement.results
    rows = list(_headline(judged))
    if not rows:
        return
    bounded = any(row["from"] is not None for row in rows)
    header = tuple(name for name in _columns(rows) if bounded or name not in ("from", "to"))
    blocks: list[Block] = [Numbers(Table(header, rows), "headline")]
    if COMPARISON in results:
        table = results[COMPARISON].tables["baselines.csv"]
        blocks += _differences(results[COMPARISON])
        blocks.append(Numbers(table, "baselines", "baselines.csv"))
        intro = table.caption
    else:
        intro = "No baselines were run; add --with-baselines to compare with baselines."
    intervals = f"The intervals (from, to) contain {LEVEL:.0%} of the resamples. " * bounded
    yield Section("Main metrics", blocks, intervals + intro)


def _columns(rows: Sequence[Mapping[str, Cell]]) -> tuple[str, ...]:
    """List the columns of all rows, in the order of their first occurrence."""
    return tuple(dict.fromkeys(name for row in rows for name in row))


def _differences(comparison: TaskResult) -> Iterator[Block]:
    """Yield one table of the differences from baselines, merged from the console's tables."""
    parts = [table for table in comparison.summary if table.header[0].endswith(" minus")]
    if parts:
        header = _columns([dict.fromkeys(part.header) for part in parts])
        merged = [
            {name: cell for row in rows for name, cell in row.items()}
            for rows in zip(*(part.rows for part in parts), strict=True)
        ]
        table = Table(header, merged)
        yield Numbers(table, "differences", "Differences from the baselines, with intervals")


def _headline(judged: Judged) -> Iterator[dict[str, Cell]]:
    """Yield a row for each metric, with value, interval, and the values of all baselines."""
    own, results, tasks = judged.scored.name, judged.judgement.results, judged.side.tasks
    comparison = results.get(COMPARISON)
    others = comparison.tables["baselines.csv"].rows[1:] if comparison else ()
    for task, result in results.items():
        for name, value in () if task == COMPARISON else result.compared.items():
            row: dict[str, Cell] = {"metric": name, own: value}
            interval = Interval.of(result.resampled[name]) if name in result.resampled else None
            low, high = (interval.low, interval.high) if interval else (None, None)
            row |= {"from": low, "to": high}
            row |= {str(other["method"]): other.get(name) for other in others}
            yield row | {"better": tasks[task].direction(name)}


def show_warnings(judged: Judged) -> Iterator[Section]:
    """Yield the section with the findings of the split audit and notes on the predictions."""
    file = judged.run.log_dir / AUDIT_FILE
    findings: list[dict[str, Any]] = []
    if file.is_file():
        findings = json.loads(file.read_text())["findings"]
    important = [found["sentence"] for found in findings if found["level"] != "info"]
    blocks: list[Block] = [Sentences(_sentences(important) or [_all_clear(file.is_file())])]
    notes = _sentences(judged.judgement.notes)
    if notes:
        blocks.append(Sentences(notes))
    rows = [{"finding": found["name"], "sentence": found["sentence"]} for found in findings]
    if rows:
        table = Table(("finding", "sentence"), rows)
        blocks.append(Numbers(table, "audit", f"All findings of the audit ({len(rows)})"))
    yield Section("Warnings", blocks)


def _all_clear(audited: bool) -> str:
    if audited:
        return "The audit of the splits has no warnings."
    return "The splits were not audited in this run."


def _sentences(texts: list[str]) -> list[str]:
    """Capitalise each text, and end each text with a full stop."""
    return [f"{text[:1].upper()}{text[1:].rstrip('.')}." for text in texts]


def show_density(judged: Judged) -> Iterator[Section]:
    """Yield the section on network density, compared with the true and the training network."""
    networks, threshold = judged.judgement.networks, judged.judgement.threshold
    if networks:
        intro = (
            f"A pair with a score of at least {threshold.value:.4g} is predicted to interact"
            f" (threshold mode: {threshold.mode}). Network metrics are only meaningful together"
            " with the density: times_true should be near 1. (With the mode match_density, which"
            " aims at the density of sampled node sets, times_true is usually 2 to 3.)"
        )
        yield Section(
            "Density and threshold",
            [Numbers(tabulate_networks(networks, threshold), "network")],
            intro,
        )
