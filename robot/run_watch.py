"""Watching a run until its end: the ticks, the schedule of skills, and what a policy is told."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bodydouble.motion import RobotMotion
from robot.command_input import VELOCITIES
from robot.command_source import CommandSource
from robot.run_config import RunConfig
from robot.run_processes import RunError

_LOOK_S = 0.05
"""Time between two looks, and between two messages of a command, s: well below the silence that a policy bears."""


def watch(
    processes: dict[str, subprocess.Popen[bytes]],
    reference: RobotMotion | None,
    source: CommandSource | None,
    command_names: tuple[str, ...],
    limit_s: float,
    config: RunConfig,
    environment: dict[str, str],
) -> None:
    """Follow the ticks until the reference has ended, or the time is up.

    Args:
        processes: The nodes, by name.
        reference: The motion that is followed; None where the policy follows none.
        source: What the policy is told; None where others tell it, or nobody need.
        command_names: Names of what it is told.
        limit_s: Longest run, s.
        config: Settings.
        environment: Environment of the nodes.

    Raises:
        RunError: A node ended, or no command reached the robot in time.
        KeyboardInterrupt: Ctrl-C.
    """
    for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTDDS_BUILTIN_TRANSPORTS"):
        if name in environment:
            os.environ[name] = environment[name]
    from rosgraph_msgs.msg import Clock
    from std_msgs.msg import String

    from robot.nodes.process import CLOCK, SKILL, TICK, latest, reliable, running_node

    ticks: list[dict[str, Any]] = []
    released: list[bool] = []
    with running_node("launch", []) as running:
        skill = running.node.create_publisher(String, SKILL, reliable(10))
        tell = _teller(running.node, command_names) if source else None
        running.node.create_subscription(
            String, TICK, lambda message: ticks.append(_short(message.data)), reliable(200)
        )
        # Simulated time stands still until the first command has reached the robot, which takes long over a bad link.
        running.node.create_subscription(Clock, CLOCK, lambda message: _note(message.clock, released), latest(1))
        by_the_clock = reference is not None and not config.orchestrator
        total = reference.num_frames - 1 if reference else limit_s
        begun, run_begun, ended_at, asked = time.monotonic(), 0.0, 0.0, False
        columns = (
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[mode]}"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("running", total=total, mode="starting")
            while True:
                if running.stop.wait(_LOOK_S):
                    raise KeyboardInterrupt
                for name, process in processes.items():
                    if process.poll() is not None:
                        raise RunError(f"node {name} ended with status {process.returncode} during the run")
                now = ticks[-1] if ticks else None
                waiting = now is None or now["mode"] == "waiting" or not released
                elapsed = time.monotonic() - begun
                if source is not None and tell is not None:
                    tell(source.at(elapsed - run_begun if run_begun else 0.0))
                if waiting and elapsed > config.start_timeout_s:
                    raise RunError(
                        f"no command reached the robot within {config.start_timeout_s:g} s; see the nodes' logs"
                    )
                if now is None or waiting:
                    continue
                run_begun = run_begun or elapsed
                done = now["frame"] if reference else elapsed - run_begun
                bar.update(task, completed=done, mode=f"{now['skill']} ({now['mode']})")
                if by_the_clock and not asked and elapsed - run_begun > config.stand_s:
                    skill.publish(String(data=json.dumps({"skill": "track", "reason": "the launch's schedule"})))
                    asked = True
                over = now["finished"] or now["mode"] == "stopped"
                ended_at = ended_at or (elapsed if over else 0.0)
                lasted = elapsed - (0.0 if reference else run_begun)
                if (ended_at and elapsed > ended_at + config.end_s) or lasted > limit_s:
                    return


def _note(clock: Any, released: list[bool]) -> None:
    if not released and (clock.sec or clock.nanosec):
        released.append(True)


def _teller(node: Any, names: tuple[str, ...]) -> Any:
    """Return a function that publishes a command where the policy's node hears it."""
    from geometry_msgs.msg import Twist
    from std_msgs.msg import Float64MultiArray

    from robot.nodes.process import COMMAND, COMMAND_VELOCITY, reliable

    if not set(names) <= set(VELOCITIES):
        plain = node.create_publisher(Float64MultiArray, COMMAND, reliable(1))
        return lambda values: plain.publish(Float64MultiArray(data=values))
    twists = node.create_publisher(Twist, COMMAND_VELOCITY, reliable(1))

    def tell(values: list[float]) -> None:
        twist = Twist()
        for name, value in zip(names, values, strict=True):
            part, axis = VELOCITIES[name]
            setattr(getattr(twist, part), axis, value)
        twists.publish(twist)

    return tell


def _short(text: str) -> dict[str, Any]:
    tick = json.loads(text)
    return {name: tick[name] for name in ("tick", "mode", "skill", "frame", "finished")}
