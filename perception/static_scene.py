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
from rich.console import Console
from rich.progress import track
from scipy.ndimage import minimum_filter
from scipy.spatial import cKDTree

from bodydouble.errors import InputError
from bodydouble.frames import se3_apply, se3_inverse
from perception.views import View, depth_margin, unproject


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
    """The same distance for what the person left on the floor, m."""
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


@dataclass(frozen=True)
class _Frame:
    depth: np.ndarray
    color: np.ndarray
    K: np.ndarray
    T_world_camera: np.ndarray


def reconstruct_scene(views: Sequence[View], config: SceneConfig) -> StaticScene:
    """Return the static scene that the views show.

    Raises:
        InputError: No surface was seen often enough.
    """
    frames = _frames(views, config)
    moving = _moving_cells(frames, config)
    mesh = _fuse(frames, moving, config)
    vertices = np.zeros((0, 3)) if mesh is None else mesh.vertex.positions.numpy().astype(np.float64)
    if mesh is None or not len(vertices):
        raise InputError(
            f"no surface was seen {config.min_weight:g} times within {config.max_depth_m} m; record longer"
        )
    triangles = mesh.triangle.indices.numpy().astype(np.int64)
    colors = np.clip(mesh.vertex.colors.numpy().astype(np.float64), 0, 1)
    # Where two voxels hold the same distance the extraction divides by zero: such vertices are no surface.
    sound = np.isfinite(vertices).all(axis=1) & np.isfinite(colors).all(axis=1)
    triangles = triangles[sound[triangles].all(axis=1)]
    vertices, colors = np.where(sound[:, None], vertices, 0.0), np.where(sound[:, None], colors, 0.0)
    free, seen = sightings(vertices, frames, config.vote_margin_m)
    gone = free > config.moving_share * np.maximum(seen, 1)
    triangles = triangles[~gone[triangles].any(axis=1)]
    return _prune(vertices, triangles, colors, config.min_component_m2)


def without_remains(scene: StaticScene, views: Sequence[View], body: np.ndarray, config: SceneConfig) -> StaticScene:
    """Return the scene without what the person left in it: shoes on the floor, too low for the votes on what moves.

    Only mesh that the body came near is judged, and with a margin as small as the depth's noise allows.

    Args:
        scene: The scene.
        views: The views.
        body: Points on the fitted body at all times (N, 3), world, m.
        config: Settings.
    """
    near = np.flatnonzero(cKDTree(body).query(scene.vertices, distance_upper_bound=0.08)[0] < 0.08)
    free, seen = sightings(scene.vertices[near], _frames(views, config)[::2], config.remains_margin_m, 0.002)
    gone = np.zeros(len(scene.vertices), dtype=bool)
    gone[near[free > 0.5 * config.moving_share * np.maximum(seen, 1)]] = True
    triangles = scene.triangles[~gone[scene.triangles].any(axis=1)]
    return _prune(scene.vertices, triangles, scene.colors, config.min_component_m2)


def seen_free(points: np.ndarray, views: Sequence[View], config: SceneConfig) -> np.ndarray:
    """Return for points (N, 3), world, m, whether their place was seen to be free at other times (N,), bool."""
    cell = _cells(points, 2 * config.vote_cell_m)
    _, inverse, counts = np.unique(cell, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(inverse, points[:, axis]) for axis in range(3)], axis=1) / counts[:, None]
    return _moves(*sightings(means, _frames(views, config)[::2], config.vote_margin_m), config)[inverse]


def _moves(free: np.ndarray, seen: np.ndarray, config: SceneConfig) -> np.ndarray:
    return (free > config.moving_share * np.maximum(seen, 1)) & (free >= 3)


def _frames(views: Sequence[View], config: SceneConfig) -> list[_Frame]:
    frames = []
    for view in views:
        for index, color in enumerate(view.color):
            if color is None:
                continue
            depth = view.depth_mm[index].astype(np.float32) / 1000
            depth[depth > config.max_depth_m] = 0
            if color.shape[:2] != depth.shape:
                raise InputError(
                    f"camera {view.name}: colour is {color.shape[1]}x{color.shape[0]}, depth {depth.shape[1]}x"
                    f"{depth.shape[0]}; register the depth to the colour image"
                )
            frames.append(_Frame(depth, color, view.K, view.T_world_camera[index]))
    if not frames:
        raise InputError("the recording has no colour images; the scene needs colour and depth")
    return frames


def _cells(points: np.ndarray, size: float) -> np.ndarray:
    """Return one integer per point that names its cell, for scenes within 10 km."""
    index = np.floor(points / size).astype(np.int64) + (1 << 20)
    return (index[:, 0] << 42) | (index[:, 1] << 21) | index[:, 2]


def _moving_cells(frames: Sequence[_Frame], config: SceneConfig) -> np.ndarray:
    """Return the sorted names of cells whose surface was free at other times."""
    names, sums = np.zeros(0, dtype=np.int64), np.zeros((0, 4))
    parts = []
    for frame in frames[::2]:
        points = se3_apply(frame.T_world_camera, unproject(frame.depth, frame.K, 4)[0])
        parts.append(points)
    points = np.concatenate(parts)
    cell = _cells(points, config.vote_cell_m)
    names, inverse, counts = np.unique(cell, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(inverse, points[:, axis]) for axis in range(3)], axis=1)
    means = sums / counts[:, None]
    free, seen = sightings(means, frames[::2], config.vote_margin_m)
    return names[_moves(free, seen, config)]


def sightings(
    points: np.ndarray, frames: Sequence[_Frame], margin_m: float, growth: float = 0.008
) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each point (N, 3) was seen to be free, and how often free or a surface (N,).

    A point is free in a frame where every reading within two pixels lies behind it; so edges, noise in the poses and
    holes in the depth do not vote.
    """
    free, seen = np.zeros(len(points)), np.zeros(len(points))
    for frame in track(frames, "what moves", console=Console(stderr=True)):
        depth = np.where(frame.depth > 0, frame.depth, np.inf)
        nearest = minimum_filter(depth, size=5, mode="nearest")
        local = se3_apply(se3_inverse(frame.T_world_camera), points)
        z = local[:, 2]
        front = z > 0.2
        safe = np.where(front, z, 1.0)
        column = np.round(frame.K[0, 0] * local[:, 0] / safe + frame.K[0, 2])
        row = np.round(frame.K[1, 1] * local[:, 1] / safe + frame.K[1, 2])
        height, width = depth.shape
        inside = front & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        index = np.flatnonzero(inside)
        read = nearest[row[index].astype(np.int64), column[index].astype(np.int64)]
        margin = depth_margin(z[index], margin_m, growth)
        behind = np.isfinite(read) & (read > z[index] + margin)
        surface = np.abs(read - z[index]) <= margin
        free[index] += behind
        seen[index] += behind | surface
    return free, seen


def _fuse(frames: Sequence[_Frame], moving: np.ndarray, config: SceneConfig) -> o3d.t.geometry.TriangleMesh | None:
    """Return the mesh, or None where no frame has depth left."""
    grid = o3d.t.geometry.VoxelBlockGrid(
        attr_names=("tsdf", "weight", "color"),
        attr_dtypes=(o3d.core.float32, o3d.core.float32, o3d.core.float32),
        attr_channels=((1), (1), (3)),
        voxel_size=config.voxel_m,
        block_resolution=16,
        block_count=20_000,
    )
    for frame in track(frames, "fusing", console=Console(stderr=True)):
        depth_m = frame.depth.copy()
        if len(moving):
            points, pixels = unproject(depth_m, frame.K)
            cell = _cells(se3_apply(frame.T_world_camera, points), config.vote_cell_m)
            place = np.minimum(np.searchsorted(moving, cell), len(moving) - 1)
            hit = pixels[moving[place] == cell]
            depth_m[hit[:, 0], hit[:, 1]] = 0
        if not depth_m.any():
            continue
        depth = o3d.t.geometry.Image(o3d.core.Tensor(depth_m))
        color = o3d.t.geometry.Image(o3d.core.Tensor(frame.color.astype(np.float32) / 255))
        K = o3d.core.Tensor(frame.K.astype(np.float64))
        # The integration cuts a pixel's fraction off: half a pixel more makes that the nearest pixel.
        K_cut = o3d.core.Tensor(frame.K + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]))
        extrinsic = o3d.core.Tensor(se3_inverse(frame.T_world_camera))
        blocks = grid.compute_unique_block_coordinates(depth, K, extrinsic, 1.0, config.max_depth_m, 4.0)
        grid.integrate(blocks, depth, color, K_cut, K_cut, extrinsic, 1.0, config.max_depth_m, 4.0)
    if not grid.hashmap().size():
        return None
    return grid.extract_triangle_mesh(weight_threshold=config.min_weight)


def _prune(vertices: np.ndarray, triangles: np.ndarray, colors: np.ndarray, min_area: float) -> StaticScene:
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(triangles.astype(np.int32))
    )
    mesh.vertex_colors = o3d.utility.Vector3dVector(colors)
    cluster, _, area = mesh.cluster_connected_triangles()
    keep = np.asarray(area)[np.asarray(cluster)] >= min_area
    mesh.remove_triangles_by_mask(~keep)
    mesh.remove_unreferenced_vertices()
    if not len(mesh.triangles):
        raise InputError("no connected surface is large enough to be a scene; record more of the room")
    return StaticScene(
        np.asarray(mesh.vertices).copy(),
        np.asarray(mesh.triangles).astype(np.int64),
        np.asarray(mesh.vertex_colors).copy(),
    )
