"""What a finished stage costs and how it begins: geoms, speed, penetration of the first frame."""

from __future__ import annotations

import time
from collections.abc import Mapping

import mujoco
import numpy as np

from bodydouble.motion import RobotMotion
from sim.robots import RobotSpec
from sim.robots.spec import compile_spec, drop_visuals

MAX_PENETRATION_MM = 5.0
"""Penetration of the first frame that a report takes without a warning, mm."""
_TIMED_STEPS = 100
_TIMES = 5


def place_first_frame(model: mujoco.MjModel, data: mujoco.MjData, robot: RobotSpec, motion: RobotMotion) -> None:
    """Put a stage's robot on the first frame of a motion, its motors holding the pose; all else is as it was built."""
    mujoco.mj_resetData(model, data)
    if robot.floating_base:
        data.qpos[:3], data.qpos[3:7] = motion.root_pos[0], motion.root_quat[0]
    joints = model.jnt_qposadr[[model.joint(name).id for name in robot.joint_names]]
    data.qpos[joints] = motion.joint_pos[0]
    data.ctrl[: robot.num_joints] = motion.joint_pos[0]
    mujoco.mj_forward(model, data)


def model_figures(spec: mujoco.MjSpec, robot: RobotSpec, motion: RobotMotion) -> dict[str, float]:
    """Return figures of a stage's model before its visual meshes are added; the specification is changed.

    Returns:
        collision_geoms: Geoms of the scene, movable objects included, the robot's apart.
        initial_penetration_mm: The deepest contact of the first frame, of whatever touches, mm.
        steps_per_s: Physics steps per second of one simulation on one thread, at the first frame, median of five.
    """
    drop_visuals(spec)
    model = compile_spec(spec, "stage")
    data = mujoco.MjData(model)
    place_first_frame(model, data, robot, motion)
    depth = -float(data.contact.dist.min()) if data.ncon else 0.0
    of_robot = len(robot_geoms(model, robot))
    seconds = []
    for _ in range(_TIMES):
        place_first_frame(model, data, robot, motion)
        begun = time.perf_counter()
        mujoco.mj_step(model, data, _TIMED_STEPS)
        seconds.append(time.perf_counter() - begun)
    return {
        "collision_geoms": float(model.ngeom - of_robot),
        "initial_penetration_mm": 1000.0 * max(0.0, depth),
        "steps_per_s": _TIMED_STEPS / float(np.median(seconds)),
    }


def robot_geoms(model: mujoco.MjModel, robot: RobotSpec) -> np.ndarray:
    """Return the geoms of a robot's bodies in a stage's model."""
    root = model.body_rootid[model.body(robot.base_body).id]
    return np.flatnonzero(model.body_rootid[model.geom_bodyid] == root)


def report_lines(figures: Mapping[str, float]) -> list[str]:
    """Return what a stage kept of its scene, as lines of text; nothing for stages without a scene."""
    if "collision_volume_error" not in figures:
        return []
    boxes, walls = figures["furniture_boxes"], figures["wall_boxes"]
    lines = [
        f"collision: {boxes:.0f} furniture boxes, {figures.get('convex_pieces', 0):.0f} convex pieces, "
        f"{walls:.0f} wall boxes, {figures['movable_objects']:.0f} movable objects; "
        f"{figures['steps_per_s']:.0f} physics steps/s",
        f"kept: volume {100 * figures['collision_volume_error']:+.0f} %, steps to {figures['step_error_mm']:.1f} mm, "
        f"first frame {figures['initial_penetration_mm']:.1f} mm deep",
    ]
    if "stand_clearance_m" in figures:
        lines.append(f"nobody's motion: the robot stands, {figures['stand_clearance_m']:.2f} m from the nearest thing")
    if figures["initial_penetration_mm"] > MAX_PENETRATION_MM:
        lines.append(
            f"warning: the first frame is more than {MAX_PENETRATION_MM:.0f} mm inside of something; the simulation "
            "will push the robot away"
        )
    return lines
