"""Check that a checkpoint fits the configuration and the embeddings that it is used with."""

from __future__ import annotations

from common.config import Config, RegularizationConfig, flat_values
from common.data.embeddings.store import Store
from common.errors import UserError
from common.inference.checkpoints import Checkpoint
from common.models import PairModel, build_model
from common.run import Run

# The keys of `model_config` that weights do not depend on.
MAY_CHANGE = frozenset(
    {
        "input_dim",
        "mlp_head.dropout",
        *(f"regularization.{name}" for name in RegularizationConfig.model_fields),
    }
)


def check_same_language_model(checkpoint: Checkpoint, config: Config, store: Store) -> None:
    """Reject embeddings of a language model other than the one used in the checkpoint's training.

    Raises:
        UserError: The language model's files differ from those used in training.
    """
    if store.language_model != checkpoint.decision.language_model:
        trained, given = (each.data.embeddings.model_name for each in (checkpoint.config, config))
        reason = "its files have changed" if given == trained else f"it was trained on {trained}"
        raise UserError(
            f"{given} is not the language model that {checkpoint.path} was trained on: {reason};"
            " set data_config.embeddings.model_name or revision to the value used in training"
        )


def check_fits(checkpoint: Checkpoint, config: Config, store: Store) -> list[str]:
    """Reject embeddings whose width differs from the input width of the checkpoint's model.

    Returns:
        The key paths of the embedding settings that differ from those used in training.

    Raises:
        UserError: The embeddings have another width.
    """
    trained, given = checkpoint.config.data, config.data
    width, dim = checkpoint.model.config.input_dim, store.dim
    if width != dim:
        raise UserError(
            f"the checkpoint {checkpoint.path} takes embeddings of {width} dimensions, but the"
            f" embeddings of {given.embeddings.model_name} have {dim}; set"
            f" data_config.embeddings.model_name to {trained.embeddings.model_name}, which the"
            " checkpoint was trained on"
        )
    differing = [
        f"data_config.embeddings.{key}"
        for key in ("model_name", "revision", "layer", "dtype", "long")
        if getattr(trained.embeddings, key) != getattr(given.embeddings, key)
    ]
    if trained.max_sequence_length != given.max_sequence_length:
        differing.append("data_config.max_sequence_length")
    if store.language_model != checkpoint.decision.language_model:
        differing.append("the files of data_config.embeddings.model_name")
    return differing


def warn_if_differs(run: Run, checkpoint: Checkpoint, store: Store) -> None:
    """Check the embeddings by `check_fits`, and warn about differences from the training."""
    differing = check_fits(checkpoint, run.config, store)
    if differing:
        run.warn("embeddings_differ", keys=differing, checkpoint=checkpoint.path)
    trained, given = (
        f"{config.data.benchmark.species} {config.data.benchmark.split_strategy}"
        for config in (checkpoint.config, run.config)
    )
    if trained != given:
        # In another split of its species, test proteins may be among the training proteins.
        run.warn("benchmark_differs", trained_on=trained, now=given, checkpoint=checkpoint.path)


def warn_if_seen(run: Run, checkpoint: Checkpoint) -> None:
    """Warn if the checkpoint may have been trained on proteins that this run holds out."""
    before, now = checkpoint.config, run.config
    if now.data.validation.mode == "benchmark":
        return
    if (before.data.validation, before.run.seed) != (now.data.validation, now.run.seed):
        says = (
            "the checkpoint's training held out other proteins than this run, so this run's"
            " held-out proteins are not new to the model; train both with the same"
            " data_config.validation and run_config.seed"
        )
        run.warn("held_out_proteins_seen", checkpoint=checkpoint.path, says=says)


def check_same_embeddings(checkpoint: Checkpoint, config: Config) -> None:
    """Reject settings by which sequences would be embedded differently than in training.

    The dtype of the stored numbers may differ, because it only rounds them.

    Raises:
        UserError: A setting differs; the message names the first one.
    """
    trained, given = checkpoint.config.data, config.data
    for key, was, now in (
        ("embeddings.layer", trained.embeddings.layer, given.embeddings.layer),
        ("embeddings.long", trained.embeddings.long, given.embeddings.long),
        ("max_sequence_length", trained.max_sequence_length, given.max_sequence_length),
    ):
        if was != now:
            raise UserError(
                f"data_config.{key} is {now}, but {checkpoint.path} was trained with {was}, so its"
                " scores would be meaningless; leave the setting out"
            )


def continue_model(checkpoint: Checkpoint, config: Config) -> PairModel:
    """Create the configured model with the checkpoint's weights; only dropout rates may differ.

    Raises:
        UserError: A key of `model_config` does not fit the weights; the message names the first.
    """
    trained = flat_values(checkpoint.config.model)
    for key, value in flat_values(config.model).items():
        if trained.get(key) != value and key not in MAY_CHANGE:
            raise UserError(
                f"model_config.{key} is {value}, but {checkpoint.path} was trained with"
                f" {trained.get(key)}, and its weights fit no other value; set model_config.{key}"
                f" to {trained.get(key)}"
            )
    model = build_model(config.model, checkpoint.model.config.input_dim)
    model.load_state_dict(checkpoint.model.state_dict())
    return model
