"""Forward kinematics over motions, and the LAFAN1 reader."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest

from bodydouble.errors import InputError
from bodydouble.frames import quat_from_axis_angle, quat_mul, quat_rotate
from bodydouble.motion import RobotMotion
from sim.retarget.kinematics import body_angular_velocity, continuous_quats, kinematics, make_robot_motion
from sim.retarget.lafan1 import load_lafan1
from sim.robots import RobotSpec, robot_spec


def test_angular_velocity_is_in_the_body_frame():
    times = np.arange(50) / 50.0
    tilt = quat_from_axis_angle(np.array([1.0, 0, 0]), np.array(0.5))
    spin = quat_from_axis_angle(np.tile([0.0, 0, 1.0], (50, 1)), 2.0 * times)
    quats = quat_mul(spin, np.tile(tilt, (50, 1)))
    expected = quat_rotate(tilt * [1, -1, -1, -1], np.array([0, 0, 2.0]))
    np.testing.assert_allclose(body_angular_velocity(quats, 50.0), np.tile(expected, (50, 1)), atol=1e-9)


def test_continuous_quats_keeps_rotations():
    quats = quat_from_axis_angle(np.tile([0.0, 0, 1.0], (20, 1)), np.linspace(0, 6, 20))
    flipped = quats * np.where(np.arange(20) % 3 == 0, -1.0, 1.0)[:, None]
    smooth = continuous_quats(flipped)
    assert np.all(np.sum(smooth[1:] * smooth[:-1], axis=-1) > 0)
    np.testing.assert_allclose(np.abs(np.sum(smooth * quats, axis=-1)), 1.0)


def test_standing_robot_has_both_feet_on_the_floor(g1: RobotSpec, standing: RobotMotion):
    assert standing.contact.all() and standing.contact_names == ("left_foot", "right_foot")
    assert 0.75 < kinematics(g1).standing_height() < 0.76
    assert np.abs(standing.joint_vel).max() == 0.0
    left, right = (standing.body_names.index(f"{side}_ankle_roll_link") for side in ("left", "right"))
    np.testing.assert_allclose(standing.body_pos[0, left] * [1, -1, 1], standing.body_pos[0, right], atol=1e-4)


def test_bodies_agree_with_mujoco_and_velocities_with_the_poses(g1: RobotSpec):
    times = np.arange(40) / 50.0
    joints = g1.default_joint_pos + 0.2 * np.sin(3.0 * times)[:, None] * np.linspace(-1, 1, 29)
    root = np.stack([0.5 * times, 0.1 * times, np.full(40, 0.8)], axis=1)
    motion = make_robot_motion(g1, 50.0, root, np.tile([1.0, 0, 0, 0], (40, 1)), joints)
    np.testing.assert_allclose(motion.root_lin_vel, np.tile([0.5, 0.1, 0.0], (40, 1)), atol=1e-9)
    np.testing.assert_allclose(
        motion.joint_vel[5:-5], (0.6 * np.cos(3.0 * times)[:, None] * np.linspace(-1, 1, 29))[5:-5], atol=2e-3
    )
    model = g1.mjspec().compile()
    data = mujoco.MjData(model)
    data.qpos[:] = [*root[17], 1, 0, 0, 0, *joints[17]]
    mujoco.mj_forward(model, data)
    for i, name in enumerate(motion.body_names):
        np.testing.assert_allclose(motion.body_pos[17, i], data.body(name).xpos, atol=1e-9)


def test_lafan1_walk_is_on_the_floor_and_alternates_feet(g1: RobotSpec, data_dir: Path):
    path = data_dir / "motion_lafan1_g1" / "walk1_subject1.csv"
    motion = load_lafan1(path, g1, start_s=20.0, end_s=30.0)
    assert motion.fps == 50.0 and motion.num_frames == 501
    assert motion.root_pos[:, 2].min() > 0.65 and motion.root_pos[:, 2].max() < 0.85
    assert np.all(motion.joint_pos >= g1.joint_lower) and np.all(motion.joint_pos <= g1.joint_upper)
    share = motion.contact.mean(axis=0)
    assert np.all(share > 0.3) and np.all(share < 0.95)
    assert np.abs(motion.joint_vel).max() < 20.0


def test_lafan1_refuses_other_files_and_robots(g1: RobotSpec, tmp_path: Path):
    path = tmp_path / "clip.csv"
    path.write_text("1,2,3\n4,5,6\n")
    with pytest.raises(InputError, match="36 finite"):
        load_lafan1(path, g1)
    path.write_text("root,x\n")
    with pytest.raises(InputError, match="is no CSV file of numbers"):
        load_lafan1(path, g1)
    with pytest.raises(InputError, match="robot unitree_go1 has 12"):
        load_lafan1(path, robot_spec("unitree_go1"))
    with pytest.raises(InputError, match="cannot be read"):
        load_lafan1(tmp_path / "none.csv", g1)
