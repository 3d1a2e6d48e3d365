"""Finds the floor of a reconstructed scene, and the transform that puts it at height zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bodydouble.errors import InputError
from sim.stage.scene_mesh import SceneMesh

_NEAR_LEVEL = np.cos(np.deg2rad(20.0))
_BIN_M = 0.02
_BAND_M = 0.03


@dataclass(frozen=True, eq=False)
class Floor:
    """The floor plane of a scene whose world is roughly Z up."""

    T_stage_world: np.ndarray
    """Transform (4, 4) from the reconstruction's world to the stage: floor at height zero, z its normal."""
    tilt_deg: float
    """Angle between the world's z and the floor's normal, degrees."""
    height_m: float
    """Height of the floor in the reconstruction's world, m."""
    residual_mm: float
    """Root mean square distance of the floor's triangles from the plane, mm."""
    area_m2: float
    """Area of these triangles, m^2."""
    faces_up: bool
    """Whether its triangles face upwards, as they should; else the whole mesh is inside out."""


def find_floor(mesh: SceneMesh, min_area_m2: float = 0.3) -> Floor:
    """Return the lowest large level surface of a scene.

    Level triangles are counted by height; the lowest height with at least a fifth of the most frequent one's area
    (and the least area) is the floor, so tables above it and specks below it do not matter. A plane is then fitted
    to the triangles near it, twice.

    Args:
        mesh: The scene, world roughly Z up.
        min_area_m2: Least area of a floor, m^2.

    Raises:
        InputError: The scene has no such surface.
    """
    normals, areas = mesh.normals_and_areas()
    centres = mesh.centres()
    level = np.abs(normals[:, 2]) > _NEAR_LEVEL
    if not level.any():
        raise InputError("scene: has no level surface; expected a floor and world Z up")
    heights = centres[level, 2]
    low = heights.min()
    bins = ((heights - low) / _BIN_M).astype(int)
    # Counted in windows of three bins: noise spreads a floor over several.
    area = np.convolve(np.bincount(bins, weights=areas[level]), np.ones(3), mode="same")
    candidates = np.flatnonzero(area > max(min_area_m2, 0.2 * area.max()))
    if len(candidates) == 0:
        raise InputError(f"scene: no level surface of {min_area_m2} m^2; record the floor, or check that world Z is up")
    first = candidates[0]
    best = first + int(np.argmax(area[first : first + 4]))
    normal, offset = np.array([0.0, 0.0, 1.0]), low + (best + 0.5) * _BIN_M
    for _ in range(2):
        near = level & (np.abs(centres @ normal - offset) < _BAND_M)
        weight = areas[near]
        middle = np.average(centres[near], axis=0, weights=weight)
        spread = (centres[near] - middle) * np.sqrt(weight)[:, None]
        normal = np.linalg.eigh(spread.T @ spread)[1][:, 0]
        normal = normal if normal[2] > 0 else -normal
        offset = float(middle @ normal)
    tilt = float(np.degrees(np.arccos(np.clip(normal[2], -1, 1))))
    distance = centres[near] @ normal - offset
    transform = np.eye(4)
    transform[:3, :3] = _level_rotation(normal)
    # The point of the floor below the world's origin stays below it: only height and tilt change.
    transform[:3, 3] = -transform[:3, :3] @ (offset * normal)
    return Floor(
        T_stage_world=transform,
        tilt_deg=tilt,
        height_m=offset,
        residual_mm=float(1000.0 * np.sqrt(np.average(distance**2, weights=weight))),
        area_m2=float(weight.sum()),
        faces_up=float((areas[near] * (normals[near] @ normal)).sum()) >= 0.0,
    )


def _level_rotation(normal: np.ndarray) -> np.ndarray:
    """Return the smallest rotation (3, 3) that takes a unit normal to z (Rodrigues)."""
    axis = np.array([normal[1], -normal[0], 0.0])
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + skew + skew @ skew / (1.0 + normal[2])
