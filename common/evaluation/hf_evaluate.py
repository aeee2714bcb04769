"""The Hugging Face package `evaluate`, which our script `evaluate.py` hides from `import`.

Wherever the scripts' directory is on `sys.path` (under python, `accelerate launch`, pytest and in
spawned workers), `import evaluate` finds the script first. This module finds the package, leaves
it in `sys.modules`, where its own modules look for it, and hands on what we use of it: import the
names from here and never write `import evaluate`.

Imported alone it costs about 5 s, nearly all of it transformers' model classes; where a model is
loaded anyway it costs 0.1 s.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from common.errors import UserError

__all__ = ["Metric", "MetricInfo", "load_package"]

_NAME = "evaluate"


def load_package() -> ModuleType:
    """The package `evaluate`, whatever stood in `sys.modules` under its name before.

    Raises:
        UserError: The package is not installed.
    """
    loaded = sys.modules.get(_NAME)
    if loaded is not None and _is_package(loaded.__spec__):
        return loaded
    # A script that was imported as `evaluate` keeps working for whoever holds it; the name now
    # belongs to the package, which imports parts of itself by it long after this.
    return _execute(_find_spec())


def _find_spec() -> ModuleSpec:
    """The first entry of `sys.path` that holds the name as a package, not as a script."""
    for entry in sys.path:
        spec = PathFinder.find_spec(_NAME, [entry])
        if spec is not None and _is_package(spec):
            return spec
    raise UserError(
        "the package 'evaluate' is not installed in this Python environment; run"
        " `pip install -r requirements.txt`"
    )


def _is_package(spec: ModuleSpec | None) -> bool:
    """False for a script, and for a mere directory of that name (a run's logs have one)."""
    return spec is not None and spec.has_location and spec.submodule_search_locations is not None


def _execute(spec: ModuleSpec) -> ModuleType:
    assert spec.loader is not None  # has_location implies it
    shadow = sys.modules.get(_NAME)
    package = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = package
    try:
        spec.loader.exec_module(package)
    except BaseException:
        del sys.modules[_NAME]
        if shadow is not None:
            sys.modules[_NAME] = shadow
        raise
    return package


_package = load_package()
Metric: Any = _package.Metric
MetricInfo: Any = _package.MetricInfo
