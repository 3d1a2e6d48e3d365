"""What the robot's pelvis, torso, feet and arms should do at every frame, from a person's joints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from bodydouble.errors import InputError
from bodydouble.frames import quat_conj, quat_from_matrix, quat_mul, quat_rotate, quat_rotate_inv, yaw_angle, yaw_quat
from sim.retarget.config import RetargetConfig
from sim.retarget.footsteps import min_jerk, runs
from sim.retarget.human import HumanTrack
from sim.retarget.kinematics import RobotKinematics, continuous_quats
from sim.robots.follow import ARM, LEG, SIDES

_HAND_EASE_S = 0.3
_KNEE_STRAIGHT_RAD = np.deg2rad(25.0)
_UPRIGHT_RAD = np.deg2rad(25.0)
_MAX_TOE_OUT_RAD = 0.4
_PITCH_RANGE_RAD = (-0.15, 0.5)


@dataclass(frozen=True, eq=False)
class Proportions:
    """The lengths and the default pose of a biped robot that targets are made with. Sides are left, right."""

    leg_length: float
    """Hip to ankle along straight leg links, m."""
    hip_offset: np.ndarray
    """Middle of the hips in the pelvis frame (3,), m."""
    hip_joints: np.ndarray
    """Joints about which the legs swing, in the pelvis frame (2, 3), m."""
    ankle_offset: np.ndarray
    """Ankles in the default pose's pelvis frame (2, 3), m."""
    shoulder_offset: np.ndarray
    """Shoulders in the torso frame (2, 3), m."""
    upper_arm: float
    """Shoulder to elbow, m."""
    forearm: float
    """Elbow to wrist, m."""
    elbow_offset: np.ndarray
    """Elbows in the torso frame in the default pose (2, 3), m."""
    wrist_offset: np.ndarray
    """Wrists in the torso frame in the default pose (2, 3), m."""
    standing_height: float
    """Pelvis height in the default pose on the floor, m."""
    ankle_height: float
    """Ankle height of a flat foot on the floor, m."""


@dataclass(frozen=True, eq=False)
class BodyTargets:
    """Targets over T frames. Sides are left, right."""

    pelvis_pos: np.ndarray
    """Pelvis positions (T, 3), world, m."""
    pelvis_quat: np.ndarray
    """Pelvis orientations (T, 4), wxyz."""
    torso_quat: np.ndarray
    """Torso orientations (T, 4), wxyz."""
    foot_path: np.ndarray
    """Soles below the ankles (T, 2, 3), world, m, if feet might slide."""
    foot_yaw: np.ndarray
    """Headings of the feet (T, 2), rad, without jumps."""
    foot_pitch: np.ndarray
    """Pitch of the feet (T, 2), rad, positive with the toes down."""
    elbow: np.ndarray
    """Elbows in the torso frame (T, 2, 3), m."""
    wrist: np.ndarray
    """Wrists in the torso frame (T, 2, 3), m."""
    hand: np.ndarray
    """Wrists (T, 2, 3), world, m, if they might slide: where hands hold on to the scene."""
    hand_contact: np.ndarray
    """Whether each hand holds on to the scene (T, 2): 1 while it does, rising before and falling after."""


def proportions(model: RobotKinematics) -> Proportions:
    """Return a biped's proportions, from its default pose, in which it stands upright and faces x.

    Raises:
        InputError: The robot does not follow a person's whole body.
    """
    follow = model.robot.follow
    if follow is None or follow.tool is not None:
        raise InputError(f"robot {model.robot.name}: is no biped that follows a whole body")

    def place(part: str, base: str) -> np.ndarray:
        return model.home_place(follow.parts[part]) - model.home_place(follow.parts[base])

    def sides(part: str, base: str) -> np.ndarray:
        return np.array([place(f"{side}_{part}", base) for side in SIDES])

    hips, knees, ankles = (sides(part, "pelvis") for part in LEG)
    arms = np.zeros((3, 2, 3))
    if follow.arms:
        arms = np.array([sides(part, "torso") for part in ARM])
    shoulders, elbows, wrists = arms
    level = np.broadcast_to(model.flat_quats, (1, 2, 4))
    # Hips and knees are not on one vertical line: lengths count in the plane that the leg bends in.
    thigh, shin = (np.linalg.norm((b - a)[:, [0, 2]], axis=1).mean() for a, b in ((hips, knees), (knees, ankles)))
    return Proportions(
        leg_length=float(thigh + shin),
        hip_offset=hips.mean(axis=0),
        hip_joints=np.stack([hips[:, 0], knees[:, 1], hips[:, 2]], axis=1),
        ankle_offset=ankles,
        shoulder_offset=shoulders,
        upper_arm=float(np.linalg.norm(elbows - shoulders, axis=1).mean()),
        forearm=float(np.linalg.norm(wrists - elbows, axis=1).mean()),
        elbow_offset=elbows,
        wrist_offset=wrists,
        standing_height=model.standing_height(),
        ankle_height=float(-model.sole_heights(np.zeros((1, 2, 3)), level).min()),
    )


def body_targets(
    track: HumanTrack, robot: Proportions, config: RetargetConfig
) -> tuple[BodyTargets, float, float, np.ndarray]:
    """Return the targets of the clip's frames.

    Lengths scale with the legs; the standing person becomes the robot's default pose, and the hips drop from there
    by the scaled drop of the person's. Arms keep their directions in the torso.

    Args:
        track: The person's joints.
        robot: The robot's proportions.
        config: Settings.

    Returns:
        The targets, the leg length ratio robot / person, the path's scale, and the path's fixed point (2,) in m.
    """
    joints = track.joints
    ratio = robot.leg_length / track.leg_length()
    scale = config.path_scale if config.path_scale is not None else ratio
    hips = 0.5 * (joints["left_hip"] + joints["right_hip"])
    upright = _neutral_frames(track)
    torso = torso_frames(joints, hips)
    pelvis = _pelvis_frames(joints, hips, torso)
    torso, pelvis = _remove_neutral(torso, upright), _remove_neutral(pelvis, upright)
    heading = yaw_quat(pelvis)

    anchor = hips[:, :2].mean(axis=0)
    over_ground = hips[:, 2] - track.ground.mean(axis=1)
    standing_hips = np.median(over_ground[upright]) if upright.any() else np.quantile(over_ground, 0.95)
    hip_target = np.empty_like(hips)
    hip_target[:, :2] = anchor + scale * (hips[:, :2] - anchor)
    hip_target[:, 2] = robot.standing_height + robot.hip_offset[2] - ratio * (standing_hips - hips[:, 2])
    pelvis_pos = hip_target - quat_rotate(pelvis, np.broadcast_to(robot.hip_offset, hips.shape))

    foot_path, foot_yaw, foot_pitch = np.empty((len(hips), 2, 3)), np.empty((len(hips), 2)), np.empty((len(hips), 2))
    pelvis_yaw = np.unwrap(yaw_angle(pelvis))
    for i, side in enumerate(SIDES):
        ankle = joints[f"{side}_ankle"]
        reach = ratio * (ankle - joints[f"{side}_hip"])
        own = quat_rotate(heading, np.broadcast_to(robot.ankle_offset[i] - robot.hip_offset, hips.shape))
        foot_path[:, i, :2] = (hip_target + reach + own)[:, :2]
        foot_path[:, i, 2] = ratio * _lift(joints, side, track.ground[:, i])
        toe_out, foot_pitch[:, i] = _foot_angles(joints, side, pelvis_yaw)
        foot_yaw[:, i] = pelvis_yaw + toe_out

    elbow, wrist = np.empty((len(hips), 2, 3)), np.empty((len(hips), 2, 3))
    for i, side in enumerate(SIDES):
        upper = quat_rotate_inv(torso, _unit(joints[f"{side}_elbow"] - joints[f"{side}_shoulder"]))
        lower = quat_rotate_inv(torso, _unit(joints[f"{side}_wrist"] - joints[f"{side}_elbow"]))
        elbow[:, i] = robot.shoulder_offset[i] + robot.upper_arm * upper
        wrist[:, i] = elbow[:, i] + robot.forearm * lower
    sign = np.array([1.0, -1.0])
    elbow = _keep_clear(elbow, sign, robot.elbow_offset[0, 1] - 0.02)
    wrist = _keep_clear(wrist, sign, robot.wrist_offset[0, 1])
    hand = np.stack([joints[f"{side}_wrist"] for side in SIDES], axis=1)
    hand = np.concatenate([anchor + scale * (hand[..., :2] - anchor), ratio * hand[..., 2:]], axis=-1)
    hand = _held(hand, track.hand_contact)
    return (
        BodyTargets(
            pelvis_pos,
            pelvis,
            torso,
            foot_path,
            foot_yaw,
            foot_pitch,
            elbow,
            wrist,
            hand,
            _eased(track.hand_contact, track.fps),
        ),
        ratio,
        scale,
        anchor,
    )


def _eased(contact: np.ndarray, fps: float) -> np.ndarray:
    """Return contacts (T, 2) as shares that rise before each contact and fall after it."""
    away = np.stack([np.asarray(distance_transform_edt(~column)) for column in contact.T], axis=1) / fps
    away[:, ~contact.any(axis=0)] = np.inf
    return 1.0 - min_jerk(away / _HAND_EASE_S)


def _held(hand: np.ndarray, contact: np.ndarray) -> np.ndarray:
    """Return places of hands (T, 2, 3) that stay put while they hold on to something, and near it until then."""
    out = hand.copy()
    for i in range(2):
        held = contact[:, i]
        for start, end in runs(contact[:, i]):
            out[start:end, i] = np.median(hand[start:end, i], axis=0)
        if held.any():
            nearest = distance_transform_edt(~held, return_distances=False, return_indices=True)
            out[:, i] = out[np.asarray(nearest)[0], i]
    return out


def _lift(joints: dict[str, np.ndarray], side: str, ground: np.ndarray) -> np.ndarray:
    """Return how far a foot is off the floor (T,), m; the toe counts where it is lower than the ankle is."""
    ankle = joints[f"{side}_ankle"][:, 2]
    lift = ankle - np.quantile(ankle - ground, 0.1)
    if f"{side}_toe" in joints:
        toe = joints[f"{side}_toe"][:, 2]
        lift = np.minimum(lift, toe - np.quantile(toe - ground, 0.1))
    return lift


def _foot_angles(joints: dict[str, np.ndarray], side: str, pelvis_yaw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far a foot points outwards of the pelvis (T,) and how far its toes point down (T,), rad."""
    frames = len(pelvis_yaw)
    if f"{side}_toe" not in joints:
        return np.zeros(frames), np.zeros(frames)
    forward = _unit(joints[f"{side}_toe"] - joints[f"{side}_ankle"])
    down = np.arcsin(np.clip(-forward[:, 2], -1.0, 1.0))
    pitch = down - np.quantile(down, 0.2)
    out = np.arctan2(forward[:, 1], forward[:, 0]) - pelvis_yaw
    out = np.clip((out + np.pi) % (2 * np.pi) - np.pi, -_MAX_TOE_OUT_RAD, _MAX_TOE_OUT_RAD)
    # A foot that hangs has no heading; it keeps those of the flat frames around.
    flat = np.flatnonzero(np.abs(pitch) < 0.35)
    return np.interp(np.arange(frames), flat, out[flat]), np.clip(pitch, *_PITCH_RANGE_RAD)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _frames(left: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return orientations (T, 4) of frames whose z is along `up` (T, 3) and whose y is near `left` (T, 3)."""
    z = _unit(up)
    x = _unit(np.cross(left, z))
    y = np.cross(z, x)
    return continuous_quats(quat_from_matrix(np.stack([x, y, z], axis=-1)))


def torso_frames(joints: dict[str, np.ndarray], hips: np.ndarray) -> np.ndarray:
    """Return the orientations (T, 4) of the torso: z from the hips to the shoulders, y to the left."""
    shoulders = 0.5 * (joints["left_shoulder"] + joints["right_shoulder"])
    return _frames(joints["left_shoulder"] - joints["right_shoulder"], shoulders - hips)


def _pelvis_frames(joints: dict[str, np.ndarray], hips: np.ndarray, torso: np.ndarray) -> np.ndarray:
    up = quat_rotate(torso, np.broadcast_to([0.0, 0, 1.0], hips.shape))
    if "spine" in joints:
        up = _unit(_unit(joints["spine"] - hips) + up)
    # A person bends in hips and spine alike; half of the torso's lean is the pelvis's.
    return _frames(joints["left_hip"] - joints["right_hip"], up + np.array([0.0, 0.0, 1.0]))


def _neutral_frames(track: HumanTrack) -> np.ndarray:
    """Return in which frames (T,) the person stands upright on straight legs."""
    joints = track.joints
    upright = (track.contact > 0.5).all(axis=1)
    for side in SIDES:
        thigh = _unit(joints[f"{side}_knee"] - joints[f"{side}_hip"])
        shin = _unit(joints[f"{side}_ankle"] - joints[f"{side}_knee"])
        upright &= np.arccos(np.clip(np.sum(thigh * shin, axis=1), -1, 1)) < _KNEE_STRAIGHT_RAD
    hips = 0.5 * (joints["left_hip"] + joints["right_hip"])
    shoulders = 0.5 * (joints["left_shoulder"] + joints["right_shoulder"])
    lean = np.arccos(np.clip(_unit(shoulders - hips)[:, 2], -1, 1))
    return upright & (lean < _UPRIGHT_RAD)


def _remove_neutral(quats: np.ndarray, upright: np.ndarray) -> np.ndarray:
    """Return orientations (T, 4) turned so that the mean upright frame has no lean; unchanged where there is none."""
    if not upright.any():
        return quats
    lean = quat_mul(quat_conj(yaw_quat(quats[upright])), quats[upright])
    mean = np.linalg.eigh(lean.T @ lean)[1][:, -1]
    return continuous_quats(quat_mul(quats, quat_conj(mean)[None]))


def _keep_clear(points: np.ndarray, sign: np.ndarray, clearance: float) -> np.ndarray:
    """Return points (T, 2, 3) of the torso frame moved sideways, off the robot's trunk and hips.

    The robot is wider than the person for its arms' length. Points well ahead of the trunk are free.
    """
    out = points.copy()
    side = points[..., 1] * sign
    ahead = np.clip((points[..., 0] - 0.12) / 0.10, 0.0, 1.0)
    least = clearance * (1.0 - ahead * ahead * (3.0 - 2.0 * ahead)) - 0.5 * ahead
    soft = 0.02
    out[..., 1] = sign * (0.5 * (side + least + np.sqrt((side - least) ** 2 + soft**2)))
    return out
