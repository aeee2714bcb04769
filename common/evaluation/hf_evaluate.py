"""Import the Hugging Face package `evaluate`, which the script `evaluate.py` shadows.

Wherever the scripts' directory is on `sys.path` (under python, `accelerate launch`, pytest and in
spawned workers), `import evaluate` finds the script first. This module finds the package and puts
it into `sys.modules`, where the package's own modules look for it. Import `Metric` and `MetricInfo`
from this module, and never write `import evaluate`.

The package's `__init__` takes 5 s, because it imports transformers' model classes, so it is not run
at first: the two modules that a metric needs take 0.02 s if `datasets` is already imported. The
`__init__` is run when any code first uses another name or module of the package. (Modules within
`evaluate.utils` do not trigger this: import `evaluate` before such a module.)
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
    """Load the package `evaluate`, even if the script was already imported under that name.

    Raises:
        UserError: The package is not installed.
    """
    loaded = sys.modules.get(_NAME)
    if loaded is not None and _is_package(loaded.__spec__):
        return loaded
    # Code that has already imported the script as `evaluate` keeps the script. From now on, the
    # name refers to the package, which can then import its own modules by this name.
    return _open(_find_spec())


def _find_spec() -> ModuleSpec:
    """Find the package `evaluate` on `sys.path`, ignoring scripts of the same name."""
    for entry in sys.path:
        spec = PathFinder.find_spec(_NAME, [entry])
        if spec is not None and _is_package(spec):
            return spec
    raise UserError(
        "the package 'evaluate' is not installed in this Python environment; run"
        " `pip install -r requirements.txt`"
    )


def _is_package(spec: ModuleSpec | None) -> bool:
    """Return whether a spec describes a package, not a script or a log folder named `evaluate`."""
    return spec is not None and spec.has_location and spec.submodule_search_locations is not None


def _open(spec: ModuleSpec) -> ModuleType:
    """Load only the package's modules `module` and `info`; other modules load on first use."""
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
        """Run the package's `__init__` on first use of a missing name, and return the value."""
        if name.startswith("__") and name not in ("__path__", "__version__"):
            raise AttributeError(name)  # such as `__warningregistry__`, which unittest looks for
        package.__path__ = path
        del package.__getattr__
        loader.exec_module(package)
        return getattr(package, name)

    # Importing another module of the package first reads `__path__`, which calls `load_rest`.
    del package.__path__
    package.__getattr__ = load_rest  # type: ignore[method-assign]
    return package


load_package()
Metric: Any = importlib.import_module(f"{_NAME}.module").Metric
MetricInfo: Any = importlib.import_module(f"{_NAME}.info").MetricInfo
