"""Checkpoints: the directory of a trained model that other runs, and other people, load.

`best_model/` holds config.json, model.safetensors, the resolved configuration (config.yaml) and
decision.json: the threshold, the validation figures it was chosen by, and checksums of the first
two files. It is written aside and swapped in whole.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from transformers import AutoConfig

from common.config import Config, RegularizationConfig, Stage, flat_values
from common.config_file import read_resolved_config
from common.data.embeddings.store import EmbeddingStore
from common.errors import UserError, excerpt
from common.files import (
    explain_disk_errors,
    hash_file,
    new_directory,
    size_note,
    write_atomically,
)
from common.models import PairModel, build_model, model_class
from common.run import CONFIG_FILE, Run, on_main_process, run_directory

BEST_MODEL, DECISION_FILE = "best_model", "decision.json"
SEALED_FILES = ("config.json", "model.safetensors")
# Of `model_config`, what weights do not depend on.
MAY_CHANGE = frozenset(
    {
        "input_dim",
        "mlp_head.dropout",
        *(f"regularization.{name}" for name in RegularizationConfig.model_fields),
    }
)

# What the library makes of a damaged config.json, when it believes it.
_UNREADABLE = (
    OSError,
    SafetensorError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Decision:
    """From which probability on a pair is called, and the validation figures of the choice.

    Attributes:
        threshold: The probability.
        mode: How it was chosen.
        monitor_metric: By which figure the epoch was.
        epoch: Counted from 1.
        validation: The figures.
        language_model: The hash of the language model's files, by which the embeddings were made.
    """

    threshold: float
    mode: str
    monitor_metric: str
    epoch: int
    validation: dict[str, float | None]
    language_model: str


@dataclass(frozen=True)
class _SavedDecision(Decision):
    """As decision.json holds it."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    threshold: Annotated[float, Field(ge=0, le=1)]
    files: dict[str, str]


_SAVED_DECISION = TypeAdapter(_SavedDecision)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model with what it was trained as."""

    path: Path
    model: PairModel
    config: Config
    decision: Decision


def save_model(run: Run, model: PairModel, decision: Decision, name: str = BEST_MODEL) -> Path:
    """Write a model directory of this run on rank 0; `model` is the unwrapped one."""
    final = run.model_dir / name

    def write() -> None:
        with new_directory(final) as temporary:
            with explain_library_errors(final, weight_bytes(model)):
                model.save_pretrained(temporary)
            # The library makes the weights private; give them the permissions of any new file.
            (temporary / "model.safetensors").chmod((temporary / "config.json").stat().st_mode)
            write_atomically(temporary / CONFIG_FILE, run.config.to_yaml())
            content = asdict(decision) | {"files": checksums_of(temporary)}
            write_atomically(temporary / DECISION_FILE, json.dumps(content, indent=1))

    on_main_process(run.accelerator, write)
    return final


def weight_bytes(model: torch.nn.Module) -> int:
    """What a model's weights take on disk."""
    return sum(tensor.nbytes for tensor in model.state_dict().values())


@contextlib.contextmanager
def explain_library_errors(path: Path, needed: int) -> Iterator[None]:
    """`explain_disk_errors`, also where a library has an error of its own for a full disk."""
    try:
        with explain_disk_errors(path, needed):
            yield
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        full = ("PytorchStreamWriter", "iostream", "unexpected pos")
        if isinstance(error, RuntimeError) and not any(word in reason for word in full):
            raise
        free = shutil.disk_usage(path.parent).free
        raise UserError(
            f"cannot write {path}{size_note(needed)}: {reason}; {free} bytes are free there: make"
            " room, or choose another directory with run_config.output_dir",
            own=True,
        ) from None


def load_checkpoint(path: Path, expected_model: str | None = None) -> Checkpoint:
    """Load a model directory that `save_model` wrote.

    Args:
        path: The directory, such as …/best_model.
        expected_model: The configuration's `model_config.model`; another model is refused.

    Raises:
        UserError: Something is missing, damaged, or of another model.
    """
    for needed in ("config.json", "model.safetensors", CONFIG_FILE, DECISION_FILE):
        if not (path / needed).is_file():
            raise UserError(
                f"{path} is not a checkpoint of this program: it has no {needed}; give the path of"
                " a best_model directory with --checkpoint"
            )
    config = read_resolved_config(path / CONFIG_FILE)
    name = config.model.model
    if expected_model is not None and name != expected_model:
        raise UserError(
            f"the checkpoint {path} is of the model '{excerpt(name)}', but model_config.model is"
            f" '{expected_model}'; give a checkpoint of '{expected_model}' or change the config"
        )
    decision = _read_decision(path)
    return Checkpoint(path, load_weights(path, name), config, decision)


def check_same_language_model(
    checkpoint: Checkpoint, config: Config, store: EmbeddingStore
) -> None:
    """Refuse embeddings of another language model than the checkpoint's.

    Raises:
        UserError: Its files are not those of the training.
    """
    if store.language_model != checkpoint.decision.language_model:
        trained, given = (each.data.embeddings.model_name for each in (checkpoint.config, config))
        reason = "its files have changed" if given == trained else f"that was {trained}"
        raise UserError(
            f"{given} is not the language model that {checkpoint.path} was trained on: {reason};"
            " set data_config.embeddings.model_name or revision to the one that was"
        )


def check_fits(checkpoint: Checkpoint, config: Config, store: EmbeddingStore) -> list[str]:
    """Refuse embeddings that a checkpoint's model cannot take; tell what else differs.

    Returns:
        The embedding settings, by key path, that are not those the model was trained on.

    Raises:
        UserError: The embeddings have another width.
    """
    trained, given = checkpoint.config.data, config.data
    width, dim = checkpoint.model.config.input_dim, store.dim
    if width != dim:
        raise UserError(
            f"the checkpoint {checkpoint.path} takes embeddings of {width} dimensions, but those"
            f" of {given.embeddings.model_name} have {dim}; set data_config.embeddings.model_name"
            f" to {trained.embeddings.model_name}, which it was trained on"
        )
    differing = [
        f"data_config.embeddings.{key}"
        for key in ("model_name", "revision", "layer", "dtype")
        if getattr(trained.embeddings, key) != getattr(given.embeddings, key)
    ]
    if trained.max_sequence_length != given.max_sequence_length:
        differing.append("data_config.max_sequence_length")
    if store.language_model != checkpoint.decision.language_model:
        differing.append("the files of data_config.embeddings.model_name")
    return differing


def warn_if_differs(run: Run, checkpoint: Checkpoint, store: EmbeddingStore) -> None:
    """`check_fits`, with warnings in the log about what differs but may be meant."""
    differing = check_fits(checkpoint, run.config, store)
    if differing:
        run.warn("embeddings_differ", keys=differing, checkpoint=checkpoint.path)
    trained, given = (
        f"{config.data.benchmark.species} {config.data.benchmark.split_strategy}"
        for config in (checkpoint.config, run.config)
    )
    if trained != given:
        # Of another split of its species a model may have seen the test proteins in training.
        run.warn("benchmark_differs", trained_on=trained, now=given, checkpoint=checkpoint.path)


def check_same_embeddings(checkpoint: Checkpoint, config: Config) -> None:
    """Refuse settings by which sequences would be embedded otherwise than in training.

    Not the type of the stored numbers, which only rounds them otherwise.

    Raises:
        UserError: Names the first such setting.
    """
    trained, given = checkpoint.config.data, config.data
    for key, was, now in (
        ("embeddings.layer", trained.embeddings.layer, given.embeddings.layer),
        ("max_sequence_length", trained.max_sequence_length, given.max_sequence_length),
    ):
        if was != now:
            raise UserError(
                f"data_config.{key} is {now}, but {checkpoint.path} was trained with {was}: its"
                " scores would mean nothing; leave it out"
            )


def continue_model(checkpoint: Checkpoint, config: Config) -> PairModel:
    """The checkpoint's weights in the configured model, which may drop out more or less.

    Raises:
        UserError: Names the first key of `model_config` by which it would be another model.
    """
    trained = flat_values(checkpoint.config.model)
    for key, value in flat_values(config.model).items():
        if trained.get(key) != value and key not in MAY_CHANGE:
            raise UserError(
                f"model_config.{key} is {value}, but {checkpoint.path} was trained with"
                f" {trained.get(key)}; its weights fit no other, so make them equal"
            )
    model = build_model(config.model, checkpoint.model.config.input_dim)
    model.load_state_dict(checkpoint.model.state_dict())
    return model


def load_weights(path: Path, name: str) -> PairModel:
    """The model of a directory, refusing weights that are missing, left over or misshapen."""
    chosen = model_class(name)
    try:
        # Else the library asks on the terminal whether to run the code that a config.json names.
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        _check_is_of(chosen, config, path)
        loaded: Any = chosen.from_pretrained(
            # Misshapen weights are let through to be told below in one sentence.
            path, config=config, output_loading_info=True, ignore_mismatched_sizes=True
        )  # fmt: skip
    except _UNREADABLE as error:
        reason = excerpt(" ".join(str(error).split()) or type(error).__name__, limit=200)
        raise UserError(f"the checkpoint {path} cannot be read: {reason}") from None
    model: PairModel = loaded[0]
    info = loaded[1]
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        # transformers would fill missing weights with whatever memory holds.
        if info[kind]:
            first = excerpt(sorted(map(str, info[kind]))[0], limit=120)
            raise UserError(
                f"the checkpoint {path} does not fit the model '{name}': {len(info[kind])}"
                f" {kind.replace('_', ' ')}, the first is {first}"
            )
    return model


def _check_is_of(model: type[PairModel], config: object, path: Path) -> None:
    if not isinstance(config, model.config_class):
        raise UserError(
            f"the checkpoint {path} contradicts itself: its {CONFIG_FILE} is of the model"
            f" {model.__name__}, its config.json of a {type(config).__name__}; copy it whole again"
        )


def checksums_of(path: Path) -> dict[str, str]:
    """Of the files of a model directory in which a change could go unnoticed."""
    return {name: hash_file(path / name) for name in SEALED_FILES}


def _read_decision(path: Path) -> Decision:
    """The decision, after comparing the files that it seals.

    A digit of config.json (the number of heads) or a bit of the weights can change without any
    name or shape: the model would load, and score something else.
    """
    file = path / DECISION_FILE
    try:
        saved = _SAVED_DECISION.validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        reason = excerpt(f"{key} {first['msg']}, not {first['input']!r}", limit=200)
        raise UserError(f"{file} is damaged: {reason}") from None
    for name, checksum in checksums_of(path).items():
        if saved.files.get(name) != checksum:
            raise UserError(
                f"{path / name} has changed since it was saved, so the model would not score as it"
                " did; restore it, or train again"
            )
    return Decision(**{key: value for key, value in vars(saved).items() if key != "files"})


def choose_checkpoint(run: Run, named: str | None, stages: tuple[Stage, ...]) -> Path:
    """The model directory to start from, the same on every process.

    Args:
        run: A run that goes on keeps to what it was begun from.
        named: On the command line; else the configuration's, else the newest is taken.
        stages: Of which the newest is looked for, the first one's first.

    Raises:
        UserError: None is named, and there is none.
    """

    def choose() -> Path:
        begun = run.log_dir / CONFIG_FILE
        before = None
        if run.resuming and begun.is_file():
            before = read_resolved_config(begun).run.load_checkpoint_path
        chosen = before or named or run.config.run.load_checkpoint_path
        return Path(chosen) if chosen else newest_checkpoint(run.config, stages)

    return on_main_process(run.accelerator, choose)


def newest_checkpoint(config: Config, stages: tuple[Stage, ...]) -> Path:
    """The newest best model of the first of `stages` that has one, for this config's model.

    Raises:
        UserError: There is none.
    """
    for stage in stages:
        directory = run_directory("models", stage, config)
        found = sorted(
            directory.glob(f"*/{BEST_MODEL}/{DECISION_FILE}"), key=lambda p: p.stat().st_mtime_ns
        )
        if found:
            return found[-1].parent
    wanted = " or ".join(str(run_directory("models", stage, config)) for stage in stages)
    raise UserError(f"there is no {BEST_MODEL} under {wanted}; train one, or name --checkpoint DIR")
