"""The walking task: its rewards against numbers worked out by hand, feet, commands, terminations."""

from __future__ import annotations

import dataclasses
import math

import mujoco
import numpy as np
import pytest

from bodydouble.errors import InputError
from sim.backend.cpu_batch import CpuBatch
from sim.env.controlled_robot import ControlledRobot
from sim.env.task_env import TaskEnv
from sim.robots import robot_spec
from sim.tasks.registry import make_task
from sim.tasks.velocity.config import VelocityCommands, VelocityConfig, VelocityRewards, VelocityTerminations
from sim.tasks.velocity.feet import Feet
from sim.tasks.velocity.rewards import VelocitySample, rewards
from sim.tasks.velocity.terminations import terminations


def _sample(**changes) -> VelocitySample:
    one = lambda *v: np.array([v], np.float32)  # noqa: E731
    values = {
        "command": one(0.5, 0.0, 0.0), "velocity": one(0.5, 0.0, 0.0), "ang_vel": one(0, 0, 0),
        "gravity": one(0, 0, -1), "height": np.float32([0.3]), "joint_offset": one(0, 0), "joint_beyond": one(0, 0),
        "idle": np.float32([1.0, 0.0]), "clearance": one(0, 0.08), "foot_pos": np.zeros((1, 2, 3), np.float32),
        "foot_speed": one(0, 1), "contact": one(1, 0), "landed_after": one(0, 0), "air_time": one(0, 0.1),
        "moving": np.float32([1.0]), "action": one(0, 0), "last_action": one(0, 0), "default_height": 0.3,
        "step_s": 0.02,
    }  # fmt: skip
    return VelocitySample(**{**values, **changes})


def _one(name: str, **changes) -> float:
    return float(rewards(VelocityRewards())[name].function(_sample(**changes))[0])


def test_rewards_are_what_they_say():
    one = lambda *v: np.array([v], np.float32)  # noqa: E731
    assert _one("track_linear") == 1.0
    # 0.35 m/s is one width of the kernel.
    assert _one("track_linear", velocity=one(0.5, 0.35, 9.0)) == pytest.approx(math.exp(-1), rel=1e-5)
    assert _one("track_turn", ang_vel=one(9.0, 9.0, 1.0)) == pytest.approx(math.exp(-4), rel=1e-5)
    assert _one("upright", gravity=one(0.6, 0.0, -0.8)) == pytest.approx(-0.36, rel=1e-5)
    assert _one("bounce", velocity=one(0, 0, -2.0)) == -4.0
    assert _one("wobble", ang_vel=one(1.0, 2.0, 9.0)) == -5.0
    # Landed after 0.3 s: 0.2 s beyond the least, in one step of 0.02 s; 9 s count as 0.4 s, 0.05 s as nothing.
    assert _one("air_time", landed_after=one(0.3, 0.0)) == pytest.approx(0.2 / 0.02, rel=1e-5)
    assert _one("air_time", landed_after=one(0.05, 9.0)) == pytest.approx(0.3 / 0.02, rel=1e-5)
    assert _one("air_time", landed_after=one(0.4, 0.0), moving=np.float32([0.0])) == 0.0
    assert _one("foot_height") == pytest.approx(0.0, abs=1e-9)
    assert _one("foot_height", clearance=one(0.0, 0.03)) == pytest.approx(-(0.05**2) / 0.01, rel=1e-4)
    assert _one("foot_slip", foot_speed=one(0.5, 3.0)) == -0.25
    assert _one("joint_deviation", joint_offset=one(0.5, 9.0)) == -0.25
    assert _one("stand_still", joint_offset=one(0.5, -0.5)) == 0.0
    assert _one("stand_still", joint_offset=one(0.5, -0.5), moving=np.float32([0.0])) == -1.0
    assert _one("action_rate", action=one(1.0, 2.0)) == -5.0
    assert _one("joint_limit", joint_beyond=one(0.1, 0.2)) == pytest.approx(-0.3)
    assert _one("alive") == 1.0


def test_a_fall_is_tilted_or_sunk():
    holds = terminations(VelocityTerminations())
    down = np.float32([[math.sin(1.1), 0.0, -math.cos(1.1)]])
    assert not holds["tilted"](_sample())[0] and holds["tilted"](_sample(gravity=down))[0]
    assert not holds["sunk"](_sample())[0] and holds["sunk"](_sample(height=np.float32([0.14])))[0]


@pytest.mark.parametrize("robot", ["unitree_go1", "unitree_g1"])
def test_soles_are_where_mujoco_has_them(robot: str):
    task = make_task("velocity", robot)
    backend = CpuBatch(task.model, 1, 0, 1)
    feet = Feet(backend, task.robot)
    model, data = task.model, mujoco.MjData(task.model)
    rng = np.random.default_rng(0)
    data.qpos[:] = model.key("home").qpos
    quat = rng.normal(size=4)
    data.qpos[3:7] = quat / np.linalg.norm(quat)
    data.qpos[7:] += rng.normal(size=model.nq - 7) * 0.2
    mujoco.mj_kinematics(model, data)
    clearance, centre = feet.look(np.float32(data.xpos)[None], np.float32(data.xquat)[None])
    for index, body in enumerate(task.robot.foot_bodies):
        lowest, middle = math.inf, []
        for name in task.robot.foot_geoms:
            geom = model.geom(name)
            if model.body(int(geom.bodyid[0])).name != body:
                continue
            reach = geom.size[1] if geom.type[0] == mujoco.mjtGeom.mjGEOM_CAPSULE else 0.0
            axis = data.geom(name).xmat.reshape(3, 3)[:, 2] * reach
            middle += [data.geom(name).xpos - axis, data.geom(name).xpos + axis]
            lowest = min(lowest, data.geom(name).xpos[2] - abs(axis[2]) - geom.size[0])
        assert clearance[0, index] == pytest.approx(lowest, abs=1e-5)
        np.testing.assert_allclose(centre[0, index], np.mean(middle, axis=0), atol=1e-5)


def test_commands_stay_in_their_bounds_change_in_time_and_some_ask_to_stand():
    config = VelocityConfig(randomise=False, commands=VelocityCommands(interval_s=(0.1, 0.2), stand_share=0.3))
    task = make_task("velocity", "unitree_go1", config)
    env = TaskEnv(CpuBatch(task.model, 64, 0, 1), task)
    seen = [env.reset()["policy"][:, -3:]]
    seen += [env.step(np.zeros((64, 12), np.float32)).obs["policy"][:, -3:] for _ in range(25)]
    commands = np.stack(seen)
    assert (commands >= np.float32(task.command.low)).all() and (commands <= np.float32(task.command.high)).all()
    changes = (np.abs(np.diff(commands, axis=0)).max(axis=2) > 0).sum(axis=0)
    assert changes.min() >= 1 and changes.max() <= 5
    standing = (commands == 0).all(axis=2).mean()
    assert 0.2 < standing < 0.4


def test_pushes_come_at_their_intervals_and_change_the_velocity():
    task = make_task("velocity", "unitree_go1")
    env = TaskEnv(CpuBatch(task.model, 8, 0, 1), task)
    env.reset()
    kicks = []
    original = env.backend.set_state

    def count(qpos: np.ndarray, qvel: np.ndarray) -> None:
        before = env.backend.get_state()[1]
        kicks.append(np.abs(qvel - before)[:, :2].max(axis=1))
        original(qpos, qvel)

    env.backend.set_state = count  # type: ignore[method-assign]
    env._own["push_in"] = np.arange(8)
    for _ in range(8):
        env.step(np.zeros((8, 12), np.float32))
    pushed = np.stack(kicks) > 0
    assert pushed.shape == (8, 8) and (np.argmax(pushed, axis=0) == np.arange(8)).all() and pushed.sum() == 8
    assert np.stack(kicks).max() <= 0.4 + 1e-6


def test_a_robot_without_feet_or_with_other_soles_is_refused():
    task = make_task("velocity", "unitree_go1")
    backend = CpuBatch(task.model, 1, 0, 1)
    with pytest.raises(InputError, match="has no feet"):
        Feet(backend, dataclasses.replace(task.robot, foot_bodies=()))
    with pytest.raises(InputError, match="is on 'FL_calf', no foot body"):
        Feet(backend, dataclasses.replace(task.robot, foot_bodies=("FR_calf",)))
    with pytest.raises(InputError, match="expected as many each"):
        Feet(backend, dataclasses.replace(task.robot, foot_geoms=task.robot.foot_geoms[:3]))
    boxes = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body name='leg'><freejoint/><geom name='sole' type='box' size='.1 .1 .1'/></body>"
        "</worldbody></mujoco>"
    )
    robot = dataclasses.replace(task.robot, foot_bodies=("leg",), foot_geoms=("sole",))
    with pytest.raises(InputError, match="neither a sphere nor a capsule"):
        Feet(CpuBatch(boxes, 1, 0, 1), robot)


def test_commands_without_zero_are_refused_where_some_stand_still():
    commands = VelocityCommands(forward=(0.5, 1.0))
    with pytest.raises(InputError, match="widen them, or set stand_share 0"):
        make_task("velocity", "unitree_go1", VelocityConfig(commands=commands))
    commands = dataclasses.replace(commands, stand_share=0.0)
    assert make_task("velocity", "unitree_go1", VelocityConfig(commands=commands)).command.low[0] == 0.5
    with pytest.raises(InputError, match="the lower one first"):
        _ = make_task(
            "velocity", "unitree_go1", VelocityConfig(commands=VelocityCommands(turn=(1.0, -1.0), stand_share=0))
        ).command


def test_a_model_without_the_robots_actuators_is_refused():
    spec = robot_spec("unitree_go1")
    bare = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><freejoint/><geom size='1'/></body></worldbody></mujoco>"
    )
    with pytest.raises(InputError, match="the model lacks joint 'FR_hip_joint'"):
        ControlledRobot.of(spec, bare)
