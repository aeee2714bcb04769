"""Libraries that, loaded before all others, give a process a wrong clock or a full quota.

So they concern Python, torch and safetensors alike. Without a C compiler there is none of them.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).with_name("preload")
HOUR = 3600
FULL = "the quota is full"


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
    if compiler() is None:
        return {}
    chosen = {} if rank is None else {"SHIFTED_RANK": str(rank)}
    return {**_built("shifted_clock", folder), "SHIFTED_BY": str(seconds), **chosen}


def quota_on(directory: Path, folder: Path) -> dict[str, str]:
    """The environment in which nothing can be written in a directory while it has a file `FULL`."""
    if compiler() is None:
        pytest.skip("there is no C compiler (cc) to build what acts as a quota")
    return {**_built("full_quota", folder), "QUOTA_DIRECTORY": str(directory.resolve())}


def _built(name: str, folder: Path) -> dict[str, str]:
    library = folder / f"{name}.so"
    command = [str(compiler()), "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library)]
    subprocess.run([*command, str(SOURCES / f"{name}.c")], check=True)
    return {"LD_PRELOAD": str(library)}
