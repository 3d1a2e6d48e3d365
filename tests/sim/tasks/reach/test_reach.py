"""The arm tasks: targets that can be reached, the tool's pose, rewards by hand, the box."""

from __future__ import annotations

import dataclasses
import math

import mujoco
import numpy as np
import pytest

from bodydouble.errors import InputError
from bodydouble.frames import quat_angle
from sim.backend.cpu_batch import CpuBatch
from sim.env.task_env import TaskEnv
from sim.robots import robot_spec
from sim.tasks.reach.config import BoxConfig, PickConfig, PickRewards, ReachConfig, ReachRewards
from sim.tasks.reach.pick_task import PickTask
from sim.tasks.reach.reach_task import ReachTask
from sim.tasks.reach.rewards import PickSample, ReachSample, pick_rewards, reach_rewards
from sim.tasks.reach.targets import reachable_poses
from sim.tasks.reach.tool import TOOLS, ToolPose


@pytest.fixture(scope="module")
def reach() -> ReachTask:
    return ReachTask.of(robot_spec("i2rt_yam"), ReachConfig(randomise=False, joint_noise=0.0))


def test_targets_are_free_high_enough_and_repeat(reach: ReachTask):
    pos, quat = reach.targets
    assert pos[:, 2].min() >= 0.05 and (quat[:, 0] >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(quat, axis=1), 1.0, atol=1e-9)
    again, _ = reachable_poses(reach.model, reach.robot, reach.site, 1.0, 0.05)
    np.testing.assert_array_equal(again, pos)
    with pytest.raises(InputError, match="widen the range or lower the height"):
        reachable_poses(reach.model, reach.robot, reach.site, 0.01, 2.0)


@pytest.mark.parametrize("robot", list(TOOLS))
def test_the_tool_is_where_mujoco_has_it(robot: str):
    task = ReachTask.of(robot_spec(robot), ReachConfig())
    data = mujoco.MjData(task.model)
    rng = np.random.default_rng(1)
    data.qpos[:] = task.model.key("home").qpos + rng.normal(size=task.model.nq) * 0.1
    mujoco.mj_kinematics(task.model, data)
    pos, quat = ToolPose(CpuBatch(task.model, 1, 0, 1), task.site).look(
        np.float32(data.xpos)[None], np.float32(data.xquat)[None]
    )
    expected = np.empty(4)
    mujoco.mju_mat2Quat(expected, data.site(task.site).xmat)
    np.testing.assert_allclose(pos[0], data.site(task.site).xpos, atol=1e-5)
    assert float(quat_angle(quat, np.float32(expected)[None])[0]) < 1e-3


def test_commanding_the_joints_of_a_target_reaches_it():
    """The task can be solved: the action that asks for a free pose brings the tool to where that pose has it."""
    # The YAM's soft motors sag by centimetres, which its policy has to learn; the UR5e's hold.
    reach = ReachTask.of(robot_spec("ur5e_2f85"), ReachConfig(randomise=False, joint_noise=0.0))
    rng = np.random.default_rng(3)
    robot, model = reach.robot, reach.model
    offsets = rng.uniform(-0.5, 0.5, robot.num_joints) * np.minimum(1.0, np.array(robot.action_scale) / 0.5)
    joints = np.clip(np.array(robot.default_joint_pos) + offsets, robot.joint_lower, robot.joint_upper)
    data = mujoco.MjData(model)
    data.qpos[:] = model.key("home").qpos
    data.qpos[[model.jnt_qposadr[model.joint(name).id] for name in robot.joint_names]] = joints
    mujoco.mj_kinematics(model, data)
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, data.site(reach.site).xmat)
    task = dataclasses.replace(reach, targets=(data.site(reach.site).xpos[None], quat[None]))
    env = TaskEnv(CpuBatch(model, 2, 0, 1), task)
    env.reset()
    action = (joints - np.array(robot.default_joint_pos)) / np.array(robot.action_scale)
    for _ in range(80):
        result = env.step(np.tile(np.float32(action), (2, 1)))
    assert result.measures["distance_m"].max() < 0.02 and result.measures["angle_rad"].max() < 0.05
    assert result.reward.min() > 0


def test_reach_rewards_are_what_they_say():
    one = lambda v: np.float32([v])  # noqa: E731
    zeros = np.zeros((1, 2), np.float32)
    sample = ReachSample(
        joint_vel=zeros + 2.0, action=zeros + 1.0, last_action=zeros, tool_pos=zeros, tool_quat=zeros,
        distance=one(0.05), angle=one(0.3),
    )  # fmt: skip
    found = {name: float(r.function(sample)[0]) for name, r in reach_rewards(ReachRewards()).items()}
    assert found == pytest.approx({
        "near": 1 - math.tanh(0.25), "at": math.exp(-1), "turned": 1 - math.tanh(0.3), "aligned": math.exp(-1),
        "action_rate": -2.0, "joint_speed": -8.0,
    }, rel=1e-5)  # fmt: skip


def test_pick_rewards_pay_for_lifting_only_with_the_tool_at_the_box():
    one = lambda v: np.float32([v])  # noqa: E731
    zeros = np.zeros((1, 2), np.float32)
    base = {"joint_vel": zeros, "action": zeros, "last_action": zeros, "tool_pos": zeros, "tool_quat": zeros}

    def found(**values: float) -> dict[str, float]:
        full = {"distance": 0.0, "lifted": 0.1, "asked": 0.2, "strayed": 0.0, **values}
        sample = PickSample(**base, **{name: one(value) for name, value in full.items()})  # type: ignore[arg-type]
        return {name: float(r.function(sample)[0]) for name, r in pick_rewards(PickRewards()).items()}

    assert found()["lifted"] == pytest.approx(0.5)
    assert found()["at"] == pytest.approx(math.exp(-4), rel=1e-4)
    assert found(lifted=0.2)["at"] == pytest.approx(1.0)
    assert found(lifted=0.01)["at"] == 0.0
    assert found(distance=0.2)["lifted"] < 1e-4
    assert found(distance=0.03)["around"] == pytest.approx(math.exp(-1), rel=1e-5)


@pytest.mark.parametrize("robot", list(TOOLS))
def test_the_box_stands_in_reach_and_the_command_says_where(robot: str):
    task = PickTask.of(robot_spec(robot), PickConfig(randomise=False))
    env = TaskEnv(CpuBatch(task.model, 32, 0, 1), task)
    obs = env.reset()["policy"]
    command = obs[:, -5:]
    box = env.backend.get_state()[0][:, -7:]
    np.testing.assert_allclose(command[:, :3], box[:, :3], atol=1e-6)
    for values in command.tolist():
        task.command.check(values)
    result = env.step(np.zeros((32, env.num_joints), np.float32))
    assert result.measures["distance_m"].max() < 0.5 and not result.terminated.any()
    # It stays where it stands, on the floor.
    after = env.backend.get_state()[0][:, -7:]
    np.testing.assert_allclose(after[:, :3], box[:, :3], atol=2e-3)


def test_a_box_that_was_knocked_away_ends_the_episode():
    task = PickTask.of(robot_spec("i2rt_yam"), PickConfig(randomise=False, box=BoxConfig(radius=0.0, angle=0.0)))
    env = TaskEnv(CpuBatch(task.model, 2, 0, 1), task)
    env.reset()
    qpos, qvel = env.backend.get_state()
    qpos[1, -6] += 0.3
    env.backend.set_state(qpos, qvel)
    result = env.step(np.zeros((2, env.num_joints), np.float32))
    assert result.terminated.tolist() == [False, True] and env.failures[result.failure[1] - 1] == "box_lost"


def _hand_pose(box: np.ndarray) -> np.ndarray:
    """Return the rotation (3, 3) of a tool that points down and closes across the way to the box."""
    azimuth = math.atan2(box[1], box[0])
    forward, left = (
        np.array([math.cos(azimuth), math.sin(azimuth), 0]),
        np.array([-math.sin(azimuth), math.cos(azimuth), 0]),
    )
    return np.stack([forward, -left, np.array([0.0, 0.0, -1.0])], axis=1)


def _towards(task: PickTask, joints: np.ndarray, pos: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Return arm joints, from those of the step before, with which the tool takes a pose (damped least squares)."""
    model, data = task.model, mujoco.MjData(task.model)
    ids = [model.joint(name).id for name in task.robot.joint_names[:6]]
    site, adr, dofs = model.site(task.site).id, model.jnt_qposadr[ids], model.jnt_dofadr[ids]
    data.qpos[:] = model.key("home").qpos
    data.qpos[adr] = joints
    jac = np.zeros((6, model.nv))
    for _ in range(30):
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_jacSite(model, data, jac[:3], jac[3:], site)
        now = data.site_xmat[site].reshape(3, 3)
        error = np.concatenate([pos - data.site_xpos[site], 0.5 * np.cross(now.T, rotation.T).sum(axis=0)])
        arm = jac[:, dofs]
        data.qpos[adr] += 0.3 * arm.T @ np.linalg.solve(arm @ arm.T + 1e-4 * np.eye(6), error)
    return data.qpos[adr].copy()


@pytest.mark.parametrize(("robot", "shut"), [("i2rt_yam", -1.0), ("ur5e_2f85", 1.5)])
def test_a_scripted_hand_solves_the_task(robot: str, shut: float):
    """Over the box, down, close, lift: what the policy has to find out can be done with its actions."""
    config = PickConfig(
        episode_s=60.0, randomise=False, joint_noise=0.0, box=BoxConfig(radius=0.0, angle=0.0, yaw=0.0)
    )  # fmt: skip
    task = PickTask.of(robot_spec(robot), config)
    env = TaskEnv(CpuBatch(task.model, 1, 0, 1), task)
    env.reset()
    controlled = task.robot
    default, scale = np.array(controlled.default_joint_pos), np.array(controlled.action_scale)
    box = env.backend.get_state()[0][0, -7:-4].astype(float)
    rotation, asked = _hand_pose(box), float(env._memory["asked"][0])
    joints, sag, place = default[:6], np.zeros(6), box + np.array([0, 0, 0.1])
    adr = [task.model.jnt_qposadr[task.model.joint(name).id] for name in controlled.joint_names[:6]]
    for to, grip, steps in ((0.1, 0.0, 50), (0.0, 0.0, 50), (0.0, shut, 60), (asked - box[2], shut, 75)):
        goal = box + np.array([0, 0, to])
        for step in range(steps):
            joints = _towards(task, joints, place + min(1.0, 1.5 * (step + 1) / steps) * (goal - place), rotation)
            # A policy learns how far the motors sag under the arm's weight; here a slow integral finds it.
            sag += 0.05 * (joints - env.backend.get_state()[0][0, adr])
            action = np.append((joints + sag - default[:6]) / scale[:6], grip)
            result = env.step(action[None].astype(np.float32))
            assert not result.terminated.any()
        place = goal
    assert result.measures["height_error_m"][0] < config.success_m and result.measures["distance_m"][0] < 0.02
    assert float(result.reward[0]) * task.control_hz > 0.7 * (6 + 6 + 1 + 1)
