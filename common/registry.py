"""Named implementations of a contract: where each one is, imported when it is first asked for.

Every concept that has several forms is a registry here: benchmarks, tasks, models, baselines,
threshold modes. A name and the place of its implementation are all that stands here, so that a
configuration can be checked, and `--help` be printed, without importing any of them. To add one,
write its file beside the others and its line below.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from common.errors import UserError, excerpt


class Registry:
    """The implementations of one contract, by name.

    Args:
        kind: What an entry is called in messages, such as `task`.
        places: `module:attribute` of each entry, by its name, in the order of listings.
    """

    def __init__(self, kind: str, places: Mapping[str, str]) -> None:
        self.kind = kind
        self._places = dict(places)
        self._entries: dict[str, Any] = {}

    def names(self) -> tuple[str, ...]:
        """The names of all entries."""
        return (*self._places, *(name for name in self._entries if name not in self._places))

    def add(self, name: str, entry: Any) -> None:
        """Register an entry from elsewhere, such as a script of the user's own."""
        self._entries[name] = entry

    def check(self, name: str) -> str:
        """The name itself, if there is an entry of that name.

        Raises:
            ValueError: There is none; the text names the nearest, or all of them.
        """
        known = self.names()
        if name not in known:
            close = difflib.get_close_matches(name, known, 1, 0.6)
            hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known)}"
            raise ValueError(f"there is no {self.kind} '{excerpt(name)}'; {hint}")
        return name

    def get(self, name: str) -> Any:
        """The entry of a name, imported now if it was not before.

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
        "pring": "common.data.benchmarks.pring:open_pring",
        "demo": "common.data.benchmarks.demo:open_demo",
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
    {"v3": "common.models.v3:V3Model", "pooled": "common.models.pooled:PooledModel"},
)
THRESHOLD_MODES = Registry(
    "threshold mode",
    {
        "fixed": "common.inference.thresholds:fixed",
        "best_f1_on_valid": "common.inference.thresholds:best_f1_on_valid",
    },
)
BASELINES = Registry(
    "baseline",
    {
        "random": "common.evaluation.baselines.random:Random",
        "self_pairs": "common.evaluation.baselines.self_pairs:SelfPairs",
    },
)
