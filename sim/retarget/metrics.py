"""How good a reference motion is: limits, feet that slide or sink, speed, balance, touching itself."""

from __future__ import annotations

import mujoco
import numpy as np

from bodydouble.frames import quat_rotate, yaw_angle
from bodydouble.motion import RobotMotion
from sim.retarget.balance import GRAVITY, half_planes, project
from sim.retarget.kinematics import (
    CONTACT_HEIGHT_M,
    CONTACT_SPEED_M_S,
    RobotKinematics,
    central_difference,
    kinematics,
)
from sim.retarget.scene import Scene, add_solids
from sim.retarget.support import support_polygons
from sim.robots.spec import RobotSpec


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
        foot_float_mm: mean distance of standing soles from the floor or the solid below them.
        penetration_mm: deepest point of any link below the floor or inside a solid of the scene.
        contact_agreement: share of frames in which a foot stands on the ground, low and slow, just when it is meant to.
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
    soles = foot_pos.copy()
    for foot in range(foot_pos.shape[1]):
        if model.foot_turns[foot]:
            continue
        # A foot without an ankle rolls over its sole: the sole is what stands.
        centre = np.broadcast_to(model.sole_centre(foot), foot_pos[:, foot].shape)
        soles[:, foot] = foot_pos[:, foot] + quat_rotate(foot_quat[:, foot], centre)
    skate = 100.0 * np.linalg.norm(central_difference(soles[..., :2], motion.fps), axis=-1)[steady]
    out["foot_skate_cm_s"] = float(skate.mean()) if skate.size else 0.0
    out["foot_skate_max_cm_s"] = float(skate.max()) if skate.size else 0.0
    heights = heights - ground_below(scene, foot_pos, heights)
    out["foot_float_mm"] = float(1000.0 * np.abs(heights[standing]).mean()) if standing.any() else 0.0
    speed = np.linalg.norm(central_difference(soles, motion.fps), axis=-1)
    stands = (heights < CONTACT_HEIGHT_M) & (speed < CONTACT_SPEED_M_S)
    out["contact_agreement"] = float(np.mean(stands == standing)) if standing.size else 1.0
    com, overlap, sunk = _masses_and_overlaps(_with_scene(robot, scene), qpos, robot.base_body)
    out["self_contact_mm"] = 1000.0 * overlap
    out["penetration_mm"] = 1000.0 * sunk
    distances = _zmp_distances(motion, model, com, foot_pos, foot_quat)
    out["zmp_outside_share"] = float(np.mean(distances > 1e-3)) if distances.size else 0.0
    out["zmp_outside_max_cm"] = float(100.0 * distances.max(initial=0.0))
    return out


def ground_below(scene: Scene | None, foot_pos: np.ndarray, sole: np.ndarray) -> np.ndarray:
    """Return the height (T, F) in m of the floor or solid that is nearest to each sole, given its height (T, F)."""
    ground = np.zeros_like(sole)
    if scene is None:
        return ground
    for foot in range(sole.shape[1]):
        surfaces = []
        # Over an edge the ankle may be beside what the sole stands on.
        for x, y in (
            (0, 0),
            (0.08, 0),
            (-0.08, 0),
            (0, 0.08),
            (0, -0.08),
            (0.11, 0),
            (-0.11, 0),
            (0, 0.11),
            (0, -0.11),
        ):
            surfaces.append(scene.height(foot_pos[:, foot, :2] + [x, y]))
        stacked = np.stack(surfaces)
        nearest = np.argmin(np.abs(stacked - sole[:, foot]), axis=0)
        ground[:, foot] = stacked[nearest, np.arange(len(sole))]
    return ground


def _with_scene(robot: RobotSpec, scene: Scene | None) -> mujoco.MjModel:
    """Return the robot's model over a floor, with a scene's solids."""
    spec = robot.mjspec(visuals=False)
    spec.worldbody.add_geom(name="_floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1])
    if scene is not None:
        add_solids(spec, scene)
    return spec.compile()


def _masses_and_overlaps(model: mujoco.MjModel, qpos: np.ndarray, base: str) -> tuple[np.ndarray, float, float]:
    """Return centres of mass (T, 3), the deepest overlap of two links, and of a link with the scene, m."""
    data = mujoco.MjData(model)
    root = model.body(base).id
    static = model.body_weldid[model.geom_bodyid] == 0
    com, overlap, sunk = np.empty((len(qpos), 3)), 0.0, 0.0
    for t, q in enumerate(qpos):
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        com[t] = data.subtree_com[root]
        mujoco.mj_collision(model, data)
        if data.ncon:
            outside, distance = static[data.contact.geom].any(axis=1), data.contact.dist
            overlap = max(overlap, -float(distance[~outside].min(initial=0.0)))
            sunk = max(sunk, -float(distance[outside].min(initial=0.0)))
    return com, overlap, sunk


def _zmp_distances(
    motion: RobotMotion, model: RobotKinematics, com: np.ndarray, foot_pos: np.ndarray, foot_quat: np.ndarray
) -> np.ndarray:
    """Return the distance in m of the zero-moment point from the support, per frame with support."""
    yaw = np.unwrap(yaw_angle(foot_quat), axis=0)
    point = com[:, :2] - com[:, 2:] / GRAVITY * central_difference(
        central_difference(com[:, :2], motion.fps), motion.fps
    )
    distances = []
    if foot_pos.shape[1] != 2:
        return np.zeros(0)
    for start, end, corners in support_polygons(model, foot_pos, yaw, motion.contact, 0.0):
        nearest = project(point[start:end], *half_planes(corners))
        distances.append(np.linalg.norm(nearest - point[start:end], axis=1))
    return np.concatenate(distances) if distances else np.zeros(0)
