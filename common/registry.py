"""Registries that find implementations by name, and import them only when they are needed.

Every concept with several implementations has a registry here: benchmarks, tasks, models,
baselines, threshold modes, and formats of files. A registry lists only names and import paths, so
that a configuration can be checked, and `--help` printed, without importing any implementation. To
add an implementation, write its file beside the others and add its line below.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from common.errors import UserError, excerpt


class Registry:
    """The named implementations of one interface, such as the tasks.

    Args:
        kind: What an entry is called in messages, such as `task`.
        places: `module:attribute` of each entry, by name, in the order in which names are listed.
    """

    def __init__(self, kind: str, places: Mapping[str, str]) -> None:
        self.kind = kind
        self._places = dict(places)
        self._entries: dict[str, Any] = {}

    def names(self) -> tuple[str, ...]:
        """Return the names of all entries."""
        return (*self._places, *(name for name in self._entries if name not in self._places))

    def add(self, name: str, entry: Any) -> None:
        """Register an implementation that is defined elsewhere, such as in a user's script."""
        self._entries[name] = entry

    def check(self, name: str) -> str:
        """Return the name unchanged if an entry of that name exists.

        Raises:
            ValueError: There is no such entry; the message suggests a similar name, or lists all.
        """
        known = self.names()
        if name not in known:
            close = difflib.get_close_matches(name, known, 1, 0.6)
            hint = f"did you mean '{close[0]}'?" if close else f"choose from {', '.join(known)}"
            raise ValueError(f"unknown {self.kind} '{excerpt(name)}'; {hint}")
        return name

    def get(self, name: str) -> Any:
        """Return the entry with this name, importing its module if necessary.

        Raises:
            UserError: There is no such entry.
        """
        try:
            self.check(name)
        except ValueError as error:
            raise UserError(str(error)) from None
        if name not in self._entries:
            module, _, attribute = self._places[name].partition(":")
            self._entries[name] = getattr(importlib.import_module(module), attribute)
        return self._entries[name]


BENCHMARKS = Registry(
    "benchmark",
    {
        "pring": "common.data.benchmarks.pring:Pring",
        "demo": "common.data.benchmarks.demo:Demo",
        "interactions": "common.data.benchmarks.interactions:OwnInteractions",
    },
)
TASKS = Registry(
    "task",
    {
        "pairs": "common.evaluation.tasks.pairs:Pairs",
        "topology": "common.evaluation.tasks.topology:Topology",
        "complexes": "common.evaluation.tasks.complexes:Complexes",
        "go_modules": "common.evaluation.tasks.go_modules:GoModules",
        "essential_proteins": "common.evaluation.tasks.essential_proteins:EssentialProteins",
    },
)
MODELS = Registry(
    "model",
    {
        "v3": "common.models.v3:V3Model",
        "pooled": "common.models.pooled:PooledModel",
        "factorised": "common.models.factorised:FactorisedModel",
    },
)
THRESHOLD_MODES = Registry(
    "threshold mode",
    {
        "fixed": "common.inference.thresholds.fixed:MODE",
        "best_f1_on_valid": "common.inference.thresholds.best_f1_on_valid:MODE",
        "match_density": "common.inference.thresholds.match_density:MODE",
        "precision": "common.inference.thresholds.precision:MODE",
    },
)
BASELINES = Registry(
    "baseline",
    {
        "random": "common.evaluation.baselines.random:draw_scores",
        "self_pairs": "common.evaluation.baselines.self_pairs:predict_self_pairs",
        "degree": "common.evaluation.baselines.degree:predict_degree",
        "homology": "common.evaluation.baselines.homology:predict_homology",
        "kernel": "common.evaluation.baselines.kernel:predict_kernel",
        "composition": "common.evaluation.baselines.composition:predict_composition",
    },
)
READERS = Registry(
    "interaction format",
    # In the order in which formats are tried: the last accepts any file of two or three columns.
    {
        "auto": "common.data.tables.interactions.reading:READER",
        "string": "common.data.tables.interactions.string_db:READER",
        "biogrid": "common.data.tables.interactions.biogrid:READER",
        "mitab": "common.data.tables.interactions.mitab:READER",
        "pring_raw": "common.data.tables.interactions.pring_raw:READER",
        "huri": "common.data.tables.interactions.huri:READER",
        "delimited": "common.data.tables.interactions.delimited:READER",
    },
)
WRITERS = Registry(
    "output format",
    # By suffix.
    {
        "tsv": "common.evaluation.export.delimited:TSV",
        "tsv.gz": "common.evaluation.export.delimited:TSV",
        "txt": "common.evaluation.export.delimited:TSV",
        "csv": "common.evaluation.export.delimited:CSV",
        "parquet": "common.evaluation.export.parquet:PARQUET",
        "graphml": "common.evaluation.export.graphml:GRAPHML",
        "sif": "common.evaluation.export.sif:SIF",
        "mitab": "common.evaluation.export.mitab:MITAB",
    },
)
