"""Furniture as convex pieces (CoACD) where the robot comes near, with less detail the farther it stands."""

from __future__ import annotations

from dataclasses import dataclass

import coacd
import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, cKDTree

from bodydouble.errors import InputError

_RESOLUTION = 1000
_ITERATIONS = 50


@dataclass(frozen=True)
class ConvexConfig:
    """How occupied cells become convex pieces."""

    near_m: float = 0.5
    """Up to this distance from the robot's path the detail is full, m."""
    concavity_near: float = 0.06
    """Concavity that a near piece may keep, as CoACD counts it."""
    concavity_far: float = 0.3
    """Concavity that a piece twice as far as `near_m` or farther may keep."""
    max_pieces: int = 24
    """Largest number of convex pieces of one connected thing."""
    max_vertices: int = 32
    """Largest number of vertices of a piece."""
    seed: int = 0
    """Seed of the decomposition."""

    def __post_init__(self) -> None:
        if not 0.01 <= self.concavity_near <= self.concavity_far <= 1.0:
            raise InputError(
                f"convex pieces: concavity_near {self.concavity_near}, concavity_far {self.concavity_far}; "
                "expected 0.01 <= near <= far <= 1"
            )
        if not self.near_m > 0 or self.max_pieces < 1 or self.max_vertices < 8:
            raise InputError("convex pieces: near_m must be positive, max_pieces at least 1, max_vertices at least 8")


def convex_pieces(
    cells: np.ndarray, cell_m: float, path: np.ndarray, config: ConvexConfig
) -> tuple[list[np.ndarray], dict[str, float]]:
    """Return convex pieces that cover occupied cells.

    Connected cells (26 neighbours) are one thing; its closed surface of cell faces is decomposed by CoACD (Wei et al.
    2022) with a concavity that grows with its distance from the path.

    Args:
        cells: Occupied cells (N, 3), whole numbers; cell c spans c * cell_m to (c + 1) * cell_m.
        cell_m: Edge of a cell, m.
        path: Places of the robot (P, 2) in the cells' frame, m.
        config: Settings.

    Returns:
        Hull vertices (V, 3) of each piece, m, and figures: convex_pieces, collision_volume_error (volume of the hulls
        over that of the cells, minus one; hulls that overlap count twice).
    """
    if len(cells) == 0:
        return [], {"convex_pieces": 0.0, "collision_volume_error": 0.0}
    low = cells.min(axis=0)
    grid = np.zeros(cells.max(axis=0) - low + 1, dtype=bool)
    grid[tuple((cells - low).T)] = True
    labels = np.zeros(grid.shape, dtype=np.int32)
    ndimage.label(grid, structure=np.ones((3, 3, 3)), output=labels)
    label = labels[tuple((cells - low).T)]
    tree = cKDTree(path)
    pieces, volume = [], 0.0
    coacd.set_log_level("error")
    for thing in range(1, int(label.max()) + 1):
        own = cells[label == thing]
        distance = float(tree.query((own[:, :2] + 0.5) * cell_m)[0].min())
        share = np.clip(distance / config.near_m - 1.0, 0.0, 1.0)
        concavity = config.concavity_near + share * (config.concavity_far - config.concavity_near)
        vertices, faces = cell_surface(own)
        for points, _ in coacd.run_coacd(
            coacd.Mesh(vertices * cell_m, faces),
            threshold=float(concavity),
            max_convex_hull=config.max_pieces,
            preprocess_resolution=40,
            resolution=_RESOLUTION,
            mcts_iterations=_ITERATIONS,
            max_ch_vertex=config.max_vertices,
            decimate=True,
            seed=config.seed,
        ):
            hull = ConvexHull(points)
            pieces.append(points[hull.vertices])
            volume += float(hull.volume)
    error = volume / (len(cells) * cell_m**3) - 1.0
    return pieces, {"convex_pieces": float(len(pieces)), "collision_volume_error": error}


def cell_surface(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices (V, 3) in cells and the triangles (F, 3), facing outwards, of the faces around cells."""
    low = cells.min(axis=0) - 1
    grid = np.zeros(cells.max(axis=0) - low + 2, dtype=bool)
    grid[tuple((cells - low).T)] = True
    corners = []
    for axis in range(3):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        for side in (1, -1):
            open_cells = np.argwhere(grid & ~np.roll(grid, -side, axis=axis)).astype(np.float64)
            open_cells[:, axis] += side > 0
            turn = [(0, 0), (1, 0), (1, 1), (0, 1)][::side]
            unit = np.eye(3)
            corners.append(np.stack([open_cells + i * unit[a] + j * unit[b] for i, j in turn], axis=1))
    quads = np.concatenate(corners)
    vertices, index = np.unique(quads.reshape(-1, 3), axis=0, return_inverse=True)
    quad = index.reshape(-1, 4)
    return vertices + low, np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])
