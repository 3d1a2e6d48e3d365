"""The reconstructed scene as a triangle mesh: reading, thinning out, and pieces of one colour each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from scipy.cluster.vq import kmeans2

from bodydouble.errors import InputError

MAX_SCENE_BYTES = 1 << 30
"""Largest scene file that is read."""


MAX_FACES = 150_000
"""Triangles of a piece at most; MuJoCo reads 200,000 from a file."""


@dataclass(frozen=True, eq=False)
class SceneMesh:
    """A triangle mesh with colours."""

    vertices: np.ndarray
    """Vertices (V, 3), m."""
    faces: np.ndarray
    """Vertex indices of the triangles (F, 3)."""
    colors: np.ndarray
    """Colours of the vertices (V, 3), 0 to 1; grey where the file has none."""

    def normals_and_areas(self) -> tuple[np.ndarray, np.ndarray]:
        """Return unit normals (F, 3) and areas (F,) in m^2 of the triangles."""
        a, b, c = (self.vertices[self.faces[:, i]] for i in range(3))
        cross = np.cross(b - a, c - a)
        double = np.linalg.norm(cross, axis=1)
        return cross / np.maximum(double, 1e-12)[:, None], 0.5 * double

    def centres(self) -> np.ndarray:
        """Return the triangles' centres (F, 3), m."""
        return self.vertices[self.faces].mean(axis=1)

    def transformed(self, transform: np.ndarray) -> SceneMesh:
        """Return the mesh moved by a 4x4 transform."""
        return SceneMesh(self.vertices @ transform[:3, :3].T + transform[:3, 3], self.faces, self.colors)

    def facing_up(self, faces_up: bool) -> SceneMesh:
        """Return the mesh as it is, or with every triangle turned over where its floor faces down."""
        return self if faces_up else SceneMesh(self.vertices, self.faces[:, ::-1].copy(), self.colors)


def load_scene(path: Path) -> SceneMesh:
    """Read a triangle mesh file (ply, obj, stl).

    Raises:
        InputError: The file is missing, too large, unreadable, or holds no triangles.
    """
    try:
        size = path.stat().st_size
        if size > MAX_SCENE_BYTES:
            raise InputError(f"{path}: {size} bytes, the limit is {MAX_SCENE_BYTES}")
        mesh = trimesh.load(path, process=False, force="mesh")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); run `bodydouble reconstruct` first") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError) as error:
        raise InputError(f"{path}: is no mesh file ({error}); reconstruct the scene again") from None
    if not isinstance(mesh, trimesh.Trimesh) or len(mesh.faces) == 0:
        raise InputError(f"{path}: holds no triangles; reconstruct the scene again")
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    if not np.isfinite(vertices).all():
        raise InputError(f"{path}: holds NaN or infinite vertices; reconstruct the scene again")
    colors = np.full((len(vertices), 3), 0.7)
    visual: Any = mesh.visual
    if visual is not None and visual.kind == "vertex":
        colors = np.asarray(visual.vertex_colors)[:, :3] / 255.0
    return SceneMesh(vertices, np.asarray(mesh.faces, dtype=np.int64), colors)


def thin_out(mesh: SceneMesh, cell_m: float) -> SceneMesh:
    """Return the mesh with all vertices of a grid cell merged into their mean, and collapsed triangles gone."""
    _, index, count = np.unique(
        np.floor(mesh.vertices / cell_m).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    index = index.reshape(-1)

    def mean(values: np.ndarray) -> np.ndarray:
        out = np.stack([np.bincount(index, weights=values[:, i], minlength=len(count)) for i in range(3)], axis=1)
        return out / count[:, None]

    faces = index[mesh.faces]
    distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    faces = np.unique(faces[distinct], axis=0)
    return SceneMesh(mean(mesh.vertices), faces, mean(mesh.colors))


def split_by_color(mesh: SceneMesh, count: int, seed: int = 0) -> list[tuple[np.ndarray, trimesh.Trimesh]]:
    """Return (colour (3,), mesh) pieces of at most `count` colours: MuJoCo paints a mesh in one colour only."""
    color = mesh.colors[mesh.faces].mean(axis=1)
    distinct = len(np.unique(np.round(color, 2), axis=0))
    centres, labels = kmeans2(color, min(count, distinct), minit="++", rng=np.random.default_rng(seed))
    pieces = []
    for label, centre in enumerate(centres):
        own = mesh.faces[labels == label]
        for faces in np.array_split(own, 1 + len(own) // MAX_FACES):
            if len(faces) < 4:
                continue
            used, compact = np.unique(faces, return_inverse=True)
            piece = trimesh.Trimesh(mesh.vertices[used], compact.reshape(-1, 3), process=False)
            pieces.append((np.clip(centre, 0.0, 1.0), piece))
    return pieces
