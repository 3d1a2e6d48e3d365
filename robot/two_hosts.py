"""Two hosts on one machine: network namespaces with addresses of their own; the link between them delays and loses.

    with two_hosts(delay_s=0.02, loss=0.05) as hosts:
        subprocess.run([*hosts.on_policy_host, "bodydouble", "run", ..., "--config.robot-host", hosts.robot_host])

The link is a process that hands Ethernet frames from one side to the other, later or not at all. It needs no kernel
module (tc's netem is one), is seeded, and counts. Linux, iproute2 and the right to make namespaces are needed.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import itertools
import json
import os
import random
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bodydouble.artifacts import read_json
from bodydouble.errors import BodydoubleError

ADDRESSES = ("10.77.0.1/24", "10.77.0.2/24")
"""Addresses of the policy's host and of the robot's."""
_SOL_PACKET, _IGNORE_OUTGOING, _VNET_HDR = 263, 23, 15
_ALL_PROTOCOLS = 0x0003
_LARGEST_FRAME = 1 << 17


class NamespaceError(BodydoubleError):
    """Network namespaces cannot be made here."""


@dataclass
class TwoHosts:
    """The names of the hosts, and what went over the link."""

    policy_host: str
    """Namespace of the policy's host."""
    robot_host: str
    """Namespace of the robot's host."""
    frames: dict[str, int] = field(default_factory=dict)
    """Frames forwarded and lost, filled in when the hosts are gone."""

    @property
    def on_policy_host(self) -> list[str]:
        """What to put before a command to run it on the policy's host."""
        return on_host(self.policy_host)


def on_host(name: str) -> list[str]:
    """Return what to put before a command to run it in a network namespace."""
    return ["ip", "netns", "exec", name]


def why_not() -> str:
    """Return why namespaces cannot be made here; empty where they can."""
    name = f"bd-try-{os.getpid()}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except NamespaceError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def two_hosts(delay_s: float = 0.0, loss: float = 0.0, seed: int = 0) -> Iterator[TwoHosts]:
    """Make the hosts and the link; both are gone when the block ends.

    Args:
        delay_s: Delay of each frame, in either direction, s.
        loss: Share of the frames that are lost.
        seed: Seed of the losses.

    Raises:
        NamespaceError: The right to make namespaces is missing, or iproute2 is.
    """
    policy, robot, link = (f"bd-{name}-{os.getpid()}" for name in ("policy", "robot", "link"))
    hosts = TwoHosts(policy, robot)
    with contextlib.ExitStack() as stack:
        for name in (policy, robot, link):
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
        for name, side, address in ((policy, "left", ADDRESSES[0]), (robot, "right", ADDRESSES[1])):
            _ip("link", "add", "wire", "netns", name, "type", "veth", "peer", "name", side, "netns", link)
            _ip("-n", link, "link", "set", side, "up")
            _ip("-n", name, "addr", "add", address, "dev", "wire")
            _ip("-n", name, "link", "set", "wire", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            # DDS finds its peers by multicast.
            _ip("-n", name, "route", "add", "224.0.0.0/4", "dev", "wire")
        options = ["--delay-s", str(delay_s), "--loss", str(loss), "--seed", str(seed)]
        process = subprocess.Popen(
            [*on_host(link), sys.executable, "-m", "robot.two_hosts", *options], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise NamespaceError("the link between the hosts did not start; raw sockets may not be permitted")
            yield hosts
        finally:
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=20)
            if rest.strip():
                hosts.frames.update(json.loads(rest))


def run_on_two_hosts(
    policy: Path, stage: Path, out: Path, delay_s: float = 0.0, loss: float = 0.0, seed: int = 0
) -> dict[str, float]:
    """Run a policy on one host against the simulated robot on the other, to the reference's end; return its figures.

    Args:
        policy: The ONNX file.
        stage: Folder of the stage.
        out: Folder to write the run into.
        delay_s: Delay of each frame, in either direction, s.
        loss: Share of the frames that are lost.
        seed: Seed of the losses.

    Returns:
        The run's figures, and the link's frames_forwarded and frames_lost.

    Raises:
        NamespaceError: Namespaces cannot be made, or the run did not end well; the message holds its last line.
    """
    with two_hosts(delay_s, loss, seed) as hosts:
        argv = [
            *hosts.on_policy_host, sys.executable, "-m", "bodydouble.cli", "run", "--policy", str(policy),
            "--stage", str(stage), "--out", str(out), "--config.no-orchestrator", "--config.stand-s", "0.5",
            "--config.end-s", "0.2", "--config.robot-host", hosts.robot_host,
        ]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NamespaceError(f"the run on two hosts failed: {' '.join(done.stderr.split())[-300:]}")
    figures: dict[str, float] = read_json(out / "run.json")["figures"]
    return figures | {f"frames_{name}": float(count) for name, count in hosts.frames.items()}


def _ip(*arguments: str) -> None:
    if shutil.which("ip") is None:
        raise NamespaceError("the command ip is missing; install iproute2")
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        what = " ".join(done.stderr.split()) or f"status {done.returncode}"
        raise NamespaceError(f"ip {' '.join(arguments)}: {what}; run as root, with the right to make namespaces")


def forward(delay_s: float, loss: float, seed: int) -> None:
    """Forward frames between the interfaces `left` and `right` until SIGTERM, then print the counts as JSON."""
    ends = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS)) for _ in range(2)]
    other, selector = {ends[0]: ends[1], ends[1]: ends[0]}, selectors.DefaultSelector()
    for end, name in zip(ends, ("left", "right"), strict=True):
        end.bind((name, _ALL_PROTOCOLS))
        end.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        # Frames between namespaces carry no checksums and may be longer than the wire allows; the header says so.
        end.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
        end.setblocking(False)
        selector.register(end, selectors.EVENT_READ)
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    rng, order, counts = random.Random(seed), itertools.count(), {"forwarded": 0, "lost": 0}
    waiting: list[tuple[float, int, socket.socket, bytes]] = []
    print("ready", flush=True)
    while not stopped:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, end, frame = heapq.heappop(waiting)
            with contextlib.suppress(OSError):  # a full buffer loses the frame, as a wire would
                end.send(frame)
                counts["forwarded"] += 1
        for key, _ in selector.select(min(0.1, waiting[0][0] - now) if waiting else 0.1):
            end = key.fileobj
            assert isinstance(end, socket.socket)
            with contextlib.suppress(BlockingIOError):
                while frame := end.recv(_LARGEST_FRAME):
                    if rng.random() < loss:
                        counts["lost"] += 1
                    else:
                        heapq.heappush(waiting, (time.monotonic() + delay_s, next(order), other[end], frame))
    print(json.dumps(counts), flush=True)


def main() -> int:
    """Be the link."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay-s", type=float, default=0.0, help="delay of each frame, s")
    parser.add_argument("--loss", type=float, default=0.0, help="share of the frames that are lost")
    parser.add_argument("--seed", type=int, default=0, help="seed of the losses")
    args = parser.parse_args()
    forward(args.delay_s, args.loss, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
