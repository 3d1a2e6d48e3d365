"""Reads LAFAN1 clips that Unitree retargeted to the G1: csv, 30 Hz, root xyz, quaternion xyzw, 29 joints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline

from bodydouble.errors import InputError
from bodydouble.frames import quat_normalize, wxyz_from_xyzw, xyzw_from_wxyz
from bodydouble.motion import RobotMotion
from sim.retarget.kinematics import continuous_quats, kinematics, load_csv_rows, make_robot_motion
from sim.robots.spec import RobotSpec

LAFAN1_FPS = 30.0
"""Frames per second of the files."""


def load_lafan1(
    path: Path, robot: RobotSpec, *, start_s: float = 0.0, end_s: float | None = None, fps: float = 50.0
) -> RobotMotion:
    """Return a clip resampled to the control rate.

    The clip's mean lowest sole is put on the floor: the files let it float a few millimetres to centimetres.

    Args:
        path: The csv file.
        robot: The Unitree G1.
        start_s: First time to take, s.
        end_s: Last time to take, s; None takes all.
        fps: Frames per second of the result.

    Raises:
        InputError: The file is no such csv, the robot is another, or the interval is empty.
    """
    if robot.num_joints != 29:
        raise InputError(f"{path}: holds 29 joints of a Unitree G1, robot {robot.name} has {robot.num_joints}")
    rows = load_csv_rows(path, 36)
    first = int(np.ceil(start_s * LAFAN1_FPS))
    last = len(rows) if end_s is None else min(len(rows), int(end_s * LAFAN1_FPS) + 1)
    rows = rows[first:last]
    if len(rows) < 4:
        raise InputError(f"{path}: has {len(rows)} frames between {start_s} and {end_s} s, expected at least 4")
    root_pos, root_quat, joint_pos = resample(
        rows[:, :3], wxyz_from_xyzw(rows[:, 3:7]), rows[:, 7:], source_fps=LAFAN1_FPS, fps=fps
    )
    joint_pos = np.clip(joint_pos, robot.joint_lower, robot.joint_upper)
    model = kinematics(robot)
    foot_pos, foot_quat = model.body_poses(model.qpos(root_pos, root_quat, joint_pos), model.foot_ids)
    lowest = model.sole_heights(foot_pos, foot_quat).min(axis=1)
    # Of the lowest tenth, so that flight phases do not count.
    root_pos[:, 2] -= lowest[lowest <= np.quantile(lowest, 0.1)].mean()
    return make_robot_motion(robot, fps, root_pos, root_quat, joint_pos)


def resample(
    root_pos: np.ndarray, root_quat: np.ndarray, joint_pos: np.ndarray, *, source_fps: float, fps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return base positions, base orientations (wxyz) and joint positions at another rate, twice differentiable."""
    times = np.arange(len(root_pos)) / source_fps
    wanted = np.arange(int(np.floor(times[-1] * fps + 1e-9)) + 1) / fps
    rotations = Rotation.from_quat(xyzw_from_wxyz(continuous_quats(quat_normalize(root_quat))))
    turned = wxyz_from_xyzw(RotationSpline(times, rotations)(wanted).as_quat())
    return CubicSpline(times, root_pos)(wanted), turned, CubicSpline(times, joint_pos)(wanted)
