"""Hosts on this machine, as `hosts.sh` makes them, and launches that span two of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import kill_all
from tests.tiny_benchmark import ROOT, environment_of

HOSTS_SH = Path(__file__).with_name("hosts.sh")
TWO_NODES = ROOT / "accelerate_configs" / "cpu_2nodes.yaml"
PATIENCE = float(os.environ.get("RELIC_NETWORK_PATIENCE", "600"))


def why_not() -> str | None:
    """Why there can be no hosts here."""
    missing = [name for name in ("unshare", "nsenter", "ip", "iptables-legacy") if not which(name)]
    if missing:
        return f"{', '.join(missing)} not found: install util-linux, iproute2 and iptables"
    if os.geteuid() != 0:
        return "hosts are made of namespaces, which takes root"
    tried = subprocess.run(["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "true"])
    return "the system does not allow namespaces" if tried.returncode else None


def which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@dataclass
class Hosts:
    """Running hosts, which are named host1, host2 and so on.

    Attributes:
        folder: Where `hosts.sh` keeps what it knows of them.
    """

    folder: Path

    def do(self, action: str, *arguments: str) -> None:
        """Change something, such as `cut host2`."""
        subprocess.run(["bash", str(HOSTS_SH), action, str(self.folder), *arguments], check=True)

    def command(self, host: str, *command: str) -> list[str]:
        """The command line that runs a command on a host."""
        return ["bash", str(HOSTS_SH), "on", str(self.folder), host, *command]

    def processes(self, host: str, namespace: str) -> list[int]:
        """The processes in a namespace of a host, as this system numbers them."""
        first = (self.folder / f"{host}.pid").read_text().strip()
        wanted = Path("/proc", first, "ns", namespace).readlink()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (entry / "ns" / namespace).readlink() == wanted:
                    found.append(int(entry.name))
        return found

    def signal(self, host: str, number: signal.Signals) -> None:
        """Send a signal to all processes of a host.

        `nsenter`, outside the host's process namespace, stops by itself when its child is stopped.
        If it were also stopped from here, it might stop a second time when it is continued.
        """
        for process in self.processes(host, "pid" if number == signal.SIGSTOP else "net"):
            with suppress(ProcessLookupError):
                os.kill(process, number)


@contextmanager
def running_hosts(folder: Path, count: int = 2) -> Iterator[Hosts]:
    """Hosts that end with the block."""
    hosts = Hosts(folder)
    try:
        hosts.do("start", str(count))
        yield hosts
    finally:
        hosts.do("stop")


@dataclass
class Launched:
    """One launch on two hosts.

    Attributes:
        processes: The launcher of each host.
        outputs: What each has written.
        ended: When each was seen to have ended.
    """

    processes: list[subprocess.Popen[bytes]]
    outputs: list[Path]
    ended: dict[int, float] = field(default_factory=dict)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, while both run."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert all(p.poll() is None for p in self.processes), self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)

    def wait(self, *numbers: int) -> list[int]:
        """Wait for the ends of these launchers, or all; returns their exit codes."""
        numbers = numbers or tuple(range(len(self.processes)))
        deadline = time.monotonic() + PATIENCE
        while not all(number in self.ended for number in numbers):
            for number in numbers:
                if number not in self.ended and self.processes[number].poll() is not None:
                    self.ended[number] = time.monotonic()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)
        return [self.processes[number].returncode for number in numbers]

    def said(self, number: int | None = None) -> str:
        """What one has written, or all."""
        chosen = self.outputs if number is None else [self.outputs[number]]
        return "\n".join(path.read_text(errors="replace") for path in chosen)

    def sentences(self, number: int, script: str = "pretrain.py") -> list[str]:
        """What the script on one host said at its end."""
        return [line for line in self.said(number).splitlines() if line.startswith(f"{script}: ")]


@contextmanager
def launched(
    hosts: Hosts, script: Sequence[str], folder: Path, before: Sequence[Sequence[str]] = ((), ())
) -> Iterator[Launched]:
    """Launch a script once on each of two hosts.

    Args:
        hosts: The hosts.
        script: The script and its arguments, after options of the launcher.
        folder: The directory to run in, which gets the outputs.
        before: For each host, a command that the launch is an argument of.
    """
    processes, outputs = [], []
    for rank, host in enumerate(("host1", "host2")):
        command = hosts.command(
            host, *before[rank], sys.executable, "-m", "accelerate.commands.launch",
            "--config_file", str(TWO_NODES), "--machine_rank", str(rank), "--main_process_ip",
            "host1", *script,
        )  # fmt: skip
        outputs.append(folder / f"{host}-{time.monotonic_ns()}.out")
        with outputs[-1].open("wb") as output:
            processes.append(
                subprocess.Popen(
                    command, cwd=folder, env=environment_of(), stdout=output, stderr=output
                )
            )
    try:
        yield Launched(processes, outputs)
    finally:
        for process in processes:
            kill_all(process)  # type: ignore[arg-type]  # its output is not read here
