"""Shared fixtures of the simulation's tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bodydouble.motion import RobotMotion
from sim.retarget.kinematics import kinematics, make_robot_motion
from sim.robots import RobotSpec, robot_spec


@pytest.fixture(scope="session")
def g1() -> RobotSpec:
    return robot_spec("unitree_g1")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real recordings, which are not part of the project."""
    path = Path(os.environ.get("BODYDOUBLE_DATA", "../shared/data"))
    if not path.is_dir():
        pytest.skip(f"needs the real recordings: {path} is missing (set BODYDOUBLE_DATA)")
    return path


@pytest.fixture(scope="session")
def standing(g1: RobotSpec) -> RobotMotion:
    """The G1 standing still for 30 frames."""
    root = np.tile([0.0, 0.0, kinematics(g1).standing_height()], (30, 1))
    return make_robot_motion(g1, 50.0, root, np.tile([1.0, 0, 0, 0], (30, 1)), np.tile(g1.default_joint_pos, (30, 1)))
