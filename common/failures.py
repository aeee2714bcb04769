"""Explain the errors that libraries raise when another process of the run is lost."""

from __future__ import annotations

import re

from common.errors import UserError
from common.rank_watch import RankLostError, explain_lost_rank

# PyTorch raises this error from a signal handler, so it can occur anywhere in the main thread.
_LOST_WORKER = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? (?P<pid>[\d, ]+)\)"
    r"(?: (?P<how>is killed by signal: [\w ]+|exited unexpectedly[^.]*))?"
)


def explain_failure(error: BaseException) -> UserError | RankLostError | None:
    """Convert an error caused by a lost rank or data loader worker; None for other errors."""
    return explain_lost_worker(error) or explain_lost_rank(error)


def explain_lost_worker(error: BaseException) -> UserError | None:
    """Convert an error caused by a dead data loader worker; return None for other errors."""
    found = _LOST_WORKER.search(str(error)) if isinstance(error, RuntimeError) else None
    if found is None:
        return None
    how = (found["how"] or "has died").replace("is killed", "was killed").strip()
    return UserError(
        f"the data loader's worker process {found['pid']} {how}; if the system ran out of memory or"
        " shared memory (/dev/shm), lower data_config.dataloader.num_workers or"
        " training_config.batch_size, then resume the run with --resume",
        own=True,
    )
