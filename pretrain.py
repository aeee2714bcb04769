"""Train a pair model from scratch on a benchmark's training split.

    accelerate launch [--config_file accelerate_configs/X.yaml] pretrain.py --config configs/v3.yaml
    python pretrain.py --config configs/demo.yaml --set training_config.epochs=2

Writes logs/{model}/pretrain/{run_id}/ and models/{model}/pretrain/{run_id}/ under
run_config.output_dir, and prints the best model's directory, alone, on stdout.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from common.command_line import add_resume, run_script, stage_parser
from common.config import Config, Stage
from common.config_file import load_stages


def build_parser() -> argparse.ArgumentParser:
    """Create the parser for the command line of pretrain.py."""
    parser = stage_parser("pretrain.py", "Train a pair model from scratch.")
    add_resume(parser)
    return parser


def main() -> None:
    """Parse the command line, check the configuration, and train a new model."""
    arguments = build_parser().parse_args()
    # Imported here: this module imports numpy (0.06 seconds), which `--help` does not need.
    from common.training.checking import check_training

    stages = load_stages(arguments.config, "pretrain", arguments.overrides)
    check_training(stages["pretrain"])
    pretrain(stages, arguments)


def pretrain(stages: Mapping[Stage, Config], arguments: argparse.Namespace) -> None:
    """Train a new model, and save it after its best epoch.

    Args:
        stages: The configuration of each stage. That of the later stages is only checked.
        arguments: The parsed command line.
    """
    # Imported here: torch and transformers take 4 seconds, and a wrong configuration must be
    # rejected before that.
    from accelerate.utils import set_seed

    from common.data.benchmark_audit import audit_benchmark
    from common.data.splits import open_splits, residue_statistics
    from common.inference.ready import report_ready
    from common.inference.thresholds import needs_network
    from common.launch import start_accelerator
    from common.models import build_model, outline_model
    from common.next_steps import end_training
    from common.run import open_run
    from common.training.losses import share_of_global_mean
    from common.training.optimization import current_lr, verify_strategies
    from common.training.resume import find_state
    from common.training.session import prepare_session

    config = stages["pretrain"]
    accelerator = start_accelerator(config)
    max_norm = config.training.max_grad_norm or float("inf")
    # Reject unknown models and parameter prefixes before any work starts.
    verify_strategies(outline_model(config.model), stages)
    with open_run("pretrain", config, accelerator, arguments.resume) as run:
        find_state(run)  # Reject a run that cannot be resumed before hours of embedding.
        audit_benchmark(run)
        splits = open_splits(config, ("train", "val"), accelerator, needs_network(config))
        run.event("data_ready", **splits.notes)

        # Seeded only now, because embedding may have drawn random numbers.
        set_seed(config.run.seed)
        model = build_model(config.model, splits.store.dim)
        if config.model.standardize_input:
            model.set_input_statistics(*residue_statistics(splits.parts["train"]))
        report_ready(run, model)

        session = prepare_session(run, model, splits)
        for epoch in session.epochs():
            steps, record = session.steps(epoch)
            for batch in steps:
                lr = current_lr(session.scheduler)
                with session.step(batch):
                    batch = session.teach(session.mine(batch, epoch), epoch)
                    output = session.model(batch.proteins, batch.lengths, batch.pairs)
                    losses = session.loss.per_pair(output.logits, batch.labels)
                    session.finite.note(losses, batch)
                    accelerator.backward(share_of_global_mean(losses, batch, accelerator))
                    if accelerator.sync_gradients:
                        session.unfreezing.drop_frozen_gradients(epoch)
                        norm = accelerator.clip_grad_norm_(session.model.parameters(), max_norm)
                        session.finite.verify(norm)
                        session.optimizer.step()
                        session.scheduler.step()
                        session.optimizer.zero_grad()
                record.note(losses, batch.weights, lr)
                session.pause_if_asked(record)
            train_loss = record.mean_loss()
            validation = session.validator.validate(session.unwrapped, epoch + 1)
            improved = session.record(record.row(train_loss, validation))
            session.save(validation, improved)
        best_model = session.finish()
    if accelerator.is_main_process:
        print(best_model)
        end_training(run, arguments, best_model)


if __name__ == "__main__":
    run_script(main)
