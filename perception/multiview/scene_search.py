"""Relative pose from the static scenes alone: yaws from the walls, shifts from correlating floor plans."""

from __future__ import annotations

import numpy as np

from perception.multiview.sketch import Sketch
from perception.multiview.yaw import yaw_matrix

CELL_M = 0.08
"""Cell of a floor plan, m."""
LAYERS_M = (0.12, 0.35, 0.6, 0.85, 1.1, 1.5, 2.0, 3.0)
"""Heights that separate the layers of a floor plan, m."""
TURN = np.deg2rad(5.0)
"""Step of yaws where walls give none, rad."""


def wall_direction(sketch: Sketch) -> tuple[float, float]:
    """Return the walls' direction modulo 90 degrees, rad, and how clear it is, 0 to 1.

    The fourth circular moment of the normals' headings: all four sides of a box give one direction.
    """
    upright = np.abs(sketch.normals[:, 2]) < 0.3
    heading = np.arctan2(sketch.normals[upright, 1], sketch.normals[upright, 0])
    if len(heading) < 50:
        return 0.0, 0.0
    moment = np.exp(4j * heading).mean()
    return float(np.angle(moment) / 4), float(np.abs(moment))


def scene_candidates(a: Sketch, b: Sketch, count: int = 6) -> list[np.ndarray]:
    """Return guesses of T_a_b (4, 4), best first, that make the two floor plans coincide.

    Args:
        a: First sketch.
        b: Second sketch.
        count: Most guesses to return.
    """
    walls_a, walls_b = wall_direction(a), wall_direction(b)
    if min(walls_a[1], walls_b[1]) > 0.3:
        yaws = walls_a[0] - walls_b[0] + np.arange(4) * np.pi / 2
    else:
        yaws = np.arange(0, 2 * np.pi, TURN)
    size = _plan_size(a, b)
    middle_a, middle_b = a.points.mean(axis=0), b.points.mean(axis=0)
    plan_a = np.fft.rfft2(_plan(a.points - middle_a, a.points[:, 2], size))
    found: list[tuple[float, np.ndarray]] = []
    for yaw in yaws:
        turned = (b.points - middle_b) @ yaw_matrix(yaw).T
        plan_b = np.fft.rfft2(_plan(turned, b.points[:, 2], size))
        overlap = np.fft.irfft2((plan_a * np.conj(plan_b)).sum(axis=0), s=(size, size))
        for _ in range(3):
            top = np.array(np.unravel_index(overlap.argmax(), overlap.shape))
            shift = np.where(top > size // 2, top - size, top) * CELL_M
            T = np.eye(4)
            T[:3, :3] = yaw_matrix(yaw)
            T[:2, 3] = middle_a[:2] + shift - T[:2, :2] @ middle_b[:2]
            found.append((float(overlap.max()), T))
            around = (top[:, None] + np.arange(-4, 5)) % size
            overlap[np.ix_(*around)] = -np.inf
    found.sort(key=lambda one: -one[0])
    return [T for _, T in found[:count]]


def _plan_size(a: Sketch, b: Sketch) -> int:
    reach = max(np.ptp(sketch.points[:, :2], axis=0).max() for sketch in (a, b))
    # Twice the reach, so that nothing wraps around; a power of two transforms fast.
    return int(2 ** np.ceil(np.log2(2 * 1.5 * reach / CELL_M)))


def _plan(points: np.ndarray, height: np.ndarray, size: int) -> np.ndarray:
    """Return layers (L, size, size) of a floor plan: occupied cells softened, their mean taken off."""
    layer = np.searchsorted(LAYERS_M, height) - 1
    cell = np.floor(points[:, :2] / CELL_M).astype(int) % size
    inside = (layer >= 0) & (layer < len(LAYERS_M) - 1)
    plan = np.zeros((len(LAYERS_M) - 1, size, size))
    plan[layer[inside], cell[inside, 0], cell[inside, 1]] = 1.0
    for axis in (1, 2):
        plan = 0.25 * np.roll(plan, 1, axis) + 0.5 * plan + 0.25 * np.roll(plan, -1, axis)
    return plan
