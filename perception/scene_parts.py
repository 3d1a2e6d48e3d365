"""The static scene in parts: planes (floor, walls, ceiling, tops) and the objects that stand on or before them.

Planes are found one after the other, the largest first: the most frequent direction of the normals, then the most
frequent offset along it, then a fit by least squares. What is no floor, wall or ceiling is clustered into objects;
what stands on a table is an object of its own. Nothing is drawn at random: the same mesh gives the same parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.spatial import ConvexHull, QhullError, cKDTree

from bodydouble.artifacts import write_json
from bodydouble.errors import InputError
from perception.clusters import connected_cells
from perception.static_scene import StaticScene
from sim.stage.floor import find_floor
from sim.stage.scene_mesh import SceneMesh

PARTS_FILE = "scene_parts.json"
"""Planes and objects."""
LABELS_FILE = "scene_parts.npz"
"""The part of each vertex of the scene."""
DIRECTIONS = 600
"""Directions on a half sphere that normals are counted by, 6 degrees apart."""


@dataclass(frozen=True)
class PartsConfig:
    """How a scene is taken apart."""

    min_plane_m2: float = 0.15
    """Least area of a plane, m^2."""
    min_width_m: float = 0.15
    """Least extent across of a plane, m; a strip of something round is narrower."""
    max_planes: int = 40
    """Most planes."""
    band_m: float = 0.03
    """Distance from a plane within which a triangle belongs to it, m."""
    max_angle_deg: float = 25.0
    """Angle to a plane's normal within which a triangle belongs to it, degrees."""
    wall_beyond: float = 0.08
    """Share of the scene's area that may lie beyond a wall."""
    table_m2: float = 0.3
    """Area of a top from which on what stands on it is an object of its own, m^2."""
    cell_m: float = 0.06
    """Cell in which an object is connected, m."""
    min_object_m2: float = 0.03
    """Least area of an object, m^2."""


@dataclass(frozen=True)
class Plane:
    """A flat part. Points x on it fulfil normal . x = offset_m."""

    kind: str
    """floor, ceiling, wall, top (level, between floor and ceiling) or other."""
    normal: tuple[float, float, float]
    """Unit normal, z not negative."""
    offset_m: float
    """Distance from the origin along the normal, m."""
    centre: tuple[float, float, float]
    """Middle, m."""
    extent_m: tuple[float, float]
    """Extents along its longer axis and across, m."""
    area_m2: float
    """Area of its triangles, m^2."""
    height_m: float
    """Height of its middle over the floor, m."""


@dataclass(frozen=True)
class SceneObject:
    """A connected thing that is no floor, wall or ceiling."""

    centre: tuple[float, float, float]
    """Middle of its upright box, m."""
    half: tuple[float, float, float]
    """Half edge lengths of the box, m."""
    yaw: float
    """Rotation of the box about z, rad, in [-pi/4, pi/4)."""
    bottom_m: float
    """Height of its lowest point over the floor, m."""
    volume_m3: float
    """Volume of its convex hull, m^3."""
    area_m2: float
    """Area of its triangles, m^2."""
    flat_share: float
    """Share of the area that lies in planes: near 1 for furniture, small for what is round."""
    on_plane: int
    """Number of the top it stands on; -1 for the floor or none."""


@dataclass(frozen=True)
class SceneParts:
    """A scene's planes and objects. V vertices, P planes, O objects."""

    planes: tuple[Plane, ...]
    """The planes, the largest first."""
    objects: tuple[SceneObject, ...]
    """The objects, the largest first."""
    vertex_part: np.ndarray
    """Part of each vertex (V,), int32: a floor, wall or ceiling 0 to P - 1, an object P to P + O - 1, or -1."""

    def save(self, folder: Path) -> None:
        """Write scene_parts.json and scene_parts.npz into a folder."""
        write_json(
            folder / PARTS_FILE,
            {"planes": [asdict(plane) for plane in self.planes], "objects": [asdict(thing) for thing in self.objects]},
        )
        with open(folder / LABELS_FILE, "wb") as file:
            np.savez_compressed(file, vertex_part=self.vertex_part)


def scene_parts(scene: StaticScene, config: PartsConfig | None = None) -> SceneParts:
    """Return the parts of a scene whose world is roughly Z up.

    Args:
        scene: The scene.
        config: Settings.
    """
    config = config or PartsConfig()
    mesh = SceneMesh(scene.vertices, scene.triangles, scene.colors)
    _, areas = mesh.normals_and_areas()
    normals, centres = _smooth_normals(mesh), mesh.centres()
    try:
        floor_z = find_floor(mesh).height_m
    except InputError:
        floor_z = float(np.quantile(scene.vertices[:, 2], 0.01))
    found = _planes(centres, normals, areas, config)
    planes = [_described(inside, centres, areas, floor_z, config) for inside in found]
    wide = [plane.extent_m[1] >= config.min_width_m for plane in planes]
    found = [inside for inside, keep in zip(found, wide, strict=True) if keep]
    planes = [plane for plane, keep in zip(planes, wide, strict=True) if keep]
    of_room = [n for n, plane in enumerate(planes) if plane.kind in ("floor", "wall", "ceiling")]
    part = np.full(len(areas), -1)
    flat = np.zeros(len(areas), dtype=bool)
    for number, inside in enumerate(found):
        flat[inside] = True
        if number in of_room:
            part[inside] = number
    # Near the floor and the walls their noise is no object.
    rest = part < 0
    for number in of_room:
        away = np.abs(centres @ np.array(planes[number].normal) - planes[number].offset_m)
        rest &= away > (1.5 if planes[number].kind == "floor" else 1.0) * config.band_m
    objects = []
    for group, table in _stands_on(np.flatnonzero(rest), centres, found, planes, config):
        for inside in _connected(centres, areas, group, config.cell_m, config.min_object_m2):
            corners = scene.vertices[np.unique(scene.triangles[inside])]
            objects.append((inside, _object(corners, areas[inside], flat[inside], floor_z, table)))
    objects.sort(key=lambda item: (-item[1].area_m2, item[1].centre))
    for number, (inside, _) in enumerate(objects):
        part[inside] = len(planes) + number
    vertex_part = np.full(len(scene.vertices), -1, dtype=np.int32)
    for corner in scene.triangles.T:
        vertex_part[corner[part >= 0]] = part[part >= 0]
    return SceneParts(tuple(planes), tuple(thing for _, thing in objects), vertex_part)


def like_somebody(parts: SceneParts) -> list[SceneObject]:
    """Return the objects that are as high, as slim and as round as somebody who stands still."""
    return [
        thing
        for thing in parts.objects
        if thing.bottom_m < 0.3
        and 1.2 < 2 * thing.half[2] + thing.bottom_m < 2.2
        and max(thing.half[:2]) < 0.55
        and thing.flat_share < 0.4
        and thing.area_m2 > 0.3
    ]


def _smooth_normals(mesh: SceneMesh) -> np.ndarray:
    """Return the triangles' normals (F, 3), averaged over their neighbours: the depth's noise tilts single ones."""
    normals, areas = mesh.normals_and_areas()
    count = len(mesh.vertices)
    corner = mesh.faces.T.ravel()
    owner = np.tile(np.arange(len(mesh.faces)), 3)
    gather = coo_matrix((np.tile(areas, 3), (corner, owner)), shape=(count, len(mesh.faces))).tocsr()
    ring = coo_matrix((np.ones(len(owner)), (owner, corner)), shape=(len(mesh.faces), count)).tocsr()
    for _ in range(3):
        normals = ring @ (gather @ normals)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return normals


def _half_sphere(count: int) -> np.ndarray:
    """Return directions (N, 3), evenly over the upper half sphere (a Fibonacci lattice)."""
    index = np.arange(count) + 0.5
    z, turn = 1 - index / count, np.pi * (1 + 5**0.5) * index
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1)


def _planes(centres: np.ndarray, normals: np.ndarray, areas: np.ndarray, config: PartsConfig) -> list[np.ndarray]:
    """Return the triangles of each plane, the largest plane first."""
    lattice = _half_sphere(DIRECTIONS)
    free, tried = np.ones(len(areas), dtype=bool), 0
    bins = cKDTree(np.concatenate([lattice, -lattice])).query(normals)[1] % len(lattice)
    near = np.abs(lattice @ lattice.T) > np.cos(np.deg2rad(12))
    planes: list[np.ndarray] = []
    while len(planes) < config.max_planes and tried < 3 * config.max_planes:
        tried += 1
        weight = np.bincount(bins[free], areas[free], minlength=len(lattice))
        direction = int((near @ weight).argmax())
        if (near @ weight)[direction] < config.min_plane_m2:
            break
        inside = _best_offset(centres, normals, areas, free & near[direction][bins], lattice[direction], config)
        inside = inside if len(inside) else np.flatnonzero(free & near[direction][bins])
        normal, offset = _fit(centres[inside], areas[inside])
        for _ in range(2):
            level = np.abs(normals @ normal) > np.cos(np.deg2rad(config.max_angle_deg))
            hit = np.flatnonzero(free & level & (np.abs(centres @ normal - offset) < config.band_m))
            if not len(hit):
                break
            inside = hit
            normal, offset = _fit(centres[inside], areas[inside])
        planes += _connected(centres, areas, inside, 2 * config.cell_m, config.min_plane_m2)
        free[inside] = False
    return sorted(planes, key=lambda inside: -areas[inside].sum())[: config.max_planes]


def _best_offset(
    centres: np.ndarray, normals: np.ndarray, areas: np.ndarray, among: np.ndarray, normal: np.ndarray,
    config: PartsConfig,
) -> np.ndarray:  # fmt: skip
    """Return the triangles in the fullest slab across a direction, that direction being adjusted to them."""
    chosen = np.flatnonzero(among)
    signs = np.sign(normals[chosen] @ normal)
    mean = (normals[chosen] * (signs * areas[chosen])[:, None]).sum(axis=0)
    normal = mean / max(float(np.linalg.norm(mean)), 1e-12)
    along = centres[chosen] @ normal
    bins = np.floor((along - along.min()) / config.band_m).astype(np.int64)
    weight = np.convolve(np.bincount(bins, areas[chosen]), np.ones(3), mode="same")
    return chosen[np.abs(bins - weight.argmax()) <= 1]


def _fit(points: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the plane (unit normal with z not negative, offset) of least squares."""
    middle = np.average(points, axis=0, weights=weights)
    spread = (points - middle) * np.sqrt(weights)[:, None]
    normal = np.linalg.eigh(spread.T @ spread)[1][:, 0]
    normal = -normal if normal[2] < 0 else normal
    return normal, float(middle @ normal)


def _connected(
    centres: np.ndarray, areas: np.ndarray, chosen: np.ndarray, cell_m: float, least_m2: float
) -> list[np.ndarray]:
    """Return the connected clusters of some triangles that have an area, the largest first."""
    cells = connected_cells(centres[chosen], cell_m)
    if not len(cells.centres):
        return []
    clustered = cells.owner >= 0
    chosen, owner = chosen[clustered], cells.cluster[cells.owner[clustered]]
    sizes = np.bincount(owner, areas[chosen])
    return [chosen[owner == n] for n in np.argsort(-sizes, kind="stable") if sizes[n] >= least_m2]


def _described(
    inside: np.ndarray, centres: np.ndarray, areas: np.ndarray, floor_z: float, config: PartsConfig
) -> Plane:
    """Return the description of the plane of some triangles."""
    points, weights = centres[inside], areas[inside]
    normal, offset = _fit(points, weights)
    middle = np.average(points, axis=0, weights=weights)
    in_plane = np.linalg.svd(normal[None])[2][1:]
    _, low, high = _rectangle((points - middle) @ in_plane.T)
    extent = np.sort(high - low)[::-1]
    area = float(weights.sum())
    height = float(middle[2]) - floor_z
    side = centres @ normal - offset
    beyond = min(float(areas[side > 0.15].sum()), float(areas[side < -0.15].sum())) / float(areas.sum())
    tall = float(np.ptp(np.quantile(points[:, 2], (0.02, 0.98))))
    if normal[2] > 0.94:
        kind = "floor" if abs(height) < 0.06 else "ceiling" if height > 2.0 else "top"
    elif normal[2] < 0.2 and area > 0.8 and tall > 0.8 and beyond < config.wall_beyond:
        kind = "wall"
    else:
        kind = "other"
    return Plane(
        kind,
        (float(normal[0]), float(normal[1]), float(normal[2])),
        offset,
        (float(middle[0]), float(middle[1]), float(middle[2])),
        (float(extent[0]), float(extent[1])),
        area,
        height,
    )


def _stands_on(
    rest: np.ndarray, centres: np.ndarray, found: Sequence[np.ndarray], planes: Sequence[Plane], config: PartsConfig
) -> list[tuple[np.ndarray, int]]:
    """Return groups of triangles with the table each stands on, -1 for none."""
    owner = np.full(len(rest), -1)
    tables = [n for n, plane in enumerate(planes) if plane.kind == "top" and plane.area_m2 >= config.table_m2]
    for number in sorted(tables, key=lambda n: planes[n].height_m):
        top = np.unique(np.floor(centres[found[number], :2] / config.cell_m).astype(np.int64), axis=0)
        low = top.min(axis=0) - 1
        grid = np.zeros(top.max(axis=0) - low + 2, dtype=bool)
        grid[tuple((top - low).T)] = True
        cell = np.floor(centres[rest, :2] / config.cell_m).astype(np.int64) - low
        inside = ((cell >= 0) & (cell < grid.shape)).all(axis=1)
        over = inside & (centres[rest] @ np.array(planes[number].normal) > planes[number].offset_m + config.band_m)
        # What a thing stands on is hidden below it: the top's surroundings count.
        filled = _filled(grid)
        over[inside] &= filled[tuple(cell[inside].T)]
        owner[over] = number
    return [(rest[owner == number], int(number)) for number in np.unique(owner)]


def _filled(grid: np.ndarray) -> np.ndarray:
    """Return the cells (A, B) between others along a row and along a column."""

    def between(cells: np.ndarray) -> np.ndarray:
        before = np.maximum.accumulate(cells, axis=0)
        after = np.maximum.accumulate(cells[::-1], axis=0)[::-1]
        return before & after

    return grid | (between(grid) & between(grid.T).T)


def _object(points: np.ndarray, areas: np.ndarray, flat: np.ndarray, floor_z: float, table: int) -> SceneObject:
    """Return the description of an object with corners (N, 3)."""
    yaw, low, high = _rectangle(points[:, :2])
    low, high = np.append(low, points[:, 2].min()), np.append(high, points[:, 2].max())
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    x, y = np.cos(yaw) * middle[0] - np.sin(yaw) * middle[1], np.sin(yaw) * middle[0] + np.cos(yaw) * middle[1]
    try:
        volume = float(ConvexHull(points).volume)
    except QhullError:  # all in one plane
        volume = 0.0
    area = float(areas.sum())
    return SceneObject(
        (float(x), float(y), float(middle[2])),
        (float(half[0]), float(half[1]), float(half[2])),
        yaw,
        float(low[2]) - floor_z,
        volume,
        area,
        float(areas[flat].sum()) / max(area, 1e-12),
        table,
    )


def _rectangle(points: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the smallest rectangle around points (N, 2): its angle in [-pi/4, pi/4), and its least and largest corner.

    One of its sides lies on a side of the convex hull (Freeman and Shapira 1975). The corners are along its own axes.
    """
    try:
        outline = points[ConvexHull(points).vertices]
    except QhullError:  # all in one line
        outline = points
    edges = np.diff(outline, axis=0, append=outline[:1])
    angles = np.unique(np.mod(np.arctan2(edges[:, 1], edges[:, 0]) + np.pi / 4, np.pi / 2) - np.pi / 4)
    c, s = np.cos(angles), np.sin(angles)
    turned = np.stack([outline @ np.stack([c, s]), outline @ np.stack([-s, c])], axis=-1)
    best = int(np.prod(np.ptp(turned, axis=0), axis=-1).argmin())
    return float(angles[best]), turned[:, best].min(axis=0), turned[:, best].max(axis=0)
