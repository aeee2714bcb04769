"""Write, log and format the evaluation results of a model or of a prediction file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from common.config import Config, DecisionThresholdConfig
from common.console import entitle, format_table
from common.evaluation.calibration_report import CALIBRATION_FILE
from common.evaluation.judging import Judgement
from common.evaluation.network_summary import NETWORK_FILE, describe_networks, tabulate_networks
from common.evaluation.pair_sets import Remark
from common.evaluation.results import format_results, write_results
from common.evaluation.scored import Scored
from common.evaluation.test_side import TestSide
from common.files import write_atomically
from common.run import Run


def conclude(run: Run, side: TestSide, scored: Scored, judgement: Judgement) -> str:
    """Write and log the results of an evaluation, and return the text to print.

    The resolved configuration is written last, because the run id counts as used from then on.

    Args:
        run: The evaluation run.
        side: The test data and tasks.
        scored: The evaluated predictions.
        judgement: The results.
    """
    for note in judgement.notes:
        if isinstance(note, Remark):
            run.event("prediction_note", note=note)
        else:
            run.warn("prediction_note", note=note)
    files = [*write_results(judgement.results, run.log_dir, scored.subject(side))]
    files += write_documents(judgement, run.log_dir)
    for path in files:
        if path.suffix == ".csv":
            run.event("csv_written", path=path)
    documents = [path.name for path in files if path.suffix != ".csv"]
    more: dict[str, object] = {"also_written": documents} if documents else {}
    if run.config.evaluate.report:
        # Imported here because only reports need the template engine.
        from common.evaluation.report.blocks import Judged
        from common.evaluation.report.build import write_report
        from common.evaluation.report.origin import Origin

        more["report"] = write_report(Judged(run, side, scored, judgement), Origin.now())
    run.begin(_resolve(run.config, judgement.threshold.value))
    subject = f"{scored.subject(side)}, test data of {side.sets[0].benchmark.name}"
    networks = {f"{one.species}_network": one.sentence() for one in judgement.networks}
    run.event("stage_complete", directory=run.log_dir, **more, **networks)
    return format_judgement(judgement, subject)


def write_documents(judgement: Judgement, directory: Path) -> Iterator[Path]:
    """Write `network.json` and `calibration.json`, if there are networks or a calibration."""
    documents = {}
    if judgement.networks:
        documents[NETWORK_FILE] = describe_networks(judgement.networks, judgement.threshold)
    if judgement.calibration is not None:
        documents[CALIBRATION_FILE] = judgement.calibration.describe()
    for name, content in documents.items():
        write_atomically(directory / name, json.dumps(content, indent=1) + "\n")
        yield directory / name


def format_judgement(judgement: Judgement, subject: str) -> str:
    """Format the console output: all tasks' tables, network densities and a closing sentence.

    Args:
        judgement: The results.
        subject: The names of the evaluated predictions and the test data, for the tables' captions.
    """
    parts = [format_results(judgement.results, subject)]
    if judgement.networks:
        networks = tabulate_networks(judgement.networks, judgement.threshold)
        parts.append(format_table(entitle(networks, subject)))
    calibration = judgement.calibration
    closing = [calibration and calibration.sentence(), judgement.closing()]
    return "\n\n".join([*parts, *(sentence for sentence in closing if sentence)])


def _resolve(config: Config, threshold: float) -> Config:
    """Return the configuration with the threshold that was used, and without a run id.

    With this configuration, another run computes the same metrics from the prediction file.
    """
    fixed = DecisionThresholdConfig(mode="fixed", value=threshold)
    evaluate = config.evaluate.model_copy(update={"decision_threshold": fixed})
    run = config.run.model_copy(update={"eval_run_id": None})
    return config.model_copy(update={"evaluate": evaluate, "run": run})
