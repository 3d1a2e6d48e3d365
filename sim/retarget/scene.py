"""The convex solids that a motion was recorded with: how high a surface is, how far it is, and as geoms of a model."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.spatial import ConvexHull, QhullError

from bodydouble.errors import InputError
from bodydouble.frames import quat_from_matrix

SOLID_PREFIX = "furniture"
"""Names of the solids' geoms begin with this, as those of a stage's furniture do."""
_VERTICAL = 1e-6


@dataclass(frozen=True, eq=False)
class Scene:
    """Convex solids over a floor at height zero."""

    solids: tuple[np.ndarray, ...] = ()
    """Corners (V, 3) of each solid, world, m."""

    def __post_init__(self) -> None:
        try:
            planes = tuple(ConvexHull(solid).equations for solid in self.solids)
        except (QhullError, ValueError) as error:
            raise InputError(f"scene: a solid is flat or has too few corners ({str(error).splitlines()[0]})") from None
        object.__setattr__(self, "_planes", planes)

    def scaled(self, anchor: np.ndarray, horizontal: float, vertical: float) -> Scene:
        """Return the scene scaled about a point of the floor (2,), m."""
        centre, factor = np.array([*anchor, 0.0]), np.array([horizontal, horizontal, vertical])
        return Scene(tuple(centre + factor * (solid - centre) for solid in self.solids))

    def height(self, points: np.ndarray) -> np.ndarray:
        """Return the height in m of the highest surface at points (N, 2 or 3); the floor is at zero."""
        out = np.zeros(len(points))
        for planes in self._planes:  # type: ignore[attr-defined]
            normal, rest = planes[:, 2], points[:, :2] @ planes[:, :2].T + planes[:, 3]
            up, down, side = normal > _VERTICAL, normal < -_VERTICAL, np.abs(normal) <= _VERTICAL
            top = np.min(-rest[:, up] / normal[up], axis=1)
            bottom = np.max(-rest[:, down] / normal[down], axis=1)
            inside = (top >= bottom) & np.all(rest[:, side] <= 0, axis=1)
            out = np.where(inside, np.maximum(out, top), out)
        return out

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Return how far points (N, 3) are from the nearest solid, m: exact before a face, less beside an edge."""
        out = np.full(len(points), np.inf)
        for planes in self._planes:  # type: ignore[attr-defined]
            out = np.minimum(out, np.max(points @ planes[:, :3].T + planes[:, 3], axis=1))
        return out

    def outside(self, points: np.ndarray, clearance: float) -> np.ndarray:
        """Return points (N, 3) moved straight out of the solids until they are this far from them, m."""
        out = points.copy()
        for planes in self._planes:  # type: ignore[attr-defined]
            signed = out @ planes[:, :3].T + planes[:, 3]
            face = np.argmax(signed, axis=1)
            missing = np.maximum(clearance - signed[np.arange(len(out)), face], 0.0)
            out += missing[:, None] * planes[face, :3]
        return out


def add_solids(spec: mujoco.MjSpec, scene: Scene) -> None:
    """Add a scene's solids as static geoms that collide: boxes where they are boxes, else convex meshes."""
    look = {"condim": 3, "group": 3, "rgba": [0.45, 0.55, 0.75, 0.6]}
    for i, solid in enumerate(scene.solids):
        name = f"{SOLID_PREFIX}_{i:03d}"
        box = as_box(solid)
        if box is not None:
            centre, half, quat = box
            spec.worldbody.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_BOX, pos=centre, size=half, quat=quat, **look)
            continue
        spec.add_mesh(name=name, uservert=solid.ravel(), inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX)
        spec.worldbody.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, **look)


def as_box(corners: np.ndarray, tolerance: float = 1e-3) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return centre (3,), half sizes (3,) and orientation (4,) of a box with these corners (V, 3); None if it is none.

    Args:
        corners: The solid's corners, m.
        tolerance: How far a corner may be off, m.
    """
    if len(corners) != 8:
        return None
    first, others = corners[0], corners[1:] - corners[0]
    for edges in itertools.combinations(others, 3):
        matrix = np.stack(edges)
        gram = matrix @ matrix.T
        if np.abs(gram - np.diag(np.diag(gram))).max() > tolerance * np.sqrt(np.diag(gram)).max():
            continue
        ideal = first + np.array(list(itertools.product((0, 1), repeat=3))) @ matrix
        if np.linalg.norm(ideal[:, None] - corners[None], axis=-1).min(axis=0).max() > tolerance:
            continue
        lengths = np.sqrt(np.diag(gram))
        axes = (matrix / lengths[:, None]).T
        axes[:, 2] *= np.sign(np.linalg.det(axes))
        return ideal.mean(axis=0), 0.5 * lengths, quat_from_matrix(axes)
    return None
