"""Contacts of feet, hands and pelvis with the scene: near it, and still."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import open3d as o3d

from perception.body.anny_body import CONTACT_NAMES, JOINT_NAMES
from perception.static_scene import StaticScene


@dataclass(frozen=True)
class ContactConfig:
    """When a body part counts as touching the scene."""

    near_m: float = 0.06
    """Distance to the scene at which the probability has fallen to 0.37, m."""
    slow_m_s: float = 0.35
    """Speed at which it has fallen to 0.37, m/s."""
    window_s: float = 0.17
    """Time over which the speed is averaged, s."""
    pelvis_depth_m: float = 0.10
    """Flesh between the pelvis joint and a seat, m."""


_PARTS: dict[str, tuple[str, ...]] = {
    "left_foot": ("left_heel", "left_ball"),
    "right_foot": ("right_heel", "right_ball"),
    "left_hand": ("left_hand",),
    "right_hand": ("right_hand",),
    "pelvis": ("pelvis",),
}


def find_contacts(
    joint_pos: np.ndarray, fps: float, scene: StaticScene, floor_z: float, config: ContactConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Return contact probabilities (T, 5) and contact points (T, 5, 3), world, m, in CONTACT_NAMES' order.

    Args:
        joint_pos: Joints and points (T, J, 3) in JOINT_NAMES' order, world, m.
        fps: Frames per second.
        scene: The static scene.
        floor_z: Height of the floor, m; it stands in where the scene has a hole.
        config: Thresholds.
    """
    caster = scene.raycaster()
    probability = np.zeros((len(joint_pos), len(CONTACT_NAMES)))
    place = np.zeros((len(joint_pos), len(CONTACT_NAMES), 3))
    for column, name in enumerate(CONTACT_NAMES):
        best = np.full(len(joint_pos), -1.0)
        for part in _PARTS[name]:
            track = joint_pos[:, JOINT_NAMES.index(part)]
            distance, nearest = _nearest(track, caster, floor_z)
            if name == "pelvis":
                distance = distance - config.pelvis_depth_m
            speed = _speed(track, fps, config.window_s)
            likely = np.exp(-((np.maximum(distance, 0) / config.near_m) ** 2)) * np.exp(
                -((speed / config.slow_m_s) ** 2)
            )
            better = likely > best
            best = np.where(better, likely, best)
            place[better, column] = nearest[better]
        probability[:, column] = best
    return probability, place


def _nearest(
    track: np.ndarray, caster: o3d.t.geometry.RaycastingScene, floor_z: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return distance (T,) and nearest point (T, 3) of the scene or the floor."""
    answer = caster.compute_closest_points(o3d.core.Tensor(track.astype(np.float32)))
    nearest = answer["points"].numpy().astype(np.float64)
    distance = np.linalg.norm(nearest - track, axis=1)
    height = track[:, 2] - floor_z
    on_floor = height < distance
    nearest[on_floor] = track[on_floor] * (1, 1, 0) + np.array([0, 0, floor_z])
    return np.where(on_floor, height, distance), nearest


def _speed(track: np.ndarray, fps: float, window_s: float) -> np.ndarray:
    """Return speeds (T,), m/s, averaged over a window: a fit trembles, and that is no motion."""
    half = max(1, round(0.5 * window_s * fps))
    frames = np.arange(len(track))
    before, after = np.maximum(frames - half, 0), np.minimum(frames + half, len(track) - 1)
    return np.linalg.norm(track[after] - track[before], axis=1) * fps / np.maximum(after - before, 1)
