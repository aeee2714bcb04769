"""A wrong clock on one of the hosts of a run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("shifted_clock.c")
HOUR = 3600


def compiler() -> str | None:
    """The C compiler's path, if there is one."""
    return shutil.which("cc")


def wrong_clock(folder: Path, seconds: int, rank: int | None = None) -> dict[str, str]:
    """The environment in which clocks are off; nothing without a compiler.

    Args:
        folder: Where the library is built that does it.
        seconds: How much they are ahead.
        rank: The one rank whose clock is wrong.
    """
    compile_with = compiler()
    if compile_with is None:
        return {}
    library = folder / "shifted_clock.so"
    command = [compile_with, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library)]
    subprocess.run([*command, str(SOURCE)], check=True)
    chosen = {} if rank is None else {"SHIFTED_RANK": str(rank)}
    return {"LD_PRELOAD": str(library), "SHIFTED_BY": str(seconds), **chosen}
