"""The house plan, checked on the source: which wing may import which, and what no file may have.

That library code does not print is the linter's to check (T201).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

from tests.tiny_benchmark import ROOT

COMMON = sorted((ROOT / "common").rglob("*.py"))
SCRIPTS = ["pretrain", "finetune", "evaluate"]
# What each wing may import beside itself and the floor (the modules directly in common/).
MAY_IMPORT = {
    "data": set(),
    "models": set(),
    "inference": {"data", "models"},
    "evaluation": {"inference", "data", "models"},
    "training": {"inference", "data", "models"},
    "floor": set[str](),
}
LONGEST_FILE = 400


def wing_of(module: str) -> str:
    """The wing of a module of `common`."""
    name = module.split(".")[1] if "." in module else ""
    return name if name in MAY_IMPORT else "floor"


def imports_of(path: Path) -> Iterator[tuple[ast.stmt, str]]:
    """Every import statement of a file with the module that it names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node, node.module


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_wings_import_one_way() -> None:
    wrong = []
    for path in COMMON:
        wing = wing_of(name_of(path))
        for _, module in imports_of(path):
            if module.split(".")[0] in SCRIPTS:
                wrong.append(f"{name_of(path)} imports the script {module}")
            elif module.split(".")[0] == "common":
                other = wing_of(module)
                if other not in {wing, "floor"} | MAY_IMPORT[wing]:
                    wrong.append(f"{name_of(path)} imports {module}")
    assert wrong == []


def test_no_modules_need_each_other() -> None:
    """Not even for their types, or by way of others."""
    modules = {name_of(path).removesuffix(".__init__"): path for path in COMMON}
    needs = nx.DiGraph()
    for name, path in modules.items():
        for node, module in imports_of(path):
            names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            places = [f"{module}.{each}" for each in names if f"{module}.{each}" in modules]
            needs.add_edges_from((name, place) for place in places or [module] if place in modules)
    assert list(nx.simple_cycles(needs)) == []


@pytest.mark.parametrize("path", [*COMMON, *(ROOT / f"{name}.py" for name in SCRIPTS)], ids=name_of)
def test_a_file_is_short_and_says_why_it_imports_late(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= LONGEST_FILE
    tree = ast.parse("\n".join(lines))
    late = [first for first in late_imports(tree) if not lines[first - 2].lstrip().startswith("#")]
    assert late == [], "an import inside a function needs a comment above it that says why"


def late_imports(tree: ast.Module) -> Iterator[int]:
    """The first line of every group of imports inside a function."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for function in functions:
        end = 0
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                # A blank line may part imports of one group.
                if node.lineno > end + 2:
                    yield node.lineno
                end = node.end_lineno or node.lineno
