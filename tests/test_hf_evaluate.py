"""The package `evaluate` is found although a script of that name hides it.

Most cases use a stand-in package of three files, which imports in no time; one uses the real one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SCRIPT = """
import multiprocessing
import sys

from common.evaluation.hf_evaluate import Metric

NAME_OF_SCRIPT = __name__

def tell_module(_):
    return Metric.__module__ + " " + sys.modules["evaluate"].__file__

def main():
    print(tell_module(None))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(tell_module, [None])[0])

if __name__ == "__main__":
    main()
"""

PACKAGE = {
    "__init__.py": "print('whole')\nfrom .module import Metric\nfrom .extra import load\n",
    "module.py": "class Metric: pass\n"
    "def late():\n    from evaluate.info import MetricInfo\n    return MetricInfo\n",
    "info.py": "class MetricInfo: pass",
    "extra.py": "from . import module\ndef load(): return module.Metric",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory like ours: `evaluate.py` beside `common/`, which is linked."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "common").symlink_to(ROOT / "common")
    (root / "evaluate.py").write_text(SCRIPT)
    return root


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory of packages with the stand-in for `evaluate`."""
    package = tmp_path / "site" / "evaluate"
    package.mkdir(parents=True)
    for name, text in PACKAGE.items():
        (package / name).write_text(text)
    return package.parent


def _run(command: Sequence[str | Path], cwd: Path, *search_path: Path) -> list[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, search_path)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    result = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_the_script_and_its_spawned_worker_find_the_package(project: Path, site: Path) -> None:
    lines = _run([sys.executable, "evaluate.py"], project, site)
    assert lines == [f"evaluate.module {site}/evaluate/__init__.py"] * 2


def test_the_script_finds_it_from_another_directory(
    project: Path, site: Path, tmp_path: Path
) -> None:
    lines = _run([sys.executable, project / "evaluate.py"], tmp_path, site)
    assert lines == [f"evaluate.module {site}/evaluate/__init__.py"] * 2


@pytest.mark.parametrize("entry", ["", ".", "{project}", "{project}/../project"])
def test_it_is_found_however_the_root_is_written_on_the_search_path(
    project: Path, site: Path, entry: str
) -> None:
    entry = entry.format(project=project)
    code = f"import sys; sys.path[:0] = [{entry!r}]; from common.evaluation import hf_evaluate"
    code += "; print(hf_evaluate.Metric.__module__)"
    assert _run([sys.executable, "-c", code], project, site) == ["evaluate.module"]


def test_a_script_imported_under_the_name_before_gives_way(project: Path, site: Path) -> None:
    """The script's own top asks for the package while the script is half imported."""
    (project / "caller.py").write_text(
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('evaluate', 'evaluate.py')\n"
        "script = sys.modules['evaluate'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(script)\n"
        "print(script.NAME_OF_SCRIPT, script.tell_module(None))\n"
        "from evaluate.module import late\n"
        "print(late().__module__)\n"
    )
    assert _run([sys.executable, "caller.py"], project, site) == [
        f"evaluate evaluate.module {site}/evaluate/__init__.py",
        "evaluate.info",
    ]


def test_a_package_that_is_loaded_already_is_kept(site: Path) -> None:
    code = (
        "import evaluate\n"
        "from common.evaluation import hf_evaluate\n"
        "print(hf_evaluate.load_package() is evaluate, hf_evaluate.Metric is evaluate.Metric)"
    )
    assert _run([sys.executable, "-c", code], site, site, ROOT) == ["whole", "True True"]


@pytest.mark.parametrize(
    "use",
    [
        "import evaluate; print(evaluate.load() is hf_evaluate.Metric)",
        "from evaluate import load; print(load() is hf_evaluate.Metric)",
        "import evaluate.extra; print(evaluate.load() is evaluate.extra.load())",
    ],
)
def test_the_whole_package_loads_when_more_of_it_is_used(
    project: Path, site: Path, use: str
) -> None:
    """Its `__init__` takes 5 s: not for a metric, but for whoever needs the rest."""
    code = f"from common.evaluation import hf_evaluate; print('metric'); {use}"
    lines = _run([sys.executable, "-c", code], project, site)
    assert lines == ["metric", "whole", "True"]


def test_a_directory_of_that_name_is_not_taken_for_the_package(project: Path, site: Path) -> None:
    """A run leaves `logs/<model>/evaluate/`, and someone may work in `logs/<model>`."""
    (project / "logs" / "evaluate").mkdir(parents=True)
    code = "from common.evaluation.hf_evaluate import Metric; print(Metric.__module__)"
    lines = _run([sys.executable, "-c", code], project / "logs", project / "logs", site, project)
    assert lines == ["evaluate.module"]


def test_a_failing_package_leaves_the_name_as_it_was(project: Path, site: Path) -> None:
    (site / "evaluate" / "module.py").write_text("raise RuntimeError('broken')")
    code = (
        "import sys, types\n"
        "script = sys.modules['evaluate'] = types.ModuleType('evaluate')\n"
        "try:\n"
        "    import common.evaluation.hf_evaluate\n"
        "except RuntimeError as error:\n"
        "    print(error, sys.modules['evaluate'] is script)\n"
    )
    assert _run([sys.executable, "-c", code], project, site) == ["broken True"]


def test_a_missing_package_is_told_in_a_sentence(project: Path) -> None:
    code = (
        "from common.errors import UserError\n"
        "try:\n"
        "    import common.evaluation.hf_evaluate\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    lines = _run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = ['.']\n{code}"], project
    )
    assert lines == [
        "the package 'evaluate' is not installed in this Python environment; run"
        " `pip install -r requirements.txt`"
    ]


def test_pytest_finds_it(project: Path, site: Path) -> None:
    (project / "test_it.py").write_text(
        "def test_it():\n"
        "    from common.evaluation.hf_evaluate import Metric\n"
        "    assert Metric.__module__ == 'evaluate.module'\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    assert "1 passed" in _run(command, project, site)[-1]


@pytest.mark.launch
def test_the_real_package_under_accelerate_launch(project: Path) -> None:
    """As it shipped: a script `evaluate.py` that imports the metric, under the launcher."""
    (project / "evaluate.py").write_text(
        "from common.evaluation.tasks.pairs import PairMetrics\n"
        "import evaluate.module\n"
        "assert issubclass(PairMetrics, evaluate.module.Metric)\n"
        "print(PairMetrics().compute(predictions=[0.1, 0.9], references=[0, 1])['auroc'])\n"
        "import sys\n"
        "assert 'transformers' not in sys.modules\n"
    )
    accelerate = shutil.which("accelerate", path=Path(sys.executable).parent)
    assert accelerate is not None
    command = [accelerate, "launch", "--cpu", "--num_processes", "1", "evaluate.py"]
    assert _run(command, project)[-1] == "1.0"
