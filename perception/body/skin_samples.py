"""Which vertices of a body's mesh are skin, and an even sample of them."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from bodydouble.errors import InputError


def largest_part(faces: np.ndarray, vertices: int) -> np.ndarray:
    """Return indices of the vertices of a mesh's largest connected part: the skin, without eyes, teeth and tongue.

    Args:
        faces: Triangles or quadrilaterals (F, 3 or 4).
        vertices: Number of vertices.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(vertices,) * 2)
    _, label = connected_components(graph, directed=False)
    return np.flatnonzero(label == np.bincount(label).argmax())


def sample_by_area(vertices: np.ndarray, faces: np.ndarray, outer: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return sorted indices (count,) of some of the outer vertices, drawn by the area around them, without repeats.

    Args:
        vertices: Vertices (V, 3), m.
        faces: Triangles or quadrilaterals (F, 3 or 4).
        outer: Indices to draw from (N,).
        count: How many.
        seed: Seed of the draw.

    Raises:
        InputError: There are fewer outer vertices than asked for.
    """
    if not 0 < count <= len(outer):
        raise InputError(f"cannot sample {count} of the body's {len(outer)} outer vertices")
    corner = vertices[faces]
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    share = np.zeros(len(vertices))
    np.add.at(share, faces, area[:, None])
    share = share[outer] / share[outer].sum()
    return np.sort(np.random.default_rng(seed).choice(outer, count, replace=False, p=share))
