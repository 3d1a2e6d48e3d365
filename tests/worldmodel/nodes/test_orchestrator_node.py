"""The orchestrator's node as a process of its own, spoken to over ROS 2."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from robot.nodes.process import JOINT_STATES, ODOM, SKILL, TICK, reliable
from sim.stage.stage import Stage
from tests.ros_domain import ros_domain

DOMAIN = ros_domain("orchestrator")
COMMAND = [sys.executable, "-m", "worldmodel.nodes.orchestrator_node"]


class StandingRobot:
    """What the node hears of a robot that stands on the reference's first frame, and what it answers."""

    def __init__(self, stage: Stage) -> None:
        self._context = Context()
        self._context.init(args=[], domain_id=DOMAIN)
        self._node = Node("robot_of_the_test", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._stage = stage
        self.skills: list[dict[str, Any]] = []
        self._joints = self._node.create_publisher(JointState, JOINT_STATES, reliable(1))
        self._odom = self._node.create_publisher(Odometry, ODOM, reliable(1))
        self._tick = self._node.create_publisher(String, TICK, reliable(1))
        self._node.create_subscription(String, SKILL, self._on_skill, reliable(10))

    def _on_skill(self, message: String) -> None:
        self.skills.append(json.loads(message.data))

    def heard(self) -> bool:
        """Whether the node listens, and can be heard."""
        listens = self._node.count_subscribers(TICK) > 0 and self._node.count_subscribers(ODOM) > 0
        return listens and self._node.count_publishers(SKILL) > 0

    def publish(self, t_s: float, mode: str, skill: str) -> None:
        reference, names = self._stage.reference, self._stage.robot.joint_names
        # The joints come in another order than the stage's: they must be taken by name.
        order = np.argsort(names)
        joints = JointState(name=[names[i] for i in order])
        joints.position = [float(reference.joint_pos[0, i]) for i in order]
        joints.velocity = [0.0] * len(names)
        odom = Odometry()
        position, odom.pose.pose.orientation.w = odom.pose.pose.position, 1.0
        position.x, position.y, position.z = map(float, reference.root_pos[0])
        tick = {"t_ns": round(t_s * 1e9), "mode": mode, "skill": skill, "frame": 0, "finished": False}
        self._joints.publish(joints)
        self._odom.publish(odom)
        self._tick.publish(String(data=json.dumps(tick)))

    def talk(
        self, t_s: float, seconds: float, until: Callable[[], bool] = lambda: False, mode: str = "run",
        skill: str = "stand",
    ) -> None:  # fmt: skip
        """Say the same again and again for so long, or until something holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            self.publish(t_s, mode, skill)
            self._executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()


@pytest.fixture
def robot(stage: Stage) -> Iterator[StandingRobot]:
    made = StandingRobot(stage)
    yield made
    made.close()


def test_lets_the_robot_stand_then_sends_it_and_keeps_a_log(
    stage: Stage, policy_path: Path, robot: StandingRobot, tmp_path: Path
) -> None:
    log = tmp_path / "decisions.json"
    argv = [*COMMAND, "--policy", str(policy_path), "--stage", str(stage.path), "--out", str(log)]
    process = subprocess.Popen(argv, env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)}, stderr=subprocess.PIPE)
    try:
        robot.talk(0.0, 30.0, robot.heard, mode="waiting")
        assert robot.heard() and process.poll() is None
        # The robot's clock decides: nothing in its first second and a half, however long that takes here.
        robot.talk(10.0, 0.4)
        robot.talk(11.4, 0.4)
        assert robot.skills == []
        # On a busy machine the first tick may be heard late and the rehearsals take their time: the clock goes on.
        for second in range(90):
            robot.talk(11.6 + second, 1.0, lambda: bool(robot.skills))
        # Upright and on its way: nothing more to decide.
        robot.talk(110.0, 0.3, skill="track")
        count = len(robot.skills)
        robot.talk(110.5, 0.6, skill="track")
        assert len(robot.skills) == count
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    first = robot.skills[0]
    assert (first["skill"], first["frame"]) == ("track", 0)
    assert first["t_ns"] in range(11_600_000_000, 101_600_000_000, 1_000_000_000)
    assert first["reason"].startswith("3 of 3 rehearsals succeeded")
    decisions = json.loads(log.read_text())["decisions"]
    assert [d["skill"] for d in decisions] == [skill["skill"] for skill in robot.skills]
    assert [candidate["skill"] for candidate in decisions[0]["candidates"]] == ["track", "stand", "stop"]
    assert all(outcome["success"] for candidate in decisions[0]["candidates"] for outcome in candidate["outcomes"])


def test_a_missing_stage_is_one_line_and_exit_status_2(policy_path: Path, tmp_path: Path) -> None:
    argv = [*COMMAND, "--policy", str(policy_path), "--stage", str(tmp_path / "nowhere")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "no such stage folder" in done.stderr
    assert done.stderr.count("\n") == 1
