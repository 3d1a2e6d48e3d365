"""From a person's motion to a robot's: targets, foot plan, inverse kinematics, balance."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import numpy as np

from bodydouble.errors import InputError
from bodydouble.motion import HumanMotion, RobotMotion
from sim.retarget.balance import balance_path
from sim.retarget.config import RetargetConfig
from sim.retarget.goals import person_goals
from sim.retarget.human import track_human
from sim.retarget.inverse_kinematics import SequenceSolver
from sim.retarget.kinematics import RobotKinematics, kinematics, make_robot_motion
from sim.retarget.metrics import motion_metrics
from sim.retarget.reach import reachable_pelvis
from sim.retarget.scene import Scene
from sim.retarget.support import support_polygons
from sim.retarget.targets import body_targets, proportions
from sim.retarget.timeline import Timeline, build_timeline
from sim.robots.spec import RobotSpec

_SWING_SHARE = 0.5
"""Factor on the weights of swinging feet where solids may be in their way."""
_PALM_M = 0.12
"""Distance of a wrist from the surface that its hand lies on, m."""


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
    scene: Scene | None = None
    """The scene that the person moved in, scaled with the person."""


def retarget(human: HumanMotion, robot: RobotSpec, config: RetargetConfig | None = None) -> RobotMotion:
    """Return a person's motion as a robot's; see `retarget_clip`."""
    return retarget_clip(human, robot, config).motion


def retarget_clip(
    human: HumanMotion, robot: RobotSpec, config: RetargetConfig | None = None, scene: Scene | None = None
) -> Retargeted:
    """Return a person's motion as a biped robot's, with figures.

    Feet that stand and hands that hold stay where they are; the motion begins and ends with the robot standing still
    in its default pose; links keep off each other and off the scene; the centre of mass is moved where the robot's
    own weight would tip it over. Two passes of inverse kinematics: the first one finds the centre of mass, the second
    one follows the balanced path of it.

    Args:
        human: The person's motion, world Z up, floor at height zero.
        robot: A biped whose `follow` names the parts of a whole body.
        config: Settings.
        scene: Solids that the person stood on or held; they are scaled with the person. None for a bare floor.

    Raises:
        InputError: The motion lacks joints or contacts, is too short, or the robot is no such biped.
    """
    config = config or RetargetConfig()
    started = time.process_time()
    _check_biped(robot)
    model = kinematics(robot)
    scene = scene if scene is not None and scene.solids else None
    track = track_human(human, config, scene)
    body = proportions(model)
    if config.path_scale is None and robot.follow is not None and robot.follow.scale is not None:
        config = dataclasses.replace(config, path_scale=robot.follow.scale)
    targets, ratio, scale, anchor = body_targets(track, body, config)
    scaled = None if scene is None else scene.scaled(anchor, scale, ratio)
    if scaled is not None:
        places = scaled.outside(targets.hand.reshape(-1, 3), _PALM_M).reshape(targets.hand.shape)
        targets = dataclasses.replace(targets, hand=places)
    line = build_timeline(targets, track.contact, body, config, scaled)
    reachable = reachable_pelvis(line.targets, line.feet, body, config.fps)
    wanted = dataclasses.replace(line.targets, pelvis_pos=reachable)
    solver = SequenceSolver(model, config, scaled)
    # Where solids are near, each step costs more; the first pass is only for the centre of mass.
    rough = config.iterations if scaled is None or not config.balance else max(1, config.iterations - 1)
    swing = 1.0 if scaled is None else _SWING_SHARE
    qpos, com = solver.solve(person_goals(model, wanted, line.feet, None, swing), iterations=rough)
    if config.balance:
        balanced = balance_path(*_pendulum(model, line, com, config), config.fps)
        moved = line.targets.pelvis_pos.copy()
        moved[:, :2] += balanced - com[:, :2]
        wanted = dataclasses.replace(line.targets, pelvis_pos=moved)
        wanted = dataclasses.replace(wanted, pelvis_pos=reachable_pelvis(wanted, line.feet, body, config.fps))
        qpos, com = solver.solve(person_goals(model, wanted, line.feet, balanced, swing))
    motion = make_robot_motion(
        robot, config.fps, qpos[:, :3], qpos[:, 3:7], qpos[:, model.qpos_index], contact=line.feet.contact
    )
    seconds = time.process_time() - started
    metrics = motion_metrics(motion, robot, scaled) | {"realtime_factor": motion.duration_s / seconds}
    anchor_point = (float(anchor[0]), float(anchor[1]))
    return Retargeted(motion, metrics, line.clip_start, line.clip_end, ratio, scale, anchor_point, scaled)


def _pendulum(
    model: RobotKinematics, line: Timeline, com: np.ndarray, config: RetargetConfig
) -> tuple[np.ndarray, list[tuple[int, int, np.ndarray]]]:
    """Return centres of mass (T, 3) over the standing feet, and the supports that hold without a hand's help."""
    standing = line.feet.contact
    count = np.maximum(standing.sum(axis=1), 1)
    ground = np.sum(np.where(standing, line.feet.position[..., 2], 0.0), axis=1) / count
    held = np.any(line.targets.hand_contact > 0, axis=1, keepdims=True)
    feet_alone = standing & ~held
    supports = support_polygons(model, line.feet.position, line.feet.yaw, feet_alone, config.support_margin_m)
    return com - ground[:, None] * [0.0, 0.0, 1.0], supports


def _check_biped(robot: RobotSpec) -> None:
    follow = robot.follow
    if follow is None:
        raise InputError(
            f"robot {robot.name}: is no biped or arm that follows a person; give a mapping file that says which of "
            "its parts follow, or take unitree_g1"
        )
    if follow.tool is not None:
        raise InputError(f"robot {robot.name}: is no biped, it follows the {follow.describe()}; see `retarget_hand`")
    if len(robot.foot_bodies) != 2 or not robot.floating_base:
        raise InputError(f"robot {robot.name}: is no biped, it has {len(robot.foot_bodies)} feet; expected 2")
