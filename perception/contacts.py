"""Contacts of eight body parts with the scene, without labels: the part's skin is near the scene, slow, and stays.

Nearness and speed give the likelihood of each frame; a chain of two states, touching or not, that seldom changes
(forward-backward algorithm, Rabiner 1989, section III.B) gives the probability.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from bodydouble.errors import InputError
from perception.body.anny_body import CONTACT_NAMES
from perception.body.anny_data import BONE_NAMES
from perception.body.body_model import BodyModel
from perception.contact_chain import persistent
from perception.scene_field import SceneField, scene_field
from perception.skin import vertex_normals, whole_body
from perception.static_scene import StaticScene

_BONES: dict[str, tuple[str, ...]] = {
    "left_foot": ("left_ankle", "left_toe"),
    "right_foot": ("right_ankle", "right_toe"),
    "left_hand": ("left_wrist",),
    "right_hand": ("right_wrist",),
    "pelvis": ("pelvis", "left_hip", "right_hip"),
    "left_knee": ("left_hip", "left_knee"),
    "right_knee": ("right_hip", "right_knee"),
    "back": ("spine1", "spine2", "spine3"),
}
_KNEE_M = 0.09
"""Distance from the knee's joint within which skin counts as the knee, m."""
_SEAT_M = 0.22
"""Distance from the pelvis' joint within which skin counts as the pelvis, m."""


@dataclass(frozen=True)
class ContactConfig:
    """When a body part counts as touching the scene."""

    near_m: float = 0.04
    """Distance to the scene at which the likelihood has fallen to 0.37, m."""
    slow_m_s: float = 0.35
    """Speed at which it has fallen to 0.37, m/s."""
    window_s: float = 0.17
    """Time over which the speed is averaged, s."""
    hold_s: float = 0.4
    """Mean time between changes that is expected, s."""
    points: int = 48
    """Points of skin per part."""
    touching_share: float = 0.15
    """Share of a part's points, the nearest ones, that touch when it does."""
    cell_m: float = 0.03
    """Cell of the scene's distances, m."""


@dataclass(frozen=True)
class Contacts:
    """What touches the scene. T frames, eight parts in CONTACT_NAMES' order."""

    probability: np.ndarray
    """Probabilities (T, 8)."""
    position: np.ndarray
    """The middle of each part's nearest skin (T, 8, 3), world, m."""


@functools.cache
def part_vertices(count: int, model: BodyModel | None = None) -> dict[str, np.ndarray]:
    """Return indices (count,) of each part's skin, spread over it: soles, hands, seat, front of the knees, back.

    Args:
        count: Points per part.
        model: The body, with all its vertices; None: the Anny body.
    """
    body = model or whole_body()
    rest = body.rest(body.shape_mean)
    assert body.faces is not None
    vertices, joints = rest.vertices.numpy(), rest.joint_pos.numpy()
    normals = vertex_normals(vertices, body.faces)
    owner = body.weights.argmax(dim=1).numpy()
    outer = body.outer_vertices()
    found = {}
    for name in CONTACT_NAMES:
        own = outer[np.isin(owner[outer], [BONE_NAMES.index(bone) for bone in _BONES[name]])]
        if name.endswith("foot"):
            own = own[vertices[own, 2] < vertices[own, 2].min() + 0.02]
        elif name == "pelvis":
            way = vertices[own] - joints[BONE_NAMES.index("pelvis")]
            low_or_behind = (normals[own, 2] < -0.3) | (normals[own, 0] < -0.3)
            own = own[(np.linalg.norm(way, axis=1) < _SEAT_M) & low_or_behind]
        elif name.endswith("knee"):
            way = vertices[own] - joints[BONE_NAMES.index(name)]
            own = own[(np.linalg.norm(way, axis=1) < _KNEE_M) & (normals[own, 0] > 0.3)]
        elif name == "back":
            own = own[normals[own, 0] < -0.5]
        found[name] = own[_spread(vertices[own], count)]
    return found


def _spread(points: np.ndarray, count: int) -> np.ndarray:
    """Return indices (count,) of points far from each other: each next one is the farthest from those taken."""
    if len(points) < count:
        raise InputError(f"a body part has {len(points)} skin vertices, {count} were asked for")
    taken = [0]
    distance = np.linalg.norm(points - points[0], axis=1)
    for _ in range(count - 1):
        taken.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[taken[-1]], axis=1))
    return np.array(taken)


@torch.no_grad()
def skin_contacts(
    pose: np.ndarray,
    root_pos: np.ndarray,
    shape: np.ndarray,
    fps: float,
    scene: StaticScene,
    floor_z: float,
    config: ContactConfig,
    tracked: np.ndarray | None = None,
    model: BodyModel | None = None,
) -> Contacts:
    """Return the contacts of a fitted clip.

    Args:
        pose: Local bone rotations (T, 22, 4), wxyz.
        root_pos: Pelvis (T, 3), world, m.
        shape: Shape parameters (S,).
        fps: Frames per second.
        scene: The static scene.
        floor_z: Height of the floor, m; it stands in where the scene has a hole.
        config: Thresholds.
        tracked: Frames in which the body is known (T,), bool; in others nothing touches. None: all.
        model: The fitted body, with all its vertices; None: the Anny body.
    """
    parts = part_vertices(config.points, model)
    body = (model or whole_body()).subset(np.concatenate([parts[name] for name in CONTACT_NAMES]))
    state = body.forward(*(torch.as_tensor(x, dtype=body.dtype) for x in (pose, root_pos, shape)))
    assert state.vertices is not None
    skin = state.vertices.unflatten(1, (len(CONTACT_NAMES), config.points)).double().numpy()
    low, high = skin.min(axis=(0, 1, 2)) - 0.2, skin.max(axis=(0, 1, 2)) + 0.2
    field = scene_field(scene, floor_z, low, high, config.cell_m)
    contacts = touches(skin, fps, field, config)
    if tracked is not None:
        contacts.probability[~np.asarray(tracked)] = 0.0
    return contacts


def touches(skin: np.ndarray, fps: float, field: SceneField, config: ContactConfig) -> Contacts:
    """Return contacts of parts whose skin points (T, parts, K, 3), world, m, are given, in a scene's field."""
    distance = field.read(torch.as_tensor(skin, dtype=torch.float32))[0].double().numpy()
    nearest = max(1, round(config.touching_share * skin.shape[2]))
    # The same points in neighbouring frames, or the patch under a rolling foot would seem to move.
    order = np.argsort(distance, axis=2)[:, :, :nearest]
    gap = np.take_along_axis(distance, order, axis=2).mean(axis=2)
    place = np.take_along_axis(skin, order[..., None], axis=2).mean(axis=2)
    half = max(1, round(0.5 * config.window_s * fps))
    frames = np.arange(len(skin))
    before, after = np.maximum(frames - half, 0), np.minimum(frames + half, len(skin) - 1)
    way = np.take_along_axis(skin[after] - skin[before], order[..., None], axis=2).mean(axis=2)
    speed = np.linalg.norm(way, axis=-1) * fps / np.maximum(after - before, 1)[:, None]
    likely = np.exp(-((np.maximum(gap, 0) / config.near_m) ** 2)) * np.exp(-((speed / config.slow_m_s) ** 2))
    return Contacts(persistent(likely, config.hold_s * fps), place)
