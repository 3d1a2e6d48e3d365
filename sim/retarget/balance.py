"""Moves a centre-of-mass path so that the zero-moment point stays over the feet that stand.

A linear inverted pendulum: with the centre of mass at height z, the ground's reaction acts at
p = c - (z / g) c'' (Kajita et al., 2003). A pose sequence whose p leaves the support cannot be held by any torque, so
the path c is moved, as little as possible, until p stays inside.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded
from scipy.spatial import ConvexHull

GRAVITY = 9.81
"""Standard gravity, m/s^2."""
_ITERATIONS = 40
_ZMP_WEIGHT = 30.0
_SMOOTHNESS = 2e-9


def balance_path(com: np.ndarray, supports: list[tuple[int, int, np.ndarray]], fps: float) -> np.ndarray:
    """Return horizontal positions of the centre of mass whose zero-moment point stays over the support.

    Minimises |c - c0|^2 + w |p(c) - project(p(c))|^2 + s |c'''|^2 by alternating between the projection and the
    banded linear system, at a constant pendulum height per frame.

    Args:
        com: Wanted centre-of-mass positions (T, 3), m.
        supports: (start, end, corners (K, 2)) per interval of frames with unchanged support; frames without support
            (flight) are in none.
        fps: Frames per second.

    Returns:
        Moved positions (T, 2), m.
    """
    frames = len(com)
    ratio = np.clip(com[:, 2], 0.2, None) / GRAVITY
    # p = c - ratio c'': a tridiagonal matrix; at the ends the motion stands still, so p = c.
    diagonal, side = 1.0 + 2.0 * ratio * fps**2, -ratio * fps**2
    diagonal[[0, -1]], side[[0, -1]] = 1.0, 0.0
    weight = np.zeros(frames)
    for start, end, _ in supports:
        weight[start:end] = _ZMP_WEIGHT
    normal = _normal_matrix(diagonal, side, weight, _SMOOTHNESS * fps**6)
    factor = cholesky_banded(normal)

    def zmp(path: np.ndarray) -> np.ndarray:
        out = diagonal[:, None] * path
        out[1:] += side[1:, None] * path[:-1]
        out[:-1] += side[:-1, None] * path[1:]
        return out

    path = com[:, :2].copy()
    hulls = [(start, end, half_planes(corners)) for start, end, corners in supports]
    for _ in range(_ITERATIONS):
        point = zmp(path)
        wanted = point.copy()
        for start, end, hull in hulls:
            wanted[start:end] = project(point[start:end], *hull)
        weighted = weight[:, None] * wanted
        right = com[:, :2] + diagonal[:, None] * weighted
        right[:-1] += side[1:, None] * weighted[1:]
        right[1:] += side[:-1, None] * weighted[:-1]
        path = cho_solve_banded((factor, False), right)
    return path


def _normal_matrix(diagonal: np.ndarray, side: np.ndarray, weight: np.ndarray, smoothness: float) -> np.ndarray:
    """Return I + A^T W A + s D^T D in upper banded form (4, T), A tridiagonal and D the third difference."""
    frames = len(diagonal)
    banded = np.zeros((4, frames))
    banded[3] = 1.0
    # Row i of A holds side[i], diagonal[i], side[i] at columns i - 1, i, i + 1.
    rows = {-1: side, 0: diagonal, 1: side}
    for low, left in rows.items():
        for high, right in rows.items():
            if high < low:
                continue
            inside = slice(max(0, -low), frames - max(0, high))
            products = (weight * left * right)[inside]
            banded[3 - (high - low), inside.start + high : inside.stop + high] += products
    third = np.array([-1.0, 3.0, -3.0, 1.0])
    for low in range(4):
        for high in range(low, 4):
            banded[3 - (high - low), high : frames - 3 + high] += smoothness * third[low] * third[high]
    return banded


def half_planes(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of the convex hull in order (K, 2), and its half planes (K, 3): normal . p + offset <= 0."""
    hull = ConvexHull(corners)
    return corners[hull.vertices], hull.equations


def project(points: np.ndarray, corners: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Return the nearest points of a convex polygon.

    Args:
        points: Points (N, 2).
        corners: The polygon's corners in order (K, 2).
        planes: Its half planes (K, 3), normal . p + offset <= 0 inside.
    """
    inside = np.all(points @ planes[:, :2].T + planes[:, 2] <= 0, axis=1)
    start, edge = corners, np.roll(corners, -1, axis=0) - corners
    share = np.einsum("nkd,kd->nk", points[:, None] - start, edge) / np.maximum(np.sum(edge**2, axis=1), 1e-12)
    nearest = start + np.clip(share, 0.0, 1.0)[..., None] * edge
    best = np.argmin(np.sum((nearest - points[:, None]) ** 2, axis=-1), axis=1)
    return np.where(inside[:, None], points, nearest[np.arange(len(points)), best])
