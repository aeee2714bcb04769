"""Judge a pair model, or any predictor's file, on the benchmark; or predict one's own pairs.

    accelerate launch evaluate.py --config configs/v3.yaml [--checkpoint DIR] [--tasks pairs ...]
    python evaluate.py --config configs/v3.yaml --predictions FILE [--tasks topology ...]
    python evaluate.py --checkpoint DIR --pairs FILE --fasta FILE --output FILE

The first two leave tables, plots and log.log in logs/{model}/evaluate/{run_id}/ under
run_config.output_dir and print the metrics on stdout. (This file shadows the Hugging Face package
of its name; that one is reached through common/evaluation/hf_evaluate.py.)

What takes seconds to import (torch, transformers) is imported in the functions, after the command
line and the configuration have been checked.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from common.command_line import Use, add_checkpoint, choose_use, given_path, run_script, stage_parser
from common.config import Config
from common.config_file import keys_of, load_config
from common.errors import UserError
from common.registry import TASKS


def main() -> None:
    """Parse the command line and do what it asks for."""
    arguments = parse_arguments()
    if arguments.pairs:
        predict(arguments)
    elif arguments.predictions:
        judge_file(configure(arguments), Path(arguments.predictions))
    else:
        judge_checkpoint(configure(arguments), arguments)


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; options that do not belong together are rejected."""
    parser = stage_parser(
        "evaluate.py", "Judge predictions, or predict own pairs.", config_required=False
    )
    add_checkpoint(parser, "the model; by default the newest of finetune, or else of pretrain")
    parser.add_argument(
        "--tasks", nargs="+", choices=TASKS.names(), help="replaces evaluate.tasks"
    )
    for name, meaning in (
        (
            "--predictions",
            "judge this file instead of a model: lines 'protein_a protein_b score_or_label', or"
            " 'protein_a protein_b label p_negative p_positive'; .gz is unpacked",
        ),
        ("--pairs", "predict these pairs: lines 'protein_a protein_b'; needs no config"),
        ("--fasta", "the sequences of their proteins"),
        ("--output", "the file that gets the probability and the call of every pair"),
    ):
        parser.add_argument(name, metavar="FILE", type=given_path, help=meaning)
    return choose_use(
        parser,
        parser.parse_args(given),
        Use("predict own pairs", ("pairs", "fasta", "output"), ("checkpoint",)),
        Use("judge a file", ("predictions",), ("config",), ("tasks",)),
        Use("judge a model", (), ("config",), ("checkpoint", "tasks")),
    )


def configure(arguments: argparse.Namespace) -> Config:
    """The configuration of a judgement."""
    overrides = list(arguments.overrides)
    if arguments.tasks:
        overrides.append(f"evaluate.tasks=[{','.join(arguments.tasks)}]")
    return load_config(arguments.config, "evaluate", overrides)


def judge_checkpoint(config: Config, arguments: argparse.Namespace) -> None:
    """Score every pair that a task looks at with a model, then judge the scores."""
    from common.inference.thresholds import check_threshold, decide_threshold

    check_threshold(config.evaluate.decision_threshold, keys_of(arguments.overrides))
    from common.evaluation.judging import conclude, judge
    from common.evaluation.scored import embed_pairs, open_model, score
    from common.evaluation.test_side import prepare_test_side
    from common.launch import start_accelerator
    from common.run import open_run

    accelerator = start_accelerator(config)
    with open_run("evaluate", config, accelerator) as run:
        run, checkpoint = open_model(run, arguments.checkpoint)
        side = prepare_test_side(config, accelerator)
        data = embed_pairs(run, side, checkpoint)
        threshold = decide_threshold(checkpoint, config, accelerator)
        run.event("model_ready", model=config.model.model, checkpoint=checkpoint.path)
        run.event("stage_start", tasks=config.evaluate.tasks, threshold=threshold)
        predictions, partial = score(run, checkpoint, data)
        if accelerator.is_main_process:
            conclude(run, judge(side, predictions, threshold), threshold)
            partial.clear()


def judge_file(config: Config, file: Path) -> None:
    """Judge any predictor's file, without a model and on one process."""
    if not file.is_file():
        raise UserError(
            f"--predictions {file} is not an existing file; name a file of lines"
            " 'protein_a protein_b score'"
        )
    if global_rank() != 0:
        return
    from common.evaluation.judging import conclude, describe_scores, judge
    from common.evaluation.prediction_file import read_predictions
    from common.evaluation.test_side import prepare_test_side
    from common.run import OneProcess, open_run

    with open_run("evaluate", config, OneProcess()) as run:
        side = prepare_test_side(config, OneProcess())
        run.event("data_ready", **side.describe())
        predictions = read_predictions(file, side.proteins())
        run.event("model_ready", predictions=file, pairs=len(predictions.pairs))
        threshold = config.evaluate.decision_threshold.value
        run.event("stage_start", tasks=config.evaluate.tasks, threshold=threshold)
        judgement = judge(side, predictions, threshold)
        judgement.notes += describe_scores(predictions, config.evaluate.decision_threshold)
        conclude(run, judgement, threshold)


def predict(arguments: argparse.Namespace) -> None:
    """Write the probability and the call of one's own pairs, by a checkpoint and its config."""
    saved = Path(arguments.checkpoint) / "config.yaml"
    if not saved.is_file():
        raise UserError(
            f"--checkpoint {arguments.checkpoint} is not a best_model directory: it has no"
            " config.yaml; name one that pretrain.py or finetune.py has printed"
        )
    config = load_config(saved, "evaluate", arguments.overrides)
    from common.evaluation.own_pairs import check_output, read_own_pairs, write_own_pairs
    from common.inference.predictor import ...
    from common.launch import start_accelerator
    from common.run import log_to_console
