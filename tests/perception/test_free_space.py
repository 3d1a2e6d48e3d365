"""Votes by hand, cells, and the set of cells."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import minimum_filter

from bodydouble.frames import make_se3
from perception.free_space import NO_READING, CellSet, _nearest, cell_means, cell_names, sightings, surface_cells
from perception.scene_frames import Frame

K = np.array([[50.0, 0, 10], [0, 50.0, 10], [0, 0, 1]])


def flat(depth: float | np.ndarray, pose: np.ndarray | None = None) -> Frame:
    """A frame of 21 x 21 pixels at one depth in m, 21 degrees wide, its camera at the origin looking along z."""
    image = np.round(1000 * np.broadcast_to(depth, (21, 21))).astype(np.uint16)
    return Frame(image, np.zeros((21, 21, 3), np.uint8), K, np.eye(4) if pose is None else pose)


def test_sightings_by_hand():
    """A wall at 2 m: before it free, on it a surface, behind it unseen; neither behind the camera nor out of view."""
    points = np.array([[0, 0, 1.0], [0, 0, 2.0], [0, 0, 2.05], [0, 0, 3.0], [0, 0, -1.0], [0, 0, 0.1], [1.5, 0, 1.0]])
    free, seen = sightings(points, [flat(2.0)], 0.06, 5.0)
    assert free.tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert seen.tolist() == [1, 1, 1, 0, 0, 0, 0]


def test_sightings_add_up_over_frames():
    """A point at 1 m, where a wall is in one frame of three: twice free, three times seen."""
    free, seen = sightings(np.array([[0, 0, 1.0]]), [flat(2.0), flat(1.0), flat(3.0)], 0.06, 5.0)
    assert (free[0], seen[0]) == (2, 3)


def test_the_margin_of_a_sighting_grows_with_depth():
    """6 cm and 0.8 cm times the square of the depth: 6.8 cm at 1 m, 18.8 cm at 4 m."""
    for depth, margin in ((1.0, 0.068), (4.0, 0.188)):
        for gap, free in ((margin - 0.01, 0), (margin + 0.01, 1)):
            assert sightings(np.array([[0, 0, depth]]), [flat(depth + gap)], 0.06, 5.0)[0][0] == free


def test_edges_and_holes_do_not_vote():
    """A near pixel within two pixels forbids a vote; a hole in the depth neither forbids nor gives one."""
    point = np.array([[0, 0, 1.0]])
    for offset, free in ((2, 0), (3, 1)):
        edge = np.full((21, 21), 3.0)
        edge[10, 10 + offset] = 1.5 if offset == 3 else 0.5
        assert sightings(point, [flat(edge)], 0.06, 5.0)[0][0] == free, offset
    assert sightings(point, [flat(0.0)], 0.06, 5.0)[1][0] == 0
    hole = np.full((21, 21), 3.0)
    hole[10, 10] = 0.0
    assert sightings(point, [flat(hole)], 0.06, 5.0)[0][0] == 1


def test_sightings_follow_the_camera():
    """Seen from 1 m to the side with a quarter turn: x of the world is the camera's depth."""
    turned = make_se3(np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]]), np.array([-1.0, 0, 0]))
    free, seen = sightings(np.array([[0.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0]]), [flat(2.0, turned)], 0.06, 5.0)
    assert free.tolist() == [1, 0, 0] and seen.tolist() == [1, 1, 0]


@given(
    st.lists(st.tuples(*[st.integers(-1_000_000, 1_000_000)] * 3), min_size=1, max_size=30, unique=True),
    st.sampled_from([0.01, 0.04, 0.25]),
)
def test_every_cell_has_its_own_name(cells, size):
    """On both sides of zero, and the whole cell has one name."""
    corner = np.array(cells, dtype=np.float64) * size
    names = cell_names(corner + 0.25 * size, size)
    assert len(np.unique(names)) == len(cells)
    np.testing.assert_array_equal(names, cell_names(corner + 0.75 * size, size))


def test_the_nearest_reading_within_two_pixels():
    """As scipy's 5 x 5 minimum, without holes and without readings beyond the reach."""
    depth = np.random.default_rng(0).integers(0, 6000, (23, 31)).astype(np.uint16)
    depth[np.random.default_rng(1).random(depth.shape) < 0.9] = 0
    filled = np.where((depth == 0) | (depth > 5000), NO_READING, depth)
    np.testing.assert_array_equal(_nearest(depth, 5.0), minimum_filter(filled, size=5, mode="nearest"))
    assert (_nearest(depth, 5.0) == NO_READING).any()


def test_readings_beyond_the_reach_do_not_vote():
    free, seen = sightings(np.array([[0, 0, 1.0]]), [flat(4.0), flat(6.0)], 0.06, 5.0)
    assert (free[0], seen[0]) == (1, 1)


def test_blocks_out_of_view_change_nothing():
    """Points all around two cameras 90 degrees wide: the votes are those of every point projected in full."""
    points = np.random.default_rng(0).uniform(-3, 3, (4000, 3))
    wide = np.array([[10.0, 0, 10], [0, 10.0, 10], [0, 0, 1]])
    slant = np.round(1000 * np.linspace(1.0, 3.0, 21)[:, None] * np.ones(21)).astype(np.uint16)
    turned = make_se3(np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]]), np.array([-1.0, 0.3, 0]))
    frames = [dataclasses.replace(flat(1.0, pose), depth_mm=slant, K=wide) for pose in (np.eye(4), turned)]
    free, seen = sightings(points, frames, 0.06, 5.0)
    expected_free, expected_seen = np.zeros(len(points)), np.zeros(len(points))
    nearest = minimum_filter(slant, size=5, mode="nearest") / 1000
    for pose in (np.eye(4), turned):
        x, y, z = pose[:3, :3].T @ (points - pose[:3, 3]).T
        column, row = np.full(len(points), -1), np.full(len(points), -1)
        front = z > 0.2
        column[front] = np.rint(10 * x[front] / z[front] + 10)
        row[front] = np.rint(10 * y[front] / z[front] + 10)
        inside = (column >= 0) & (column < 21) & (row >= 0) & (row < 21)
        ahead = np.where(inside, nearest[np.clip(row, 0, 20), np.clip(column, 0, 20)] - z, -np.inf)
        expected_free += ahead > 0.06 + 0.008 * z**2
        expected_seen += ahead >= -0.06 - 0.008 * z**2
    assert 100 < free.sum() < seen.sum() < 2 * len(points)
    np.testing.assert_array_equal(free, expected_free)
    np.testing.assert_array_equal(seen, expected_seen)


def test_no_points_have_no_votes():
    free, seen = sightings(np.zeros((0, 3)), [flat(2.0)], 0.06, 5.0)
    assert free.shape == seen.shape == (0,)


@given(
    st.lists(st.tuples(*[st.integers(-500, 500)] * 3), min_size=1, max_size=40, unique=True),
    st.lists(st.tuples(*[st.integers(-500, 500)] * 3), min_size=1, max_size=40),
)
def test_a_set_of_cells_knows_its_points(members, others):
    """Points in the middle of cells of 4 cm: those of member cells are hits, all others are not."""
    size = 0.04
    names = np.sort(cell_names((np.array(members) + 0.5) * size, size))
    points = ((np.array(members + others) + 0.5) * size).astype(np.float32)
    hits = CellSet(names, size).hits(*points.T)
    expected = [index for index, cell in enumerate(members + others) if cell in set(members)]
    np.testing.assert_array_equal(hits, expected)


def test_the_mean_of_each_cell():
    """Two points in one cell, one in another, by hand."""
    means, owner = cell_means(np.array([[0.01, 0.01, 0.01], [0.5, 0.5, 0.5], [0.03, 0.01, 0.01]]), 0.04)
    np.testing.assert_allclose(means[owner], [[0.02, 0.01, 0.01], [0.5, 0.5, 0.5], [0.02, 0.01, 0.01]])
    assert len(means) == 2


def test_surface_cells_merge_over_frames():
    """Forty frames of one wall, seen from two places, have the cells and the means of all points at once."""
    aside = make_se3(np.eye(3), np.array([0.1, 0, 0]))
    frames = [flat(2.0), flat(2.0, aside)] * 20
    names, means = surface_cells(frames, 0.04, 5.0)
    grid = np.stack(np.meshgrid(np.arange(0, 21, 4), np.arange(0, 21, 4)), axis=-1).reshape(-1, 2)
    seen = np.column_stack([(grid - 10) * 2.0 / 50, np.full(len(grid), 2.0)])
    both = np.concatenate([seen, seen + np.array([0.1, 0, 0])])
    expected, inverse = np.unique(cell_names(both, 0.04), return_inverse=True)
    np.testing.assert_array_equal(names, expected)
    for cell in range(len(names)):
        np.testing.assert_allclose(means[cell], both[inverse == cell].mean(axis=0), atol=1e-9)
