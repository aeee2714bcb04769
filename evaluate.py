"""Evaluate a model or a prediction file, predict an interaction network, or compare runs.

    accelerate launch evaluate.py --config configs/v3.yaml [--checkpoint DIR] [--with-baselines]
    python evaluate.py --config configs/v3.yaml --predictions FILE [--tasks topology ...]
    python evaluate.py --checkpoint DIR --fasta FILE --output FILE [--top-k N ...]
    python evaluate.py --compare RUN_DIR ... [--output FILE.csv]

The first two commands write tables, plots and log.log to logs/{model}/evaluate/{run_id}/ under
run_config.output_dir and print the metrics on stdout. (This file has the same module name as the
Hugging Face package `evaluate`, so common/evaluation/hf_evaluate.py imports that package.)

Importing torch and transformers takes 5 s, so each function first checks the command line and the
configuration, and only then imports the modules that need these libraries.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common.command_line import add_checkpoint, global_rank, run_script, stage_parser
from common.errors import UserError
from common.evaluation.configuring import (
    check_judged_model,
    configure_judging,
    find_predictions,
    start_for_file,
)
from common.evaluation.options import add_options, prefilter_of
from common.evaluation.uses import Use, choose_use


def judge_checkpoint(arguments: argparse.Namespace) -> None:
    """Score all pairs that the requested tasks need with a model, and evaluate the scores."""
    config = configure_judging(arguments)
    check_judged_model(config, arguments)
    # Imported here: torch and transformers take 4 seconds; mistakes are reported before that.
    from common.data.benchmark_audit import audit_benchmark
    from common.evaluation import model_predictions as model
    from common.evaluation.baselines.checkpoint import score_named_checkpoint
    from common.evaluation.card_results import fill_card
    from common.evaluation.comparison import judge_beside_baselines
    from common.evaluation.concluding import conclude
    from common.evaluation.test_side import open_test_side
    from common.inference.hub import push_checkpoint
    from common.launch import start_accelerator
    from common.next_steps import end_judging
    from common.run import open_run

    accelerator = start_accelerator(config)
    with open_run("evaluate", config, accelerator) as run:
        run, checkpoint = model.open_model(run, arguments.checkpoint)
        audit_benchmark(run, fetched=("test",), trained_on=checkpoint.trained_on)
        side = open_test_side(config, accelerator, checkpoint.trained_on)
        data = model.embed_needed_pairs(run, side, checkpoint)
        decider = model.decide(run, checkpoint)
        with (
            model.scored(run, checkpoint, data, model.PARTIAL_SCORES) as scores,
            score_named_checkpoint(run, side) as others,
        ):
            if accelerator.is_main_process:
                own = model.gather_scored(run, decider, data, scores)
                judgement = judge_beside_baselines(run, side, own, others)
                fill_card(run, checkpoint, judgement)
                print(conclude(run, side, own, judgement))
    end_judging(run, checkpoint.path)
    if arguments.push_to_hub and accelerator.is_main_process:
        print(push_checkpoint(checkpoint.path, arguments.push_to_hub, arguments.public))


def judge_file(arguments: argparse.Namespace) -> None:
    """Evaluate a prediction file; load a model only if `evaluate.baseline_checkpoint` names one."""
    config, file = configure_judging(arguments), find_predictions(arguments)
    accelerator = start_for_file(config)
    if accelerator is None:
        return
    # Imported here: scikit-learn and networkx take 2 seconds.
    from common.evaluation.baselines.checkpoint import score_named_checkpoint
    from common.evaluation.comparison import judge_beside_baselines
    from common.evaluation.concluding import conclude
    from common.evaluation.file_predictions import read_scored
    from common.evaluation.test_side import open_test_side
    from common.next_steps import end_judging
    from common.run import open_run

    with open_run("evaluate", config, accelerator) as run:
        side = open_test_side(config, accelerator)
        run.event("data_ready", **side.describe())
        own = read_scored(run, side, file)
        with score_named_checkpoint(run, side) as others:
            if accelerator.is_main_process:
                judgement = judge_beside_baselines(run, side, own, others)
                print(conclude(run, side, own, judgement))
    end_judging(run)


def predict(arguments: argparse.Namespace) -> None:
    """Score pairs of the user's proteins with a checkpoint, and write them to a network file."""
    # Imported here: these import numpy and the hub's client, which `--help` does not need.
    from common.evaluation.own_request import Request
    from common.inference.hub import fetch_checkpoint, pin_checkpoint
    from common.inference.own_config import load_own_config

    request, overrides = Request.of(arguments), [*arguments.overrides, *prefilter_of(arguments)]
    name = pin_checkpoint(arguments.checkpoint)
    config = load_own_config(fetch_checkpoint(name), overrides)
    request.check_prefilter(config.evaluate.scoring.prefilter)
    # Imported here: torch and transformers take 4 seconds; mistakes are reported before that.
    from common.evaluation.own_network import predict_network
    from common.launch import start_accelerator
    from common.run import log_to_console, on_main_process

    accelerator = start_accelerator(config)
    with log_to_console(accelerator):
        # All processes use the commit that rank 0 found: the hub's model may change meanwhile.
        best = Path(on_main_process(accelerator, lambda: name))
        for sentence in predict_network(best, request, overrides, accelerator):
            print(sentence)


def compare(arguments: argparse.Namespace) -> None:
    """Compare the results that finished evaluation runs have written."""
    if arguments.overrides:
        raise UserError(
            "--set has no effect with --compare, which only reads the results of finished runs;"
            " leave out --set"
        )
    if global_rank() != 0:
        return
    # Imported here: numpy and pydantic take 0.3 seconds, and `--help` does not need them.
    from common.evaluation.runs.comparing import compare_runs

    output = None if arguments.output is None else Path(arguments.output)
    print("\n\n".join(compare_runs([Path(place) for place in arguments.compare], output)))


JUDGING, SHARING = ("tasks", "with_baselines"), ("push_to_hub", "public")
PAIR_CHOICES = ("pairs", "query", "bipartite", "top_k", "threshold", "density")
PREFILTER = ("prefilter", "share")
# A given option in `marks` selects the first use that lists it; otherwise the last use runs.
USES = (
    Use("compare runs", compare, marks=("compare",), needs=("compare",), takes=("output",)),
    Use(
        "predict own pairs",
        predict,
        marks=("fasta", "output", *PAIR_CHOICES, *PREFILTER, "skip_unknown", "self_pairs", "plot"),
        needs=("checkpoint", "fasta", "output"),
    ),
    Use("evaluate a file", judge_file, ("predictions",), ("config", "predictions"), JUDGING),
    Use(
        "evaluate a model",
        judge_checkpoint,
        needs=("config",),
        takes=("checkpoint", *JUDGING, *SHARING),
    ),
)


def build_parser() -> argparse.ArgumentParser:
    """Create the parser for the command line of evaluate.py."""
    parser = stage_parser("evaluate.py", "Evaluate predictions, or predict new pairs.", False)
    add_checkpoint(parser, "the model; by default finetune.py's newest, or else pretrain.py's")
    add_options(parser)
    return parser


def main() -> None:
    """Parse the command line, and run the function that its options select."""
    parser = build_parser()
    arguments = parser.parse_args()
    choose_use(parser, arguments, USES).run(arguments)


if __name__ == "__main__":
    run_script(main)
