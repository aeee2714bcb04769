"""Use another trained model (`evaluate.baseline_checkpoint`) as a baseline for comparison.

Unlike other baselines, a model computes scores on all processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from common.config import Config
from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide
from common.run import Run

_PARTIAL_SCORES = "partial_baseline_scores"


@contextlib.contextmanager
def score_named_checkpoint(run: Run, side: TestSide) -> Iterator[dict[str, Predictions]]:
    """Yield the predictions of `evaluate.baseline_checkpoint` by model name, or {} if it is null.

    Sequences are embedded with the settings of the model's training. An interrupted run resumes
    from finished scores, which are deleted when the block ends without an error.

    Raises:
        UserError: The checkpoint or the checkpoint's language model does not exist.
    """
    named = run.config.evaluate.baseline_checkpoint
    if named is None:
        yield {}
        return
    # Imported here because comparing a prediction file with other baselines needs no torch.
    from accelerate import Accelerator

    from common.data.splits import embed_tables
    from common.evaluation.model_predictions import scored
    from common.inference.checkpoints import load_checkpoint
    from common.inference.compatibility import check_same_language_model

    accelerator = run.accelerator
    assert isinstance(accelerator, Accelerator)
    checkpoint = load_checkpoint(Path(named))
    config = _as_trained(run.config, checkpoint.config)
    tables, sequences = {"scored": side.needed_pairs()}, side.sequences()
    data = embed_tables(config, tables, sequences, accelerator)[0]["scored"]
    check_same_language_model(checkpoint, config, data.store)
    checkpoint.model.to(accelerator.device)
    run.event("baseline_ready", model=config.model.model, checkpoint=checkpoint.path)
    with scored(run, checkpoint, data, _PARTIAL_SCORES) as scores:
        table = data.table
        yield {config.model.model: Predictions.gather(table.proteins, table.pairs, scores)}


def _as_trained(config: Config, trained: Config) -> Config:
    """Return `config` with the model and embedding settings of the checkpoint's configuration."""
    keys = ("model_name", "revision", "layer", "long")
    as_trained = {key: getattr(trained.data.embeddings, key) for key in keys}
    embeddings = config.data.embeddings.model_copy(update=as_trained)
    length = trained.data.max_sequence_length
    data = config.data.model_copy(update={"embeddings": embeddings, "max_sequence_length": length})
    return config.model_copy(update={"model": trained.model, "data": data})
