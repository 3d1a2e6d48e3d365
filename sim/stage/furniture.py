"""Furniture and walls as boxes that robots can touch: occupied cells, split into few well-filled boxes."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from bodydouble.errors import InputError
from sim.stage.scene_mesh import SceneMesh


@dataclass(frozen=True)
class FurnitureConfig:
    """How a scene becomes boxes."""

    cell_m: float = 0.04
    """Edge of the cells that the scene is divided into, m."""
    max_boxes: int = 80
    """Largest number of boxes."""
    min_height_m: float = 0.06
    """Surfaces below this height are floor, m."""
    max_height_m: float = 1.9
    """Surfaces above this height are left out, m."""
    radius_m: float = 2.0
    """How far from the robot's path things are kept, m."""
    min_cells: int = 15
    """Connected pieces with fewer occupied cells are noise."""
    min_gain_m3: float = 0.0005
    """A box is not split further where that frees less space than this, m^3."""

    def __post_init__(self) -> None:
        if not 0.01 <= self.cell_m <= 0.5 or self.max_boxes < 1:
            raise InputError(
                f"furniture: cell_m {self.cell_m} or max_boxes {self.max_boxes}; expected 0.01 to 0.5, and 1 or more"
            )


@dataclass(frozen=True, eq=False)
class Box:
    """A box that stands upright."""

    centre: np.ndarray
    """Centre (3,), m."""
    half: np.ndarray
    """Half edge lengths (3,), m."""
    yaw: float
    """Rotation about z, rad."""


def furniture_boxes(mesh: SceneMesh, path: np.ndarray, config: FurnitureConfig) -> tuple[list[Box], dict[str, float]]:
    """Return boxes that cover what stands on the floor near a path.

    Every occupied cell is inside of a box: what was seen can be touched. Boxes are split where that frees the most
    empty space, until there are `max_boxes`.

    Args:
        mesh: The scene in the stage's frame, floor at height zero.
        path: Places of the robot (N, 2), m.
        config: Settings.

    Returns:
        The boxes, and figures: furniture_boxes, furniture_fill (occupied share of the boxes' volume).
    """
    cells, to_grid, yaw = furniture_cells(mesh, path, config)
    if len(cells) == 0:
        return [], {"furniture_boxes": 0.0, "furniture_fill": 1.0}
    groups = _split(cells, config.max_boxes, config.min_gain_m3 / config.cell_m**3)
    boxes = []
    for group in groups:
        low, high = group.min(axis=0) * config.cell_m, (group.max(axis=0) + 1) * config.cell_m
        low[2] = max(low[2], 0.0)
        boxes.append(Box(0.5 * (low + high) @ to_grid, 0.5 * (high - low), yaw))
    volume = sum(float(np.prod(group.max(axis=0) - group.min(axis=0) + 1)) for group in groups)
    return boxes, {"furniture_boxes": float(len(boxes)), "furniture_fill": len(cells) / volume if volume else 1.0}


def furniture_cells(mesh: SceneMesh, path: np.ndarray, config: FurnitureConfig) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the occupied cells (N, 3) near a path, the rotation (3, 3) to their axes, and its angle in rad.

    A cell c spans c * cell_m to (c + 1) * cell_m along the room's axes.
    """
    yaw = _dominant_yaw(mesh)
    c, s = np.cos(yaw), np.sin(yaw)
    to_grid = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
    points = _surface_points(mesh, 0.5 * config.cell_m)
    points = points[(points[:, 2] > config.min_height_m) & (points[:, 2] < config.max_height_m)]
    if len(points):
        points = points[cKDTree(path).query(points[:, :2])[0] < config.radius_m]
    if len(points) == 0:
        return np.zeros((0, 3), np.int64), to_grid, yaw
    cells = np.unique(np.floor(points @ to_grid.T / config.cell_m).astype(np.int64), axis=0)
    return _without_specks(cells, config.min_cells), to_grid, yaw


def _dominant_yaw(mesh: SceneMesh) -> float:
    """Return the heading in [-pi/4, pi/4) of most upright surfaces: the room's axes."""
    normals, areas = mesh.normals_and_areas()
    upright = np.abs(normals[:, 2]) < 0.3
    angle = np.arctan2(normals[upright, 1], normals[upright, 0])
    # Four times the angle: walls at right angles agree.
    return float(np.angle(np.sum(areas[upright] * np.exp(4j * angle)))) / 4.0 if upright.any() else 0.0


def _surface_points(mesh: SceneMesh, spacing: float) -> np.ndarray:
    """Return points (N, 3) on all triangles, no further apart than about the spacing."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    longest = np.max([np.linalg.norm(edge, axis=1) for edge in (b - a, c - b, a - c)], axis=0)
    steps = np.clip(np.ceil(longest / spacing).astype(int), 1, 400)
    out = [mesh.vertices]
    for count in np.unique(steps):
        chosen = steps == count
        i, j = np.meshgrid(np.arange(count + 1), np.arange(count + 1), indexing="ij")
        keep = i + j <= count
        u, v = i[keep] / count, j[keep] / count
        p, q, r = a[chosen, None], b[chosen, None], c[chosen, None]
        out.append((p + u[:, None] * (q - p) + v[:, None] * (r - p)).reshape(-1, 3))
    return np.concatenate(out)


def _without_specks(cells: np.ndarray, least: int) -> np.ndarray:
    """Return the cells (N, 3) of connected pieces (26 neighbours) of at least `least` cells."""
    low = cells.min(axis=0)
    grid = np.zeros(cells.max(axis=0) - low + 1, dtype=bool)
    grid[tuple((cells - low).T)] = True
    labels = np.zeros(grid.shape, dtype=np.int32)
    ndimage.label(grid, structure=np.ones((3, 3, 3)), output=labels)
    label = labels[tuple((cells - low).T)]
    return cells[np.bincount(label)[label] >= least]


def _volume(group: np.ndarray) -> float:
    return float(np.prod(group.max(axis=0) - group.min(axis=0) + 1))


def _split(cells: np.ndarray, max_groups: int, min_gain: float) -> list[np.ndarray]:
    """Return groups of cells, split by planes where that shrinks the bounding boxes most."""
    if len(cells) == 0:
        return []
    heap: list[tuple[float, int, np.ndarray, tuple[np.ndarray, np.ndarray] | None]] = []
    order = 0

    def push(group: np.ndarray) -> None:
        nonlocal order
        gain, parts = _best_split(group)
        heapq.heappush(heap, (-gain, order, group, parts))
        order += 1

    push(cells)
    while len(heap) < max_groups and -heap[0][0] > min_gain:
        parts = heapq.heappop(heap)[3]
        assert parts is not None  # a positive gain has parts
        for part in parts:
            push(part)
    return [group for _, _, group, _ in heap]


def _best_split(group: np.ndarray) -> tuple[float, tuple[np.ndarray, np.ndarray] | None]:
    """Return the volume in cells that the best plane frees, and the two parts."""
    whole, best, parts = _volume(group), 0.0, None
    for axis in range(3):
        sorted_cells = group[np.argsort(group[:, axis], kind="stable")]
        cuts = np.flatnonzero(np.diff(sorted_cells[:, axis])) + 1
        if len(cuts) == 0:
            continue
        volumes = np.zeros(len(cuts))
        for one, index in ((sorted_cells, cuts - 1), (sorted_cells[::-1], len(group) - cuts - 1)):
            span = np.maximum.accumulate(one)[index] - np.minimum.accumulate(one)[index] + 1
            volumes += np.prod(span.astype(np.float64), axis=1)
        i = int(np.argmin(volumes))
        if whole - volumes[i] > best:
            best, parts = whole - volumes[i], (sorted_cells[: cuts[i]], sorted_cells[cuts[i] :])
    return best, parts
