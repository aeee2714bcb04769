"""Judge a trained pair model on the benchmark's test split.

    accelerate launch evaluate.py --config configs/v3.yaml [--checkpoint runs/.../best_model]

Leaves evaluate.csv and log.log in logs/{model}/evaluate/{run_id}/ under run_config.output_dir, and
prints the figures on stdout. (This file shadows the Hugging Face package of the same name; the
package is reached through common/evaluation/hf_evaluate.py.)
"""

from __future__ import annotations

from pathlib import Path

from common.command_line import add_checkpoint, run_script, stage_parser
from common.config import Config, load_config


def main() -> None:
    """Parse, check the configuration, evaluate."""
    parser = stage_parser("evaluate.py", "Judge a trained pair model on the test split.")
    add_checkpoint(parser, "the model to judge; by default the newest of finetune, or of pretrain")
    arguments = parser.parse_args()
    config = load_config(arguments.config, "evaluate", arguments.overrides)
    evaluate(config, arguments.checkpoint)


def evaluate(config: Config, checkpoint_path: str | None) -> None:
    """The stage, from a checkpoint to its figures."""
    # These take seconds to import (torch, transformers); a wrong configuration is told before.
    from common.csv_log import EVALUATION_HEADER, write_evaluation_csv
    from common.data.splits import open_splits
    from common.evaluation.metrics import PairMetrics
    from common.evaluation.report import format_table
    from common.evaluation.scoring import probabilities, score_pairs
    from common.run import open_run, start_accelerator
    from common.training.checkpoints import load_checkpoint, newest_checkpoint, warn_if_differs
    from common.training.validation import decide_threshold

    accelerator = start_accelerator(config)
    with open_run("evaluate", config, accelerator) as run:
        named = checkpoint_path or config.run.load_checkpoint_path
        path = Path(named) if named else newest_checkpoint(config, ("finetune", "pretrain"))
        checkpoint = load_checkpoint(path, config.model.model)
        splits = open_splits(config, ("val", "test"), accelerator)
        warn_if_differs(run, checkpoint, splits.store.dim)
        run.event("data_ready", **splits.notes)

        model = checkpoint.model.to(accelerator.device)
        run.event("model_ready", model=config.model.model, checkpoint=path)

        run.begin()
        threshold = decide_threshold(checkpoint, splits, config, accelerator)
        run.event("stage_start", tasks=config.evaluate.tasks, threshold=threshold)

        test = splits.parts["test"]
        scores = probabilities(score_pairs(model, test, config.evaluate.scoring, accelerator))
        between = ~test.table.is_self
        rows = {}
        for split, chosen in (("test", slice(None)), ("test_without_self_pairs", between)):
            metric = PairMetrics()
            metric.add_batch(predictions=scores[chosen], references=test.table.labels[chosen])
            rows[split] = metric.compute(threshold=threshold, names=config.evaluate.metrics)

        csv = run.log_dir / "evaluate.csv"
        if accelerator.is_main_process:
            write_evaluation_csv(csv, rows)
            print(format_table(EVALUATION_HEADER, [{"split": k, **v} for k, v in rows.items()]))
        run.event("csv_written", path=csv, rows=len(rows))
        run.event("stage_complete", **{k: v for k, v in rows["test"].items() if v is not None})


if __name__ == "__main__":
    run_script(main)
