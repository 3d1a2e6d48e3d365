from __future__ import annotations

import mujoco
import numpy as np
import pytest

from bodydouble.errors import PhysicsError
from robot.policy_file import PolicyFile
from robot.safety import SafetyConfig
from sim.backend.cpu_batch import CpuBatch
from sim.closed_loop import ClosedLoop, RobotModel, body_error, fallen, place
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.stage.stage import Stage
from sim.tasks.tracking.config import RandomisationConfig, ResetConfig, TrackingConfig
from tests.policy.artifacts import policy_file, policy_path, stage

__all__ = ["policy_file", "policy_path", "stage"]


@pytest.fixture(scope="module")
def robot(stage: Stage) -> RobotModel:
    return RobotModel.of(stage)


@pytest.fixture
def loop(robot: RobotModel, policy_file: PolicyFile, stage: Stage) -> ClosedLoop:
    return ClosedLoop(robot, policy_file, stage.reference)


def test_a_control_step_is_four_physics_steps(robot: RobotModel, loop: ClosedLoop) -> None:
    assert robot.substeps == 4 and len(robot.tracked) == 14
    loop.step()
    assert loop.data.time == pytest.approx(0.02)
    loop.step()
    assert loop.data.time == pytest.approx(0.04)


def test_place_puts_the_robot_on_the_frame_at_rest(robot: RobotModel, stage: Stage) -> None:
    data, reference = mujoco.MjData(robot.model), stage.reference
    data.qvel[:], data.time = 3.0, 9.0
    place(robot, data, reference, frame=20)
    np.testing.assert_array_equal(data.qpos[:3], reference.root_pos[20])
    np.testing.assert_array_equal(data.qpos[7:36], reference.joint_pos[20])
    np.testing.assert_array_equal(data.ctrl[:29], reference.joint_pos[20])
    assert not data.qvel.any() and data.time == 0
    assert body_error(robot, data, reference, 20) < 1e-6, "bodies are where retargeting put them"
    assert body_error(robot, data, reference, 0) > 1e-3


def test_body_error_is_a_mean_distance(robot: RobotModel, stage: Stage) -> None:
    data, reference = mujoco.MjData(robot.model), stage.reference
    place(robot, data, reference)
    data.qpos[:3] += [0.3, 0.0, 0.4]
    mujoco.mj_forward(robot.model, data)
    assert body_error(robot, data, reference, 0) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("axis", "angle", "drop", "expected"),
    [
        (1, 0.0, 0.0, False),
        (1, 0.89, 0.0, False),
        (2, 0.91, 0.0, True),
        (1, -0.91, 0.0, True),
        (3, 3.0, 0.0, False),
        (1, 0.0, 0.39, False),
        (1, 0.0, 0.41, True),
    ],
)
def test_fallen_from_both_sides(
    robot: RobotModel, stage: Stage, axis: int, angle: float, drop: float, expected: bool
) -> None:
    """Beyond 0.9 rad of tilt, or below 60 % of the reference's height; a turn about the vertical is no fall."""
    data, reference = mujoco.MjData(robot.model), stage.reference
    place(robot, data, reference)
    data.qpos[3:7] = 0.0
    data.qpos[3], data.qpos[3 + axis] = np.cos(angle / 2), np.sin(angle / 2)
    data.qpos[2] -= drop * reference.root_pos[0, 2]
    assert fallen(data, reference, 0) == expected


def test_follows_the_reference_to_its_end(loop: ClosedLoop, robot: RobotModel, stage: Stage) -> None:
    loop.runtime.ask("track")
    errors, modes = [], []
    for _ in range(stage.reference.num_frames):
        modes.append(loop.step().mode)
        errors.append(body_error(robot, loop.data, stage.reference, loop.runtime.player.frame))
        assert not fallen(loop.data, stage.reference, loop.runtime.player.frame)
    assert loop.runtime.player.finished
    assert np.mean(errors) < 0.03
    assert set(modes) == {"ramp", "run"} and modes[0] == "ramp" and modes[-1] == "run"


def test_the_same_run_twice_has_the_same_bits(robot: RobotModel, policy_file: PolicyFile, stage: Stage) -> None:
    runs = []
    for _ in range(2):
        loop = ClosedLoop(robot, policy_file, stage.reference)
        loop.runtime.ask("track")
        ticks = [loop.step() for _ in range(40)]
        runs.append((loop.data.qpos.copy(), np.array([tick.command for tick in ticks])))
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    np.testing.assert_array_equal(runs[0][1], runs[1][1])


def test_training_and_deployment_see_the_same(loop: ClosedLoop, stage: Stage) -> None:
    """From the same states, the environment and the runtime build the same observations, to rounding."""
    config = TrackingConfig(randomisation=RandomisationConfig.none(), reset=ResetConfig.exact())
    backend = CpuBatch(stage.compile(visuals=False), 1, seed=0, threads=1)
    env = TrackingEnv(backend, TrackedRobot.from_spec(stage.robot), stage.motions, config)
    obs = env.reset()["policy"][0]
    loop.runtime.ask("track")
    joints = []
    for _ in range(30):
        qpos, qvel = (array[0].astype(np.float64) for array in backend.get_state())
        loop.data.qpos[:], loop.data.qvel[:] = qpos, qvel
        tick = loop.step()
        assert tick.obs is not None and tick.action is not None
        np.testing.assert_allclose(tick.obs, obs, atol=2e-5)
        obs = env.step(tick.action[None]).obs["policy"][0]
        joints.append(qpos[7:])
    assert np.ptp(joints, axis=0).max() > 0.2, "the robot moved"


def test_a_robot_that_falls_is_stopped_by_the_safety_layer(loop: ClosedLoop, stage: Stage) -> None:
    loop.runtime.ask("track")
    loop.data.qvel[:3] = [4.0, 0.0, 0.0]
    results = [loop.step() for _ in range(100)]
    stops = [result for result in results if result.mode == "stopped"]
    assert stops and any("tilted" in event or "moves at" in event for event in stops[0].events)
    assert fallen(loop.data, stage.reference, loop.runtime.player.frame)
    assert all(result.action is None for result in stops[1:]), "the policy no longer decides"


def test_safety_settings_reach_the_runtime(robot: RobotModel, policy_file: PolicyFile, stage: Stage) -> None:
    loop = ClosedLoop(robot, policy_file, stage.reference, SafetyConfig(max_tilt=0.05))
    loop.data.qpos[3:7] = [np.cos(0.05), np.sin(0.05), 0, 0]
    result = loop.step()
    assert result.mode == "stopped" and "tilted by 0.10 rad, at most 0.05 is allowed" in result.events[0]


@pytest.mark.parametrize("place_of", ["qpos", "qvel"])
def test_diverged_physics_are_an_error(loop: ClosedLoop, place_of: str) -> None:
    loop.step()
    getattr(loop.data, place_of)[10] = 1e12 if place_of == "qvel" else np.nan
    with pytest.raises(PhysicsError, match=r"physics diverged at .* in the closed loop"):
        for _ in range(3):
            loop.step()


def test_furniture_and_other_bodies_do_not_move_the_joint_order(robot: RobotModel, stage: Stage) -> None:
    """The robot's joints and actuators come first in the stage's model, in the contract's order."""
    model = robot.model
    assert tuple(model.joint(i + 1).name for i in range(29)) == stage.robot.joint_names
    driven = [model.joint(int(model.actuator_trnid[i, 0])).name for i in range(29)]
    assert tuple(driven) == robot.joint_names
