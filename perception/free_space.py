"""Votes on what moves: a place that is a surface in some frames and plainly free in others."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from rich.console import Console
from rich.progress import track

from bodydouble.frames import se3_apply, se3_inverse
from perception.scene_frames import Frame
from perception.views import depth_margin, unproject

NO_READING = 65535
"""Depth in mm that stands for none where the nearest reading is looked for."""
BLOCK_M = 0.5
"""Points are looked up by blocks of this size, m: blocks out of view cost nothing."""
MERGED_FRAMES = 16
"""Frames whose points are gathered before cells are merged; bounds the memory."""


def cell_names(points: np.ndarray, size: float) -> np.ndarray:
    """Return one integer per point (N, 3) that names its cell, for scenes within 10 km."""
    index = np.floor(points / size).astype(np.int64) + (1 << 20)
    return (index[:, 0] << 42) | (index[:, 1] << 21) | index[:, 2]


class CellSet:
    """A set of cells that answers fast which points lie in them.

    A table of bits, indexed by a hash, leaves few candidates; those are looked up by name.

    Args:
        names: Sorted names of cells (C,), as `cell_names` gives them.
        size: Size of a cell, m.
    """

    _BITS = 22
    _FACTORS = np.array([73856093, 19349663, 83492791], dtype=np.uint32)

    def __init__(self, names: np.ndarray, size: float):
        self.names, self.size = names, size
        offset, mask = 1 << 20, (1 << 21) - 1
        index = np.stack([names >> 42, (names >> 21) & mask, names & mask]) - offset
        self._table = np.zeros(1 << self._BITS, dtype=bool)
        self._table[self._hash(index.astype(np.int32))] = True

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.names)

    def hits(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return the indices of the points (N,), (N,), (N,), world, m, that lie in a cell of the set."""
        index = [np.floor(axis / np.float32(self.size)).astype(np.int32) for axis in (x, y, z)]
        candidates = np.flatnonzero(self._table[self._hash(index)])
        i, j, k = (axis[candidates].astype(np.int64) + (1 << 20) for axis in index)
        name = (i << 42) | (j << 21) | k
        place = np.minimum(np.searchsorted(self.names, name), len(self.names) - 1)
        return candidates[self.names[place] == name]

    def _hash(self, index: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        x, y, z = (axis.view(np.uint32) * factor for axis, factor in zip(index, self._FACTORS, strict=True))
        mixed = x ^ y ^ z
        return (mixed ^ (mixed >> np.uint32(16))) & np.uint32((1 << self._BITS) - 1)


def cell_means(points: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean point of each cell (C, 3) and the cell of each point (N,)."""
    _, inverse, counts = np.unique(cell_names(points, size), return_inverse=True, return_counts=True)
    return _sums(points, inverse, len(counts)) / counts[:, None], inverse


def surface_cells(frames: Sequence[Frame], size: float, max_depth_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted names (C,) of the cells with depth readings, and the mean of these (C, 3), world, m."""
    names, sums = np.zeros(0, dtype=np.int64), np.zeros((0, 4))
    for start in range(0, len(frames), MERGED_FRAMES):
        found, parts = [names], [sums]
        for frame in frames[start : start + MERGED_FRAMES]:
            depth = frame.depth_mm[::4, ::4].astype(np.float32) / 1000
            depth[depth > max_depth_m] = 0
            K = np.array([[0.25], [0.25], [1]]) * frame.K
            points = se3_apply(frame.T_world_camera, unproject(depth, K)[0])
            found.append(cell_names(points, size))
            parts.append(np.concatenate([points, np.ones((len(points), 1))], axis=1))
        names, inverse = np.unique(np.concatenate(found), return_inverse=True)
        sums = _sums(np.concatenate(parts), inverse, len(names))
    return names, sums[:, :3] / sums[:, 3:]


def sightings(
    points: np.ndarray,
    frames: Sequence[Frame],
    margin_m: float,
    max_depth_m: float,
    growth: float = 0.008,
    *,
    quiet: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each point (N, 3) was seen to be free, and how often free or a surface (N,).

    A point is free in a frame where every reading within two pixels lies behind it; so edges, noise in the poses and
    holes in the depth do not vote.

    Args:
        points: Points (N, 3), world, m.
        frames: The frames.
        margin_m: Distance behind a point at which a reading says that the point is free, m, at depth 0.
        max_depth_m: Farthest reading that is used, m.
        growth: Growth of the margin with the square of the depth, 1/m.
        quiet: Whether no progress is shown.
    """
    free, seen = np.zeros(len(points), dtype=np.int64), np.zeros(len(points), dtype=np.int64)
    if not len(points):
        return free, seen
    blocks, lock = _Blocks(points), threading.Lock()

    def look(index: int) -> None:
        found, behind, surface = _look(blocks, frames[index], margin_m, max_depth_m, growth)
        with lock:
            free[found[behind]] += 1
            seen[found[behind | surface]] += 1

    # numpy lets other threads run while it works on large arrays.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        results = pool.map(look, range(len(frames)))
        for _ in track(results, "what moves", total=len(frames), console=Console(stderr=True), disable=quiet):
            pass
    return free, seen


class _Blocks:
    """Points in the order of blocks of space."""

    def __init__(self, points: np.ndarray):
        names = cell_names(points, BLOCK_M)
        self.order = np.argsort(names, kind="stable")
        # Single precision is good to a millimetre within 10 km of the middle.
        self.middle = points.mean(axis=0)
        self.points = np.concatenate([(points[self.order] - self.middle).T, np.ones((1, len(points)))]).astype(
            np.float32
        )
        first, self.sizes = np.unique(names[self.order], return_index=True, return_counts=True)[1:]
        self.centres = BLOCK_M * (np.floor(points[self.order[first]] / BLOCK_M) + 0.5)
        self.radius = 0.5 * BLOCK_M * np.sqrt(3) + 1e-3

    def in_view(self, frame: Frame, max_depth_m: float) -> np.ndarray:
        """Return the places of the points whose block may be in view."""
        height, width = frame.depth_mm.shape
        K, local = frame.K, se3_apply(se3_inverse(frame.T_world_camera), self.centres)
        sides = np.array(
            [
                [K[0, 0], 0, K[0, 2] + 1],
                [-K[0, 0], 0, width - K[0, 2]],
                [0, K[1, 1], K[1, 2] + 1],
                [0, -K[1, 1], height - K[1, 2]],
                [0, 0, 1],
            ]
        )
        inside = (local @ sides.T > -self.radius * np.linalg.norm(sides, axis=1)).all(axis=1)
        return np.flatnonzero(np.repeat(inside & (local[:, 2] < max_depth_m + self.radius), self.sizes))


def _look(
    blocks: _Blocks, frame: Frame, margin_m: float, max_depth_m: float, growth: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the indices of the points in view, which of them are free, and which are a surface."""
    place = blocks.in_view(frame, max_depth_m)
    T = se3_inverse(frame.T_world_camera)
    M = frame.K @ np.column_stack([T[:3, :3], T[:3, :3] @ blocks.middle + T[:3, 3]])
    u, v, z = M.astype(np.float32) @ blocks.points[:, place]
    safe = np.where(z > 0.2, z, np.float32(1))
    column, row = np.rint(u / safe), np.rint(v / safe)
    height, width = frame.depth_mm.shape
    inside = np.flatnonzero((z > 0.2) & (column >= 0) & (column < width) & (row >= 0) & (row < height))
    read = _nearest(frame.depth_mm, max_depth_m).ravel()[(row[inside] * width + column[inside]).astype(np.int32)]
    z = z[inside]
    ahead = read.astype(np.float32) / 1000 - z
    margin = depth_margin(z, margin_m, growth)
    some = read != NO_READING
    return blocks.order[place[inside]], some & (ahead > margin), some & (np.abs(ahead) <= margin)


def _nearest(depth_mm: np.ndarray, max_depth_m: float) -> np.ndarray:
    """Return the nearest reading within two pixels of each, mm; NO_READING where there is none."""
    limit = np.uint16(min(round(1000 * max_depth_m), NO_READING - 1))
    near = np.where((depth_mm == 0) | (depth_mm > limit), np.uint16(NO_READING), depth_mm)
    return _five(_five(near).T).T


def _five(image: np.ndarray) -> np.ndarray:
    """Return the smallest of five neighbours down each column, in three steps."""
    height = len(image)
    padded = np.pad(image, ((2, 2), (0, 0)), constant_values=NO_READING)
    two = np.minimum(padded[:-1], padded[1:])
    four = np.minimum(two[:-2], two[2:])
    return np.minimum(four[:height], padded[4:])


def _sums(values: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    return np.stack([np.bincount(owner, column, minlength=count) for column in values.T], axis=1)
