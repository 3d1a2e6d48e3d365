"""The room: boxes by hand, and a middle that stays clear."""

import numpy as np
import pytest

from perception.synthetic.room import ROOM_HALF, WALL_HEIGHT, box, merge, room


def corners(mesh) -> np.ndarray:
    return mesh.vertices[mesh.triangles]


def test_a_box_by_hand():
    """12 triangles, wound so that the volume is that of the extents and the area that of the sides."""
    mesh = box((1, 2, 3), (0.5, 2, 4), (10, 20, 30))
    np.testing.assert_allclose(mesh.vertices.min(axis=0), (0.75, 1, 1))
    np.testing.assert_allclose(mesh.vertices.max(axis=0), (1.25, 3, 5))
    a, b, c = np.moveaxis(corners(mesh), 1, 0)
    assert np.einsum("fi,fi->", a, np.cross(b, c)) / 6 == pytest.approx(4.0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    assert area == pytest.approx(2 * (0.5 * 2 + 0.5 * 4 + 2 * 4))
    assert mesh.colours.tolist() == [[10, 20, 30]] * 12


def test_merging_keeps_triangles_and_colours():
    parts = [
        box((0, 0, 0), (1, 1, 1), (1, 1, 1)),
        box((5, 0, 0), (2, 2, 2), (2, 2, 2)),
        box((9, 0, 0), (1, 1, 1), (3, 3, 3)),
    ]
    mesh = merge(parts)
    np.testing.assert_array_equal(corners(mesh), np.concatenate([corners(part) for part in parts]))
    assert mesh.colours[:, 0].tolist() == [1] * 12 + [2] * 12 + [3] * 12
    assert mesh.triangles.dtype == np.int32


@pytest.mark.parametrize("seed", range(6))
def test_the_floor_is_at_zero_and_the_middle_clear(seed):
    mesh = room(np.random.default_rng(seed))
    half_x, half_y = ROOM_HALF
    inside = corners(mesh).reshape(-1, 12, 3, 3)[5:].reshape(-1, 3)
    assert inside[:, 2].min() >= 0 and inside[:, 2].max() < WALL_HEIGHT
    assert np.abs(inside[:, 0]).max() <= half_x and np.abs(inside[:, 1]).max() <= half_y
    for part in corners(mesh).reshape(-1, 36, 3)[5:]:
        low, high = part.min(axis=0), part.max(axis=0)
        overlaps = (low[:2] < (1.1, 0.8)) & (high[:2] > (-1.1, -0.8))
        assert not overlaps.all(), f"furniture from {low} to {high} stands in the middle"
    floor = corners(mesh).reshape(-1, 36, 3)[0]
    assert floor[:, 2].max() == pytest.approx(0.0)


def test_the_seed_decides_where_the_furniture_stands():
    one, same, other = (room(np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.vertices, same.vertices)
    assert not np.array_equal(one.vertices, other.vertices)
    np.testing.assert_array_equal(one.vertices[:40], other.vertices[:40])
    assert np.abs(one.vertices - other.vertices).max() <= 0.16 + 1e-12
