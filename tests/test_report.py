"""The report: its numbers are the CSV files', it escapes, it needs nothing, a browser shows it."""

from __future__ import annotations

import csv
import json
import re
import shutil
import tempfile
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.charts import Chart, Panel, Plot, Series, thin
from common.config import Config
from common.csv_log import EpochRow, read_training_csv, write_training_csv
from common.evaluation.intervals import ScoredPairs
from common.evaluation.networks import Network
from common.evaluation.ranking_plots import chart_calibration, chart_ranking, chart_scores
from common.evaluation.report import build
from common.evaluation.report.blocks import Judged
from common.evaluation.report.origin import Origin
from common.evaluation.report.page import render
from common.evaluation.report.subgraph import chart_subgraph
from common.evaluation.report.training import curves_of, follow
from tests.tiny_benchmark import ROOT, call_main, make_project

HOSTILE = "<script>alert(1)</script>&$x.txt".replace("/", "")
ALL_TASKS = ("pairs", "topology", "complexes", "go_modules", "essential_proteins")


class Tables(HTMLParser):
    """The tables of a page by name, as the CSV files that its buttons would save; and its ids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self._cell: list[str] | None = None
        self._exact: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append((tag, values))
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "table":
            self._rows = self.tables.setdefault(values["data-name"], [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._cell, self._exact = [], None
        elif tag == "data":
            self._exact = values["value"]

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            shown = "".join(self._cell) if self._exact is None else self._exact
            self._rows[-1].append("" if shown == "-" else shown)
            self._cell = None


@pytest.fixture(scope="module")
def reported(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, tuple[Judged, Origin]]:
    """The logs of a judged file with a hostile name, and what its report was made from."""
    project = make_project(tmp_path_factory.mktemp("reported"))
    file = project.folder / HOSTILE
    rng = np.random.default_rng(3)
    names = [f"P{i:03d}" for i in range(40, 64)]
    lines = [f"{a} {b} {rng.random():.6f}" for i, a in enumerate(names) for b in names[i:]]
    file.write_text("\n".join([*lines, ""]))
    made: list[Any] = []
    write = build.write_report

    def record(*parts: Any) -> Path:
        made[:] = parts
        return write(*parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "write_report", record)
        patch.setattr("common.evaluation.results.save_chart", lambda *_: None)
        call_main(project, "evaluate.py", "--predictions", str(file), "--tasks", *ALL_TASKS,
                  "--set", "run_config.eval_run_id=r", "evaluate.report=true",
                  "evaluate.baselines=[random, degree]", "evaluate.intervals.resamples=50",
                  "evaluate.decision_threshold.value=0.8")  # fmt: skip
    return project.output / "logs" / "v3" / "evaluate" / "r", (made[0], made[1])


@pytest.fixture(scope="module")
def page(reported: tuple[Path, tuple[Judged, Origin]]) -> Tables:
    return Tables((reported[0] / "report.html").read_text())


def test_numbers_are_those_of_the_csv_files(
    reported: tuple[Path, tuple[Judged, Origin]], page: Tables
) -> None:
    logs, _ = reported
    for name in ("evaluate", "topology", "topology_ratios", "baselines"):
        with (logs / f"{name}.csv").open(newline="") as file:
            assert page.tables[name] == list(csv.reader(file)), name
    header, *rows = page.tables["headline"]
    assert header == ["metric", "predictions", "from", "to", "random", "degree", "better"]
    with (logs / "baselines.csv").open(newline="") as file:
        compared = {row.pop("method"): row for row in csv.DictReader(file)}
    for metric, own, low, high, chance, degree, _ in rows:
        assert [own, chance, degree] == [
            compared[name][metric] for name in ("predictions", "random", "degree")
        ]
        assert not low or float(low) <= float(own) <= float(high)
    document = json.loads((logs / "evaluate_intervals.json").read_text())
    found = document["splits"]["test"]["metrics"]["auroc"]
    assert rows[0][6] == "higher"
    assert rows[0][1:4] == [repr(found[name]) for name in ("value", "low", "high")]
    functional = json.loads((logs / "functional.json").read_text())
    shown = dict(page.tables["complexes"][1:])
    assert shown["pathway_recall"] == repr(functional["complexes"]["pathway_recall"])
    network = json.loads((logs / "network.json").read_text())["networks"]["tiny"]
    assert page.tables["network"][1][2] == str(network["with_self_pairs"]["called"])


def test_a_chart_shows_the_csv_file_and_has_a_text_and_a_table(
    reported: tuple[Path, tuple[Judged, Origin]], page: Tables
) -> None:
    with (reported[0] / "topology.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["node_size"]]
    header, *drawn = page.tables["topology_png_2"]
    assert header == ["proteins in the node set", "predictions", "random", "degree"]
    assert [row[1] for row in drawn] == [row["relative_density"] for row in rows]
    drawings = [values for tag, values in page.tags if tag == "svg"]
    assert len(drawings) == 2 + 1 + 1 + 5 + 1 + 2 + 1  # degrees once, though three tasks draw it
    assert all(values["role"] == "img" for values in drawings)
    assert any("Relative density: density against" in each["aria-label"] for each in drawings)
    assert len([1 for tag, _ in page.tags if tag == "figcaption"]) == len(drawings)


def test_sections_are_in_order(page: Tables) -> None:
    assert [values["id"] for tag, values in page.tags if tag == "section"] == [
        "what_was_evaluated", "summary", "main_metrics", "warnings", "density_and_threshold",
        "labelled_pairs", "topology_of_the_network", "a_part_of_the_network", "protein_complexes",
        "functional_modules", "essential_proteins", "most_confident_mistakes",
    ]  # fmt: skip


def test_texts_are_escaped_and_nothing_is_fetched(
    reported: tuple[Path, tuple[Judged, Origin]], page: Tables
) -> None:
    text = (reported[0] / "report.html").read_text()
    # Long names are wrapped after underscores, not in the middle of a word.
    assert "relative_<wbr>density" in text
    assert "digest" not in text
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "&lt;script&gt;alert(1)" in text
    assert len(page.ids) == len(set(page.ids))
    links = [values[key] for _, values in page.tags for key in ("href", "xlink:href", "src")
             if key in values]  # fmt: skip
    assert links
    assert all(link[1:] in page.ids for link in links if link.startswith("#"))
    assert [link for link in links if not link.startswith("#")] == []
    used = set(re.findall(r"url\(#([^)]*)\)", text))
    assert used
    assert used <= set(page.ids)


def test_the_same_judgement_gives_the_same_bytes(
    reported: tuple[Path, tuple[Judged, Origin]],
) -> None:
    logs, parts = reported
    again = render(build.build_page(*parts))
    assert again == (logs / "report.html").read_text()


def test_the_most_confident_mistakes_are_labelled_otherwise(
    reported: tuple[Path, tuple[Judged, Origin]], page: Tables
) -> None:
    judged, _ = reported[1]
    table = judged.side.sets[0].table
    scores = judged.scored.predictions.scores_of(table.proteins, table.pairs)
    invented = sorted(scores[(table.labels == 0) & (scores >= 0.8)], reverse=True)[:10]
    missed = sorted(scores[(table.labels == 1) & (scores < 0.8)])[:10]
    shown = page.tables["mistakes"][1:]
    assert [float(row[4]) for row in shown] == [*invented, *missed]
    assert [row[2] for row in shown] == ["0"] * len(invented) + ["1"] * len(missed)


def browse(file: Path) -> dict[str, Any]:
    """Open a page in a browser without a network; what it logged, fetched and measured."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
                     "disable-background-networking", "disable-component-update", "disable-sync",
                     f"user-data-dir={profile}", "window-size=390,844"):  # fmt: skip
            options.add_argument(f"--{flag}")
        session = webdriver.Chrome(options, webdriver.ChromeService(driver))
        try:
            session.get(file.as_uri())

            def ask(expression: str) -> Any:
                return session.execute_script(f"return {expression}")

            events = [json.loads(entry["message"])["message"]
                      for entry in session.get_log("performance")]  # fmt: skip
            return {
                "errors": session.get_log("browser"),
                "requests": [event["params"]["request"]["url"] for event in events
                             if event["method"] == "Network.requestWillBeSent"
                             # The browser's own first tab also loads something.
                             and not event["params"]["documentURL"].startswith("chrome:")],
                "csv": ask("csvOf(document.querySelector('table[data-name=evaluate]'))"),
                "buttons": ask("document.querySelectorAll('button').length"),
                "tables": ask("document.querySelectorAll('table').length"),
                "overflow": ask("document.documentElement.scrollWidth - window.innerWidth"),
            }  # fmt: skip
        finally:
            session.quit()


def test_a_browser_shows_it_without_errors_and_without_requests(
    reported: tuple[Path, tuple[Judged, Origin]],
) -> None:
    file = reported[0] / "report.html"
    seen = browse(file)
    assert seen["errors"] == []
    assert seen["requests"] == [file.as_uri()]
    assert seen["csv"] == (reported[0] / "evaluate.csv").read_text()
    assert seen["buttons"] == 2 * seen["tables"] > 0
    assert seen["overflow"] <= 0  # nothing is wider than a telephone


def test_a_curve_is_thinned_without_a_visible_change() -> None:
    rng = np.random.default_rng(0)
    x = np.sort(rng.random(5000))
    y = np.sort(rng.random(5000))
    kept = thin(x, y, 0.002)
    assert (kept[0], kept[-1]) == (0, 4999)
    assert 20 < len(kept) < 500
    # The distance to a rising curve is at most that along y.
    slope = np.abs(np.interp(x, x[kept], y[kept]) - y)
    across = np.abs(np.interp(y, y[kept], x[kept]) - x)
    assert np.minimum(slope, across).max() <= 0.002 * np.sqrt(2)
    assert thin(np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.5, 1.0])).tolist() == [0, 2]
    assert thin(np.zeros(3), np.array([0.0, 1.0, 0.0])).tolist() == [0, 1, 2]


def scored(labels: list[int], scores: list[float], threshold: float = 0.5) -> ScoredPairs:
    pairs = np.arange(2 * len(labels)).reshape(-1, 2)
    return ScoredPairs(pairs, np.array(labels, np.int8), np.array(scores), threshold)


def panel_of(chart: Chart | None, number: int = 0) -> Plot:
    assert chart is not None
    panel = chart.panels[number]
    assert isinstance(panel, Plot)
    return panel


def test_curves_by_hand() -> None:
    """Two of the three positives are ranked first, then a negative, a positive, a negative."""
    chart = chart_ranking(scored([1, 1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.1]), {"auroc": 5 / 6}, "x")
    roc, recalled = panel_of(chart), panel_of(chart, 1)
    points = set(zip(roc.series[0].x.tolist(), roc.series[0].y.tolist(), strict=True))
    assert points == {(0, 0), (0, 0.66667), (0.5, 0.66667), (0.5, 1), (1, 1)}
    assert roc.series[0].label == "AUROC 0.833"
    curve = recalled.series[0]
    points = set(zip(curve.x.tolist(), curve.y.tolist(), strict=True))
    # In steps, as the average precision counts it: 2/3 * 1 + 1/3 * 3/4.
    corners = {(0, 1), (0.66667, 1), (0.66667, 0.66667), (0.66667, 0.75), (1, 0.75), (1, 0.6)}
    assert points == corners
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(2 / 3 + 1 / 4, abs=1e-4)
    assert recalled.references[0].y == 0.6
    assert chart_ranking(scored([1, 1], [0.1, 0.2]), {}, "x") is None


def test_scores_by_class_and_bins_of_the_calibration_by_hand() -> None:
    some = scored([1, 1, 0, 1], [0.99, 0.01, 0.3, np.finfo(np.float64).max / 4], 0.4)
    plot = panel_of(chart_scores(some, "x"))
    positive, negative = plot.series
    # The infinite score is counted in the last bin, and the bins end at the highest finite score.
    assert positive.y[[0, -1]].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert negative.y.sum() == 1
    assert plot.references[0].x == 0.4
    assert chart_calibration(some, "x") is None
    plot = panel_of(chart_calibration(scored([0, 1] * 15, np.linspace(0, 1, 30).tolist()), "x"))
    assert len(plot.series[0].x) == 15
    assert plot.series[0].y.tolist() == [0.5] * 15
    assert plot.series[0].x[0] == pytest.approx(0.5 / 29)


def test_the_judged_predictions_are_named_beside_others() -> None:
    def chart(name: str, height: float) -> Chart:
        lines = [Series(name, np.arange(2.0), np.full(2, height))]
        return Chart("", [Plot("p", "x", "y", lines)])

    together = chart("", 1.0).beside("model", {"other": chart("", 2.0), "third": chart("t", 3.0)})
    plot = panel_of(together)
    assert [(each.name, each.y[0]) for each in plot.series] == [("model", 1.0), ("other", 2.0)]
    assert plot.tabulate().rows[1] == {"x": 1.0, "model": 1.0, "other": 2.0}
    named = chart("true", 1.0)
    assert (
        panel_of(named.beside("model", {"other": chart("", 2.0)})).series == panel_of(named).series
    )


def test_edges_of_the_sample_are_agreeing_missed_or_invented() -> None:
    true = Network.from_pairs([("A", "B"), ("B", "C"), ("C", "D")], "ABCDE")
    predicted = Network.from_pairs([("B", "A"), ("A", "D"), ("A", "E"), ("X", "A")])
    chart = chart_subgraph(true, predicted, 47)

    def rows(panel: Panel) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in panel.tabulate().rows]

    # E has no true interaction, so that no walk reaches it.
    assert rows(chart.panels[0]) == [
        ("A", "B", "agreeing"), ("B", "C", "missed"), ("C", "D", "missed"),
    ]  # fmt: skip
    assert rows(chart.panels[1]) == [("A", "B", "agreeing"), ("A", "D", "invented")]
    assert "1 agreeing, 2 missed" in chart.panels[0].describe()


def test_the_stages_that_led_to_a_checkpoint_are_followed(tmp_path: Path) -> None:
    first = tmp_path / "models" / "v3" / "pretrain" / "one" / "best_model"
    second = tmp_path / "models" / "v3" / "finetune" / "two" / "best_model"
    for checkpoint, origin in ((first, None), (second, str(first))):
        checkpoint.mkdir(parents=True)
        config = Config.model_validate({"run_config": {"load_checkpoint_path": origin}})
        (checkpoint / "config.yaml").write_text(config.to_yaml())
    assert list(follow(second)) == [second, first]
    file = curves_of(second)
    assert file == tmp_path / "logs" / "v3" / "finetune" / "two" / "training_step.csv"
    file.parent.mkdir(parents=True)
    rows = [EpochRow(1, 2.5, 0.7, 0.6, {"auroc": 0.1 + 0.2, "auprc": None}, 1e-4)]
    write_training_csv(file, rows, ["auroc", "auprc"])
    assert read_training_csv(file) == (rows, ["auroc", "auprc"])


def test_the_wheel_carries_every_file_of_the_package() -> None:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = content["tool"]["setuptools"]["package-data"]
    carried = {
        path
        for package, names in patterns.items()
        for name in names
        for path in ROOT.joinpath(*package.split(".")).glob(name)
    }
    others = {
        path for path in (ROOT / "common").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }  # fmt: skip
    assert others
    assert carried == others
