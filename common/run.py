"""A run: its id and directories, its log of events, what rank 0 alone does, and how it fails.

    accelerator = start_accelerator(config)
    with open_run("pretrain", config, accelerator) as run:
        run.event("stage_start", epochs=5)

writes `{output_dir}/logs/{model}/{stage}/{run_id}/log.log` and knows the sibling directory for
checkpoints, `{output_dir}/models/{model}/{stage}/{run_id}/`. A run counts as existing once its
`config.yaml` is written (`Run.begin`); a start that failed before that leaves its log and may be
repeated under the same id.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import accelerate
import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list
from tqdm import tqdm

from common.config import Config, Stage
from common.errors import UserError
from common.files import write_atomically

LOGGER = logging.getLogger("relic")
LOG_FILE, CONFIG_FILE = "log.log", "config.yaml"
ALL_RANKS_SWITCH = "RELIC_LOG_ALL_RANKS"
LINE_FORMAT = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")

# How long ranks wait for one that downloads a model or finishes its share of the embeddings.
PATIENCE = datetime.timedelta(hours=2)

Result = TypeVar("Result")


def start_accelerator(config: Config) -> Accelerator:
    """The process's accelerator, checked against what the launcher promised.

    Raises:
        UserError: The launcher started more processes than take part (they would all believe to
            be the main one and overwrite each other).
    """
    try:
        accelerator = Accelerator(
            # Without this, two CPU processes come up as two independent "rank 0"s.
            cpu=not torch.cuda.is_available(),
            gradient_accumulation_steps=config.training.gradient_accumulation_steps,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the processes cannot start: {reason}; see accelerate_configs/") from None
    promised = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != promised:
        raise UserError(
            f"the launcher started {promised} processes but only {accelerator.num_processes} take"
            " part; use a file of accelerate_configs/ (cpu_2proc.yaml shows how two CPU processes"
            " are launched) or run `accelerate config`"
        )
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return accelerator


def on_main_process(accelerator: Accelerator, action: Callable[[], Result]) -> Result:
    """Let rank 0 act and tell all ranks its result, or its `UserError`, so that all go one way."""
    outcome: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            outcome[0] = action()
        except UserError as error:
            outcome[1] = str(error)
    broadcast_object_list(outcome, from_process=0)
    if outcome[1] is not None:
        raise UserError(outcome[1])
    result: Result = outcome[0]
    return result


@dataclass(frozen=True)
class Run:
    """One stage's run: where it writes and what it tells."""

    stage: Stage
    run_id: str
    config: Config
    accelerator: Accelerator
    log_dir: Path
    model_dir: Path
    resuming: bool = False

    def event(self, name: str, **fields: object) -> None:
        """Log one line `name | key=value | …`; ranks other than 0 are silent."""
        LOGGER.info(format_event(name, **fields))

    def warn(self, name: str, **fields: object) -> None:
        """Log an event that the user should look at."""
        LOGGER.warning(format_event(name, **fields))

    def begin(self) -> None:
        """Save the resolved configuration; from here on the run exists."""
        if self.accelerator.is_main_process:
            write_atomically(self.log_dir / CONFIG_FILE, self.config.to_yaml())


def format_event(name: str, **fields: object) -> str:
    """The one-line text of an event."""
    return " | ".join([name, *(f"{key}={_format_value(value)}" for key, value in fields.items())])


def _format_value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ",".join(_format_value(item) for item in value)
    return " ".join(str(value).split())


@contextlib.contextmanager
def open_run(
    stage: Stage, config: Config, accelerator: Accelerator, resume: bool = False
) -> Iterator[Run]:
    """Open a run's directories and log; whatever ends the stage early is logged as such.

    Raises:
        UserError: The configured run id exists already, or there is nothing to resume.
    """
    run_id = on_main_process(accelerator, lambda: _choose_run_id(stage, config, resume))
    log_dir = run_directory("logs", stage, config) / run_id
    model_dir = run_directory("models", stage, config) / run_id
    run = Run(stage, run_id, config, accelerator, log_dir, model_dir, resume)
    handlers = _start_logging(log_dir, accelerator)
    try:
        _announce(run)
        yield run
    except BaseException as error:
        _log_failure(run, error)
        raise
    else:
        accelerator.end_training()
    finally:
        for handler in handlers:
            LOGGER.removeHandler(handler)
            handler.close()


def run_directory(kind: str, stage: Stage, config: Config) -> Path:
    """`{output_dir}/{logs|models}/{model}/{stage}`, which holds one directory per run."""
    return Path(config.run.output_dir) / kind / config.model.model / stage


def _choose_run_id(stage: Stage, config: Config, resume: bool) -> str:
    """The configured id, the newest run's when resuming, or a timestamp; its directory is made."""
    logs = run_directory("logs", stage, config)
    run_id = config.run.run_id(stage)
    if run_id is None:
        run_id = _newest_run(logs) if resume else _free_timestamp(logs)
    elif not resume and (logs / run_id / CONFIG_FILE).exists():
        raise UserError(
            f"the run {logs / run_id} exists already; choose another run_config.{_id_key(stage)},"
            " or go on with it with --resume"
        )
    try:
        (logs / run_id).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create {logs / run_id}: {error.strerror}; set run_config.output_dir to a"
            " folder that you may write to"
        ) from None
    return run_id


def _id_key(stage: Stage) -> str:
    return "eval_run_id" if stage == "evaluate" else f"{stage}_run_id"


def _newest_run(logs: Path) -> str:
    begun = sorted(logs.glob(f"*/{CONFIG_FILE}"), key=lambda path: path.stat().st_mtime_ns)
    if not begun:
        raise UserError(f"there is no run to resume under {logs}; start one without --resume")
    return begun[-1].parent.name


def _free_timestamp(logs: Path) -> str:
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    names = [stamp, *(f"{stamp}-{n}" for n in range(2, 100))]
    return next(name for name in names if not (logs / name).exists())


class _BarFriendlyHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to stderr around a live progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


def _start_logging(log_dir: Path, accelerator: Accelerator) -> list[logging.Handler]:
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    handlers: list[logging.Handler] = []
    if accelerator.is_main_process:
        handlers = [_BarFriendlyHandler(), logging.FileHandler(log_dir / LOG_FILE)]
    elif os.environ.get(ALL_RANKS_SWITCH) == "1":
        handlers = [logging.FileHandler(log_dir / f"log.rank{accelerator.process_index}.log")]
    for handler in handlers or [logging.NullHandler()]:
        handler.setFormatter(LINE_FORMAT)
        LOGGER.addHandler(handler)
    return handlers


def _announce(run: Run) -> None:
    run.event(
        "pipeline_bootstrap",
        stage=run.stage,
        run_id=run.run_id,
        seed=run.config.run.seed,
        resume=run.resuming,
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        accelerate=accelerate.__version__,
    )
    run.event(
        "device_resolved",
        device=run.accelerator.device,
        processes=run.accelerator.num_processes,
        mixed_precision=run.accelerator.mixed_precision,
        threads=torch.get_num_threads(),
    )


def _log_failure(run: Run, error: BaseException) -> None:
    """Log `stage_failed`; a rank without a log of its own appends its line to rank 0's."""
    rank = run.accelerator.process_index
    reason = str(error) or type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        reason = "interrupted"
    elif not isinstance(error, UserError):
        reason = f"{type(error).__name__}: {reason}"
    text = format_event("stage_failed", stage=run.stage, rank=rank, reason=reason)
    if rank == 0:
        LOGGER.error(text)
        return
    record = LOGGER.makeRecord(LOGGER.name, logging.ERROR, "", 0, text, (), None)
    with (run.log_dir / LOG_FILE).open("a") as log:
        log.write(LINE_FORMAT.format(record) + "\n")
