"""Read a finished run of evaluate.py from its folder: configuration, log and tables."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.config import Config
from common.config_file import read_resolved_config
from common.errors import UserError
from common.run import CONFIG_FILE, LOG_FILE

METRICS_FILE, TOPOLOGY_FILE, NETWORK_FILE = "evaluate.csv", "topology.csv", "network.json"
PREDICTIONS_FILE = "predictions.txt.gz"

Metrics = Mapping[str, float | None]
_LINE = re.compile(r"(\S+ \S+) [A-Z]+ (\w+)((?: \| .*)?)")


@dataclass(frozen=True)
class Side:
    """The identity of the test data of a run; metrics on the same test data can be compared.

    Attributes:
        benchmark: The registered name of the benchmark.
        species: The name of the species.
        strategy: The split strategy.
        dropped: A description of the pairs that were dropped for missing sequences; may be empty.
        pairs: The digest of the labelled pairs; empty if the log lacks it.
        network: The digest of the test network and the node sets; empty if no task used them.
    """

    benchmark: str
    species: str
    strategy: str
    dropped: str
    pairs: str
    network: str

    def same(self, other: Side) -> bool:
        """Return whether the test data are equal, where an unused network equals any network."""
        ours, theirs = (
            (each.benchmark, each.species, each.strategy, each.dropped, each.pairs)
            for each in (self, other)
        )
        networks = {self.network, other.network} - {""}
        return ours == theirs and len(networks) < 2

    def heading(self) -> str:
        """Return a heading that names the test data."""
        name = f"test data of {self.benchmark} {self.species} {self.strategy}"
        if self.dropped:
            name += f", without {self.dropped.partition(' (')[0]}"
        known = self.pairs or self.network
        return name if known else f"{name} (digests of the files were not recorded)"


@dataclass(frozen=True, eq=False)
class JudgedRun:
    """The recorded configuration, log and results of a run of evaluate.py.

    Attributes:
        directory: The folder of the run.
        config: The resolved configuration of the run.
        events: The fields of each logged event by the event's name; the last occurrence counts.
        started: The time of the start, such as `2026-11-27 08:00:06`; empty without a log.
        metrics: The metrics of the labelled pairs, by the name of the row.
        topology: The summary row of the topology metrics; empty if they were not computed.
        mode: The threshold mode, if it is known.
    """

    directory: Path
    config: Config
    events: Mapping[str, Mapping[str, str]]
    started: str
    metrics: Mapping[str, Metrics]
    topology: Metrics
    mode: str | None

    @property
    def side(self) -> Side:
        """The identity of the test data on which the run was evaluated."""
        settings, ready = self.config.data.benchmark, self.events.get("data_ready", {})
        return Side(
            settings.name,
            settings.species,
            settings.split_strategy,
            ready.get(f"{settings.species}_dropped", ""),
            ready.get("pairs_digest", ""),
            ready.get("network_digest", ""),
        )

    @property
    def predictions(self) -> str | None:
        """The path of the evaluated prediction file; None if a model was evaluated."""
        return self.events.get("model_ready", {}).get("predictions")

    @property
    def model(self) -> str:
        """The name of the evaluated model with its training stage, or of the prediction file."""
        if self.predictions is not None:
            return Path(self.predictions).name
        parts = Path(self.config.run.load_checkpoint_path or "").parts
        stage = next((name for name in ("finetune", "pretrain") if name in parts), None)
        return f"{self.config.model.model} ({stage})" if stage else self.config.model.model

    @property
    def seed(self) -> int | None:
        """The seed of the model's training; None for a file, or if the checkpoint is not there."""
        if self.predictions is not None or self.config.run.load_checkpoint_path is None:
            return None
        saved = Path(self.config.run.load_checkpoint_path) / CONFIG_FILE
        return read_resolved_config(saved).run.seed if saved.is_file() else None

    @property
    def language_model(self) -> str | None:
        """The language model of the embeddings; None if a prediction file was evaluated."""
        return None if self.predictions else self.config.data.embeddings.model_name


def find_runs(places: Sequence[Path]) -> Iterator[Path]:
    """Yield all folders of runs among the given folders and their subfolders, without repeats.

    Raises:
        UserError: A folder does not exist, or contains no run of evaluate.py.
    """
    seen: set[Path] = set()
    for place in places:
        if not place.is_dir():
            raise UserError(f"--compare {place} is not an existing folder; name a run's folder")
        found = [place] if _is_run(place) else sorted(_runs_below(place))
        if not found:
            raise UserError(
                f"--compare {place} contains no run of evaluate.py; name a folder with a log.log"
                " that evaluate.py shows at its end, or a folder above such folders"
            )
        for path in found:
            if path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (LOG_FILE, CONFIG_FILE, METRICS_FILE))


def _runs_below(folder: Path) -> Iterator[Path]:
    for log in folder.rglob(LOG_FILE):
        if log.parent.resolve().parent.name == "evaluate":
            yield log.parent


def read_run(folder: Path) -> JudgedRun:
    """Read the configuration, log and results of a run of evaluate.py.

    Raises:
        UserError: The folder is not that of a completed run of evaluate.py with the task `pairs`,
            or a file in the folder cannot be read.
    """
    started, events = _read_log(folder / LOG_FILE)
    stage = events.get("pipeline_bootstrap", {}).get("stage", "evaluate")
    if stage != "evaluate":
        raise UserError(
            f"{folder} is a run of {stage}.py, but only runs of evaluate.py can be compared"
        )
    if not (folder / CONFIG_FILE).is_file():
        reason = events.get("stage_failed", {}).get("reason", "it has no config.yaml")
        raise UserError(f"{folder} did not complete: {reason}")
    if not (folder / METRICS_FILE).is_file():
        raise UserError(
            f"{folder} has no {METRICS_FILE}, because the run's tasks did not include pairs"
        )
    rows = _read_table(folder / METRICS_FILE, "split")
    topology = folder / TOPOLOGY_FILE
    return JudgedRun(
        folder,
        read_resolved_config(folder / CONFIG_FILE),
        events,
        started,
        rows,
        _read_table(topology, "scope").get("summary", {}) if topology.is_file() else {},
        events.get("stage_start", {}).get("threshold_mode") or _mode_of(folder / NETWORK_FILE),
    )


def _read_log(path: Path) -> tuple[str, dict[str, dict[str, str]]]:
    """Read the start time and the events of a log's last launch; both are empty without a log."""
    started, events = "", dict[str, dict[str, str]]()
    text = path.read_text(errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            moment, name, rest = match.groups()
            if name == "pipeline_bootstrap":
                started, events = moment, {}
            fields = (field.partition("=") for field in rest.split(" | ")[1:])
            events[name] = {key: value for key, _, value in fields}
    return started, events


def _read_table(path: Path, key: str) -> dict[str, Metrics]:
    """Read the numbers in a CSV file, by the value in the key column and the name of the column."""
    try:
        with path.open(newline="") as file:
            return {row.pop(key): _numbers(row) for row in csv.DictReader(file)}
    except (KeyError, ValueError, TypeError, csv.Error):
        raise UserError(f"{path} is damaged; run evaluate.py again") from None


def _numbers(row: Mapping[str, str]) -> Metrics:
    return {name: float(text) if text else None for name, text in row.items()}


def _mode_of(path: Path) -> str | None:
    """Read the threshold mode from `network.json`, because older logs lack the mode."""
    if not path.is_file():
        return None
    try:
        return str(json.loads(path.read_text())["threshold_mode"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged; run evaluate.py again") from None
