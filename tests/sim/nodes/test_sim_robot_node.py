"""The simulated robot's node: options, what it says and what it refuses. The tests of robot/ run it over DDS."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

import mujoco
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray, String, UInt8MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from bodydouble.errors import InputError
from robot.launch import SimFaults
from sim.nodes.sim_robot_node import MAX_DELAY_STEPS, OPTIONS, Faults, SimRobot, refuse_gains
from sim.stage.stage import Stage


class Heard:
    """Stands for rclpy's node: keeps what is published, by type."""

    def __init__(self) -> None:
        self.messages: dict[Any, list[Any]] = {}
        self.errors: list[str] = []

    def create_publisher(self, kind: Any, topic: str, qos: Any) -> Any:
        del topic, qos
        kept = self.messages.setdefault(kind, [])
        return type("Publisher", (), {"publish": staticmethod(kept.append)})

    def create_subscription(self, *arguments: Any) -> None:
        del arguments

    def get_logger(self) -> Any:
        return type("Logger", (), {"error": staticmethod(lambda text, **_: self.errors.append(text))})


def made(stage: Stage, **faults: Any) -> tuple[SimRobot, Heard]:
    heard = Heard()
    return SimRobot(heard, stage, Faults(**faults), 0), heard  # type: ignore[arg-type]


def stepped(robot: SimRobot, steps: int) -> np.ndarray:
    """Step and return the controls (steps, J)."""
    controls = []
    for step in range(steps):
        robot._publish(step)
        robot._advance()
        controls.append(robot._data.ctrl[: robot._joints].copy())
    return np.array(controls)


def test_options_are_the_faults_and_those_of_a_run() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(Faults)}
    assert fields == {field.name: field.default for field in dataclasses.fields(SimFaults)}
    assert fields.items() <= {name: default for name, default, _ in OPTIONS}.items()


@pytest.mark.parametrize(
    ("name", "value"),
    [("delay_steps", -1), ("delay_steps", MAX_DELAY_STEPS + 1), ("loss", 1.01), ("loss", float("nan")),
     ("joint_noise", -0.1), ("gyro_noise", float("inf")), ("speed_noise", float("nan"))],
)  # fmt: skip
def test_options_that_no_robot_has(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        Faults(**{name: value})  # type: ignore[arg-type]


def test_a_command_is_delayed_by_physics_steps(stage: Stage) -> None:
    robot, _ = made(stage, delay_steps=3)
    before = robot._data.ctrl[: robot._joints].copy()
    wanted = before + 0.01
    robot._on_command(Float64MultiArray(data=wanted.tolist()))
    controls = stepped(robot, 6)
    np.testing.assert_array_equal(controls[:3], np.tile(before, (3, 1)))
    np.testing.assert_array_equal(controls[3:], np.tile(wanted, (3, 1)))
    assert len(robot._queue) == 3


def test_it_hangs_until_the_first_command(stage: Stage) -> None:
    robot, heard = made(stage)
    start = robot._data.qpos.copy()
    stepped(robot, 5)
    np.testing.assert_array_equal(robot._data.qpos, start)
    force = heard.messages[Imu][-1].linear_acceleration
    np.testing.assert_allclose([force.x, force.y, force.z], [0, 0, 9.81], atol=0.05)
    assert len(heard.messages[JointState]) == 5


def test_a_standing_robot_weighs_and_touches_and_a_falling_one_does_not(stage: Stage) -> None:
    robot, heard = made(stage)
    robot._on_command(Float64MultiArray(data=stage.reference.joint_pos[0].tolist()))
    stepped(robot, 60)
    force = heard.messages[Imu][-1].linear_acceleration
    assert 7 < np.linalg.norm([force.x, force.y, force.z]) < 13
    assert list(heard.messages[UInt8MultiArray][-1].data) == [1, 1]
    robot._data.qpos[2] += 2.0
    mujoco.mj_forward(robot._robot.model, robot._data)
    stepped(robot, 60)  # the joints let go of the weight first
    force = heard.messages[Imu][-1].linear_acceleration
    assert np.linalg.norm([force.x, force.y, force.z]) < 3
    assert list(heard.messages[UInt8MultiArray][-1].data) == [0, 0]


def test_noise_and_loss_are_seeded(stage: Stage) -> None:
    def play(seed: int) -> tuple[np.ndarray, int]:
        robot, heard = made(stage, joint_noise=0.01, speed_noise=0.1, gyro_noise=0.1, loss=0.3, seed=seed)
        stepped(robot, 100)
        states = heard.messages[JointState]
        return np.array([[*state.position, *state.velocity] for state in states]), len(states)

    (one, count), (same, _), (other, _) = play(1), play(1), play(2)
    np.testing.assert_array_equal(one, same)
    assert 50 < count < 90 and (len(one) != len(other) or not np.array_equal(one, other))
    joints = len(stage.robot.joint_names)
    assert 0.008 < (one[:, :joints] - stage.reference.joint_pos[0]).std() < 0.012
    assert 0.08 < one[:, joints:].std() < 0.12


def test_commands_are_lost_too(stage: Stage) -> None:
    robot, _ = made(stage, loss=1.0)
    robot._on_command(Float64MultiArray(data=stage.reference.joint_pos[0].tolist()))
    assert robot._command is None


def test_a_trajectory_is_taken_by_name(stage: Stage) -> None:
    robot, heard = made(stage)
    names = stage.robot.joint_names
    wanted = 0.01 * np.arange(len(names))
    order = np.random.default_rng(0).permutation(len(names))
    point = JointTrajectoryPoint(positions=wanted[order].tolist())
    robot._on_trajectory(JointTrajectory(joint_names=[names[i] for i in order], points=[point]))
    np.testing.assert_array_equal(robot._command, wanted)
    robot._on_trajectory(JointTrajectory(joint_names=list(names[1:]), points=[point]))
    robot._on_trajectory(JointTrajectory())
    np.testing.assert_array_equal(robot._command, wanted)
    assert len(heard.errors) == 2 and "one finite number" in heard.errors[0]


def test_a_policy_for_other_gains_is_not_obeyed(stage: Stage) -> None:
    spec = stage.robot
    gains = {"joint_names": list(spec.joint_names), "kp": spec.kp.tolist(), "kd": spec.kd.tolist()}
    assert refuse_gains(spec, json.dumps(gains)) == ""
    gains["kp"][2] *= 1.5
    robot, heard = made(stage)
    robot._on_gains(String(data=json.dumps(gains)))
    robot._on_command(Float64MultiArray(data=stage.reference.joint_pos[0].tolist()))
    assert robot._command is None and f"joint {spec.joint_names[2]}" in heard.errors[0]
    for text in ("", "[]", "{}", '{"joint_names": 3}', json.dumps(gains | {"kp": [1.0]})):
        assert "cannot be read" in refuse_gains(spec, text)
