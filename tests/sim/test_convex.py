"""Convex pieces of occupied cells: they cover the cells, follow the distance, and are refused with bad settings."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial import Delaunay

from bodydouble.errors import InputError
from sim.stage.cells import cell_surface
from sim.stage.convex import ConvexConfig, convex_pieces, hull_volume
from sim.stage.furniture import Furniture, FurnitureConfig
from sim.stage.surface import Surface

CELL = 0.05


def block(low: tuple[int, int, int], size: tuple[int, int, int]) -> np.ndarray:
    return np.argwhere(np.ones(size, bool)) + low


TABLE = np.concatenate(
    [block((0, 0, 10), (16, 12, 2)), *(block((x, y, 0), (2, 2, 10)) for x in (0, 14) for y in (0, 10))]
)
"""A table top on four legs, 0.8 x 0.6 x 0.6 m."""


def pieces_of(cells: np.ndarray, path: np.ndarray, config: ConvexConfig) -> tuple[list[np.ndarray], float]:
    """The pieces, and their volume over that of the cells."""
    nothing = Surface(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))
    furniture = Furniture(nothing, np.zeros((0, 3), int), cells, 0.0)
    pieces, boxes, figures = convex_pieces(furniture, path, config, FurnitureConfig(cell_m=CELL))
    assert boxes == [] and figures["convex_pieces"] == len(pieces)
    return pieces, sum(hull_volume(piece) for piece in pieces) / (max(len(cells), 1) * CELL**3)


def test_surface_of_two_cells_is_closed_and_faces_outwards() -> None:
    vertices, faces = cell_surface(np.array([[3, -1, 0], [4, -1, 0]]))
    assert vertices.shape == (12, 3) and faces.shape == (20, 3)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert mesh.is_watertight and mesh.volume == pytest.approx(2.0)
    np.testing.assert_allclose(mesh.bounds, [[3, -1, 0], [5, 0, 1]])


def test_a_near_table_keeps_the_space_between_its_legs() -> None:
    """Its hull alone would be ten times its volume and full below the top."""
    pieces, volume = pieces_of(TABLE, np.zeros((1, 2)), ConvexConfig())
    assert len(pieces) >= 5 and volume < 1.5
    inside = np.any([Delaunay(piece).find_simplex([[0.4, 0.3, 0.25]]) >= 0 for piece in pieces])
    assert not inside
    centres = (TABLE + 0.5) * CELL
    covered = np.any([Delaunay(piece).find_simplex(centres) >= 0 for piece in pieces], axis=0)
    assert covered.mean() > 0.97


def test_detail_falls_with_distance() -> None:
    near, near_volume = pieces_of(TABLE, np.zeros((1, 2)), ConvexConfig())
    far, far_volume = pieces_of(TABLE, np.array([[5.0, 0.0]]), ConvexConfig(concavity_far=0.9))
    assert len(far) < len(near) and far_volume > near_volume


def test_nothing_gives_nothing() -> None:
    assert pieces_of(np.zeros((0, 3), int), np.zeros((1, 2)), ConvexConfig())[0] == []


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match=r"concavity_near 0\.5, concavity_far 0\.3"):
        ConvexConfig(concavity_near=0.5)
    with pytest.raises(InputError, match="near_m must be positive"):
        ConvexConfig(near_m=0.0)
