"""Samples of a mesh's surface: points with the direction they look into and the area they stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix

from sim.stage.scene_mesh import SceneMesh

_SMOOTHED_M = 0.03
_MOST_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Surface:
    """Samples of a surface. N samples."""

    points: np.ndarray
    """Points (N, 3), m."""
    normals: np.ndarray
    """Outward unit normals (N, 3)."""
    area: np.ndarray
    """Area of each sample (N,), m^2."""

    def where(self, keep: np.ndarray) -> Surface:
        """Return some of the samples, by a mask (N,) or by their places."""
        return Surface(self.points[keep], self.normals[keep], self.area[keep])

    def joined(self, other: Surface) -> Surface:
        """Return these samples and others."""
        return Surface(
            np.concatenate([self.points, other.points]),
            np.concatenate([self.normals, other.normals]),
            np.concatenate([self.area, other.area]),
        )

    def turned(self, rotation: np.ndarray) -> Surface:
        """Return the samples turned by a rotation (3, 3)."""
        return Surface(self.points @ rotation.T, self.normals @ rotation.T, self.area)


def smooth_normals(mesh: SceneMesh) -> tuple[np.ndarray, np.ndarray]:
    """Return unit normals (F, 3), averaged over about 3 cm, and areas (F,) in m^2: noise tilts small triangles."""
    normals, areas = mesh.normals_and_areas()
    if len(areas) == 0:
        return normals, areas
    rounds = min(_MOST_ROUNDS, int(_SMOOTHED_M / max(float(np.median(np.sqrt(areas))), 1e-6)))
    corner, owner = mesh.faces.T.ravel(), np.tile(np.arange(len(mesh.faces)), 3)
    shape = (len(mesh.vertices), len(mesh.faces))
    gather = coo_matrix((np.tile(areas, 3), (corner, owner)), shape=shape).tocsr()
    spread = coo_matrix((np.ones(len(owner)), (owner, corner)), shape=shape[::-1]).tocsr()
    for _ in range(rounds):
        normals = spread @ (gather @ normals)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return normals, areas


def sample_surface(mesh: SceneMesh, spacing: float) -> Surface:
    """Return samples of all triangles, no further apart than about the spacing.

    Args:
        mesh: The mesh; its triangles face outwards.
        spacing: Largest distance between neighbours, m.
    """
    normals, areas = smooth_normals(mesh)
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    longest = np.max([np.linalg.norm(edge, axis=1) for edge in (b - a, c - b, a - c)], axis=0)
    steps = np.clip(np.ceil(longest / spacing).astype(int), 1, 400)
    points, owner, weight = [np.zeros((0, 3))], [np.zeros(0, np.int64)], [np.zeros(0)]
    for count in np.unique(steps):
        chosen = np.flatnonzero(steps == count)
        i, j = np.meshgrid(np.arange(count + 1), np.arange(count + 1), indexing="ij")
        keep = i + j <= count
        u, v = i[keep] / count, j[keep] / count
        p, q, r = a[chosen, None], b[chosen, None], c[chosen, None]
        points.append((p + u[:, None] * (q - p) + v[:, None] * (r - p)).reshape(-1, 3))
        owner.append(np.repeat(chosen, len(u)))
        weight.append(np.repeat(areas[chosen] / len(u), len(u)))
    index = np.concatenate(owner)
    return Surface(np.concatenate(points), normals[index], np.concatenate(weight))
