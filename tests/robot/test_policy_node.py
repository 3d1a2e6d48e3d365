"""The policy's node in this process: what it refuses, what it does when it breaks, and policies that are told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import Twist
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import UInt8MultiArray

from robot.nodes import policy_node
from robot.nodes.policy_node import PolicyNode, main, start
from robot.nodes.process import COMMAND_VELOCITY, FEET, IMU, JOINT_STATES, latest, running_node
from robot.runtime import PolicyRuntime, TickResult
from tests.robot.samples import JOINTS
from tests.robot.test_command_input import walker
from tests.ros_domain import ros_domain


@pytest.fixture(autouse=True)
def own_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(ros_domain("policy_node")))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


@pytest.fixture
def node(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[PolicyNode]:
    """A node for a policy that walks as told; parameters come from the test's `parameters` mark."""
    mark = request.node.get_closest_marker("parametrize")
    given = request.getfixturevalue("parameters") if mark else []
    words = ["policy", "--ros-args", "-p", f"policy:={walker(tmp_path).path}"]
    for parameter in given:
        words += ["-p", parameter]
    with running_node("policy", words, PolicyNode) as running:
        assert isinstance(running.node, PolicyNode)
        yield running.node
        running.node.stop()


def wait(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> list[TickResult]:
    """The results of every tick."""
    kept: list[TickResult] = []
    tick = PolicyRuntime.tick

    def keep(*args: Any) -> TickResult:
        kept.append(tick(*args))
        return kept[-1]

    monkeypatch.setattr(PolicyRuntime, "tick", keep)
    return kept


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (["policy:=/nowhere/policy.onnx"], "/nowhere/policy.onnx: cannot be read"),
        (["policy:=''"], "parameter policy is empty"),
        (["receiver:=a_drum"], "expected one of forward_position_controller"),
        (["safety.max_tilt:=-1.0"], "safety bound max_tilt is -1.0"),
        (["trusted_signers:=/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_used_leaves_the_node_unconfigured(node: PolicyNode, parameters: list[str], words: str) -> None:
    assert not start(node) and words in node.failure
    assert node._state_machine.current_state[1] == "unconfigured"


def test_a_policy_that_is_refused_ends_an_autostarted_process_with_status_2(capfd: pytest.CaptureFixture[str]) -> None:
    argv = ["policy_node", "--policy", "/nowhere/policy.onnx", "--ros-args", "-p", "autostart:=true"]
    assert main(argv) == 2
    assert "error: /nowhere/policy.onnx: cannot be read" in capfd.readouterr().err


def test_velocities_and_feet_reach_the_policy(node: PolicyNode, results: list[TickResult]) -> None:
    def sensors() -> None:
        joints, imu = JointState(name=list(JOINTS), position=[0.0] * 3, velocity=[0.0] * 3), Imu()
        imu.orientation.w = 1.0
        joints.header.stamp = imu.header.stamp = node.get_clock().now().to_msg()
        states.publish(joints)
        imus.publish(imu)

    states, imus = (node.create_publisher(k, t, latest(1)) for k, t in ((JointState, JOINT_STATES), (Imu, IMU)))
    twists = node.create_publisher(Twist, COMMAND_VELOCITY, latest(1))
    node.create_timer(0.01, sensors)
    assert start(node)
    twist = Twist()
    twist.linear.x, twist.angular.z = 0.5, 3.0

    def told(words: str) -> bool:
        twists.publish(twist)
        return any(words in event for result in list(results) for event in result.events)

    wait(lambda: told("command: yaw_rate clipped from 3 to 1"))
    obs = next(r.obs for r in results if any("clipped" in event for event in r.events))
    assert obs is not None
    np.testing.assert_array_equal(obs[-2:], np.array([0.5, 1.0], dtype=np.float32))
    twist.linear.x = float("nan")
    wait(lambda: told("refused: command: command is [NaN, 3.0], expected 2 finite numbers"))
    assert results[-1].mode in ("ramp", "run")


@pytest.mark.parametrize("parameters", [["safety.contact_loss_s:=0.1"]])
def test_feet_are_heard_where_they_are_asked_for(
    node: PolicyNode, parameters: list[str], results: list[TickResult]
) -> None:
    feet = node.create_publisher(UInt8MultiArray, FEET, latest(1))
    assert start(node)

    def told() -> bool:
        feet.publish(UInt8MultiArray(data=[1, 0]))
        return any("feet: [1, 0]" in result.commands for result in list(results))

    wait(told)


def test_a_control_thread_that_breaks_ends_the_process(node: PolicyNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a fault")

    ended: list[bool] = []
    node.on_crash = lambda: ended.append(True)
    monkeypatch.setattr(PolicyRuntime, "tick", broken)
    assert start(node)
    wait(lambda: ended)
    assert node.failure == "the control thread ended: RuntimeError: a fault"


@pytest.mark.parametrize("parameters", [["realtime_priority:=50"]])
def test_a_priority_that_is_not_granted_is_told(
    node: PolicyNode, parameters: list[str], results: list[TickResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(policy_node.os, "sched_setscheduler", denied)
    assert start(node)
    wait(lambda: results)
