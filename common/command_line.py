"""Command-line options and exit codes that the three entry scripts share.

This module imports neither torch nor transformers, so that `--help` and wrong arguments are
answered at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from common.errors import UserError
from common.failures import explain_failure
from common.pausing import EXIT_INTERRUPTED, PAUSE, Paused
from common.rank_watch import FAILED, LEFT, RankLostError, leave

EXIT_OK, EXIT_DEFECT, EXIT_USER_ERROR = 0, 1, 2
# The number of EX_TEMPFAIL in sysexits.h: a temporary failure, after which to try again.
EXIT_PAUSED = 75
EXIT_CODES = {
    EXIT_OK: "success",
    EXIT_DEFECT: "a defect of the program (a traceback on stderr)",
    EXIT_USER_ERROR: "a user's mistake (one sentence on stderr)",
    EXIT_PAUSED: "paused by Ctrl-C, SIGTERM or SIGUSR1 with the work saved, or stopped because"
    " another process of the run was lost",
    EXIT_INTERRUPTED: "stopped at once by a second Ctrl-C",
}


class _Parser(argparse.ArgumentParser):
    """Argument parser that reports mistakes in one sentence, without usage text, on rank 0 only."""

    def error(self, message: str) -> NoReturn:
        """Report a mistake in the command line, and exit with the code of user errors."""
        sentence = f"{self.prog}: error: {message}; see {self.prog} --help\n"
        self.exit(EXIT_USER_ERROR, sentence if global_rank() == 0 else None)


def stage_parser(
    program: str, description: str, config_required: bool = True
) -> argparse.ArgumentParser:
    """Create a command-line parser with the options that all three scripts share."""
    codes = ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
    parser = _Parser(
        prog=program,
        description=description,
        epilog=(
            f"Launch: accelerate launch [--config_file accelerate_configs/X.yaml] {program}"
            f" --config FILE; on one process also: python {program} --config FILE."
            f" Exit codes: {codes}."
            " (`accelerate launch` itself exits with 0 after success, and with another number in"
            " all other cases.)"
        ),
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        required=config_required,
        help="YAML file, such as configs/v3.yaml",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        dest="overrides",
        help="override config keys, such as training_config.epochs=5 (wins over the file)",
    )
    return parser


def add_resume(parser: argparse.ArgumentParser) -> None:
    """Add the option `--resume` to the parser of a training script."""
    parser.add_argument(
        "--resume",
        action="store_true",
        help="resume from the last complete state of the configured run id, or of the newest run;"
        " a run that has saved no state yet starts over",
    )


def add_checkpoint(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Add the option `--checkpoint`, which names a directory or a model on the Hugging Face hub."""
    meaning += "; also user/repo[@revision] on the Hugging Face hub"
    parser.add_argument("--checkpoint", metavar="DIR", type=given_path, help=meaning)


def given_path(text: str) -> str:
    """Return an option's path unchanged; reject an empty path, as from an unset shell variable."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; name a path or leave the option out")
    return text


def global_rank() -> int:
    """Read this process's rank from the environment variable `RANK`, which the launcher sets."""
    return int(os.environ.get("RANK", "0"))


def run_script(main: Callable[[], None]) -> NoReturn:
    """Run a script's main function, and exit with one of the documented exit codes."""
    PAUSE.listen()
    try:
        main()
    except Paused as paused:
        _fail(EXIT_PAUSED, f"paused {paused}")
    except Exception as error:
        _report(explain_failure(error) or error)
    leave(LEFT)
    _exit(EXIT_OK)


def _report(error: Exception) -> NoReturn:
    """Print in one sentence why the script failed, and exit with a documented exit code."""
    if isinstance(error, UserError):
        # Every rank finds the same mistake in the configuration, so only rank 0 reports it.
        _fail(EXIT_USER_ERROR, f"error: {error}", everywhere=error.own)
    if isinstance(error, PermissionError):
        # Any file may be inaccessible to this user, and only the user can change that.
        where = error.filename or "a file"
        _fail(
            EXIT_USER_ERROR,
            f"error: {where}: permission denied; allow access, or name another path",
        )
    if isinstance(error, RankLostError):
        stop_without(error)
    traceback.print_exception(error)
    _fail(EXIT_DEFECT, f"failed: {type(error).__name__} on rank {global_rank()}, a defect")


def stop_without(lost: RankLostError) -> NoReturn:
    """End this process immediately, because another process of the run was lost."""
    _fail(EXIT_PAUSED, f"stopped: {lost}")


def _fail(code: int, sentence: str, everywhere: bool = True) -> NoReturn:
    """Print why the script ends, tell the other processes, and exit with the given code."""
    _say(sentence, everywhere)
    leave(f"{FAILED}{sentence}")
    _exit(code)


def _program() -> str:
    return os.path.basename(sys.argv[0])  # noqa: PTH119 (a name, not a path)


def _say(sentence: str, everywhere: bool) -> None:
    """Write the script's last line to stderr, on rank 0 only unless `everywhere` is set."""
    if everywhere or global_rank() == 0:
        sys.stderr.write(f"{_program()}: {sentence}\n")


def _exit(code: int) -> NoReturn:
    """Exit immediately, without waiting for other processes or for library threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
