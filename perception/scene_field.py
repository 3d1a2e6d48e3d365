"""Distances to the static scene on a regular grid: sampled once from the mesh, then read by interpolation."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import open3d as o3d
import torch

from bodydouble.errors import InputError
from perception.static_scene import StaticScene

DEEPEST_M = 0.12
"""Depth behind a surface up to which a place counts as inside, m: the mesh is open, farther back nothing is known."""
BELOW_SHARE = 0.7
"""Least cosine between the way from the surface and its inner normal for a place to count as inside."""
FLAT_M = 0.03
"""Height up to which mesh counts as the floor, m."""
COARSE = 4
"""Every so many nodes each way the distance is measured first."""
NEAR_M = 0.2
"""Distance to the scene within which it is measured at every node, m; farther off it is interpolated."""
MAX_CELLS = 4_000_000
"""Cells of a field at most, 16 MB."""


@dataclass(frozen=True)
class SceneField:
    """Signed distances to the scene and the floor, negative inside."""

    low: torch.Tensor
    """First node of the grid (3,), world, m."""
    cell_m: float
    """Distance between nodes, m."""
    values: torch.Tensor
    """Distances at the nodes (X, Y, Z), m."""

    def read(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return distances (...) at points (..., 3), world, m, and gradients (..., 3), by trilinear interpolation.

        Points outside the grid take the value at its border.
        """
        size = torch.tensor(self.values.shape)
        place = ((points - self.low) / self.cell_m).clamp_min(0)
        place = torch.minimum(place, (size - 1.001).to(points.dtype))
        first = place.floor().long()
        share = place - first
        flat = self.values.flatten().to(points.dtype)
        stride = torch.tensor([int(size[1] * size[2]), int(size[2]), 1])
        base = (first * stride).sum(-1)

        def corner(dx: int, dy: int, dz: int) -> torch.Tensor:
            return flat[base + int(stride[0]) * dx + int(stride[1]) * dy + dz]

        x, y, z = share.unbind(-1)
        c = [[[corner(i, j, k) for k in (0, 1)] for j in (0, 1)] for i in (0, 1)]
        along_z = [[c[i][j][0] * (1 - z) + c[i][j][1] * z for j in (0, 1)] for i in (0, 1)]
        along_y = [along_z[i][0] * (1 - y) + along_z[i][1] * y for i in (0, 1)]
        value = along_y[0] * (1 - x) + along_y[1] * x
        slope_z = [[c[i][j][1] - c[i][j][0] for j in (0, 1)] for i in (0, 1)]
        slope_y = [along_z[i][1] - along_z[i][0] for i in (0, 1)]
        gradient = torch.stack(
            [
                along_y[1] - along_y[0],
                slope_y[0] * (1 - x) + slope_y[1] * x,
                (slope_z[0][0] * (1 - y) + slope_z[0][1] * y) * (1 - x)
                + (slope_z[1][0] * (1 - y) + slope_z[1][1] * y) * x,
            ],
            dim=-1,
        )
        return value, gradient / self.cell_m


def flat_field(floor_z: float) -> SceneField:
    """Return the field of a floor alone, at a height, m; exact within half a kilometre."""
    values = torch.tensor([-500.0, 500.0]).expand(2, 2, 2).contiguous()
    return SceneField(torch.tensor([-500.0, -500.0, floor_z - 500.0]), 1000.0, values)


def scene_field(scene: StaticScene, floor_z: float, low: np.ndarray, high: np.ndarray, cell_m: float) -> SceneField:
    """Return the field of a box of space.

    A place is inside where its nearest surface is seen from behind, no deeper than DEEPEST_M; elsewhere outside. Under
    the floor is inside whatever the mesh shows there, so that a hole in the floor does not let a foot through; mesh
    within FLAT_M of the floor is the floor itself, with its noise and what shoes left on it.

    Args:
        scene: The static scene; its triangles turn counter-clockwise seen from free space.
        floor_z: Height of the floor, world, m.
        low: Lower corner (3,), world, m.
        high: Upper corner (3,), world, m.
        cell_m: Distance between nodes, m.

    Raises:
        InputError: The box is empty or needs more than MAX_CELLS cells.
    """
    if not (np.all(np.isfinite([low, high])) and np.all(high > low) and cell_m > 0):
        raise InputError(f"the scene's field from {low} to {high} with cells of {cell_m} m is empty")
    size = np.ceil((high - low) / cell_m).astype(np.int64) + 2
    if np.prod(size) > MAX_CELLS:
        raise InputError(f"the scene's field would have {np.prod(size)} cells, at most {MAX_CELLS}; take larger cells")
    distance = np.broadcast_to(low[2] + cell_m * np.arange(size[2]) - floor_z, size)
    flat = np.abs(scene.vertices[:, 2] - floor_z) < FLAT_M
    raised = dataclasses.replace(scene, triangles=scene.triangles[~flat[scene.triangles].all(axis=1)])
    if len(raised.triangles):
        distance = np.minimum(_distances(raised.raycaster(), low, cell_m, size), distance)
    values = torch.tensor(distance, dtype=torch.float32)
    return SceneField(torch.as_tensor(low, dtype=torch.float32), cell_m, values)


def _distances(caster: o3d.t.geometry.RaycastingScene, low: np.ndarray, cell_m: float, size: np.ndarray) -> np.ndarray:
    """Return signed distances (X, Y, Z), m, to a mesh at the nodes of a grid that begins at `low`."""
    few = -(-(size - 1) // COARSE) + 1
    coarse = low + COARSE * cell_m * np.stack(np.indices(few), axis=-1)
    distance = _measured(caster, coarse.reshape(-1, 3)).reshape(few)
    for axis in range(3):
        distance = _between(distance, axis, int(size[axis]))
    # Between the first nodes the distance to a mesh changes by no more than the way there.
    near = np.flatnonzero(distance.ravel() < NEAR_M + 0.5 * COARSE * cell_m * np.sqrt(3))
    nodes = low + cell_m * np.stack(np.unravel_index(near, size), axis=1)
    distance.ravel()[near] = _measured(caster, nodes)
    return distance


def _between(values: np.ndarray, axis: int, count: int) -> np.ndarray:
    """Return values at COARSE times as many places along an axis, the first `count` of them, interpolated."""
    place, share = np.divmod(np.arange(count), COARSE)
    share = (share / COARSE).reshape([-1 if k == axis else 1 for k in range(3)])
    after = np.minimum(place + 1, values.shape[axis] - 1)
    return values.take(place, axis) * (1 - share) + values.take(after, axis) * share


def _measured(caster: o3d.t.geometry.RaycastingScene, places: np.ndarray) -> np.ndarray:
    """Return the signed distances (N,), m, of places (N, 3), world, m, to a mesh."""
    answer = caster.compute_closest_points(o3d.core.Tensor(places.astype(np.float32)))
    way = places - answer["points"].numpy()
    far = np.linalg.norm(way, axis=1)
    normal = answer["primitive_normals"].numpy()
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    behind = -(way * normal).sum(axis=1) > BELOW_SHARE * far
    return np.where(behind & (far < DEEPEST_M), -far, far)


def field_around(scene: StaticScene, floor_z: float, points: np.ndarray, cell_m: float) -> SceneField:
    """Return the field of the space around a person's points (N, 3), world, m, in cells that are as small as they may.

    Args:
        scene: The static scene.
        floor_z: Height of the floor, world, m.
        points: The person's points at all times; an arm's length is added.
        cell_m: Distance between nodes, m; larger where the person gets around far.
    """
    low, high = points.min(axis=0) - 0.5, points.max(axis=0) + 0.5
    low[2] = min(low[2], floor_z - 0.3)
    # Two more nodes per axis than the box has cells.
    fits = (np.prod(high - low + 2 * cell_m) / MAX_CELLS) ** (1 / 3)
    return scene_field(scene, floor_z, low, high, max(cell_m, 1.05 * float(fits)))
