from __future__ import annotations

import numpy as np
import pytest

from bodydouble.motion import RobotMotion
from sim.backend.cpu_batch import CpuBatch
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.retarget.kinematics import kinematics, make_robot_motion
from sim.robots import RobotSpec
from sim.stage.flat import flat_stage
from sim.stage.stage import Stage
from sim.tasks.tracking.config import RandomisationConfig, ResetConfig, TrackingConfig


@pytest.fixture(scope="session")
def squat(g1: RobotSpec) -> RobotMotion:
    """The G1 bending its knees a little and rising again, two seconds."""
    phase = 0.15 * (1 - np.cos(np.linspace(0, 2 * np.pi, 100)))
    joints = np.tile(g1.default_joint_pos, (100, 1))
    for side in ("left", "right"):
        joints[:, g1.joint_names.index(f"{side}_hip_pitch_joint")] -= phase
        joints[:, g1.joint_names.index(f"{side}_knee_joint")] += 2 * phase
        joints[:, g1.joint_names.index(f"{side}_ankle_pitch_joint")] -= phase
    root = np.tile([0.0, 0.0, kinematics(g1).standing_height()], (100, 1))
    root[:, 2] -= 0.03 * phase
    return make_robot_motion(g1, 50.0, root, np.tile([1.0, 0, 0, 0], (100, 1)), joints)


@pytest.fixture(scope="session")
def flat(g1: RobotSpec, squat: RobotMotion, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return flat_stage(g1, squat, tmp_path_factory.mktemp("stages") / "flat")


@pytest.fixture(scope="session")
def exact() -> TrackingConfig:
    """The task without anything random."""
    return TrackingConfig(randomisation=RandomisationConfig.none(), reset=ResetConfig.exact())


@pytest.fixture
def make_env(flat: Stage):
    def make(config: TrackingConfig, envs: int = 4, seed: int = 0, threads: int = 2) -> TrackingEnv:
        backend = CpuBatch(flat.compile(visuals=False), envs, seed, threads)
        return TrackingEnv(backend, TrackedRobot.from_spec(flat.robot), flat.motions, config)

    return make
