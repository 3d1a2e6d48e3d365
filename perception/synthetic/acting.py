"""From a clip's plan to a HumanMotion of the Anny body."""

from __future__ import annotations

import dataclasses
import functools
from itertools import pairwise

import numpy as np
import torch
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from bodydouble.frames import quat_from_matrix
from bodydouble.motion import HumanMotion
from perception.body.anny_body import CONTACT_NAMES, JOINT_NAMES, AnnyBody, RestBody
from perception.body.anny_data import BONE_NAMES, BONE_PARENTS, SHAPE_NAMES
from perception.synthetic.gaits import GAITS
from perception.synthetic.inverse_kinematics import two_bone
from perception.synthetic.motions import MotionConfig, Proportions, Tracks, plan, random_segments, with_segments
from perception.synthetic.room import Mesh
from perception.synthetic.touch import Surroundings, place_on, touching

_CONTACT_JOINTS = (
    "left_ankle", "right_ankle", "left_wrist", "right_wrist", "pelvis", "left_knee", "right_knee", "spine2",
)  # fmt: skip
DEFAULT_SHAPE = (0.5, 0.5, 0.5, 0.5, 0.5)
"""An average person."""

_STRAIGHT = 0.995
"""Longest reach of a standing leg, in units of its bones' lengths."""


@functools.cache
def whole_body() -> AnnyBody:
    """Return the body with all its vertices, loaded once."""
    return AnnyBody.load()


def proportions(rest: RestBody) -> Proportions:
    """Return the lengths of a body that planning needs."""
    origin = rest.joint_pos[0]
    joint = {name: (rest.joint_pos[i] - origin).numpy() for i, name in enumerate(BONE_NAMES)}
    sole = float((origin - rest.vertices)[:, 2].max())
    leg = np.linalg.norm(joint["left_knee"] - joint["left_hip"])
    leg += np.linalg.norm(joint["left_ankle"] - joint["left_knee"])
    arm = np.linalg.norm(joint["left_elbow"] - joint["left_shoulder"])
    arm += np.linalg.norm(joint["left_wrist"] - joint["left_elbow"])
    ankle_height = sole + joint["left_ankle"][2]
    return Proportions(
        pelvis_height=float(ankle_height + 0.965 * leg - joint["left_hip"][2]),
        ankle_height=float(ankle_height),
        hip_width=float(joint["left_hip"][1]),
        leg=float(leg),
        arm=float(arm),
        shoulder=(float(joint["left_shoulder"][2]), float(joint["left_shoulder"][1])),
    )


def act(config: MotionConfig, shape: tuple[float, ...] = DEFAULT_SHAPE, scene: Mesh | None = None) -> HumanMotion:
    """Return the motion of a clip for a person of a shape.

    Without a scene the person is on a bare floor, the contacts are the planned ones of feet and seat, and their
    positions are joints. With one, who sits rests on what stands there, and the contacts of all parts but the feet, and
    all positions, are measured on the skin.

    Args:
        config: The clip.
        shape: Shape parameters (5,).
        scene: The scene that the person acts in, floor at z = 0; its furniture is to stand where the clip needs it.

    Raises:
        InputError: A segment of the clip is not possible.
    """
    body = whole_body()
    rest = body.rest(torch.tensor(shape, dtype=body.dtype))
    bones = rest.joint_pos[: len(BONE_NAMES)].numpy().astype(np.float64)
    tracks = _within_reach(plan(config, proportions(rest), on_scene=scene is not None, more=GAITS), bones, config.fps)
    around = Surroundings.of(scene)
    if tracks.rest.any():
        tracks = place_on(tracks, around, lambda planned: _pose(planned, bones), shape, config.fps)
    pose = _pose(tracks, bones)
    with torch.no_grad():
        state = body.forward(
            torch.from_numpy(pose).to(body.dtype),
            torch.from_numpy(tracks.pelvis).to(body.dtype),
            rest=rest,
            with_vertices=False,
        )
    joint_pos = state.joint_pos.numpy().astype(np.float64)
    frames = len(pose)
    contact = np.zeros((frames, len(CONTACT_NAMES)))
    contact[:, :2] = tracks.contact
    contact[:, 4] = tracks.seat
    contact_pos = joint_pos[:, [JOINT_NAMES.index(name) for name in _CONTACT_JOINTS]]
    if scene is not None:
        touches, contact_pos = touching(pose, tracks.pelvis, shape, around, config.fps)
        contact[:, 2:] = touches[:, 2:]
    return HumanMotion(
        times_ns=np.round(np.arange(frames) * 1e9 / config.fps).astype(np.int64),
        joint_names=JOINT_NAMES,
        joint_pos=joint_pos,
        joint_quat=state.joint_quat.numpy().astype(np.float64),
        contact_names=CONTACT_NAMES,
        contact=contact,
        contact_pos=contact_pos,
        body_model="anny",
        shape_names=SHAPE_NAMES,
        shape=np.array(shape, dtype=np.float64),
        pose=pose,
        root_pos=tracks.pelvis.copy(),
    )


def sample_clip(rng: np.random.Generator, fps: float = 30.0) -> HumanMotion:
    """Return the motion of a random clip, for training: random segments, sizes and speeds, no rendering."""
    config = MotionConfig(start_xy=(0.0, 0.0), heading=float(rng.uniform(-np.pi, np.pi)), fps=fps)
    return act(with_segments(config, random_segments(rng, actions=int(rng.integers(2, 5)))))


def _length(rest: np.ndarray, *chain: int) -> float:
    """Return the length of a limb in the rest pose, m."""
    return float(sum(np.linalg.norm(rest[b] - rest[a]) for a, b in pairwise(chain)))


def _pose(tracks: Tracks, bones: np.ndarray) -> np.ndarray:
    """Return local bone rotations (T, 22, 4), wxyz, that follow the tracks."""
    rotation = _solve(tracks, bones)
    local = rotation.copy()
    for index, parent in enumerate(BONE_PARENTS):
        if parent >= 0:
            local[:, index] = np.swapaxes(rotation[:, parent], -1, -2) @ rotation[:, index]
    return quat_from_matrix(local)


def _rot_y(angle: np.ndarray) -> np.ndarray:
    c, s, o = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    return np.stack([c, o, s, o, o + 1, o, -s, o, c], axis=-1).reshape(*angle.shape, 3, 3)


def _rot_z(angle: np.ndarray) -> np.ndarray:
    c, s, o = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    return np.stack([c, -s, o, s, c, o, o, o, o + 1], axis=-1).reshape(*angle.shape, 3, 3)


def _within_reach(tracks: Tracks, rest: np.ndarray, fps: float) -> Tracks:
    """Return the tracks with the pelvis lowered, smoothly, where a leg is too short for a foot that stands."""
    index = {name: i for i, name in enumerate(BONE_NAMES)}
    turn = _rot_z(tracks.heading) @ _rot_y(tracks.torso[:, 0])
    lower = np.zeros(len(tracks.pelvis))
    for side, name in enumerate(("left", "right")):
        hip, knee, ankle = (index[f"{name}_{part}"] for part in ("hip", "knee", "ankle"))
        length = _STRAIGHT * _length(rest, hip, knee, ankle)
        way = tracks.pelvis + turn @ (rest[hip] - rest[0]) - tracks.feet[:, side]
        height = np.sqrt(np.maximum(length**2 - (way[:, :2] ** 2).sum(axis=1), 0))
        lower = np.maximum(lower, np.where(tracks.contact[:, side], way[:, 2] - height, 0))
    if lower.max() <= 0:
        return tracks
    # The largest value within a window, averaged over the same window, is never below the value itself.
    window = 2 * round(0.1 * fps) + 1
    lower = uniform_filter1d(maximum_filter1d(lower, window), window)
    pelvis = tracks.pelvis.copy()
    pelvis[:, 2] -= lower
    return dataclasses.replace(tracks, pelvis=pelvis)


def _solve(tracks: Tracks, rest: np.ndarray) -> np.ndarray:
    """Return the world rotations (T, 22, 3, 3) of all bones, given their joints in the rest pose (22, 3)."""
    frames = len(tracks.pelvis)
    index = {name: i for i, name in enumerate(BONE_NAMES)}
    rotation = np.tile(np.eye(3), (frames, len(BONE_NAMES), 1, 1))
    heading = _rot_z(tracks.heading)
    pitch, bend, yaw = tracks.torso.T
    rotation[:, 0] = heading @ _rot_y(pitch)
    for name, share in (("spine1", 0.35), ("spine2", 0.7), ("spine3", 1.0)):
        rotation[:, index[name]] = heading @ _rot_z(share * yaw) @ _rot_y(pitch + share * bend)
    for name in ("left_collar", "right_collar"):
        rotation[:, index[name]] = rotation[:, index["spine3"]]
    # The head keeps looking ahead while the torso leans.
    for name, share in (("neck", 0.5), ("head", 0.25)):
        # Who lies has the head on the floor.
        lean = np.where(pitch + bend >= 0, share * (pitch + bend), pitch + bend)
        rotation[:, index[name]] = heading @ _rot_z(yaw) @ _rot_y(lean)
    position = np.zeros((frames, len(BONE_NAMES), 3))
    position[:, 0] = tracks.pelvis

    def place(name: str) -> np.ndarray:
        i = index[name]
        parent = BONE_PARENTS[i]
        position[:, i] = position[:, parent] + rotation[:, parent] @ (rest[i] - rest[parent])
        return position[:, i]

    for name in ("spine1", "spine2", "spine3", "left_collar", "right_collar"):
        place(name)
    hinge = np.array([0.0, 1.0, 0.0])
    for side, name in enumerate(("left", "right")):
        hip, knee, ankle, toe = (index[f"{name}_{part}"] for part in ("hip", "knee", "ankle", "toe"))
        foot = _rot_z(tracks.foot_yaw[:, side])
        forward = foot @ np.array([1.0, 0.06 if side == 0 else -0.06, 0.0])
        start = place(f"{name}_hip")
        # Knees of who sits or lies on the floor point up; their hips are too low to have them point ahead.
        low = np.clip((0.5 - (start - tracks.feet[:, side])[:, 2] / _length(rest, hip, knee, ankle)) / 0.25, 0, 1)
        low *= tracks.rest
        forward[low > 0] += 2 * low[low > 0, None] * (0, 0, 1)
        rotation[:, hip], rotation[:, knee], _ = two_bone(
            start,
            tracks.feet[:, side],
            rest[knee] - rest[hip],
            rest[ankle] - rest[knee],
            forward,
            -hinge,
        )
        rotation[:, ankle] = rotation[:, toe] = foot @ _rot_y(tracks.foot_pitch[:, side])
        shoulder, elbow, wrist = (index[f"{name}_{part}"] for part in ("shoulder", "elbow", "wrist"))
        hand = tracks.pelvis + (heading @ tracks.hands[:, side, :, None])[..., 0]
        out = 0.5 if side == 0 else -0.5
        back = rotation[:, index["spine3"]] @ np.array([-0.7, out, -0.6])
        # Elbows that pointed behind somebody who leans back would go in the floor.
        leaning = np.clip(-pitch / 0.5, 0, 1)[:, None]
        aside = (1 - leaning) * back + leaning * (rotation[:, index["spine3"]] @ np.array([0.0, 2 * out, -0.4]))
        back[pitch < 0] = aside[pitch < 0]
        upper, lower = rest[elbow] - rest[shoulder], rest[wrist] - rest[elbow]
        rest_hinge = np.cross(upper, lower)
        rotation[:, shoulder], rotation[:, elbow], _ = two_bone(
            place(f"{name}_shoulder"), hand, upper, lower, back, -rest_hinge
        )
        rotation[:, wrist] = rotation[:, elbow]
    return rotation
