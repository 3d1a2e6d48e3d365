"""The static scene: truncated signed distance fusion of what stands still, and a coloured mesh of it.

What moves is found by votes: a point of space that was a surface in some frames and plainly free in others moved.
Its pixels are left out of the fusion, and mesh parts that frames see through are taken away again.
"""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import open3d as o3d
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from bodydouble.errors import InputError
from perception.camera_faults import check_depth
from perception.free_space import CellSet, cell_means, sightings, surface_cells
from perception.fusion import fuse
from perception.scene_frames import SceneFrames
from perception.views import View

REMAINS_GROWTH = 0.002
"""Growth of the margins of what the person left with the square of the depth, 1/m."""
BODY_GONE_NS = 500_000_000
"""Time from the nearest one of the body after which nobody is there, ns."""


@dataclass(frozen=True)
class SceneConfig:
    """How the static scene is rebuilt."""

    voxel_m: float = 0.02
    """Size of a voxel, m."""
    stride_s: float = 0.13
    """Time between the frames that are fused, s."""
    max_depth_m: float = 5.0
    """Farthest depth that is used, m."""
    min_weight: float = 3.0
    """Observations that a surface needs."""
    moving_share: float = 0.2
    """Share of free sightings above which a surface counts as moving."""
    vote_cell_m: float = 0.04
    """Cell of space that votes, m."""
    vote_margin_m: float = 0.06
    """Distance behind a point at which a reading says that the point is free, m."""
    remains_margin_m: float = 0.015
    """The same distance for what the person left in the scene, m."""
    remains_reach_m: float = 0.10
    """Distance to the body within which mesh may be what the person left, m."""
    remains_away_m: float = 0.18
    """Distance to the body from which on the body is elsewhere, m."""
    remains_sightings: int = 2
    """Frames that must have seen a surface without the body."""
    remains_floor_m: float = 0.03
    """Height below which mesh is the floor, m."""
    vertex_cell_m: float = 0.02
    """Cell whose mesh vertices are judged together, m."""
    min_component_m2: float = 0.02
    """Surface below which a separate piece of mesh is dropped, m^2."""


@dataclass(frozen=True)
class StaticScene:
    """A triangle mesh."""

    vertices: np.ndarray
    """Vertices (V, 3), world, m."""
    triangles: np.ndarray
    """Triangles (F, 3)."""
    colors: np.ndarray
    """Colours (V, 3), 0 to 1."""

    def raycaster(self) -> o3d.t.geometry.RaycastingScene:
        """Return a scene to cast rays into."""
        scene = o3d.t.geometry.RaycastingScene()
        scene.add_triangles(
            o3d.core.Tensor(self.vertices.astype(np.float32)), o3d.core.Tensor(self.triangles.astype(np.uint32))
        )
        return scene

    def save(self, path: str) -> None:
        """Write the mesh as binary PLY with colours."""
        mesh = o3d.geometry.TriangleMesh(
            o3d.utility.Vector3dVector(self.vertices), o3d.utility.Vector3iVector(self.triangles.astype(np.int32))
        )
        mesh.vertex_colors = o3d.utility.Vector3dVector(self.colors)
        mesh.compute_vertex_normals()
        if not o3d.io.write_triangle_mesh(path, mesh):
            raise InputError(f"{path}: the mesh could not be written; is the disk full?")


def reconstruct_scene(views: Sequence[View], config: SceneConfig) -> StaticScene:
    """Return the static scene that the views show.

    Args:
        views: The views; their depth images are read one at a time.
        config: Settings.

    Raises:
        InputError: There is no colour, the depth is not that of a room, or no surface was seen often enough.
    """
    frames = SceneFrames(views)
    check_depth(views)
    moving = _moving_cells(frames, config)
    vertices, triangles, colors = fuse(frames, moving, config.voxel_m, config.max_depth_m, config.min_weight)
    if not len(vertices):
        raise InputError(
            f"no surface was seen {config.min_weight:g} times within {config.max_depth_m} m; record longer"
        )
    means, owner = cell_means(vertices, config.vertex_cell_m)
    free, seen = sightings(means, frames, config.vote_margin_m, config.max_depth_m)
    gone = (free > config.moving_share * np.maximum(seen, 1))[owner]
    triangles = triangles[~gone[triangles].any(axis=1)]
    return _prune(vertices, triangles, colors, config.min_component_m2)


def without_remains(
    scene: StaticScene,
    views: Sequence[View],
    times_ns: np.ndarray,
    body: np.ndarray,
    floor_z: float,
    config: SceneConfig,
) -> StaticScene:
    """Return the scene without what the person left in it.

    Only mesh that the body came near is judged: it goes where its place was free at other times, with a margin as small
    as the depth's noise allows (shoes on the floor), and where nobody saw it as a surface but with the body there
    (somebody who sits or stands for long). The floor is not judged by the second rule: who stays covers it for good.

    Args:
        scene: The scene.
        views: The views.
        times_ns: Times of the body (T,), int64, ns.
        body: Points on the fitted body at these times (T, N, 3), world, m.
        floor_z: Height of the floor, world, m.
        config: Settings.
    """
    reach = cKDTree(body.reshape(-1, 3)).query(scene.vertices, distance_upper_bound=config.remains_reach_m)[0]
    near = np.flatnonzero(np.isfinite(reach))
    frames = SceneFrames(views)[::2]
    points = scene.vertices[near]
    free, seen = sightings(points, frames, config.remains_margin_m, config.max_depth_m, REMAINS_GROWTH)
    left = free > 0.5 * config.moving_share * np.maximum(seen, 1)
    off_floor = np.flatnonzero(~left & (points[:, 2] > floor_z + config.remains_floor_m))
    alone = _surface_without_body(points[off_floor], frames, times_ns, body, config)
    left[off_floor[alone < config.remains_sightings]] = True
    return without_vertices(scene, near[left], config)


def without_vertices(scene: StaticScene, vertices: np.ndarray, config: SceneConfig) -> StaticScene:
    """Return the scene without some vertices, and without pieces that are then too small.

    Args:
        scene: The scene.
        vertices: Indices of the vertices (N,).
        config: Settings.

    Raises:
        InputError: Nothing is left.
    """
    gone = np.zeros(len(scene.vertices), dtype=bool)
    gone[vertices] = True
    triangles = scene.triangles[~gone[scene.triangles].any(axis=1)]
    return _prune(scene.vertices, triangles, scene.colors, config.min_component_m2)


def _surface_without_body(
    points: np.ndarray, frames: SceneFrames, times_ns: np.ndarray, body: np.ndarray, config: SceneConfig
) -> np.ndarray:
    """Return in how many frames each point (N, 3) was seen as a surface while the body was elsewhere (N,)."""
    count = np.zeros(len(points), dtype=np.int64)
    for index, time_ns in enumerate(frames.times_ns):
        nearest = int(np.abs(times_ns - time_ns).argmin())
        away = np.arange(len(points))
        if abs(times_ns[nearest] - time_ns) < BODY_GONE_NS:
            reach = cKDTree(body[nearest]).query(points, distance_upper_bound=config.remains_away_m)[0]
            away = np.flatnonzero(np.isinf(reach))
        # A surface seen aslant has nearer readings beside it: the margin is twice that of free sightings.
        free, seen = sightings(
            points[away], frames[index : index + 1], 2 * config.remains_margin_m, config.max_depth_m,
            2 * REMAINS_GROWTH, quiet=True,
        )  # fmt: skip
        count[away] += seen - free
    return count


def seen_free(points: np.ndarray, views: Sequence[View], config: SceneConfig) -> np.ndarray:
    """Return for points (N, 3), world, m, whether their place was seen to be free at other times (N,), bool."""
    means, owner = cell_means(points, 2 * config.vote_cell_m)
    votes = sightings(means, SceneFrames(views)[::2], config.vote_margin_m, config.max_depth_m)
    return _moves(*votes, config)[owner]


def _moves(free: np.ndarray, seen: np.ndarray, config: SceneConfig) -> np.ndarray:
    return (free > config.moving_share * np.maximum(seen, 1)) & (free >= 3)


def _moving_cells(frames: SceneFrames, config: SceneConfig) -> CellSet:
    """Return the cells whose surface was free at other times."""
    names, means = surface_cells(frames[::2], config.vote_cell_m, config.max_depth_m)
    votes = sightings(means, frames[::2], config.vote_margin_m, config.max_depth_m)
    return CellSet(names[_moves(*votes, config)], config.vote_cell_m)


def _prune(vertices: np.ndarray, triangles: np.ndarray, colors: np.ndarray, min_area: float) -> StaticScene:
    """Return the mesh without pieces below an area, m^2, and without vertices of no triangle."""
    corner = vertices[triangles]
    area = 0.5 * np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    piece = _pieces(triangles, len(vertices))
    triangles = triangles[np.bincount(piece, area)[piece] >= min_area]
    if not len(triangles):
        raise InputError("no connected surface is large enough to be a scene; record more of the room")
    used = np.zeros(len(vertices), dtype=bool)
    used[triangles] = True
    return StaticScene(vertices[used], (np.cumsum(used) - 1)[triangles], colors[used])


def _pieces(triangles: np.ndarray, vertices: int) -> np.ndarray:
    """Return the piece of mesh of each triangle (F,): triangles that share an edge are of one."""
    ends = np.sort(np.stack([triangles, np.roll(triangles, -1, axis=1)], axis=2), axis=2)
    edge = (ends[..., 0] * vertices + ends[..., 1]).ravel()
    order = np.argsort(edge, kind="stable")
    shared = np.flatnonzero(edge[order[1:]] == edge[order[:-1]])
    one, other = order[shared] // 3, order[shared + 1] // 3
    graph = coo_matrix((np.ones(len(one), dtype=bool), (one, other)), shape=(len(triangles), len(triangles)))
    return connected_components(graph, directed=False)[1]
