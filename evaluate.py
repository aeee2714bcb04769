"""Judge a pair model, or any predictor's file, on the benchmark; or score one's own pairs.

    accelerate launch evaluate.py --config configs/v3.yaml [--checkpoint DIR] [--tasks pairs ...]
    python evaluate.py --config configs/v3.yaml --predictions FILE [--tasks topology ...]
    python evaluate.py --checkpoint DIR --pairs FILE --fasta FILE --output FILE

The first two leave figures and log.log in logs/{model}/evaluate/{run_id}/ under
run_config.output_dir and print the figures on stdout. (This file shadows the Hugging Face package
of its name; that one is reached through common/evaluation/hf_evaluate.py.)
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.command_line import (
    add_checkpoint,
    given_path,
    global_rank,
    run_script,
    stage_parser,
)
from common.config import Config, DecisionThresholdConfig
from common.config_file import keys_of, load_config
from common.errors import UserError
from common.inference.thresholds import SECTION, check_threshold, decide_threshold, mode_of
from common.registry import TASKS

if TYPE_CHECKING:
    from common.evaluation.judgement import Judgement
    from common.inference.partial_scores import PartialScores
    from common.run import Run

PREDICTIONS_FILE, PARTIAL_SCORES = "predictions.txt.gz", "partial_scores"


def main() -> None:
    """Parse, check the configuration, and do one of the three things."""
    arguments = parse_arguments()
    if arguments.pairs:
        saved = Path(arguments.checkpoint) / "config.yaml"
        if not saved.is_file():
            raise UserError(
                f"--checkpoint {arguments.checkpoint} is not a best_model directory: it has no"
                " config.yaml; name one that pretrain.py or finetune.py has printed"
            )
        score_own_pairs(load_config(saved, "evaluate", arguments.overrides), arguments)
        return
    overrides = list(arguments.overrides)
    if arguments.tasks:
        overrides.append(f"evaluate.tasks=[{','.join(arguments.tasks)}]")
    config = load_config(arguments.config, "evaluate", overrides)
    if arguments.predictions:
        if not Path(arguments.predictions).is_file():
            raise UserError(
                f"--predictions {arguments.predictions} is no existing file; name a file of lines"
                " 'protein_a protein_b score'"
            )
        judge_file(config, Path(arguments.predictions))
    else:
        check_threshold(config.evaluate.decision_threshold, set(keys_of(overrides)))
        judge_checkpoint(config, arguments.checkpoint)


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, refused where its parts do not belong together."""
    parser = stage_parser(
        "evaluate.py", "Judge predictions, or score pairs.", config_required=False
    )
    add_checkpoint(parser, "the model; by default the newest of finetune, or else of pretrain")
    parser.add_argument(
        "--tasks", nargs="+", choices=TASKS.names(), help="instead of evaluate.tasks"
    )
    parser.add_argument(
        "--predictions",
        metavar="FILE",
        type=given_path,
        help="judge this file instead of a model: lines 'protein_a protein_b score_or_label', or"
        " 'protein_a protein_b label p_negative p_positive'; .gz is read as it is",
    )
    own = parser.add_argument_group("own pairs (with --checkpoint; needs no config, no benchmark)")
    for name, meaning in (
        ("--pairs", "lines 'protein_a protein_b'"),
        ("--fasta", "the sequences of their proteins"),
        ("--output", "gets probability and call of every pair"),
    ):
        own.add_argument(name, metavar="FILE", type=given_path, help=meaning)
    arguments = parser.parse_args(given)
    own_given = [arguments.pairs, arguments.fasta, arguments.output]
    if any(own_given):
        wanted = ("checkpoint", "pairs", "fasta", "output")
        missing = [f"--{name}" for name in wanted if not getattr(arguments, name)]
        if missing:
            parser.error(
                "own pairs take --checkpoint, --pairs, --fasta and --output together, but"
                f" {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
            )
        if arguments.config or arguments.predictions or arguments.tasks:
            parser.error("own pairs take no --config, --predictions or --tasks")
    elif not arguments.config:
        parser.error("--config FILE is missing")
    if arguments.predictions and arguments.checkpoint:
        parser.error("give either --predictions or --checkpoint")
    return arguments


def judge_checkpoint(config: Config, checkpoint_path: str | None) -> None:
    """From a trained model to its figures: score every pair that a task looks at, then judge."""
    # These take seconds to import (torch, transformers); a wrong configuration is told before.
    from common.data.benchmarks.registry import prepare_benchmark
    from common.data.splits import embed_tables
    from common.evaluation.judgement import Criteria, judge
    from common.evaluation.metrics import measure_pairs
    from common.evaluation.prediction_file import write_predictions
    from common.evaluation.predictions import Predictions
    from common.evaluation.test_side import open_materials
    from common.inference.checkpoints import choose_checkpoint, load_checkpoint, warn_if_differs
    from common.inference.compiling import compile_rows
    from common.inference.partial_scores import PartialScores
    from common.inference.scoring import probabilities, score_pairs
    from common.launch import start_accelerator
    from common.run import open_run

    accelerator = start_accelerator(config)
    with open_run("evaluate", config, accelerator) as run:
        path = choose_checkpoint(run, checkpoint_path, ("finetune", "pretrain"))
        run = run.begun_from(path)
        checkpoint = load_checkpoint(path, config.model.model)
        species = config.evaluate.cross_species
        prepare_benchmark(config.data, config.run.seed, accelerator, species)
        materials = open_materials(config)
        tables = {"scored": materials.needed_pairs()}
        parts, notes = embed_tables(config, tables, materials.sequences(), accelerator)
        data = parts["scored"]
        warn_if_differs(run, checkpoint, data.store)
        notes["scored"] = f"{len(data)} pairs of {len(data.table.proteins)} proteins"
        run.event("data_ready", **materials.describe(), **notes)

        model = checkpoint.model.to(accelerator.device)
        compile_rows(model, accelerator)
        threshold = decide_threshold(checkpoint, config, accelerator)
        run.event("model_ready", model=config.model.model, checkpoint=path)

        run.event("stage_start", tasks=config.evaluate.tasks, threshold=threshold)
        # Not of this run, whose id may be new: of whatever started this before and was cut off.
        partial = PartialScores(run.model_dir.parent / PARTIAL_SCORES, accelerator)
        logits = score_pairs(model, data, config.evaluate.scoring, accelerator, partial=partial)
        if accelerator.is_main_process:
            predictions = Predictions.gather(
                data.table.proteins, data.table.pairs, probabilities(logits)
            )
            file = run.log_dir / PREDICTIONS_FILE
            write_predictions(file, predictions.ids, predictions.pairs, predictions.scores)
            criteria = Criteria(threshold, config.evaluate, measure_pairs)
            judgement = judge(materials, predictions, criteria)
            finish(run, judgement, resolve(run.config, threshold), partial)


def judge_file(config: Config, file: Path) -> None:
    """From any predictor's file to its figures; no model, and one process does it all."""
    from common.data.benchmarks.registry import prepare_benchmark
    from common.evaluation.coverage import describe_range
    from common.evaluation.judgement import Criteria, judge
    from common.evaluation.prediction_file import read_predictions
    from common.evaluation.test_side import open_materials
    from common.inference.pair_metrics import pair_metrics
    from common.run import OneProcess, open_run

    if global_rank() != 0:
        return
    with open_run("evaluate", config, OneProcess()) as run:
        species = config.evaluate.cross_species
        prepare_benchmark(config.data, config.run.seed, OneProcess(), species)
        materials = open_materials(config)
        run.event("data_ready", **materials.describe())
        predictions = read_predictions(file, materials.proteins())
        run.event("model_ready", predictions=file, pairs=len(predictions.pairs))

        threshold = config.evaluate.decision_threshold.value
        run.event("stage_start", tasks=config.evaluate.tasks, threshold=threshold)
        criteria = Criteria(threshold, config.evaluate, pair_metrics)
        judgement = judge(materials, predictions, criteria)
        judgement.notes += describe_range(predictions, threshold)
        if mode_of(config.evaluate.decision_threshold).needs_validation:
            judgement.notes.append(
                f"evaluate.decision_threshold.value ({threshold}) is the threshold: a file has no"
                " validation pairs to choose one by"
            )
        finish(run, judgement, resolve(config, threshold))


def finish(
    run: Run, judgement: Judgement, resolved: Config, partial: PartialScores | None = None
) -> None:
    """Write, log and print what was judged.

    The configuration comes last: only with it the run counts as one whose id is taken.
    """
    from common.evaluation.results import format_results, write_results

    for note in judgement.notes:
        run.warn("prediction_note", note=note)
    for path in write_results(judgement, run.log_dir):
        run.event("csv_written", path=path)
    if partial is not None:
        partial.clear()
    run.begin(resolved)
    print(format_results(judgement))
    run.event("stage_complete", directory=run.log_dir)


def resolve(config: Config, threshold: float) -> Config:
    """The configuration with the threshold as found, and free to be used for a run of another id.

    With it, the prediction file that the run leaves gives the same figures.
    """
    fixed = DecisionThresholdConfig(mode="fixed", value=threshold)
    evaluate = config.evaluate.model_copy(update={"decision_threshold": fixed})
    run = config.run.model_copy(update={"eval_run_id": None})
    return config.model_copy(update={"evaluate": evaluate, "run": run})


def asks_for_threshold(config: Config, overrides: Sequence[str]) -> bool:
    """Whether `--set` gives a threshold, or asks for a mode that needs no validation pairs."""
    given = {key for key in keys_of(overrides) if key.startswith(f"{SECTION}.")}
    configured = not mode_of(config.evaluate.decision_threshold).needs_validation
    return f"{SECTION}.value" in given or (bool(given) and configured)


def score_own_pairs(config: Config, arguments: argparse.Namespace) -> None:
    """From a checkpoint, pairs and sequences to probabilities and calls.

    `config` is the checkpoint's own, which says which language model and truncation; the threshold
    is the checkpoint's, unless `--set evaluate.decision_threshold.value` gives another.
    """
    from common.data.batches import PairData
    from common.data.embeddings.build import prepare_store
    from common.data.tables.fasta import read_fasta
    from common.evaluation.own_pairs import check_output, read_own_pairs, write_own_pairs
    from common.inference.checkpoints import (
        check_same_embeddings,
        check_same_language_model,
        load_checkpoint,
    )
    from common.inference.partial_scores import PartialScores
    from common.inference.scoring import probabilities, score_pairs
    from common.launch import start_accelerator
    from common.run import log_to_console

    accelerator = start_accelerator(config)
    with log_to_console(accelerator):
        fasta, output = Path(arguments.fasta), Path(arguments.output)
        check_output(output, [fasta, Path(arguments.pairs)])
        sequences = read_fasta(fasta)
        table = read_own_pairs(Path(arguments.pairs), sequences, fasta)
        checkpoint = load_checkpoint(Path(arguments.checkpoint))
        check_same_embeddings(checkpoint, config)
        asked = asks_for_threshold(config, arguments.overrides)
        wanted = config.evaluate.decision_threshold
        threshold = wanted.as_probability() if asked else checkpoint.decision.threshold
        used = {protein: sequences[protein] for protein in table.proteins}
        store = prepare_store(
            used, config.data.embeddings, config.data.max_sequence_length, accelerator
        )
        check_same_language_model(checkpoint, config, store)
        model, data = checkpoint.model.to(accelerator.device), PairData(table, store)
        partial = PartialScores(output.with_name(f".{output.name}.partial"), accelerator)
        logits = score_pairs(model, data, config.evaluate.scoring, accelerator, partial=partial)
        if accelerator.is_main_process:
            write_own_pairs(output, table, probabilities(logits), threshold)
            partial.clear()


if __name__ == "__main__":
    run_script(main)
