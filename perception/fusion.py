"""Fusion: colour and depth of many frames into one truncated signed distance field, and its mesh.

Open3D's sparse voxel grid does the averaging. Its blocks are half as wide as its default, so that fewer voxels without
a surface are visited; images go in as they were recorded, without a copy in floating point; what moves is masked in a
thread of its own while the frame before is averaged.
"""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import open3d as o3d
from rich.console import Console
from rich.progress import track

from bodydouble.frames import se3_inverse
from perception.free_space import CellSet
from perception.scene_frames import Frame

BLOCK_VOXELS = 8
"""Voxels along a block's edge."""
TRUNCATION_VOXELS = 4.0
"""Truncation of the distance, in voxels."""
AHEAD = 2
"""Frames that are prepared before they are needed."""


def fuse(
    frames: Sequence[Frame], moving: CellSet, voxel_m: float, max_depth_m: float, min_weight: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return vertices (V, 3) in m, triangles (F, 3) and colours (V, 3), 0 to 1, of what stands still.

    All are empty where no surface was seen often enough.

    Args:
        frames: The frames.
        moving: Cells of space whose pixels are left out.
        voxel_m: Size of a voxel, m.
        max_depth_m: Farthest depth that is used, m.
        min_weight: Observations that a surface needs.
    """
    grid = o3d.t.geometry.VoxelBlockGrid(
        attr_names=("tsdf", "weight", "color"),
        attr_dtypes=(o3d.core.float32, o3d.core.float32, o3d.core.float32),
        attr_channels=((1), (1), (3)),
        voxel_size=voxel_m,
        block_resolution=BLOCK_VOXELS,
        block_count=40_000,
    )
    for frame in track(_prepared(frames, moving), "fusing", total=len(frames), console=Console(stderr=True)):
        # Open3D looks for surfaces in every fourth row and column, and stops where there is none.
        looked = frame.depth_mm[::4, ::4]
        if ((looked > 0) & (looked < 1000 * max_depth_m)).any():
            _integrate(grid, frame, max_depth_m)
    empty = np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64), np.zeros((0, 3))
    if not grid.hashmap().size():
        return empty
    mesh = grid.extract_triangle_mesh(weight_threshold=min_weight)
    if not len(mesh.vertex.positions):
        return empty
    return _sorted(
        *_sound(
            mesh.vertex.positions.numpy().astype(np.float64),
            mesh.triangle.indices.numpy().astype(np.int64),
            np.clip(mesh.vertex.colors.numpy().astype(np.float64), 0, 1),
        )
    )


def _integrate(grid: o3d.t.geometry.VoxelBlockGrid, frame: Frame, max_depth_m: float) -> None:
    depth = o3d.t.geometry.Image(o3d.core.Tensor(np.ascontiguousarray(frame.depth_mm)))
    color = o3d.t.geometry.Image(o3d.core.Tensor(np.ascontiguousarray(frame.color)))
    K = o3d.core.Tensor(frame.K.astype(np.float64))
    # The integration cuts a pixel's fraction off: half a pixel more makes that the nearest pixel.
    K_cut = o3d.core.Tensor(frame.K + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]))
    extrinsic = o3d.core.Tensor(se3_inverse(frame.T_world_camera))
    reach = 1000.0, max_depth_m, TRUNCATION_VOXELS
    blocks = grid.compute_unique_block_coordinates(depth, K, extrinsic, *reach)
    grid.integrate(blocks, depth, color, K_cut, K_cut, extrinsic, *reach)


def _prepared(frames: Sequence[Frame], moving: CellSet) -> Iterator[Frame]:
    """Yield the frames without what moves, each made while those before are used."""
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[Frame]] = deque()
        for index in range(len(frames) + AHEAD):
            if index < len(frames):
                waiting.append(pool.submit(lambda index: without_moving(frames[index], moving), index))
            if index >= AHEAD:
                yield waiting.popleft().result()


def without_moving(frame: Frame, moving: CellSet) -> Frame:
    """Return the frame without the depth readings that lie in the cells."""
    if not len(moving):
        return frame
    height, width = frame.depth_mm.shape
    R, t = frame.T_world_camera[:3, :3], frame.T_world_camera[:3, 3]
    M = R @ np.linalg.inv(frame.K)
    columns, rows = np.arange(width), np.arange(height)[:, None]
    depth = frame.depth_mm.astype(np.float32) / 1000
    x, y, z = (
        (depth * (m[0] * columns + (m[1] * rows + m[2])).astype(np.float32) + np.float32(shift)).ravel()
        for m, shift in zip(M, t, strict=True)
    )
    kept = frame.depth_mm.copy()
    kept.reshape(-1)[moving.hits(x, y, z)] = 0
    return Frame(kept, frame.color, frame.K, frame.T_world_camera)


def _sound(
    vertices: np.ndarray, triangles: np.ndarray, colors: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leave out vertices that are no numbers: where two voxels hold the same distance, the extraction divides by 0."""
    sound = np.asarray(np.isfinite(vertices).all(axis=1) & np.isfinite(colors).all(axis=1))
    if sound.all():
        return vertices, triangles, colors
    triangles = triangles[sound[triangles].all(axis=1)]
    return np.where(sound[:, None], vertices, 0.0), triangles, np.where(sound[:, None], colors, 0.0)


def _sorted(
    vertices: np.ndarray, triangles: np.ndarray, colors: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return vertices and triangles in an order that depends on nothing but them: Open3D's threads leave any order."""
    order = np.lexsort(vertices.T)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    triangles = place[triangles]
    # Each begins at its smallest vertex.
    turn = (triangles.argmin(axis=1)[:, None] + np.arange(3)) % 3
    triangles = np.take_along_axis(triangles, turn, axis=1)
    return vertices[order], triangles[np.lexsort(triangles.T[::-1])], colors[order]
