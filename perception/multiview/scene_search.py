"""Relative pose from the static scenes alone: yaws from walls, shifts from correlating floor plans and free space."""

from __future__ import annotations

import numpy as np

from bodydouble.frames import se3_apply
from perception.multiview.sketch import Sketch
from perception.multiview.yaw import yaw_matrix
from perception.views import unproject

CELL_M = 0.08
"""Cell of a floor plan, m."""
LAYERS_M = (0.12, 0.35, 0.6, 0.85, 1.1, 1.5, 2.0, 3.0)
"""Heights that separate the layers of a floor plan, m."""
FREE_WEIGHT = 2.0
"""How much worse an occupied cell in free space is than two occupied cells that meet are good."""
NEAR_SURFACE_M = 0.2
"""Distance before a surface up to which space is not called free, m."""
PEAKS = 4
"""Shifts that are kept for each yaw."""
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


def scene_candidates(a: Sketch, b: Sketch, count: int = 16) -> list[np.ndarray]:
    """Return guesses of T_a_b (4, 4), best first, that make the two floor plans coincide and keep free space free.

    The gain of all shifts at once is a correlation of the plans, done by Fourier transforms: cells occupied in both,
    less what is occupied in one and free in the other.

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
    free_a, free_b = _free_points(a), _free_points(b)
    plan_a = _plans(a.points - middle_a, a.points[:, 2], free_a - middle_a, free_a[:, 2], size)
    found: list[tuple[float, np.ndarray]] = []
    for yaw in yaws:
        turn = yaw_matrix(yaw).T
        plan_b = _plans((b.points - middle_b) @ turn, b.points[:, 2], (free_b - middle_b) @ turn, free_b[:, 2], size)
        gain = plan_a[0] * np.conj(plan_b[0] - FREE_WEIGHT * plan_b[1]) - FREE_WEIGHT * plan_a[1] * np.conj(plan_b[0])
        gain = np.fft.irfft2(gain.sum(axis=0), s=(size, size))
        for _ in range(PEAKS):
            top = np.array(np.unravel_index(gain.argmax(), gain.shape))
            shift = np.where(top > size // 2, top - size, top) * CELL_M
            T = np.eye(4)
            T[:3, :3] = yaw_matrix(yaw)
            T[:2, 3] = middle_a[:2] + shift - T[:2, :2] @ middle_b[:2]
            found.append((float(gain.max()), T))
            around = (top[:, None] + np.arange(-4, 5)) % size
            gain[np.ix_(*around)] = -np.inf
    found.sort(key=lambda one: -one[0])
    return [T for _, T in found[:count]]


def _free_points(sketch: Sketch) -> np.ndarray:
    """Return points (N, 3) that the camera saw to be free, its own world, m."""
    shares = np.arange(0.5, 5.0, CELL_M)
    found = []
    for frame in sketch.frames:
        K = frame.K / np.array([[4.0], [4.0], [1.0]])
        local, _ = unproject(frame.depth_mm[::4, ::4] / 1000, K)
        ahead = shares[None] < local[:, 2:] - NEAR_SURFACE_M
        points = (local / local[:, 2:])[:, None] * shares[None, :, None]
        found.append(se3_apply(frame.T_world_camera, points[ahead]))
    return np.concatenate(found)


def _plan_size(a: Sketch, b: Sketch) -> int:
    reach = max(np.ptp(sketch.points[:, :2], axis=0).max() for sketch in (a, b))
    # Twice the reach, so that nothing wraps around; a power of two transforms fast.
    return int(2 ** np.ceil(np.log2(2 * 1.5 * reach / CELL_M)))


def _plans(
    points: np.ndarray, height: np.ndarray, free: np.ndarray, free_height: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return Fourier transforms (L, size, size / 2 + 1) of the layers' occupied cells, softened, and of the free."""
    occupied = _plan(points, height, size)
    around = occupied
    for axis in (1, 2):
        around = around + np.roll(around, 1, axis) + np.roll(around, -1, axis)
        occupied = 0.25 * np.roll(occupied, 1, axis) + 0.5 * occupied + 0.25 * np.roll(occupied, -1, axis)
    # A cell beside a surface is not known to be free to the accuracy of a cell.
    clear = np.where(around > 0, 0.0, _plan(free, free_height, size))
    return np.fft.rfft2(occupied), np.fft.rfft2(clear)


def _plan(points: np.ndarray, height: np.ndarray, size: int) -> np.ndarray:
    """Return layers (L, size, size) of a floor plan, 1 in cells with a point."""
    layer = np.searchsorted(LAYERS_M, height) - 1
    cell = np.floor(points[:, :2] / CELL_M).astype(int) % size
    inside = (layer >= 0) & (layer < len(LAYERS_M) - 1)
    plan = np.zeros((len(LAYERS_M) - 1, size, size))
    plan[layer[inside], cell[inside, 0], cell[inside, 1]] = 1.0
    return plan
