"""The verdict, the main numbers beside the baselines, warnings, and the network's density."""

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
    """Show at most three sentences that compare the main numbers with each other."""
    sentences = judged.judgement.verdict()
    if sentences:
        yield Section("Verdict", [Sentences(sentences, strong=True)])


def show_headline(judged: Judged) -> Iterator[Section]:
    """Show the metrics by which methods are compared, with intervals, beside the baselines."""
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
        intro = "No baselines were run; --with-baselines adds them."
    intervals = f"Intervals, from and to, contain {LEVEL:.0%} of the resamples. " * bounded
    yield Section("Main numbers", blocks, intervals + intro)


def _columns(rows: Sequence[Mapping[str, Cell]]) -> tuple[str, ...]:
    """List the columns of all rows, in the order of their first occurrence."""
    return tuple(dict.fromkeys(name for row in rows for name in row))


def _differences(comparison: TaskResult) -> Iterator[Block]:
    """Show the differences from the baselines, which the console shows in several tables."""
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
    """Yield one row for each metric: its value, its interval, and the value of each baseline."""
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
    """Show what the audit of the splits found, and notes on the predictions."""
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
        blocks.append(Numbers(table, "audit", f"All {len(rows)} findings of the audit"))
    yield Section("Warnings", blocks)


def _all_clear(audited: bool) -> str:
    if audited:
        return "The audit of the splits has no warnings."
    return "The splits were not audited in this run."


def _sentences(texts: list[str]) -> list[str]:
    """Begin each text with a capital letter and end it with a full stop."""
    return [f"{text[:1].upper()}{text[1:].rstrip('.')}." for text in texts]


def show_density(judged: Judged) -> Iterator[Section]:
    """Show how many pairs are called, compared with the true and the training network."""
    networks, threshold = judged.judgement.networks, judged.judgement.threshold
    if networks:
        intro = (
            f"A pair with a score of at least {threshold.value:.4g} is called an interaction"
            f" (threshold mode: {threshold.mode}). Every other number about the network must be"
            " read beside its density: times_true should be near 1. (The mode match_density aims at"
            " the density of sampled node sets instead; times_true is then usually 2 to 3.)"
        )
        yield Section(
            "Density and threshold",
            [Numbers(tabulate_networks(networks, threshold), "network")],
            intro,
        )
