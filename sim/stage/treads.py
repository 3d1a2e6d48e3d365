"""How well the collision geometry keeps the level surfaces that one can step or put something on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import ConvexHull

from sim.stage.furniture import Box
from sim.stage.surface import Surface

STEP_HEIGHT_M = 0.6
"""Level surfaces up to this height are steps, m."""
_LEVEL = float(np.cos(np.deg2rad(15.0)))
_MAX_SAMPLES = 3000
_REACH_M = 0.15


def step_samples(surface: Surface, seed: int = 0) -> np.ndarray:
    """Return points (N, 3) on the level surfaces up to a step's height, at most 3000, evenly by area.

    Args:
        surface: Samples in a frame with the floor at height zero.
        seed: Seed of the choice.
    """
    level = np.flatnonzero((surface.normals[:, 2] > _LEVEL) & (surface.points[:, 2] < STEP_HEIGHT_M))
    if len(level) > _MAX_SAMPLES:
        weight = surface.area[level] / surface.area[level].sum()
        some = min(_MAX_SAMPLES, int(np.count_nonzero(weight)))
        level = np.random.default_rng(seed).choice(level, some, replace=False, p=weight)
    return surface.points[level]


def level_area(surface: Surface) -> float:
    """Return the area of the level surface up to a step's height, m^2."""
    level = (surface.normals[:, 2] > _LEVEL) & (surface.points[:, 2] < STEP_HEIGHT_M)
    return float(surface.area[level].sum())


def top_heights(
    points: np.ndarray, boxes: Sequence[Box], hulls: Sequence[np.ndarray], reach_m: float = _REACH_M
) -> np.ndarray:
    """Return the height (N,) of the top of the geometry at points (N, 3) that is nearest in height, m.

    Only tops within `reach_m` of the point count; NaN where there is none.
    """
    best = np.full(len(points), np.nan)
    tops = [_box_top(points, box) for box in boxes] + [_hull_top(points, hull) for hull in hulls]
    for top in tops:
        error = np.abs(top - points[:, 2])
        # fmin ignores NaN, of the points beside the piece and of those that nothing was found for yet.
        nearer = error <= np.fmin(np.abs(best - points[:, 2]), reach_m)
        best = np.where(nearer, top, best)
    return best


def step_error(points: np.ndarray, boxes: Sequence[Box], hulls: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the height error in m that 95 % of the points (N, 3) on steps keep, and the share without a top.

    Both are 0 where there are no points.
    """
    if len(points) == 0:
        return 0.0, 0.0
    error = np.abs(top_heights(points, boxes, hulls) - points[:, 2])
    found = np.isfinite(error)
    return float(np.quantile(error[found], 0.95)) if found.any() else 0.0, float(1.0 - found.mean())


def _box_top(points: np.ndarray, box: Box) -> np.ndarray:
    c, s = np.cos(box.yaw), np.sin(box.yaw)
    delta = points[:, :2] - box.centre[:2]
    local = np.abs(np.stack([c * delta[:, 0] + s * delta[:, 1], c * delta[:, 1] - s * delta[:, 0]], axis=1))
    return np.where((local <= box.half[:2]).all(axis=1), box.centre[2] + box.half[2], np.nan)


def _hull_top(points: np.ndarray, hull: np.ndarray) -> np.ndarray:
    """Return the height (N,) of the upper side of a convex hull of (V, 3), NaN beside it."""
    low, high = hull[:, :2].min(axis=0), hull[:, :2].max(axis=0)
    out = np.full(len(points), np.nan)
    near = np.flatnonzero(((points[:, :2] >= low) & (points[:, :2] <= high)).all(axis=1))
    if len(near) == 0:
        return out
    planes = ConvexHull(hull).equations
    # A plane a x + b y + c z + d <= 0 bounds z from above where c is positive, from below where it is negative.
    slope = planes[:, 2]
    flat = np.abs(slope) < 1e-9
    rest = points[near, :2] @ planes[:, :2].T + planes[:, 3]
    beside = (rest[:, flat] > 1e-9).any(axis=1)
    z = -rest[:, ~flat] / slope[~flat]
    upper = np.where(slope[~flat] > 0, z, np.inf).min(axis=1)
    lower = np.where(slope[~flat] < 0, z, -np.inf).max(axis=1)
    out[near] = np.where(beside | (lower > upper), np.nan, upper)
    return out
