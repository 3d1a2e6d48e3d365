"""Occupied cells of a surface: where they are, which hang together, and the closed mesh around them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sim.stage.surface import Surface


def cells_of(surface: Surface, cell_m: float, behind: float) -> np.ndarray:
    """Return the cell (N, 3) of each sample; cell c spans c * cell_m to (c + 1) * cell_m.

    Args:
        surface: The samples.
        cell_m: Edge of a cell, m.
        behind: How far behind the surface a sample counts, in cells. At 0.5 a face of the cells is within half a cell
            of the surface, and a surface seen from one side has something behind it.
    """
    inside = surface.points - behind * cell_m * surface.normals
    return np.floor(inside / cell_m).astype(np.int64)


def cell_grid(cells: np.ndarray, margin: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the occupied cells (N, 3) as a grid of bools, with the cell (3,) of its first corner."""
    low = cells.min(axis=0) - margin
    grid = np.zeros(cells.max(axis=0) - low + 1 + margin, dtype=bool)
    grid[tuple((cells - low).T)] = True
    return grid, low


def connected(cells: np.ndarray) -> np.ndarray:
    """Return the number (N,), from 1 on, of the connected thing (26 neighbours) that each cell (N, 3) belongs to."""
    grid, low = cell_grid(cells)
    labels = np.zeros(grid.shape, dtype=np.int32)
    ndimage.label(grid, structure=np.ones((3, 3, 3)), output=labels)
    return labels[tuple((cells - low).T)]


def without_specks(cells: np.ndarray, least: int) -> np.ndarray:
    """Return the cells (N, 3) of connected things of at least `least` cells."""
    if len(cells) == 0:
        return cells
    label = connected(cells)
    return cells[np.bincount(label)[label] >= least]


def footed(cells: np.ndarray, lowest: int) -> np.ndarray:
    """Return the cells (N, 3), with those of layer `lowest` or below continued down to layer 0."""
    low = cells[cells[:, 2] <= lowest]
    below = [np.column_stack([low[:, :2], np.full(len(low), layer)]) for layer in range(lowest)]
    return np.unique(np.concatenate([cells, *below]), axis=0) if len(low) else cells


def cell_surface(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices (V, 3) in cells and the triangles (F, 3), facing outwards, of the faces around cells."""
    grid, low = cell_grid(cells, margin=1)
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


def filled(cells: np.ndarray) -> np.ndarray:
    """Return the cells (N, 3) of a thing and those between them along at least two axes; below, the ground counts.

    The inside and the underside of things are never seen.
    """
    grid, low = cell_grid(cells)

    def between(axis: int) -> np.ndarray:
        before = np.maximum.accumulate(grid, axis=axis)
        after = np.flip(np.maximum.accumulate(np.flip(grid, axis=axis), axis=axis), axis=axis)
        return after if axis == 2 else before & after

    inside = sum(between(axis).astype(int) for axis in range(3)) >= 2
    return np.argwhere(grid | inside) + low
