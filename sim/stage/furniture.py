"""Furniture and walls as boxes that robots can touch: occupied cells, split into few boxes whose faces are as seen."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from bodydouble.errors import InputError
from sim.stage.cells import cells_of, footed, without_specks
from sim.stage.scene_mesh import SceneMesh
from sim.stage.surface import Surface, sample_surface

_ALIGNED = float(np.cos(np.deg2rad(20.0)))
_FLAT_M = 0.02
_WINDOW_CELLS = 2.5
_SEEN_SHARE = 0.1
_THINNEST_M = 0.01


@dataclass(frozen=True)
class FurnitureConfig:
    """How a scene becomes boxes."""

    cell_m: float = 0.04
    """Edge of the cells that the scene is divided into, m."""
    max_boxes: int = 160
    """Largest number of boxes, walls apart."""
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
    wall_gain_m3: float = 0.004
    """The same for boxes of a wall, m^3: openings of a tenth of a square metre stay open."""

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

    @property
    def volume(self) -> float:
        """Volume, m^3."""
        return float(8.0 * np.prod(self.half))


@dataclass(frozen=True, eq=False)
class Furniture:
    """What stands on the floor near a path, along one pair of axes. N samples, C cells."""

    surface: Surface
    """Samples of the seen surface in these axes; a cell c spans c * cell_m to (c + 1) * cell_m."""
    sample_cell: np.ndarray
    """Cell of each sample (N, 3), whole numbers."""
    cells: np.ndarray
    """Occupied cells (C, 3); what reaches down to the floor's band goes on to the floor."""
    yaw: float
    """Angle of the axes about z, rad."""

    @property
    def to_axes(self) -> np.ndarray:
        """Rotation (3, 3) from the stage to the axes."""
        return _turn(self.yaw)

    def with_surface(self, surface: Surface, cell_m: float) -> Furniture:
        """Return the furniture with more surface, given in the stage's frame, and the cells behind it."""
        surface = surface.turned(self.to_axes)
        own = cells_of(surface, cell_m, 0.5)
        return Furniture(
            self.surface.joined(surface),
            np.concatenate([self.sample_cell, own]),
            np.unique(np.concatenate([self.cells, own]), axis=0),
            self.yaw,
        )


def furniture_boxes(mesh: SceneMesh, path: np.ndarray, config: FurnitureConfig) -> tuple[list[Box], dict[str, float]]:
    """Return boxes that cover what stands on the floor near a path.

    Every occupied cell is inside of a box: what was seen can be touched. Boxes are split where that frees the most
    empty space, until there are `max_boxes`. A face that was seen flat then moves to where it was seen, so that a
    step keeps its height.

    Args:
        mesh: The scene in the stage's frame, floor at height zero, its triangles facing outwards.
        path: Places of the robot (N, 2), m.
        config: Settings.

    Returns:
        The boxes, and figures: furniture_boxes, furniture_fill (occupied share of the boxes' volume before their faces
        are moved).
    """
    return boxes_of(find_furniture(mesh, path, config), config)


def find_furniture(
    mesh: SceneMesh, path: np.ndarray, config: FurnitureConfig, *, yaw: float | None = None, behind: bool = True
) -> Furniture:
    """Return the surface near a path and its cells.

    Args:
        mesh: The scene in the stage's frame.
        path: Places of the robot (N, 2), m.
        config: Settings.
        yaw: Angle of the axes; the room's own where not given.
        behind: Whether a sample's cell is the one behind the surface, for boxes whose faces are moved; else the one it
            is in, for convex pieces of the cells themselves.
    """
    yaw = dominant_yaw(mesh) if yaw is None else yaw
    surface = sample_surface(mesh, 0.5 * config.cell_m)
    height = surface.points[:, 2]
    surface = surface.where((height > config.min_height_m) & (height < config.max_height_m))
    if len(surface.points):
        surface = surface.where(cKDTree(path).query(surface.points[:, :2])[0] < config.radius_m)
    surface = surface.turned(_turn(yaw))
    own = cells_of(surface, config.cell_m, 0.5 if behind else 0.0)
    cells = np.unique(own, axis=0) if len(own) else own
    cells = without_specks(cells, config.min_cells)
    return Furniture(surface, own, footed(cells, int(config.min_height_m / config.cell_m)), yaw)


def boxes_of(
    furniture: Furniture, config: FurnitureConfig, min_gain_m3: float | None = None, max_boxes: int | None = None
) -> tuple[list[Box], dict[str, float]]:
    """Return the boxes of furniture, and their figures; see `furniture_boxes`."""
    cells, cell_m = furniture.cells, config.cell_m
    if len(cells) == 0:
        return [], {"furniture_boxes": 0.0, "furniture_fill": 1.0}
    gain = (config.min_gain_m3 if min_gain_m3 is None else min_gain_m3) / cell_m**3
    groups = _split(cells, max_boxes or config.max_boxes, gain)
    corners = []
    for group in groups:
        low, high = group.min(axis=0), group.max(axis=0) + 1
        inside = ((furniture.sample_cell >= low) & (furniture.sample_cell < high)).all(axis=1)
        corners.append(_as_seen(low * cell_m, high * cell_m, furniture.surface.where(inside), cell_m))
    corners = _with_whole_treads(np.array(corners), furniture.surface, 1.5 * cell_m)
    boxes = [Box(0.5 * (low + high) @ furniture.to_axes, 0.5 * (high - low), furniture.yaw) for low, high in corners]
    volume = sum(_volume(group) for group in groups)
    return boxes, {"furniture_boxes": float(len(boxes)), "furniture_fill": len(cells) / volume}


def wall_boxes(walls: Sequence[tuple[np.ndarray, SceneMesh]], path: np.ndarray, config: FurnitureConfig) -> list[Box]:
    """Return boxes of walls, each along its own direction: one for a whole wall, more around its openings.

    Args:
        walls: Normal (3,) and mesh of each wall.
        path: Places of the robot (N, 2), m.
        config: Settings.
    """
    boxes = []
    for normal, mesh in walls:
        furniture = find_furniture(mesh, path, config, yaw=float(np.arctan2(normal[1], normal[0])))
        boxes += boxes_of(furniture, config, config.wall_gain_m3)[0]
    return boxes


def dominant_yaw(mesh: SceneMesh) -> float:
    """Return the heading in [-pi/4, pi/4) of most upright surfaces: the room's axes."""
    normals, areas = mesh.normals_and_areas()
    upright = np.abs(normals[:, 2]) < 0.3
    angle = np.arctan2(normals[upright, 1], normals[upright, 0])
    # Four times the angle: walls at right angles agree.
    return float(np.angle(np.sum(areas[upright] * np.exp(4j * angle)))) / 4.0 if upright.any() else 0.0


def _turn(yaw: float) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])


def _as_seen(low: np.ndarray, high: np.ndarray, surface: Surface, cell_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners (3,), (3,) of a box whose flat faces are where they were seen.

    A face counts as flat where the samples that look its way, near it, cover a tenth of it and lie within 2 cm of
    each other; it moves to their median. Other faces stay on the cells' bounds, or move out to what they must cover.
    """
    new = np.stack([low, high]).astype(np.float64)
    flat = np.zeros((2, 3), dtype=bool)
    size = high - low
    for axis in range(3):
        face_m2 = float(np.prod(np.delete(size, axis)))
        for side, sign in enumerate((-1.0, 1.0)):
            along = surface.points[:, axis]
            near = sign * (along - new[side, axis]) > -_WINDOW_CELLS * cell_m
            looks = near & (sign * surface.normals[:, axis] > _ALIGNED)
            if surface.area[looks].sum() > _SEEN_SHARE * face_m2:
                least, middle, most = _quantiles(along[looks], surface.area[looks], (0.05, 0.5, 0.95))
                if most - least < _FLAT_M:
                    new[side, axis], flat[side, axis] = middle, True
                    continue
            if near.any():
                outer = _quantiles(sign * along[near], surface.area[near], (0.98,))[0]
                new[side, axis] = sign * max(sign * new[side, axis], outer)
    # A board keeps its thickness where both sides were seen; behind a surface seen from one side there is a cell.
    for axis in range(3):
        both = bool(flat[:, axis].all())
        least = _THINNEST_M if both else 0.5 * cell_m
        lacking = least - (new[1, axis] - new[0, axis])
        if lacking > 0:
            if flat[0, axis] and not flat[1, axis]:
                new[1, axis] += lacking
            else:
                new[0, axis] -= lacking
    new[0, 2] = max(new[0, 2], 0.0)
    return new[0], new[1]


def _with_whole_treads(corners: np.ndarray, surface: Surface, reach_m: float) -> np.ndarray:
    """Return boxes (B, 2, 3) grown sideways to the level samples at their top that no box covers.

    Where a riser stands on a tread, a cell holds both, and the riser's box moved its face away from the tread's end.
    """
    level = surface.points[surface.normals[:, 2] > _ALIGNED]
    low, high = corners[:, 0], corners[:, 1]
    near = cKDTree(level) if len(level) else None
    covered = np.zeros(len(level), dtype=bool)
    own: list[np.ndarray] = []
    for a, b in zip(low, high, strict=True):
        middle = np.array([*(0.5 * (a + b))[:2], b[2]])
        around = float(np.linalg.norm(0.5 * (b - a)[:2])) + 2 * reach_m
        index = np.array(near.query_ball_point(middle, around) if near else [], dtype=np.int64)
        index = index[np.abs(level[index, 2] - b[2]) < _FLAT_M]
        covered[index[((level[index, :2] >= a[:2]) & (level[index, :2] <= b[:2])).all(axis=1)]] = True
        own.append(index)
    grown = corners.copy()
    for number, index in enumerate(own):
        points = level[index[~covered[index]]]
        for axis in range(2):
            other = 1 - axis
            beside = (points[:, other] >= low[number, other]) & (points[:, other] <= high[number, other])
            for side, sign in enumerate((-1.0, 1.0)):
                beyond = sign * (points[beside, axis] - corners[number, side, axis])
                beyond = beyond[(beyond > 0) & (beyond < reach_m)]
                if len(beyond):
                    grown[number, side, axis] += sign * float(np.quantile(beyond, 0.98))
    return grown


def _quantiles(values: np.ndarray, weights: np.ndarray, at: Sequence[float]) -> list[float]:
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order])
    places = np.searchsorted(share, np.asarray(at) * share[-1])
    return [float(values[order[min(int(place), len(order) - 1)]]) for place in places]


def _volume(group: np.ndarray) -> float:
    return float(np.prod(group.max(axis=0) - group.min(axis=0) + 1))


def _split(cells: np.ndarray, max_groups: int, min_gain: float) -> list[np.ndarray]:
    """Return groups of cells, split by planes where that shrinks the bounding boxes most."""
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
