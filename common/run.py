"""A run of a script: its id, its directories, and its log of events.

    with open_run("pretrain", config, accelerator) as run:
        run.event("stage_start", epochs=5)

writes `{output_dir}/logs/{model}/{stage}/{run_id}/log.log` and names the directory of the run's
checkpoints, `{output_dir}/models/{model}/{stage}/{run_id}/`. A run exists once its `config.yaml` is
written (`Run.begin`); a start that failed before that may be repeated under the same id. A failed
start leaves its log if work had begun, and otherwise only the message on stderr. This module does
not import torch, so that work on files alone starts at once.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import importlib.metadata
import logging
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from common.config import Config, Stage
from common.console import show
from common.errors import UserError
from common.failures import explain_failure
from common.files import explain_disk_errors, name_directory, write_atomically
from common.pausing import Paused
from common.provenance import commit
from common.rank_watch import RankLostError
from common.ranks import OneProcess as OneProcess
from common.ranks import check_shared
from common.ranks import on_main_process as on_main_process

if TYPE_CHECKING:
    from accelerate import Accelerator

LOGGER = logging.getLogger("relic")
LOG_FILE, CONFIG_FILE = "log.log", "config.yaml"
ALL_RANKS_SWITCH = "RELIC_LOG_ALL_RANKS"
# Events that show that work had begun, and that a rank other than 0 has failed.
WORK = re.compile(r"^\S+ \S+ [A-Z]+ (stage_start|progress) ", re.MULTILINE)
FAILED_ELSEWHERE = re.compile(r" stage_failed \| stage=\w+ \| rank=[1-9]")
LINE_FORMAT = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")


@dataclass(frozen=True)
class Run:
    """One run of a stage: its configuration, directories and log."""

    stage: Stage
    run_id: str
    config: Config
    accelerator: Accelerator
    log_dir: Path
    model_dir: Path
    resuming: bool = False

    def event(self, name: str, **fields: object) -> None:
        """Log an event as one line, `name | key=value | …`, on rank 0."""
        LOGGER.info(format_event(name, **fields))

    def warn(self, name: str, **fields: object) -> None:
        """Log an event that needs the user's attention."""
        LOGGER.warning(format_event(name, **fields))

    def begun_from(self, checkpoint: Path) -> Run:
        """Return a copy of this run whose configuration names the checkpoint to start from."""
        named = self.config.run.model_copy(update={"load_checkpoint_path": str(checkpoint)})
        return replace(self, config=self.config.model_copy(update={"run": named}))

    def begin(self, resolved: Config | None = None) -> None:
        """Save the resolved configuration; from then on, the run counts as existing."""
        if self.accelerator.is_main_process:
            write_atomically(self.log_dir / CONFIG_FILE, (resolved or self.config).to_yaml())


def format_event(name: str, **fields: object) -> str:
    """Format an event as one line of text."""
    return " | ".join([name, *(f"{key}={_format_value(value)}" for key, value in fields.items())])


def _format_value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ",".join(_format_value(item) for item in value)
    return " ".join(str(value).split())


@contextlib.contextmanager
def open_run(
    stage: Stage, config: Config, accelerator: Accelerator | OneProcess, resume: bool = False
) -> Iterator[Run]:
    """Open a run's directories and log for a block, and log an error that ends the block.

    Raises:
        UserError: The configured run exists already or is in use by another process, or there is
            no run to resume.
    """
    name_directory(config.run.output_dir, "run_config.output_dir")
    run_id = on_main_process(accelerator, lambda: _choose_run_id(stage, config, resume))
    log_dir = run_directory("logs", stage, config) / run_id
    model_dir = run_directory("models", stage, config) / run_id
    run = Run(stage, run_id, config, accelerator, log_dir, model_dir, resume)
    with contextlib.ExitStack() as held:
        on_main_process(accelerator, lambda: _lock(run, held))
        check_shared(accelerator, log_dir, "run_config.output_dir")
        held.enter_context(_logging(accelerator, log_dir))
        try:
            _announce(run)
            yield run
        except Paused as paused:
            run.event("stage_paused", stage=stage, reason=paused)
            _discard_stub(run, paused)
            raise
        except BaseException as error:
            explained = explain_failure(error)
            _log_failure(run, explained or error)
            _discard_stub(run, explained or error)
            if explained is not None:
                raise explained from error
            raise
        else:
            accelerator.end_training()


def run_directory(kind: str, stage: Stage, config: Config) -> Path:
    """Return `{output_dir}/{logs|models}/{model}/{stage}`, which has one directory per run."""
    return Path(config.run.output_dir) / kind / config.model.model / stage


def _choose_run_id(stage: Stage, config: Config, resume: bool) -> str:
    """Create a run's log directory, and return the run's id.

    The id is the configured one, or else the newest run's when resuming, or else a timestamp.
    """
    logs = run_directory("logs", stage, config)
    run_id = config.run.run_id(stage)
    if run_id is None and resume:
        run_id = _newest_run(logs)
    try:
        if run_id is None:
            return _take_timestamp(logs)
        (logs / run_id).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create a run in {logs}: {error.strerror}; set run_config.output_dir to a"
            " directory that you may write to"
        ) from None
    return run_id


def _lock(run: Run, held: contextlib.ExitStack) -> None:
    """Lock a run for this process; the operating system unlocks it when the process ends.

    The lock is on the log file, and of the kind that forked workers do not inherit: a data loader's
    worker that briefly outlives its killed process does not hold the lock.
    """
    held.callback(_remove_if_empty, run.log_dir)
    with explain_disk_errors(run.log_dir / LOG_FILE):
        log = held.enter_context((run.log_dir / LOG_FILE).open("a"))
    try:
        fcntl.lockf(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # On a file system without locks, runs are not locked.
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise UserError(
                f"the run {run.log_dir} is in use by another process; wait until it ends, or choose"
                f" another run_config.{id_key(run.stage)}"
            ) from None
    taken = [path for path in (run.log_dir / CONFIG_FILE, run.model_dir) if path.exists()]
    if taken and not run.resuming:
        refused = UserError(
            f"the run {run.run_id} exists already ({taken[0]}); choose another"
            f" run_config.{id_key(run.stage)}"
            + ("" if run.stage == "evaluate" else ", or resume it with --resume")
        )
        _discard_stub(run, refused)
        raise refused


def id_key(stage: Stage) -> str:
    """Return the key of `run_config` that names a run of this stage."""
    return "eval_run_id" if stage == "evaluate" else f"{stage}_run_id"


def _newest_run(logs: Path) -> str:
    begun = begun_runs(logs)
    if not begun:
        raise UserError(f"there is no run to resume under {logs}; start one without --resume")
    return begun[-1].parent.name


def begun_runs(logs: Path) -> list[Path]:
    """Return the saved configurations of the runs in a stage's folder, the newest last."""
    return sorted(logs.glob(f"*/{CONFIG_FILE}"), key=lambda path: path.stat().st_mtime_ns)


def _take_timestamp(logs: Path) -> str:
    """Create a directory named by the current time, with a number added if the name is taken."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    for name in (stamp, *(f"{stamp}-{n}" for n in range(2, 10_000))):
        with contextlib.suppress(FileExistsError):
            (logs / name).mkdir(parents=True)
            return name
    raise UserError(f"too many runs were started in {logs} within this second; try again")


@contextlib.contextmanager
def log_to_console(accelerator: Accelerator | OneProcess) -> Iterator[None]:
    """Log within this block to rank 0's stderr only, for work that needs no run directory."""
    with _logging(accelerator):
        yield
        accelerator.end_training()


class _Console(logging.StreamHandler):  # type: ignore[type-arg]
    """Log handler that writes to stderr without breaking a progress bar."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Leave out the event of a failure: the script reports the error itself when it ends."""
        return not record.getMessage().startswith("stage_failed ")

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


class _LogFile(logging.FileHandler):
    """Handler of a run's log file that ignores write errors, such as those of a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the library's name)
        """Ignore a write error of the log, because a run can continue without its log file."""

    def close(self) -> None:
        """Close the log file, even if its last lines cannot be written."""
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def _logging(accelerator: Accelerator | OneProcess, log_dir: Path | None = None) -> Iterator[None]:
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    handlers: list[logging.Handler] = []
    if accelerator.is_main_process:
        handlers = [_Console(), *([_LogFile(log_dir / LOG_FILE)] if log_dir else [])]
    elif log_dir is not None and os.environ.get(ALL_RANKS_SWITCH) == "1":
        handlers = [logging.FileHandler(log_dir / f"log.rank{accelerator.process_index}.log")]
    handlers = handlers or [logging.NullHandler()]
    for handler in handlers:
        handler.setFormatter(LINE_FORMAT)
        LOGGER.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            LOGGER.removeHandler(handler)
            handler.close()


def _announce(run: Run) -> None:
    run.event(
        "pipeline_bootstrap",
        stage=run.stage,
        run_id=run.run_id,
        seed=run.config.run.seed,
        resume=run.resuming,
        commit=commit() or "unknown",
        python=platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("torch", "transformers")},
    )
    run.event(
        "device_resolved",
        device=run.accelerator.device,
        processes=run.accelerator.num_processes,
        mixed_precision=run.accelerator.mixed_precision,
    )


def _log_failure(run: Run, error: BaseException) -> None:
    """Log the event `stage_failed`; ranks other than 0 append it to rank 0's log file."""
    rank = run.accelerator.process_index
    reason = str(error) or type(error).__name__
    if not isinstance(error, UserError | RankLostError):
        reason = f"{type(error).__name__}: {reason}"
    text = format_event("stage_failed", stage=run.stage, rank=rank, reason=reason)
    if rank == 0:
        LOGGER.error(text)
        return
    record = LOGGER.makeRecord(LOGGER.name, logging.ERROR, "", 0, text, (), None)
    # A logging error must not hide the failure itself. A log that rank 0 deleted stays deleted.
    with contextlib.suppress(OSError):
        handle = os.open(run.log_dir / LOG_FILE, os.O_WRONLY | os.O_APPEND)
        with os.fdopen(handle, "w") as log:
            log.write(LINE_FORMAT.format(record) + "\n")


def _discard_stub(run: Run, error: BaseException) -> None:
    """Delete on rank 0 the files of a run that failed before any work started.

    The reason of the failure is on stderr. If only another rank reported it, the log is kept.
    """
    if not run.accelerator.is_main_process or (run.log_dir / CONFIG_FILE).exists():
        return
    with contextlib.suppress(OSError):
        log = (run.log_dir / LOG_FILE).read_text()
        explained = isinstance(error, UserError) or not FAILED_ELSEWHERE.search(log)
        if explained and not WORK.search(log):
            for pattern in ("log*.log", "audit.json"):
                for path in run.log_dir.glob(pattern):
                    path.unlink()
            if log:
                show(f"No work had begun: the files of this start in {run.log_dir} were deleted.")


def _remove_if_empty(directory: Path) -> None:
    """Remove a run's directory if the run failed at its start and left no files."""
    with contextlib.suppress(OSError):
        directory.rmdir()
