"""The tables of `scripts/leaderboard.sh`, made from the result files of finished runs.

A run is a directory `ROOT/METHOD/seedN`. `leaderboard.csv` has one row for each run and, where a
method has several, their mean, minimum and maximum; `leaderboard.md` has one row for each method,
and the published rows of `benchmarks/published.csv` below them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from common.config import Config
from common.config_data import STRATEGIES
from common.config_file import read_resolved_config
from common.console import UNDEFINED
from common.csv_log import write_records
from common.errors import UserError
from common.files import write_atomically

Values = dict[str, float]
PUBLISHED = Path(__file__).with_name("published.csv")
PLAIN, MINUS = "auprc_without_self_pairs", "auprc_without_self_pairs_minus_composition"
WITHOUT_LANGUAGE_MODEL = ("composition", "homology")
MMDS = ("deg_dist_mmd", "cc_mmd", "laplacian_eigen_mmd")
FUNCTIONAL = {
    "complexes": ("pathway_recall", "pathway_precision", "pathway_connectivity"),
    "go_modules": ("consistency_ratio", "functional_alignment"),
    "essential_proteins": ("precision_at_100_ties_shared", "distribution_overlap"),
}
PAIRS = ("auroc", "auroc_without_self_pairs", "auprc", PLAIN)
METRICS = (
    *(f"{name}{end}" for name in PAIRS for end in ("", "_low", "_high")),
    *(f"{MINUS}{end}" for end in ("", "_low", "_high")),
    *(f"{name}_{strategy}" for strategy in STRATEGIES for name in (
        "graph_sim", "relative_density", *(f"{mmd}_ratio" for mmd in MMDS))),
    *(name for names in FUNCTIONAL.values() for name in names),
    "seconds",
)  # fmt: skip
FACTS = ("hardware", "date", "commit")
HEADER = ("rank", "method", "language_model", "seed", *METRICS, *FACTS)


@dataclass(frozen=True)
class Entry:
    """One run: its method, seed and metrics, and the hardware and date of the run."""

    method: str
    seed: int
    language_model: str
    metrics: Values
    facts: Mapping[str, str]
    transfer: Mapping[str, Values]  # metrics on other species, by species


@dataclass(frozen=True)
class Standing:
    """The runs of a method, by seed."""

    entries: Sequence[Entry]

    @property
    def first(self) -> Entry:
        """The method's run with the lowest seed."""
        return self.entries[0]

    def over_seeds(self, statistic: Callable[[Sequence[float]], float]) -> Values:
        """Compute a statistic of every metric that all seeds have."""
        names = [n for n in METRICS if all(n in entry.metrics for entry in self.entries)]
        return {n: statistic([entry.metrics[n] for entry in self.entries]) for n in names}


def render(root: Path) -> str:
    """Write both tables and return the Markdown one.

    Raises:
        UserError: No run below `root` is complete.
    """
    standings = rank(read_entries(root))
    if not standings:
        raise UserError(f"{root} contains no evaluated run; run scripts/leaderboard.sh first")
    write_records(root / "leaderboard.csv", HEADER, list_rows(standings))
    text = format_tables(standings, read_published())
    write_atomically(root / "leaderboard.md", text)
    return text


def rank(entries: Sequence[Entry]) -> list[Standing]:
    """Return the methods, best first by their mean AUPRC without self-pairs."""
    methods = dict.fromkeys(entry.method for entry in entries)
    found = [Standing([e for e in entries if e.method == method]) for method in methods]
    return sorted(found, key=lambda each: -each.over_seeds(fmean).get(PLAIN, 0.0))


def read_entries(root: Path) -> list[Entry]:
    """Read every run that has been evaluated."""
    folders = sorted(root.glob("*/seed*/leaderboard.json"))
    return [entry for note in folders if (entry := read_entry(note.parent)) is not None]


def read_entry(run: Path) -> Entry | None:
    """Read one run; return None if the run has not been evaluated."""
    # evaluate.py writes its configuration last.
    judged = next((path.parent for path in run.glob("logs/*/evaluate/run/config.yaml")), None)
    if judged is None:
        return None
    note = json.loads((run / "leaderboard.json").read_text())
    config = read_resolved_config(judged / "config.yaml")
    metrics = dict(read_pairs(judged)) | dict(read_network(judged, config))
    metrics |= dict(read_functional(judged))
    metrics["seconds"] = note.get("seconds", 0.0) or sum(read_epoch_seconds(run))
    plain = note["method"] in WITHOUT_LANGUAGE_MODEL
    model = "none" if plain else Path(config.data.embeddings.model_name).name
    facts = {name: note[name] for name in FACTS}
    seed = int(run.name.removeprefix("seed"))
    return Entry(note["method"], seed, model, metrics, facts, dict(read_transfer(judged.parent)))


def read_transfer(evaluations: Path) -> Iterator[tuple[str, Values]]:
    """Read the metrics on other species, whose evaluations are named after them."""
    for file in sorted(evaluations.glob("*/config.yaml")):
        if file.parent.name != "run":
            network = read_network(file.parent, read_resolved_config(file))
            yield file.parent.name, dict(read_pairs(file.parent)) | dict(network)


def read_pairs(judged: Path) -> Iterator[tuple[str, float]]:
    """Read AUROC and AUPRC with their intervals, and the difference from composition."""
    intervals = _read_json(judged / "evaluate_intervals.json")
    for split, end in (("test", ""), ("test_without_self_pairs", "_without_self_pairs")):
        found = intervals.get("splits", {}).get(split, {}).get("metrics", {})
        for name in ("auroc", "auprc"):
            yield from _with_interval(f"{name}{end}", found.get(name))
    differences = intervals.get("differences", {}).get("composition", {})
    yield from _with_interval(MINUS, differences.get(PLAIN))


def _with_interval(name: str, found: Mapping[str, float] | None) -> Iterator[tuple[str, float]]:
    if found is not None and found["value"] is not None:
        yield name, found["value"]
        yield from ((f"{name}_{end}", found[end]) for end in ("low", "high") if end in found)


def read_network(judged: Path, config: Config) -> Iterator[tuple[str, float]]:
    """Read graph similarity, relative density and the ratios of MMDs, by kind of node set."""
    chosen, benchmark = config.evaluate.strategies, config.data.benchmark
    first = benchmark.split_strategy
    if chosen != "all" and first not in chosen:
        first = chosen[0]
    for strategy in STRATEGIES:
        end = "" if strategy == first else f".{benchmark.species}.{strategy}"
        for file, names in (
            ("topology", ("graph_sim", "relative_density")),
            ("topology_ratios", [f"{mmd}_ratio" for mmd in MMDS]),
        ):
            summary = _read_rows(judged / f"{file}{end}.csv")[-1:]
            for row in summary:
                yield from ((f"{n}_{strategy}", float(row[n])) for n in names if row[n])


def read_functional(judged: Path) -> Iterator[tuple[str, float]]:
    """Read the metrics of complexes, GO modules and essential proteins."""
    content = _read_json(judged / "functional.json")
    for task, names in FUNCTIONAL.items():
        found = content.get(task, {})
        yield from ((name, found[name]) for name in names if found.get(name) is not None)


def read_epoch_seconds(run: Path) -> list[float]:
    """Read the wall time of every training epoch, validation included."""
    files = run.glob("logs/*/pretrain/*/training_step.csv")
    return [float(row["Epoch Time"]) for file in files for row in _read_rows(file)]


def list_rows(standings: Sequence[Standing]) -> Iterator[dict[str, Any]]:
    """Yield the rows of `leaderboard.csv`."""
    for place, standing in enumerate(standings, 1):
        first = standing.first
        named = {
            "rank": place, "method": first.method, "language_model": first.language_model,
        }  # fmt: skip
        for entry in standing.entries:
            yield {**named, "seed": entry.seed, **entry.metrics, **entry.facts}
        if len(standing.entries) > 1:
            for name, statistic in (("mean", fmean), ("min", min), ("max", max)):
                yield {**named, "seed": name, **standing.over_seeds(statistic)}


def read_published() -> list[dict[str, str]]:
    """Read the rows of published results."""
    return _read_rows(PUBLISHED)


def format_tables(standings: Sequence[Standing], published: Sequence[Mapping[str, str]]) -> str:
    """Format the Markdown tables: pairs, networks, uses of the networks, and hardware."""
    ours = [Cells(place, each) for place, each in enumerate(standings, 1)]
    networks = [f"graph similarity (density), {strategy}" for strategy in STRATEGIES]
    compact = _format(
        [
            "rank",
            "method",
            "language model",
            "AUPRC",
            "… without self-pairs",
            *networks,
            "training",
        ],
        [cells.compact() for cells in ours] + [_published_cells(row) for row in published],
    )
    pairs = _format(
        ["method", "seeds", "AUROC", "… without self-pairs", "AUPRC, 95 % by protein",
         "… without self-pairs", "… minus composition"],
        [cells.pairs() for cells in ours],
    )  # fmt: skip
    ratios = [f"MMD ratios, {strategy}" for strategy in STRATEGIES]
    uses = ["complexes: recall / precision / connectivity", "GO: consistency / alignment",
            "essential: precision at 100 / overlap"]  # fmt: skip
    network = _format(["method", *ratios, *uses], [cells.network() for cells in ours])
    places = _format(["method", "hardware", "date", "commit"], [cells.facts() for cells in ours])
    notes = [f"- *{row['method']}*: {row['source']}. {row['not_comparable']}" for row in published]
    return "\n".join([
        compact,
        "Means over the seeds, in parentheses their range. Densities are relative to the true"
        " network. Published rows (*italic*) are not ranked:\n", *notes,
        "\n## Pairs, with intervals by protein (of the first seed)\n", pairs,
        "## Networks and their uses\n", network,
        "MMD ratios are those of degrees / clustering / spectra over the true network's own.\n",
        *format_transfer(ours, networks),
        "## Where and when\n", places,
    ])  # fmt: skip


def format_transfer(ours: Sequence[Cells], networks: Sequence[str]) -> list[str]:
    """Format the table of other species, if models were evaluated on any."""
    rows = [row for cells in ours for row in cells.transfer()]
    header = ["method", "species", "AUROC", "AUPRC, 95 % by protein", "… without self-pairs"]
    title = "## Transfer to other species (of the first seed, with its own threshold)\n"
    return [title, _format([*header, *networks], rows)] if rows else []


@dataclass(frozen=True)
class Cells:
    """The cells of one method in the Markdown tables."""

    place: int
    standing: Standing

    def compact(self) -> list[str]:
        """Return the cells of the first table."""
        first = self.standing.first
        named = [str(self.place), first.method, first.language_model]
        metrics = [self.spread("auprc"), self.spread(PLAIN), *self.similarities()]
        return [*named, *metrics, format_seconds(self.mean("seconds"))]

    def pairs(self) -> list[str]:
        """Return the cells of the table of pairs."""
        seeds = " ".join(str(entry.seed) for entry in self.standing.entries)
        return [self.standing.first.method, seeds, self.spread("auroc"),
                self.spread("auroc_without_self_pairs"), self.interval("auprc"),
                self.interval(PLAIN), self.interval(MINUS, "+.3f")]  # fmt: skip

    def transfer(self) -> Iterator[list[str]]:
        """Yield the rows of the table of other species."""
        first = self.standing.first
        for species, metrics in first.transfer.items():
            other = Cells(0, Standing([replace(first, metrics=metrics)]))
            ranked = [other.spread("auroc"), other.interval("auprc"), other.interval(PLAIN)]
            yield [first.method, species, *ranked, *other.similarities()]

    def network(self) -> list[str]:
        """Return the cells of the table of networks."""
        ratios = [[f"{mmd}_ratio_{strategy}" for mmd in MMDS] for strategy in STRATEGIES]
        return [
            self.standing.first.method,
            *(self.joined(names, ".1f") for names in ratios),
            *(self.joined(names, ".3f") for names in FUNCTIONAL.values()),
        ]

    def facts(self) -> list[str]:
        """Return where and when the first seed ran."""
        first = self.standing.first
        return [first.method, *(first.facts[name] for name in FACTS)]

    def similarities(self) -> list[str]:
        """Return graph similarity and relative density of each kind of node set."""
        found = []
        for strategy in STRATEGIES:
            density = self.mean(f"relative_density_{strategy}")
            text = self.spread(f"graph_sim_{strategy}")
            found.append(text if density is None else f"{text}, {density:.2f}")
        return found

    def mean(self, name: str) -> float | None:
        """Return the mean over the seeds, if all have this metric."""
        return self.standing.over_seeds(fmean).get(name)

    def spread(self, name: str) -> str:
        """Format the mean and the range over the seeds."""
        mean = self.mean(name)
        if mean is None:
            return UNDEFINED
        if len(self.standing.entries) == 1:
            return f"{mean:.3f}"
        low, high = (self.standing.over_seeds(ends)[name] for ends in (min, max))
        return f"{mean:.3f} ({low:.3f} to {high:.3f})"

    def interval(self, name: str, form: str = ".3f") -> str:
        """Format the first seed's value with its interval by protein."""
        found = self.standing.first.metrics
        if f"{name}_low" not in found:
            return UNDEFINED
        value, low, high = (found[f"{name}{end}"] for end in ("", "_low", "_high"))
        return f"{value:{form}} [{low:{form}}, {high:{form}}]"

    def joined(self, names: Sequence[str], form: str) -> str:
        """Join the means of several metrics, separated by slashes."""
        means = [self.mean(name) for name in names]
        return " / ".join(UNDEFINED if mean is None else f"{mean:{form}}" for mean in means)


def _published_cells(row: Mapping[str, str]) -> list[str]:
    def network(strategy: str) -> str:
        similarity, density = row[f"graph_sim_{strategy}"], row[f"relative_density_{strategy}"]
        return f"{similarity}, {density}" if similarity else UNDEFINED

    named = ["", f"*{row['method']}*", row["language_model"] or UNDEFINED]
    metrics = [row["auprc"] or UNDEFINED, UNDEFINED, *map(network, STRATEGIES)]
    return [*named, *metrics, UNDEFINED]


def format_seconds(seconds: float | None) -> str:
    """Format a duration in the unit that suits it."""
    if not seconds:
        return UNDEFINED
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _format(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return content


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
