"""The report's section with the training curves of the evaluated checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from common.charts import Chart
from common.config_file import read_resolved_config
from common.csv_log import TRAINING_CSV, read_training_csv
from common.evaluation.report.blocks import Block, Drawings, Judged, Section, Sentences
from common.run import CONFIG_FILE
from common.training_curves import chart_training

MOST_STAGES = 10  # prevents an endless loop over checkpoints that name each other as origin


def show_training(judged: Judged) -> Iterator[Section]:
    """Yield the section with the curves of every training stage; none for a prediction file."""
    source = judged.scored.source
    stages = list(follow(source))[::-1] if source is not None else []
    blocks: list[Block] = []
    for checkpoint in stages:
        file = curves_of(checkpoint)
        stage, run_id = file.parts[-3], file.parts[-2]
        if not file.is_file():
            blocks.append(Sentences([f"The curves of {stage} {run_id} are missing: {file}."]))
            continue
        rows, metrics = read_training_csv(file)
        title = f"{stage}, run {run_id}"
        blocks.append(Drawings({title: Chart(title, chart_training(rows, metrics).panels)}))
    if blocks:
        yield Section("Training", blocks)


def follow(checkpoint: Path) -> Iterator[Path]:
    """Yield a checkpoint, the checkpoint from which training started, and so on."""
    seen: set[Path] = set()
    while (checkpoint / CONFIG_FILE).is_file() and checkpoint not in seen:
        seen.add(checkpoint)
        yield checkpoint
        origin = read_resolved_config(checkpoint / CONFIG_FILE).run.load_checkpoint_path
        if origin is None or len(seen) == MOST_STAGES:
            return
        checkpoint = Path(origin)


def curves_of(checkpoint: Path) -> Path:
    """Return the path of the training curves of the run that wrote a checkpoint.

    The checkpoint's path is …/models/MODEL/STAGE/RUN/best_model.
    """
    parts = checkpoint.absolute().parts
    return Path(*parts[:-5], "logs", *parts[-4:-1], TRAINING_CSV)
