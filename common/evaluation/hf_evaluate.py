"""The Hugging Face package `evaluate`, which our script `evaluate.py` hides from `import`.

Wherever the scripts' directory is on `sys.path` (under python, `accelerate launch`, pytest and in
spawned workers), `import evaluate` finds the script first. This module finds the package, leaves
it in `sys.modules`, where its own modules look for it, and passes on what we use of it: import the
names from here and never write `import evaluate`.

The package's `__init__` imports transformers' model classes, which takes 5 s. It does not run here:
the two modules that a metric needs take 0.02 s after `datasets`. It runs when any code first uses
another name or module of the package, so that the whole package is there when needed. (Modules
within `evaluate.utils` do not trigger this: import `evaluate` before them.)
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from common.errors import UserError

__all__ = ["Metric", "MetricInfo", "load_package"]

_NAME = "evaluate"


def load_package() -> ModuleType:
    """Load the package `evaluate`, whatever `sys.modules` held under its name before.

    Raises:
        UserError: The package is not installed.
    """
    loaded = sys.modules.get(_NAME)
    if loaded is not None and _is_package(loaded.__spec__):
        return loaded
    # Code that has already imported the script as `evaluate` keeps it; from now on the name belongs
    # to the package, which uses it to import its own modules later.
    return _open(_find_spec())


def _find_spec() -> ModuleSpec:
    """Find the package on `sys.path`, skipping scripts of the same name."""
    for entry in sys.path:
        spec = PathFinder.find_spec(_NAME, [entry])
        if spec is not None and _is_package(spec):
            return spec
    raise UserError(
        "the package 'evaluate' is not installed in this Python environment; run"
        " `pip install -r requirements.txt`"
    )


def _is_package(spec: ModuleSpec | None) -> bool:
    """Return False for a script, and for a mere directory of that name (a run's logs have one)."""
    return spec is not None and spec.has_location and spec.submodule_search_locations is not None


def _open(spec: ModuleSpec) -> ModuleType:
    """Load the package with its modules `module` and `info`; the rest loads at its first use."""
    loader = spec.loader
    assert loader is not None  # has_location implies it
    shadow = sys.modules.get(_NAME)
    package = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = package
    try:
        for part in ("module", "info"):
            importlib.import_module(f"{_NAME}.{part}")
    except BaseException:
        del sys.modules[_NAME]
        if shadow is not None:
            sys.modules[_NAME] = shadow
        raise
    path = package.__path__

    def load_rest(name: str) -> Any:
        """Run the package's `__init__` at the first use of a missing attribute or module."""
        if name.startswith("__") and name not in ("__path__", "__version__"):
            raise AttributeError(name)  # such as `__warningregistry__`, which unittest looks for
        package.__path__ = path
        del package.__getattr__
        loader.exec_module(package)
        return getattr(package, name)

    # Importing a further module of the package asks for `__path__` first.
    del package.__path__
    package.__getattr__ = load_rest  # type: ignore[method-assign]
    return package


load_package()
Metric: Any = importlib.import_module(f"{_NAME}.module").Metric
MetricInfo: Any = importlib.import_module(f"{_NAME}.info").MetricInfo
