"""A small stage and the shipped policy exported for it, made once and shared by the tests that need them."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

from bodydouble.motion import RobotMotion
from policy.export import export
from policy.shipped import shipped_checkpoint
from robot.policy_file import PolicyFile
from sim.retarget.kinematics import kinematics, make_robot_motion
from sim.robots import RobotSpec, robot_spec
from sim.stage.flat import flat_stage
from sim.stage.stage import Stage

UPRIGHT = (1.0, 0.0, 0.0, 0.0)


def squat_motion(robot: RobotSpec, frames: int = 60) -> RobotMotion:
    """The G1 bending its knees a little and rising again."""
    phase = 0.15 * (1 - np.cos(np.linspace(0, 2 * np.pi, frames)))
    joints = np.tile(robot.default_joint_pos, (frames, 1))
    for side in ("left", "right"):
        joints[:, robot.joint_names.index(f"{side}_hip_pitch_joint")] -= phase
        joints[:, robot.joint_names.index(f"{side}_knee_joint")] += 2 * phase
        joints[:, robot.joint_names.index(f"{side}_ankle_pitch_joint")] -= phase
    root, upright = np.tile([0.0, 0.0, kinematics(robot).standing_height()], (frames, 1)), np.tile(UPRIGHT, (frames, 1))
    floating = make_robot_motion(robot, 50.0, root, upright, joints)
    ankle = floating.body_pos[:, floating.body_names.index("left_ankle_roll_link"), 2]
    # The base sinks by what the feet would rise.
    root[:, 2] -= ankle - ankle[0]
    return make_robot_motion(robot, 50.0, root, upright, joints)


@functools.cache
def make_stage(base: Path) -> Stage:
    """A floor and a squat of 1.2 s, below the tests' temporary folder."""
    robot = robot_spec("unitree_g1")
    return flat_stage(robot, squat_motion(robot), base / "small_artifacts" / "stage")


@functools.cache
def make_policy(base: Path) -> Path:
    """The shipped policy as ONNX for that stage."""
    out = base / "small_artifacts" / "policy.onnx"
    return export(shipped_checkpoint("unitree_g1"), make_stage(base).path, out).path


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return make_stage(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def policy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def policy_file(policy_path: Path) -> PolicyFile:
    return PolicyFile(policy_path)
