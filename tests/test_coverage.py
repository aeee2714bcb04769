"""What is said of predictions that do not cover exactly what is judged: each thing, in one line."""

from __future__ import annotations

from common.config_file import load_config
from common.evaluation.judgement import Criteria, Judgement, judge
from common.evaluation.materials import Materials, open_materials
from common.evaluation.pair_figures import pair_metrics
from common.evaluation.prediction_file import read_predictions
from tests.tiny_benchmark import TinyProject


def open_tasks(project: TinyProject, *tasks: str) -> tuple[Materials, Criteria]:
    """What the tasks are judged on, and how."""
    config = load_config(project.config, "evaluate", [f"evaluate.tasks=[{','.join(tasks)}]"])
    return open_materials(config), Criteria(0.5, config.evaluate, pair_metrics)


def judge_text(project: TinyProject, text: str, *tasks: str) -> Judgement:
    """The judgement of a prediction file of this text."""
    materials, criteria = open_tasks(project, *tasks)
    path = project.folder / "mine.txt"
    path.write_text(text)
    return judge(materials, read_predictions(path, materials.proteins()), criteria)
