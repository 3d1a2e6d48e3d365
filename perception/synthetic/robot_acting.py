"""Acting by the robot itself: a planned clip for a robot's own proportions, on a floor with seats and platforms.

No person is in between: the plan's tracks are the robot's targets, solved and balanced as a retargeted person's are.
It needs no body model, so that a library of thousands of motions is made quickly on any machine.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import mujoco
import numpy as np

from bodydouble.errors import InputError
from bodydouble.frames import quat_from_axis_angle, quat_mul, quat_rotate, quat_rotate_inv
from bodydouble.motion import RobotMotion
from perception.synthetic.gaits import GAITS
from perception.synthetic.motions import MotionConfig, Proportions, Tracks, plan
from sim.retarget.balance import balance_path
from sim.retarget.config import RetargetConfig
from sim.retarget.footsteps import FootPlan, runs
from sim.retarget.goals import person_goals
from sim.retarget.inverse_kinematics import SequenceSolver
from sim.retarget.kinematics import RobotKinematics, kinematics, make_robot_motion
from sim.retarget.reach import reachable_pelvis
from sim.retarget.support import support_polygons
from sim.retarget.targets import BodyTargets
from sim.retarget.targets import Proportions as RobotProportions
from sim.retarget.targets import proportions as robot_proportions
from sim.robots.spec import RobotSpec

Array = np.ndarray

_SEAT_HALF_M = (0.05, 0.09)
"""Half extents of the area over which a seat carries the pelvis, m."""
_MOST_OVERLAP_M = 0.02


@dataclass(frozen=True)
class Block:
    """A box that stands on the floor: a seat or a platform."""

    centre: tuple[float, float]
    """Its middle, m."""
    yaw: float
    """Its heading, rad."""
    size: tuple[float, float, float]
    """Its extents, m."""


def planning_proportions(robot: RobotProportions, model: RobotKinematics) -> Proportions:
    """Return a robot's lengths as the planner wants them; who stands is in the robot's default pose."""
    torso = _waist(model)
    hand = robot.wrist_offset[0] + torso
    return Proportions(
        pelvis_height=robot.standing_height,
        ankle_height=robot.ankle_height,
        hip_width=float(robot.ankle_offset[0, 1] / 1.1),
        leg=robot.leg_length,
        arm=robot.upper_arm + robot.forearm,
        shoulder=(float(robot.shoulder_offset[0, 2] + torso[2]), float(robot.shoulder_offset[0, 1])),
        rest_hand=(float(hand[0]), float(hand[1]), float(hand[2])),
    )


def mirrored(tracks: Tracks, about: Block) -> Tracks:
    """Return the plan with left and right exchanged at a box's vertical plane of symmetry."""
    middle, c, s = np.array(about.centre), np.cos(2 * about.yaw), np.sin(2 * about.yaw)
    reflection = np.array([[c, s], [s, -c]])

    def place(points: Array) -> Array:
        out = points.copy()
        out[..., :2] = middle + (points[..., :2] - middle) @ reflection.T
        return out

    return dataclasses.replace(
        tracks,
        pelvis=place(tracks.pelvis),
        heading=2 * about.yaw - tracks.heading,
        torso=tracks.torso * [1, 1, -1],
        feet=place(tracks.feet)[:, ::-1],
        foot_yaw=2 * about.yaw - tracks.foot_yaw[:, ::-1],
        foot_pitch=tracks.foot_pitch[:, ::-1],
        hands=tracks.hands[:, ::-1] * [1, -1, 1],
        contact=tracks.contact[:, ::-1],
    )


def _waist(model: RobotKinematics) -> Array:
    """Return the torso from the pelvis (3,) in the default pose, m."""
    follow = model.robot.follow
    if follow is None or not {"torso", "pelvis"} <= set(follow.parts):
        raise InputError(f"robot {model.robot.name}: has no trunk and pelvis that follow a plan; take unitree_g1")
    return model.home_place(follow.parts["torso"]) - model.home_place(follow.parts["pelvis"])


def act_robot(
    config: MotionConfig,
    robot: RobotSpec,
    block: Block | None = None,
    *,
    mirror: bool = False,
    settings: RetargetConfig | None = None,
) -> RobotMotion:
    """Return a robot's motion for a clip, feet planted, dynamically balanced.

    Args:
        config: The clip; its rate is the motion's.
        robot: A biped like the Unitree G1.
        block: What it sits or steps on; it must stand where the clip needs it.
        mirror: Whether left and right are exchanged at the block's plane of symmetry.
        settings: Margins and speeds of the retargeting.

    Raises:
        InputError: A segment is not possible, no pose exists within the limits, or the robot would overlap a box.
    """
    settings = dataclasses.replace(settings or RetargetConfig(), fps=config.fps)
    model = kinematics(robot)
    body = robot_proportions(model)
    tracks = plan(config, planning_proportions(body, model), more=GAITS)
    if mirror and block is not None:
        tracks = mirrored(tracks, block)
    targets, feet = robot_targets(tracks, body, model)
    reachable = reachable_pelvis(targets, feet, body, settings.fps)
    solver = SequenceSolver(model, settings)
    qpos, com = solver.solve(person_goals(model, dataclasses.replace(targets, pelvis_pos=reachable), feet))
    wanted = targets.pelvis_pos.copy()
    boxed = _Boxed(robot, block) if block is not None else None
    if boxed is not None and tracks.seat.any():
        wanted[:, 2] += _seat_shift(tracks, boxed, qpos)
    supports = _with_seat(
        support_polygons(model, feet.position, feet.yaw, feet.contact, settings.support_margin_m), tracks
    )
    balanced = balance_path(_over_ground(com, feet), supports, settings.fps)
    wanted[:, :2] += balanced - com[:, :2]
    moved = dataclasses.replace(targets, pelvis_pos=wanted)
    moved = dataclasses.replace(moved, pelvis_pos=reachable_pelvis(moved, feet, body, settings.fps))
    qpos, _ = solver.solve(person_goals(model, moved, feet, balanced))
    if boxed is not None:
        boxed.check(qpos)
    return make_robot_motion(
        robot, settings.fps, qpos[:, :3], qpos[:, 3:7], qpos[:, model.qpos_index], contact=feet.contact
    )


def robot_targets(tracks: Tracks, body: RobotProportions, model: RobotKinematics) -> tuple[BodyTargets, FootPlan]:
    """Return what a robot's solver follows for a plan made with its proportions."""
    frames = len(tracks.pelvis)
    up, across = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])

    def turn(axis: Array, angle: Array) -> Array:
        return quat_from_axis_angle(np.broadcast_to(axis, (*angle.shape, 3)), angle)

    heading = turn(up, tracks.heading)
    pelvis = quat_mul(heading, turn(across, tracks.torso[:, 0]))
    torso = quat_mul(
        quat_mul(heading, turn(up, tracks.torso[:, 2])), turn(across, tracks.torso[:, 0] + tracks.torso[:, 1])
    )
    base = quat_rotate(pelvis, np.broadcast_to(_waist(model), (frames, 3)))
    wrist, elbow = np.empty((frames, 2, 3)), np.empty((frames, 2, 3))
    for side in range(2):
        shoulder = body.shoulder_offset[side]
        hand = quat_rotate_inv(torso, quat_rotate(heading, tracks.hands[:, side]) - base)
        way = hand - shoulder
        distance = np.linalg.norm(way, axis=1, keepdims=True)
        a, b = body.upper_arm, body.forearm
        reach = np.clip(distance, abs(a - b) + 0.12, 0.985 * (a + b))
        way = way / np.maximum(distance, 1e-6)
        # The elbow stays on the side of the line from shoulder to wrist where it is in the default pose.
        still = body.elbow_offset[side] - shoulder
        line = body.wrist_offset[side] - shoulder
        line = line / np.linalg.norm(line)
        hint = still - line * (still @ line)
        hint = hint - way * np.sum(hint * way, axis=1, keepdims=True)
        hint = hint / np.maximum(np.linalg.norm(hint, axis=1, keepdims=True), 1e-6)
        along = (a * a - b * b + reach**2) / (2 * reach)
        elbow[:, side] = shoulder + along * way + np.sqrt(np.maximum(a * a - along**2, 0)) * hint
        wrist[:, side] = shoulder + reach * way
    soles = tracks.feet.copy()
    soles[..., 2] -= body.ankle_height
    feet = FootPlan(soles, np.unwrap(tracks.foot_yaw, axis=0), tracks.foot_pitch, tracks.contact)
    targets = BodyTargets(
        pelvis_pos=tracks.pelvis,
        pelvis_quat=pelvis,
        torso_quat=torso,
        foot_path=soles,
        foot_yaw=feet.yaw,
        foot_pitch=feet.pitch,
        elbow=elbow,
        wrist=wrist,
        hand=np.zeros((frames, 2, 3)),
        hand_contact=np.zeros((frames, 2)),
    )
    return targets, feet


def _over_ground(com: Array, feet: FootPlan) -> Array:
    """Return the centre of mass with its height over the feet that stand, which is what the pendulum swings over."""
    standing = np.where(feet.contact, feet.position[..., 2], -np.inf).max(axis=1)
    out = com.copy()
    out[:, 2] -= np.where(np.isfinite(standing), standing, 0.0)
    return out


def _with_seat(supports: list[tuple[int, int, Array]], tracks: Tracks) -> list[tuple[int, int, Array]]:
    """Return the supports, with the seat's area added while one sits."""
    out = []
    for start, end, corners in supports:
        for seated in (False, True):
            for first, last in runs(tracks.seat[start:end] == seated):
                area = corners
                if seated:
                    yaw = tracks.heading[start + first]
                    ahead, left = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
                    middle = tracks.pelvis[start + first, :2]
                    area = np.concatenate(
                        [corners]
                        + [
                            (middle + x * _SEAT_HALF_M[0] * ahead + y * _SEAT_HALF_M[1] * left)[None]
                            for x in (-1, 1)
                            for y in (-1, 1)
                        ]
                    )
                out.append((start + first, start + last, area))
    return sorted(out, key=lambda support: support[0])


def _seat_shift(tracks: Tracks, boxed: _Boxed, qpos: Array) -> Array:
    """Return how much higher the pelvis must be (T,), m, so that who sits rests on the box; nothing while standing."""
    shift = np.zeros(len(qpos))
    stand = tracks.pelvis[:, 2].max()
    for start, end in runs(tracks.seat):
        overlap = -boxed.trunk_distance(qpos[[start, (start + end) // 2, end - 1]]).mean()
        low = tracks.pelvis[(start + end) // 2, 2]
        lowered = np.clip((stand - tracks.pelvis[:, 2]) / max(stand - low, 1e-6), 0, 1)
        around = np.zeros(len(qpos), bool)
        around[max(0, start - 150) : end + 150] = True
        # A millimetre of overlap lets the seat carry.
        shift += np.where(around, lowered * (overlap - 0.001), 0.0)
    return shift


class _Boxed:
    """The robot's model with a box, for distances."""

    def __init__(self, robot: RobotSpec, block: Block) -> None:
        spec = robot.mjspec(visuals=False)
        add_blocks(spec, (block,))
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        model = self._model
        self._box = model.geom("block0").id
        self._robot = [g for g in range(model.ngeom) if model.geom_bodyid[g] > 0 and model.geom_contype[g]]
        names = ("pelvis", "hip_roll", "hip_yaw", "hip_pitch")
        self._trunk = [g for g in self._robot if any(n in model.body(model.geom_bodyid[g]).name for n in names)]

    def _distance(self, qpos: Array, geoms: list[int]) -> tuple[float, int]:
        self._data.qpos[: len(qpos)] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        return min(
            (mujoco.mj_geomDistance(self._model, self._data, self._box, geom, 1.0, None), geom) for geom in geoms
        )

    def trunk_distance(self, qpos: Array) -> Array:
        """Return the distance (T,) of pelvis and thighs to the boxes, m; negative where they overlap."""
        return np.array([self._distance(q, self._trunk)[0] for q in qpos])

    def check(self, qpos: Array) -> None:
        """Raise InputError where the robot is in a box."""
        for t in range(0, len(qpos), 3):
            distance, geom = self._distance(qpos[t], self._robot)
            if distance < -_MOST_OVERLAP_M:
                name = self._model.geom(geom).name
                raise InputError(f"robot clip: in frame {t} {name} is {-1000 * distance:.0f} mm inside a box")


def add_blocks(spec: mujoco.MjSpec, blocks: tuple[Block, ...]) -> None:
    """Add boxes that stand on the floor, named block0, block1, ..."""
    for index, block in enumerate(blocks):
        half = [0.5 * extent for extent in block.size]
        spec.worldbody.add_geom(
            name=f"block{index}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=half,
            pos=[*block.centre, half[2]],
            quat=[np.cos(0.5 * block.yaw), 0, 0, np.sin(0.5 * block.yaw)],
            condim=3,
        )
