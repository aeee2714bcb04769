"""Save and load the state from which `--resume` continues a run as if it had never stopped.

`last_state/` contains what accelerate saves (weights, optimizer, random states) and progress.json:
the progress of the run, the number of processes, and the checksum of every file. The folder is
written under a temporary name and renamed as a whole; a run that is killed meanwhile keeps the
previous state.
"""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import xxhash
from safetensors import SafetensorError

from common.config import Config, flat_values
from common.config_file import read_resolved_config
from common.data.batches import PairData
from common.data.tables.pairs import PairTable
from common.errors import UserError, excerpt
from common.files import (
    explain_disk_errors,
    hash_file,
    recover_directory,
    replace_directory,
    sync_directory,
    temporary_beside,
    write_atomically,
)
from common.inference.checkpoints import BEST_MODEL, explain_library_errors, weight_bytes
from common.run import CONFIG_FILE, Run, begun_runs, id_key, on_main_process

LAST_STATE, PROGRESS_FILE = "last_state", "progress.json"

# The beginnings of the keys in which a resumed run may differ from the stopped one; all other keys
# are compared. `evaluate.decision_threshold`, `calibration`, `prevalence` and `strategies` are
# compared because each epoch's metrics and the stored decision may depend on them, and
# `evaluate.scoring` because the last bits of validation scores, and so the choice of the best
# epoch, depend on the sizes and dtypes of its tiles.
IGNORED_KEYS = {
    "names and places of the run's own files": (
        "run_config.output_dir",
        "run_config.pretrain_run_id",
        "run_config.finetune_run_id",
        "run_config.eval_run_id",
        "run_config.load_checkpoint_path",
        "run_config.save_best_only",
    ),
    # Progress contains a digest of the data, so different data at a new path are noticed.
    "where the data are, how they get there, and whether they are audited": (
        "data_config.benchmark.root_dir",
        "data_config.benchmark.functional_dir",
        "data_config.benchmark.cache_dir",
        "data_config.benchmark.download",
        "data_config.embeddings.cache_dir",
        "data_config.embeddings.shard_mib",
        "data_config.audit",
    ),
    "how fast batches arrive, how often a step is logged, and where to": (
        "data_config.dataloader.num_workers",
        "data_config.dataloader.pin_memory",
        "training_config.logging.heartbeat_every_n_steps",
        "run_config.trackers",
    ),
    "how long the ranks wait for one that is lost": ("run_config.rank_timeout_seconds",),
    "what only evaluate.py reads": (
        "evaluate.metrics",
        "evaluate.tasks",
        "evaluate.cross_species",
        "evaluate.enrichment",
        "evaluate.scoring.prefilter",
    ),
}
MAY_DIFFER = tuple(key for keys in IGNORED_KEYS.values() for key in keys)


def save_state(run: Run, progress: dict[str, Any]) -> None:
    """Save everything that is needed to resume the run, replacing the last state as a whole."""
    accelerator = run.accelerator
    final = run.model_dir / LAST_STATE
    temporary = temporary_beside(final)
    on_main_process(accelerator, partial(recover_directory, final))
    # AdamW keeps two numbers for each weight.
    needed = 3 * sum(weight_bytes(model) for model in accelerator._models)
    with explain_library_errors(final, needed):
        accelerator.save_state(str(temporary))
    accelerator.wait_for_everyone()

    def finish() -> None:
        sync_directory(temporary)
        content = {**_launch_of(run), "files": _checksums(temporary), **progress}
        write_atomically(temporary / PROGRESS_FILE, seal_progress(content))
        replace_directory(temporary, final)

    on_main_process(accelerator, finish)


def _checksums(directory: Path) -> dict[str, str]:
    """Compute the checksums of a state's files, by their paths in the directory."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        str(path.relative_to(directory)): hash_file(path)
        for path in files
        if path.name != PROGRESS_FILE
    }


def seal_progress(content: dict[str, Any]) -> str:
    """Return the text of progress.json, which contains the progress and a checksum."""
    # NumPy's scalars become plain numbers.
    plain = json.loads(json.dumps(content, default=lambda number: number.item()))
    return json.dumps({**plain, "seal": _seal(plain)})


def _seal(content: dict[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(content, sort_keys=True).encode())


def load_state(run: Run) -> dict[str, Any] | None:
    """Restore the last complete state; return None if the run has not saved a state yet.

    Raises:
        UserError: The state is damaged, or belongs to another configuration or launch.
    """
    directory = run.model_dir / LAST_STATE
    progress = find_state(run)
    if progress is None:
        return None
    try:
        run.accelerator.load_state(str(directory))
    except (pickle.UnpicklingError, SafetensorError, RuntimeError) as error:
        # The library refuses to run code of a state file, with a message as long as a page.
        reason = excerpt(" ".join(str(error).split()), limit=120)
        raise _damaged(directory, f"cannot be loaded ({reason})") from None
    return progress


def find_state(run: Run) -> dict[str, Any] | None:
    """Check that the run can be resumed as it was started; return the last state's progress.

    Raises:
        UserError: The same as in `load_state`.
    """
    # One process reads for all: on a shared file system each could see files of a different moment.
    return on_main_process(run.accelerator, partial(_find_state, run))


def _find_state(run: Run) -> dict[str, Any] | None:
    directory = run.model_dir / LAST_STATE
    _clear_remains(run)
    if (run.log_dir / CONFIG_FILE).is_file():
        check_same_config(run)
    if not directory.is_dir():
        return None
    progress = _read_progress(directory)
    for key, now in _launch_of(run).items():
        if progress.get(key) != now:
            raise UserError(
                f"{directory} was saved with {key}={progress.get(key)} and cannot be resumed"
                f" exactly with {key}={now}; launch the run as before"
            )
    return progress


def _launch_of(run: Run) -> dict[str, Any]:
    """Return the settings of the launch that results depend on: processes, device, precision."""
    accelerator = run.accelerator
    return {
        "processes": accelerator.num_processes,
        "device": accelerator.device.type,
        "mixed_precision": accelerator.mixed_precision,
    }


def _clear_remains(run: Run) -> None:
    """Repair the directories of a killed run, and delete its temporary files."""
    for name in (LAST_STATE, BEST_MODEL):
        recover_directory(run.model_dir / name)
    for file in run.log_dir.glob(".*.tmp"):
        with explain_disk_errors(file):
            file.unlink()


def _read_progress(directory: Path) -> dict[str, Any]:
    """Read progress.json, and compare its checksums with those of the state's files.

    The library ignores random states that it cannot read: the run would continue with other
    random numbers.
    """
    try:
        progress: dict[str, Any] = json.loads((directory / PROGRESS_FILE).read_bytes())
        if not isinstance(progress, dict) or progress.pop("seal", None) != _seal(progress):
            raise ValueError("it has changed since it was saved")
        saved = progress["files"]
        found = _checksums(directory)
    except (OSError, ValueError, KeyError, RecursionError) as error:
        reason = excerpt(" ".join(str(error).split()), limit=200)
        raise _damaged(directory / PROGRESS_FILE, f"cannot be read ({reason})") from None
    for name, checksum in saved.items():
        if found.get(name) != checksum:
            change = "has changed since it was saved" if name in found else "is missing"
            raise _damaged(directory / name, change)
    return progress


def _damaged(path: Path, how: str) -> UserError:
    return UserError(
        f"{path} {how}, so the run cannot be resumed exactly; restore the saved state, or start a"
        " new run"
    )


def check_same_config(run: Run) -> None:
    """Reject a resumed run whose configuration has changed in a key that results depend on."""
    difference = _describe_difference(run.log_dir / CONFIG_FILE, run.config)
    if difference:
        advice = "resume with the configuration saved there, or start a new run"
        other = None if run.config.run.run_id(run.stage) else _find_resumable(run)
        if other is not None:
            advice = (
                f"the newest run with this configuration is {other}: resume it with --set"
                f" run_config.{id_key(run.stage)}={other}"
            )
        raise UserError(f"cannot resume {run.log_dir}: {difference}; {advice}")


def _describe_difference(saved: Path, config: Config) -> str | None:
    """Describe the first difference from a saved configuration on which results depend."""
    before, now = flat_values(read_resolved_config(saved)), flat_values(config)
    for key in now:
        if before.get(key) != now[key] and not key.startswith(MAY_DIFFER):
            return f"{key} was {before.get(key)} and is now {now[key]}"
    return None


def _find_resumable(run: Run) -> str | None:
    """Return the id of the newest run beside this one that `--resume` would accept."""
    for file in reversed(begun_runs(run.log_dir.parent)):
        run_id = file.parent.name
        state = run.model_dir.with_name(run_id) / LAST_STATE
        # The configuration of a run of another version may be unreadable.
        with contextlib.suppress(UserError):
            if state.is_dir() and _describe_difference(file, run.config) is None:
                return run_id
    return None


def digest_data(parts: Mapping[str, PairData], known: Sequence[PairTable] = ()) -> str:
    """Compute a digest of a stage's pairs, their proteins and the model that embedded them.

    Args:
        parts: The splits.
        known: Pairs of other splits, which are never drawn as negatives.
    """
    digest = xxhash.xxh3_64()
    for table in known:
        digest.update(repr(table.proteins).encode())
        digest.update(table.pairs.tobytes() + table.labels.tobytes())
    for name, data in parts.items():
        digest.update(repr((name, data.table.proteins, data.store.language_model)).encode())
        for numbers in (data.table.pairs, data.table.labels, data.residues):
            digest.update(numbers.tobytes())
    return digest.hexdigest()
