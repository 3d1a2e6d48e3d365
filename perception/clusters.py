"""Points in cells of space, and the connected clusters of these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label

MAX_CELLS = 200_000_000
"""Cells of a grid above which points are too scattered to be clusters."""


@dataclass(frozen=True)
class Cells:
    """The cells that hold at least two points: a single one is noise at an edge. C cells, N points, K clusters."""

    centres: np.ndarray
    """Middles of the cells (C, 3), m."""
    cluster: np.ndarray
    """Connected cluster of each cell (C,), 0 to K - 1; cells that share a corner are connected."""
    owner: np.ndarray
    """Cell of each point (N,); -1 where the point is alone."""
    counts: np.ndarray
    """Points of each cell (C,)."""


def connected_cells(points: np.ndarray, cell_m: float) -> Cells:
    """Return the cells of points (N, 3), m, and how they are connected.

    Args:
        points: The points.
        cell_m: Size of a cell, m.
    """
    if len(points) < 10:
        return _none(len(points))
    index = np.floor(points / cell_m).astype(np.int64)
    low = index.min(axis=0)
    index -= low
    shape = index.max(axis=0) + 1
    if np.prod(shape.astype(np.float64)) > MAX_CELLS:
        return _none(len(points))
    names = np.ravel_multi_index(tuple(index.T), tuple(shape))
    counts = np.bincount(names, minlength=int(np.prod(shape)))
    clusters = np.zeros(tuple(shape), dtype=np.int32)
    label((counts >= 2).reshape(shape), structure=np.ones((3, 3, 3)), output=clusters)
    filled = np.flatnonzero(clusters)
    place = np.full(len(counts), -1)
    place[filled] = np.arange(len(filled))
    centres = (np.stack(np.unravel_index(filled, tuple(shape)), axis=1) + low + 0.5) * cell_m
    return Cells(centres, clusters.ravel()[filled] - 1, place[names], counts[filled])


def largest_cluster(points: np.ndarray, cell_m: float) -> np.ndarray:
    """Return the points of the largest connected cluster, and of others a fifth its size that stand by it."""
    cells = connected_cells(points, cell_m)
    if not len(cells.centres):
        return points[:0]
    clustered = cells.owner >= 0
    points, owner = points[clustered], cells.cluster[cells.owner[clustered]]
    return points[standing_together(points, owner)]


def standing_together(points: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return which points (N,), bool, are of the largest cluster, or of one a fifth its size that stands by it.

    To stand by it is to be within 0.6 m on the floor.

    Args:
        points: Points (N, 3), N > 0, z up, m.
        owner: Cluster of each point (N,), from 0 on.
    """
    sizes = np.bincount(owner)
    middles = np.stack([np.bincount(owner, points[:, axis]) for axis in (0, 1)], axis=1) / np.maximum(sizes, 1)[:, None]
    main = int(sizes.argmax())
    near = np.linalg.norm(middles - middles[main], axis=1) < 0.6
    return (near & (sizes >= 0.2 * sizes[main]))[owner]


def _none(points: int) -> Cells:
    empty = np.zeros(0, dtype=np.int64)
    return Cells(np.zeros((0, 3)), empty, np.full(points, -1), empty)
