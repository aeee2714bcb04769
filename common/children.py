"""Run another program that is killed when this process ends, even if this process is killed.

Otherwise a program such as MMseqs2, and all that it starts, would outlive a killed parent.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

# The shell leads a new process group, to which everything that the program starts belongs. It waits
# for the end of a pipe that this process holds open, and then kills the group.
_SCRIPT = """
exec 3<&0
(read -r end <&3; kill -KILL 0) >/dev/null 2>&1 &
"$@" </dev/null 3<&-
code=$?
kill $!
exit $code
"""


def run_child(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program until it ends, and return its exit code and output."""
    reading, writing = os.pipe()
    try:
        return subprocess.run(
            ["/bin/sh", "-c", _SCRIPT, "sh", *command],
            stdin=reading,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
    finally:
        os.close(writing)
        os.close(reading)
