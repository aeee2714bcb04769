"""The versions that results depend on: the program's commit, Python and the main libraries."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "transformers", "accelerate")


@functools.cache
def commit() -> str | None:
    """Return the program's Git commit, with `+` if files have changed since; None if unknown."""
    # Otherwise git would answer for a repository that merely contains the installed package.
    if not (CHECKOUT / ".git").exists():
        return None
    command = ["git", "-C", str(CHECKOUT), "describe", "--always", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(
            [*command, "--dirty=+"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results depend on."""
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **libraries}
