"""Train a pretrained pair model further, for example on the hardest pairs (OHEM).

    accelerate launch finetune.py --config configs/v3.yaml [--checkpoint runs/.../best_model]

The `finetune:` section of the configuration overrides the shared ones for this stage. Writes
logs/{model}/finetune/{run_id}/ and models/{model}/finetune/{run_id}/ under run_config.output_dir,
and prints the best model's directory, alone, on stdout.
"""

from __future__ import annotations

import argparse

from common.command_line import add_checkpoint, add_resume, run_script, stage_parser
from common.config import Config
from common.config_file import load_config


def build_parser() -> argparse.ArgumentParser:
    """Create the parser for the command line of finetune.py."""
    parser = stage_parser("finetune.py", "Train a pretrained pair model further.")
    add_checkpoint(parser, "the model to start from; by default pretrain.py's newest")
    add_resume(parser)
    return parser


def main() -> None:
    """Parse the command line, check the configuration, and train a pretrained model further."""
    arguments = build_parser().parse_args()
    # Imported here: this module imports numpy (0.06 seconds), which `--help` does not need.
    from common.training.checking import check_training

    config = load_config(arguments.config, "finetune", arguments.overrides)
    check_training(config)
    finetune(config, arguments)


def finetune(config: Config, arguments: argparse.Namespace) -> None:
    """Train a pretrained model further, and save it after its best epoch."""
    # Imported here: torch and transformers take 4 seconds, and a wrong configuration must be
    # rejected before that.
    from common.data.benchmark_audit import audit_benchmark
    from common.data.splits import open_splits
    from common.inference.checkpoints import choose_checkpoint, load_checkpoint
    from common.inference.compatibility import continue_model, warn_if_differs, warn_if_seen
    from common.inference.ready import report_ready
    from common.inference.thresholds import needs_network
    from common.launch import start_accelerator
    from common.next_steps import end_training
    from common.run import open_run
    from common.training.losses import share_of_global_mean
    from common.training.optimization import current_lr
    from common.training.resume import find_state
    from common.training.session import prepare_session

    accelerator = start_accelerator(config)
    max_norm = config.training.max_grad_norm or float("inf")
    with open_run("finetune", config, accelerator, arguments.resume) as run:
        find_state(run)  # Reject a run that cannot be resumed before hours of embedding.
        start = choose_checkpoint(run, arguments.checkpoint, ("pretrain",))
        run = run.begun_from(start)
        checkpoint = load_checkpoint(start, config.model.model)
        model = continue_model(checkpoint, config)
        audit_benchmark(run)
        splits = open_splits(config, ("train", "val"), accelerator, needs_network(config))
        warn_if_differs(run, checkpoint, splits.store)
        warn_if_seen(run, checkpoint)
        run.event("data_ready", **splits.notes)
        report_ready(run, model, checkpoint=checkpoint.path)

        session = prepare_session(run, model, splits, checkpoint)
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
