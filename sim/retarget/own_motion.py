"""A robot's own recorded motion made fit for it: feet that stay, limits that hold, links that keep off each other."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
from scipy.ndimage import distance_transform_edt

from bodydouble.frames import quat_conj, quat_from_axis_angle, quat_mul, quat_rotate, quat_slerp, yaw_angle
from bodydouble.motion import RobotMotion
from sim.retarget.config import RetargetConfig
from sim.retarget.footsteps import FootPlan, clean_contacts, find_footholds, min_jerk, plan_feet
from sim.retarget.goals import own_goals
from sim.retarget.human import low_pass
from sim.retarget.inverse_kinematics import SequenceSolver
from sim.retarget.kinematics import RobotKinematics, kinematics, make_robot_motion
from sim.retarget.metrics import motion_metrics
from sim.retarget.scene import Scene
from sim.robots.spec import RobotSpec

_BASE_SHIFT_HZ = 1.5
"""Cut-off of the base's shift, Hz."""
_LIFT_OFF_S = 0.16
"""Time over which a foot turns from its own orientation to flat and back, s."""
_FLAT_RAD = 0.3
"""A foot that is pitched more than this stands on its heel or toes; it is not planted flat."""


def refine(
    motion: RobotMotion, robot: RobotSpec, config: RetargetConfig | None = None, scene: Scene | None = None
) -> tuple[RobotMotion, dict[str, float]]:
    """Return a robot's motion whose joints keep their limits and whose standing feet stay put, and its figures.

    What others retargeted often slides, sinks into the floor or lets links overlap. The joints stay as near as that
    allows; the base gives way. Where feet stand is taken from the motion itself.

    Args:
        motion: The motion, at the control rate.
        robot: The robot; a biped's feet are planted, other robots only get the limits.
        config: Settings.
        scene: What stands on the floor; None for nothing.
    """
    config = config or RetargetConfig()
    started = time.process_time()
    model = kinematics(robot)
    feet = plan_own_feet(model, motion, config, scene) if len(robot.foot_bodies) == 2 else None
    solver = SequenceSolver(model, config, scene, floor_for_feet=True)
    start = model.qpos(motion.root_pos[:1], motion.root_quat[:1], motion.joint_pos[:1])[0]
    qpos, _ = solver.solve(own_goals(model, motion, feet), start)
    if feet is not None:
        # Planted feet move the base in jerks; it follows the smooth part of that, and the legs take up the rest.
        shift = low_pass(qpos[:, :3] - motion.root_pos, config.fps, _BASE_SHIFT_HZ)
        qpos, _ = solver.solve(own_goals(model, motion, feet, motion.root_pos + shift), start)
    contact = motion.contact if feet is None else feet.contact
    out = make_robot_motion(robot, motion.fps, qpos[:, :3], qpos[:, 3:7], qpos[:, model.qpos_index], contact=contact)
    seconds = time.process_time() - started
    joints = np.abs(out.joint_pos - motion.joint_pos)
    figures = motion_metrics(out, robot, scene) | {
        "realtime_factor": out.duration_s / seconds,
        "joint_change_mean_rad": float(joints.mean()),
        "base_change_mean_mm": float(1000.0 * np.linalg.norm(out.root_pos - motion.root_pos, axis=1).mean()),
    }
    return out, figures


def plan_own_feet(
    model: RobotKinematics, motion: RobotMotion, config: RetargetConfig, scene: Scene | None = None
) -> FootPlan:
    """Return a foot plan from the poses of a biped's own feet: what stands is flat on the ground and stays."""
    qpos = model.qpos(motion.root_pos, motion.root_quat, motion.joint_pos)
    position, quats = model.body_poses(qpos, model.foot_ids)
    upright = quat_mul(quats, quat_conj(model.flat_quats))
    yaw = np.unwrap(yaw_angle(upright), axis=0)
    ahead = quat_rotate(upright, np.broadcast_to([1.0, 0.0, 0.0], position.shape))
    pitch = np.arcsin(np.clip(-ahead[..., 2], -1.0, 1.0))
    path = position.copy()
    path[..., 2] = model.sole_heights(position, quats)
    shortest = round(config.min_contact_s * config.fps), round(config.min_swing_s * config.fps)
    holds = []
    for foot in range(2):
        contact = clean_contacts(motion.contact[:, foot] & (np.abs(pitch[:, foot]) < _FLAT_RAD), *shortest)
        holds.append(find_footholds(contact, path[:, foot], yaw[:, foot], scene))
    plan = plan_feet((holds[0], holds[1]), path, yaw, pitch, motion.fps, 0.0)
    turned = np.stack([_turns(upright[:, i], plan.yaw[:, i], plan.contact[:, i], motion.fps) for i in range(2)], 1)
    return dataclasses.replace(plan, quat=turned)


def _turns(own: np.ndarray, yaw: np.ndarray, contact: np.ndarray, fps: float) -> np.ndarray:
    """Return orientations (T, 4) of one foot: flat where it stands, its own (T, 4) elsewhere, and a blend between."""
    if not contact.any():
        return own
    flat = quat_from_axis_angle(np.broadcast_to([0.0, 0.0, 1.0], (len(yaw), 3)), yaw)
    away = np.asarray(distance_transform_edt(~contact)) / fps
    return quat_slerp(flat, own, min_jerk(away / _LIFT_OFF_S))
