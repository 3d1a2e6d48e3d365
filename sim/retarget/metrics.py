"""How good a reference motion is: limits, feet that slide or sink, speed, balance, touching itself."""

from __future__ import annotations

import mujoco
import numpy as np

from bodydouble.frames import yaw_angle
from bodydouble.motion import RobotMotion
from sim.retarget.balance import GRAVITY, half_planes, project
from sim.retarget.kinematics import RobotKinematics, central_difference, kinematics
from sim.retarget.scene import Scene
from sim.retarget.support import support_polygons
from sim.robots.spec import RobotSpec

_EVERY = 5
"""Self-contact is looked for in every fifth frame."""


def motion_metrics(motion: RobotMotion, robot: RobotSpec, scene: Scene | None = None) -> dict[str, float]:
    """Return figures of a robot's motion over a floor at height zero.

    Args:
        motion: The motion.
        robot: The robot.
        scene: Solids on the floor; None for none.

    Returns:
        limit_violations: joint values outside the position limits, over 1e-6 rad.
        speed_violations: joint values above the motors' speed limits.
        joint_speed_max: highest joint speed, rad/s; joint_speed_p99: its 99th percentile over frames' fastest joints.
        joint_jerk_rms: root mean square of the joints' third derivative, rad/s^3.
        foot_skate_cm_s, foot_skate_max_cm_s: mean and highest horizontal speed of feet meant to stand.
        foot_float_mm: mean distance of standing soles from the floor.
        penetration_mm: deepest point of a sole below the floor.
        self_contact_mm: deepest overlap of two links.
        zmp_outside_share: share of frames with support whose zero-moment point is outside of the standing soles.
        zmp_outside_max_cm: how far outside at most.
    """
    model = kinematics(robot)
    qpos = model.qpos(motion.root_pos, motion.root_quat, motion.joint_pos)
    foot_pos, foot_quat = model.body_poses(qpos, model.foot_ids)
    out = {
        "duration_s": motion.duration_s,
        "limit_violations": float(
            np.sum((motion.joint_pos < robot.joint_lower - 1e-6) | (motion.joint_pos > robot.joint_upper + 1e-6))
        ),
        "speed_violations": float(np.sum(np.abs(motion.joint_vel) > robot.velocity_limit)),
        "joint_speed_max": float(np.abs(motion.joint_vel).max()),
        "joint_speed_p99": float(np.quantile(np.abs(motion.joint_vel).max(axis=1), 0.99)),
    }
    jerk = np.diff(motion.joint_pos, n=3, axis=0) * motion.fps**3
    out["joint_jerk_rms"] = float(np.sqrt(np.mean(jerk**2)))
    heights = model.sole_heights(foot_pos, foot_quat)
    standing = motion.contact
    # Both neighbours must stand too: lift-off is no skating.
    steady = standing.copy()
    steady[1:] &= standing[:-1]
    steady[:-1] &= standing[1:]
    skate = 100.0 * np.linalg.norm(central_difference(foot_pos[..., :2], motion.fps), axis=-1)[steady]
    out["foot_skate_cm_s"] = float(skate.mean()) if skate.size else 0.0
    out["foot_skate_max_cm_s"] = float(skate.max()) if skate.size else 0.0
    out["foot_float_mm"] = float(1000.0 * np.abs(heights[standing]).mean()) if standing.any() else 0.0
    out["penetration_mm"] = float(max(0.0, -1000.0 * heights.min())) if heights.size else 0.0
    com, overlap = _masses_and_overlap(model.model, qpos)
    out["self_contact_mm"] = 1000.0 * overlap
    distances = _zmp_distances(motion, model, com, foot_pos, foot_quat)
    out["zmp_outside_share"] = float(np.mean(distances > 1e-3)) if distances.size else 0.0
    out["zmp_outside_max_cm"] = float(100.0 * distances.max(initial=0.0))
    return out


def _masses_and_overlap(model: mujoco.MjModel, qpos: np.ndarray) -> tuple[np.ndarray, float]:
    data = mujoco.MjData(model)
    com, overlap = np.empty((len(qpos), 3)), 0.0
    for t, q in enumerate(qpos):
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        com[t] = data.subtree_com[1]
        if t % _EVERY == 0:
            mujoco.mj_collision(model, data)
            if data.ncon:
                overlap = max(overlap, -float(data.contact.dist.min()))
    return com, overlap


def _zmp_distances(
    motion: RobotMotion, model: RobotKinematics, com: np.ndarray, foot_pos: np.ndarray, foot_quat: np.ndarray
) -> np.ndarray:
    """Return the distance in m of the zero-moment point from the support, per frame with support."""
    yaw = np.unwrap(yaw_angle(foot_quat), axis=0)
    point = com[:, :2] - com[:, 2:] / GRAVITY * central_difference(
        central_difference(com[:, :2], motion.fps), motion.fps
    )
    distances = []
    for start, end, corners in support_polygons(model, foot_pos, yaw, motion.contact, 0.0):
        nearest = project(point[start:end], *half_planes(corners))
        distances.append(np.linalg.norm(nearest - point[start:end], axis=1))
    return np.concatenate(distances) if distances else np.zeros(0)
