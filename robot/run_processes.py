"""The nodes of a run as processes: started together, stopped in order."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bodydouble.errors import BodydoubleError


class RunError(BodydoubleError):
    """A node of the run died or did not answer."""


@contextlib.contextmanager
def node_processes(
    commands: dict[str, list[str]], environment: dict[str, str], folder: Path, hosts: dict[str, list[str]]
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Start the nodes; at the end stop them, the policy first and the recorder last, and tell which failed.

    Args:
        commands: Module and arguments by the node's name.
        environment: Environment of the processes.
        folder: Folder to write each node's log into.
        hosts: What to put before the command of a node that runs elsewhere.

    Raises:
        RunError: A node ended with another status than zero.
    """
    processes: dict[str, subprocess.Popen[bytes]] = {}
    logs = {name: open(folder / f"{name}.log", "wb") for name in commands}  # noqa: SIM115 - closed below
    failures: list[str] = []
    try:
        for name, argv in commands.items():
            processes[name] = subprocess.Popen(
                [*hosts.get(name, ()), sys.executable, "-m", *argv], env=environment, stdout=logs[name],
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        yield processes
    finally:
        for name in sorted(processes, key=lambda name: (name == "recorder", name != "policy")):
            code = _stop(processes[name])
            if code != 0:
                failures.append(f"{name} ended with status {code}")
        for log in logs.values():
            log.close()
    if failures:
        raise RunError(f"{'; '.join(failures)}: {_tail(folder, failures[0].split()[0])}")


def _stop(process: subprocess.Popen[bytes]) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    for ask in (process.terminate, process.kill):
        try:
            return process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            ask()
    return process.wait()


def _tail(folder: Path, name: str) -> str:
    lines = (folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
