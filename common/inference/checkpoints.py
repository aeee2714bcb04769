"""Save and load checkpoints, the directories of trained models.

`best_model/` contains config.json, model.safetensors, the resolved configuration (config.yaml) and
decision.json: the threshold, the validation metrics of its epoch, and checksums. training_pairs.npy
and training_proteins.npy contain the hashes of the training pairs and of their proteins, by which
test pairs and test proteins among them are found.
README.md is the model card, which has no checksum because people may edit it.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError

from common.config import Config, Stage
from common.config_file import read_resolved_config
from common.data.pair_hashes import TrainedOn, load_hashes
from common.errors import UserError, count_of, excerpt
from common.files import (
    cannot_write,
    explain_disk_errors,
    hash_file,
    new_directory,
    recover_directory,
    write_atomically,
)
from common.inference.card import CARD_FILE, write_card
from common.inference.decision import Decision
from common.inference.hub import NEEDED_FILES, fetch_checkpoint, pin_checkpoint
from common.models import PairModel, model_class
from common.run import CONFIG_FILE, Run, on_main_process, run_directory

BEST_MODEL, DECISION_FILE = "best_model", "decision.json"
TRAINING_PAIRS, TRAINING_PROTEINS = "training_pairs.npy", "training_proteins.npy"
SEALED_FILES = ("config.json", "model.safetensors", TRAINING_PAIRS, TRAINING_PROTEINS)
# What transformers raises for a damaged config.json, depending on the damage.
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


@dataclass(frozen=True, kw_only=True)
class _SavedDecision(Decision):
    """The content of the file decision.json: a decision, and checksums of other files."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    threshold: Annotated[float, Field(ge=0, le=1)]
    calibrated_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    files: dict[str, str]


_SAVED_DECISION = TypeAdapter(_SavedDecision)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model with the configuration of its training, its threshold and its metrics.

    Attributes:
        path: The directory.
        model: The model.
        config: The resolved configuration of the stage that trained the model.
        decision: The threshold and the validation metrics.
        trained_on: The hashes of all pairs that the model was trained on, also before finetuning,
            and of their proteins: the positives and the negatives of the files, not negatives that
            were drawn later. None if the checkpoint does not list them.
    """

    path: Path
    model: PairModel
    config: Config
    decision: Decision
    trained_on: TrainedOn | None = None


def save_model(
    run: Run,
    model: PairModel,
    decision: Decision,
    name: str = BEST_MODEL,
    trained_on: TrainedOn | None = None,
    data: Mapping[str, object] = MappingProxyType({}),
) -> Path:
    """Save a model with its configuration and decision in a directory of this run, on rank 0.

    Args:
        run: The run.
        model: The unwrapped model.
        decision: The model's threshold and validation metrics.
        name: The directory's name.
        trained_on: The hashes of everything that the model was trained on, if they are known.
        data: Notes on the training data, by name, for the readers of the model card.
    """
    final = run.model_dir / name

    def write() -> None:
        # A run belongs to one launch, so unfinished files here can only be a killed launch's.
        recover_directory(final)
        with new_directory(final) as temporary:
            with explain_library_errors(final, weight_bytes(model)):
                model.save_pretrained(temporary)
                _save_hashes(trained_on, temporary)
            # The library makes the weights private; give them the permissions of any new file.
            (temporary / "model.safetensors").chmod((temporary / "config.json").stat().st_mode)
            write_atomically(temporary / CONFIG_FILE, run.config.to_yaml())
            card = write_card(run.config, decision, model.num_parameters(), data)
            write_atomically(temporary / CARD_FILE, card)
            content = asdict(decision) | {"files": checksums_of(temporary)}
            write_atomically(temporary / DECISION_FILE, json.dumps(content, indent=1))

    on_main_process(run.accelerator, write)
    return final


def _save_hashes(trained_on: TrainedOn | None, directory: Path) -> None:
    if trained_on is not None:
        np.save(directory / TRAINING_PAIRS, trained_on.pairs)
        if trained_on.proteins is not None:
            np.save(directory / TRAINING_PROTEINS, trained_on.proteins)


def _load_hashes(directory: Path) -> TrainedOn | None:
    pairs, proteins = (directory / name for name in (TRAINING_PAIRS, TRAINING_PROTEINS))
    if not pairs.is_file():
        return None
    return TrainedOn(load_hashes(pairs), load_hashes(proteins) if proteins.is_file() else None)


def weight_bytes(model: torch.nn.Module) -> int:
    """Return the size of a model's weights in bytes."""
    return sum(tensor.nbytes for tensor in model.state_dict().values())


@contextlib.contextmanager
def explain_library_errors(path: Path, needed: int) -> Iterator[None]:
    """Convert write errors, including libraries' errors on a full disk, to a `UserError`."""
    try:
        with explain_disk_errors(path, needed):
            yield
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        full = ("PytorchStreamWriter", "iostream", "unexpected pos")
        if isinstance(error, RuntimeError) and not any(word in reason for word in full):
            raise
        raise cannot_write(path, _ask_disk(path.parent, needed) or reason, needed) from None


def _ask_disk(directory: Path, size: int) -> str | None:
    """Return why so many bytes cannot be written, which libraries hide; None if they can be."""
    block = bytes(1 << 20)
    try:
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            for _ in range(size // len(block) + 1):
                file.write(block)
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror
    return None


def load_checkpoint(path: Path, expected_model: str | None = None) -> Checkpoint:
    """Load a checkpoint from a directory that `save_model` wrote.

    Args:
        path: The directory, such as …/best_model, or a name on the Hugging Face hub.
        expected_model: The configuration's `model_config.model`; another model is refused.

    Raises:
        UserError: A file is missing or damaged, or belongs to another model.
    """
    path = fetch_checkpoint(path)
    for needed in NEEDED_FILES:
        if not (path / needed).is_file():
            raise UserError(
                f"{path} is not a checkpoint of this program: it has no {needed}; give the path of"
                " a best_model directory with --checkpoint"
            )
    config = read_resolved_config(path / CONFIG_FILE)
    name = config.model.model
    if expected_model is not None and name != expected_model:
        raise UserError(
            f"the checkpoint {path} contains the model '{excerpt(name)}', but model_config.model is"
            f" '{expected_model}'; give a checkpoint of '{expected_model}' or change the config"
        )
    decision = _read_decision(path)
    return Checkpoint(path, load_weights(path, name), config, decision, _load_hashes(path))


def load_weights(path: Path, name: str) -> PairModel:
    """Load a model; reject weights that are missing, unexpected or of a wrong shape."""
    chosen = model_class(name)
    try:
        # Not AutoConfig, which would ask to run the code that a config.json can name.
        content, _ = chosen.config_class.get_config_dict(path)
        _check_is_of(chosen, content.get("model_type"), path)
        # Weights of a wrong shape pass here, to be reported below in one sentence.
        loaded: Any = chosen.from_pretrained(
            path, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except _UNREADABLE as error:
        reason = excerpt(" ".join(str(error).split()) or type(error).__name__, limit=200)
        raise UserError(
            f"the checkpoint {path} cannot be read: {reason}; copy the whole directory again"
        ) from None
    model: PairModel
    model, info = loaded
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        # transformers would fill missing weights with uninitialised memory.
        if info[kind]:
            first = excerpt(sorted(map(str, info[kind]))[0], limit=120)
            raise UserError(
                f"the checkpoint {path} does not fit the model '{name}':"
                f" {count_of(len(info[kind]), kind.replace('_', ' ')[:-1])} (such as {first}); give"
                " a checkpoint that was saved by this version of the program"
            )
    _move_to_aligned_memory(model)
    return model


def _move_to_aligned_memory(model: PairModel) -> None:
    """Copy the weights to aligned memory, because views of the file may begin at any byte.

    On a CPU, matrix products of weights that do not begin at a multiple of 16 bytes differ in the
    last bit from those of the same weights elsewhere, such as in the process that trained them.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def _check_is_of(model: type[PairModel], found: object, path: Path) -> None:
    expected = model.config_class.model_type
    if found != expected:
        raise UserError(
            f"the checkpoint {path} is inconsistent: {CONFIG_FILE} names the model type {expected},"
            f" but config.json names {excerpt(str(found))}; copy the whole directory again"
        )


def checksums_of(path: Path) -> dict[str, str]:
    """Compute the checksums of a model directory's files, so that a change can be detected."""
    return {name: hash_file(path / name) for name in SEALED_FILES if (path / name).is_file()}


def _read_decision(path: Path) -> Decision:
    """Read decision.json, and compare its checksums with those of the files.

    A digit of config.json (the number of heads) or a bit of the weights can change while all names
    and shapes stay the same: the model would load, but give other scores.
    """
    file = path / DECISION_FILE
    try:
        saved = _SAVED_DECISION.validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        reason = excerpt(f"{key} {first['msg']}, not {first['input']!r}", limit=200)
        raise UserError(f"{file} is damaged: {reason}; restore the file, or train again") from None
    found = checksums_of(path)
    for name in SEALED_FILES:
        if saved.files.get(name) != found.get(name):
            raise UserError(
                f"{path / name} has changed since it was saved, so the model's scores or training"
                " pairs would be wrong; restore the file, or train again"
            )
    return Decision(**{key: value for key, value in vars(saved).items() if key != "files"})


def choose_checkpoint(run: Run, named: str | None, stages: tuple[Stage, ...]) -> Path:
    """Choose the checkpoint to start from, which is the same on every process.

    Args:
        run: A resumed run keeps the checkpoint that it was started from.
        named: The directory, or the name on the Hugging Face hub, that the command line gives. It
            takes precedence over the configuration's checkpoint; without either, the newest
            checkpoint is chosen.
        stages: The stages to search for the newest checkpoint; an earlier stage takes precedence.

    Raises:
        UserError: No checkpoint is named, and no stage has saved one.
    """

    def choose() -> Path:
        begun = run.log_dir / CONFIG_FILE
        before = None
        if run.resuming and begun.is_file():
            before = read_resolved_config(begun).run.load_checkpoint_path
        chosen = before or named or run.config.run.load_checkpoint_path
        return Path(pin_checkpoint(chosen)) if chosen else newest_checkpoint(run.config, stages)

    return on_main_process(run.accelerator, choose)


def newest_checkpoint(config: Config, stages: tuple[Stage, ...]) -> Path:
    """Find the newest best model of the first stage that has one, for the configured architecture.

    Models that were trained on another benchmark, species or split are left out.

    Raises:
        UserError: No such model exists.
    """
    wanted, others = _benchmark_of(config), set[str]()
    for stage in stages:
        files = run_directory("models", stage, config).glob(f"*/{BEST_MODEL}/{DECISION_FILE}")
        for file in sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            trained = _benchmark_of(read_resolved_config(file.with_name(CONFIG_FILE)))
            if trained == wanted:
                return file.parent
            others.add(trained)
    places = " or ".join(str(run_directory("models", stage, config)) for stage in stages)
    only = f", only of {', '.join(sorted(others))}" if others else ""
    raise UserError(
        f"there is no {BEST_MODEL} of {wanted} under {places}{only}; train a model, or choose one"
        " with --checkpoint DIR"
    )


def _benchmark_of(config: Config) -> str:
    benchmark = config.data.benchmark
    return f"{benchmark.name} {benchmark.species} {benchmark.split_strategy}"
