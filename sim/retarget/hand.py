"""A person's hand path on an arm's tool: scaled to the arm's reach, seen from the person's shoulder."""

from __future__ import annotations

import time

import numpy as np

from bodydouble.errors import InputError
from bodydouble.frames import quat_conj, quat_rotate, yaw_quat
from bodydouble.motion import HumanMotion, RobotMotion
from sim.retarget.config import RetargetConfig
from sim.retarget.footsteps import min_jerk
from sim.retarget.goals import Goals, PointGoal
from sim.retarget.human import HumanTrack, track_human
from sim.retarget.inverse_kinematics import SequenceSolver
from sim.retarget.kinematics import RobotKinematics, kinematics, make_robot_motion
from sim.retarget.metrics import motion_metrics
from sim.retarget.targets import torso_frames
from sim.robots.spec import RobotSpec

_TOOL, _POSTURE = 10.0, 0.03
_LOWEST_M = 0.1
"""Height over the floor below which no path goes, m."""
_REACH_SHARE = 0.85
"""Share of the arm's reach that the path stays within."""
_SHARES = np.linspace(1.0, 0.1, 46)
"""Scales of the hand's path that are tried; the largest that fits is taken."""


def retarget_hand(
    human: HumanMotion, robot: RobotSpec, config: RetargetConfig | None = None
) -> tuple[RobotMotion, dict[str, float]]:
    """Return an arm's motion whose tool repeats the path of a person's hand, and its figures.

    The path is taken against the person's shoulder, heading ahead along x, life-size where the arm can reach that
    far, smaller elsewhere. Its middle lies where the tool is in the arm's default pose; the motion begins and ends
    there, standing still.

    Args:
        human: The person's motion.
        robot: An arm whose `follow` names its tool.
        config: Settings.

    Returns:
        The motion, and the figures of `motion_metrics` with tool_error_mean_mm, tool_error_max_mm, hand_scale and
        realtime_factor.

    Raises:
        InputError: The robot has no such tool, or the motion lacks joints.
    """
    config = config or RetargetConfig()
    started = time.process_time()
    if robot.follow is None or robot.follow.tool is None:
        raise InputError(f"robot {robot.name}: has no tool that follows a hand; give a mapping file that names it")
    model = kinematics(robot)
    track = track_human(human, config)
    path = hand_path(track, robot.follow.tool.split("_")[0])
    home = model.home_place(robot.follow.parts[robot.follow.tool])
    shoulder, reach = _reach(model, home)
    middle = 0.5 * (path.min(axis=0) + path.max(axis=0))
    scale, wanted = 1.0, path
    # Life-size where the arm can reach that far.
    for share in _SHARES if robot.follow.scale is None else [1.0]:
        scale = robot.follow.scale or float(share)
        wanted = home + scale * (path - middle)
        # The hand may hang lower than an arm on the floor can reach.
        wanted[:, 2] += max(0.0, _LOWEST_M - wanted[:, 2].min())
        if np.linalg.norm(wanted - shoulder, axis=1).max() < _REACH_SHARE * reach:
            break
    goals = _tool_goals(model, _from_rest(wanted, home, config))
    qpos, _ = SequenceSolver(model, config).solve(goals)
    joints, errors = qpos[:, model.qpos_index], _errors(model, qpos, goals.points[0])
    root = np.tile(robot.default_root_pos, (len(joints), 1))
    motion = make_robot_motion(robot, config.fps, root, np.tile([1.0, 0, 0, 0], (len(joints), 1)), joints)
    seconds = time.process_time() - started
    return motion, motion_metrics(motion, robot) | {
        "realtime_factor": motion.duration_s / seconds,
        "tool_error_mean_mm": float(1000.0 * errors.mean()),
        "tool_error_max_mm": float(1000.0 * errors.max()),
        "hand_scale": float(scale),
    }


def hand_path(track: HumanTrack, side: str) -> np.ndarray:
    """Return a hand's places (T, 3) from the shoulder, x ahead of the person and z up, m."""
    joints = track.joints
    shoulder, wrist = joints[f"{side}_shoulder"], joints[f"{side}_wrist"]
    hips = 0.5 * (joints["left_hip"] + joints["right_hip"])
    heading = yaw_quat(torso_frames(joints, hips))
    return quat_rotate(quat_conj(heading), wrist - shoulder)


def _reach(model: RobotKinematics, home: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the place (3,) of the second joint and how far from it the tool can be, the sum of the links, m."""
    joints = [model.model.joint(name).id for name in model.robot.joint_names]
    anchors = [model.data.xanchor[joint].copy() for joint in joints[1:]]
    return anchors[0], float(np.linalg.norm(np.diff(np.array([*anchors, home]), axis=0), axis=1).sum())


def _from_rest(wanted: np.ndarray, home: np.ndarray, config: RetargetConfig) -> np.ndarray:
    """Return the path between two stands at the default pose."""
    hold, blend = (round(seconds * config.fps) for seconds in (config.hold_s, config.transition_s))
    ramp = min_jerk(np.arange(1, blend + 1) / (blend + 1))[:, None]
    still = np.tile(home, (hold, 1))
    to, back = home + ramp * (wanted[0] - home), home + ramp[::-1] * (wanted[-1] - home)
    return np.concatenate([still, to, wanted, back, still])


def _tool_goals(model: RobotKinematics, wanted: np.ndarray) -> Goals:
    robot = model.robot
    assert robot.follow is not None and robot.follow.tool is not None
    part = robot.follow.tool
    weight = np.full(wanted.shape, robot.follow.weight(part) * _TOOL)
    goal = PointGoal(model.point(robot.follow.parts[part]), wanted, weight)
    posture = np.tile(robot.default_joint_pos, (len(wanted), 1))
    base = model.model.body(robot.base_body).id
    return Goals([goal], [], base, [], posture, np.full(robot.num_joints, _POSTURE))


def _errors(model: RobotKinematics, qpos: np.ndarray, goal: PointGoal) -> np.ndarray:
    """Return how far the tool is from its goal (T,), m."""
    position, quat = model.body_poses(qpos, np.array([goal.point.body]))
    place = position[:, 0] + quat_rotate(quat[:, 0], np.broadcast_to(goal.point.offset, position[:, 0].shape))
    return np.linalg.norm(place - goal.target, axis=1)
