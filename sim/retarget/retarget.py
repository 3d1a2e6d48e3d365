"""From a person's motion to a robot's: targets, foot plan, inverse kinematics, balance."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

from bodydouble.errors import InputError
from bodydouble.motion import HumanMotion, RobotMotion
from sim.retarget.balance import balance_path
from sim.retarget.config import RetargetConfig
from sim.retarget.human import track_human
from sim.retarget.inverse_kinematics import SequenceSolver
from sim.retarget.kinematics import kinematics, make_robot_motion
from sim.retarget.metrics import motion_metrics
from sim.retarget.reach import reachable_pelvis
from sim.retarget.support import support_polygons
from sim.retarget.targets import body_targets, proportions
from sim.retarget.timeline import build_timeline
from sim.robots.spec import RobotSpec


@dataclass(frozen=True, eq=False)
class Retargeted:
    """A retargeted motion, and how it was placed."""

    motion: RobotMotion
    """The robot's motion."""
    metrics: dict[str, float]
    """Figures of `motion_metrics`, and the speed of the retargeting."""
    clip_start: int
    """Robot frame at which the person's first frame is repeated."""
    clip_end: int
    """Robot frame after the person's last frame."""
    leg_ratio: float
    """Leg length of the robot over the person's."""
    path_scale: float
    """Scale of the horizontal path."""
    path_anchor: tuple[float, float]
    """Point of the floor that the scaling leaves in place, m."""


def retarget(human: HumanMotion, robot: RobotSpec, config: RetargetConfig | None = None) -> RobotMotion:
    """Return a person's motion as a robot's; see `retarget_clip`."""
    return retarget_clip(human, robot, config).motion


def retarget_clip(human: HumanMotion, robot: RobotSpec, config: RetargetConfig | None = None) -> Retargeted:
    """Return a person's motion as a biped robot's, with figures.

    Feet that stand stay where they are; the motion begins and ends with the robot standing still in its default
    pose; the centre of mass is moved where the robot's own weight would tip it over. Two passes of inverse
    kinematics: the first one finds the centre of mass, the second one follows the balanced path of it.

    Args:
        human: The person's motion, world Z up, floor at height zero.
        robot: A biped like the Unitree G1.
        config: Settings.

    Raises:
        InputError: The motion lacks joints or contacts, is too short, or the robot is no such biped.
    """
    config = config or RetargetConfig()
    started = time.perf_counter()
    if len(robot.foot_bodies) != 2 or not robot.floating_base:
        raise InputError(f"robot {robot.name}: is no biped; people are retargeted to bipeds like unitree_g1")
    model = kinematics(robot)
    track = track_human(human, config)
    body = proportions(model)
    targets, ratio, scale, anchor = body_targets(track, body, config)
    line = build_timeline(targets, track.contact, body, config)
    reachable = reachable_pelvis(line.targets, line.feet, body, config.fps)
    wanted = dataclasses.replace(line.targets, pelvis_pos=reachable)
    solver = SequenceSolver(model, config)
    qpos, com = solver.solve(wanted, line.feet)
    if config.balance:
        balanced = balance_path(
            com,
            support_polygons(model, line.feet.position, line.feet.yaw, line.feet.contact, config.support_margin_m),
            config.fps,
        )
        moved = line.targets.pelvis_pos.copy()
        moved[:, :2] += balanced - com[:, :2]
        wanted = dataclasses.replace(line.targets, pelvis_pos=moved)
        wanted = dataclasses.replace(wanted, pelvis_pos=reachable_pelvis(wanted, line.feet, body, config.fps))
        qpos, com = solver.solve(wanted, line.feet, balanced)
    motion = make_robot_motion(
        robot, config.fps, qpos[:, :3], qpos[:, 3:7], qpos[:, model.qpos_index], contact=line.feet.contact
    )
    seconds = time.perf_counter() - started
    metrics = motion_metrics(motion, robot) | {"realtime_factor": motion.duration_s / seconds}
    anchor_point = (float(anchor[0]), float(anchor[1]))
    return Retargeted(motion, metrics, line.clip_start, line.clip_end, ratio, scale, anchor_point)
