"""The renderer: depth by hand, who hides whom, and colours."""

import numpy as np
import pytest

from bodydouble.frames import make_se3
from perception.synthetic.cameras import intrinsics, look_at
from perception.synthetic.render import SHIRT, SHOES, SKIN, TROUSERS, Renderer
from perception.synthetic.room import box, room

SIZE = (64, 48)
K = intrinsics(*SIZE)
DOWN = make_se3(np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]), np.array([0.0, 0, 2.0]))
"""Over the origin, looking at the floor."""
FLOOR = box((0, 0, -0.05), (20, 20, 0.1), (100, 150, 200))
BODY = box((0, 0, 0), (0.4, 0.4, 0.4), (0, 0, 0))


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(FLOOR, BODY.triangles, BODY.vertices, K, SIZE)


def test_depth_is_along_the_axis_not_along_the_ray(renderer):
    _, depth = renderer.render(DOWN, None)
    assert depth.shape == (48, 64)
    np.testing.assert_allclose(depth, 2.0, atol=1e-5)


def test_pixels_see_what_the_camera_matrix_says(renderer):
    """A block of 0.2 m half width with its top at 1.2 m, so 0.8 m below the camera, beside the axis."""
    _, depth = renderer.render(DOWN, BODY.vertices + np.array([0.3, 0, 1.0]))
    u, v = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    x, y = 0.8 * (u - K[0, 2]) / K[0, 0], -0.8 * (v - K[1, 2]) / K[1, 1]
    top = (np.abs(x - 0.3) < 0.2) & (np.abs(y) < 0.2)
    assert top.sum() > 100
    np.testing.assert_allclose(depth[top], 0.8, atol=1e-5)
    assert (depth[~top] > 0.8001).all()


def test_the_nearer_one_is_seen(renderer):
    """A person under the floor is hidden; one before it is not."""
    hidden_color, hidden = renderer.render(DOWN, BODY.vertices + np.array([0, 0, -1.0]))
    color, empty = renderer.render(DOWN, None)
    np.testing.assert_array_equal(hidden, empty)
    np.testing.assert_array_equal(hidden_color, color)
    shown_color, shown = renderer.render(DOWN, BODY.vertices + np.array([0, 0, 0.5]))
    changed = shown < empty
    assert 50 < changed.sum() < 1500
    np.testing.assert_array_equal((shown_color != color).any(axis=-1), changed)


def test_nothing_is_infinitely_far_and_black(renderer):
    up = make_se3(np.eye(3), np.array([0, 0, 1.0]))
    color, depth = renderer.render(up, BODY.vertices + np.array([0, 0, -3.0]))
    assert np.isinf(depth).all() and not color.any()


def test_a_person_at_the_image_border_and_behind_the_camera(renderer):
    """Cut by the border, the person is the same person: nothing of it is lost in the visible part."""
    place = BODY.vertices + np.array([1.1, 0.5, 0.6])
    _, depth = renderer.render(DOWN, place)
    wide = Renderer(FLOOR, BODY.triangles, BODY.vertices, intrinsics(64, 48) + np.array([[0, 0, 64], [0, 0, 48], [0, 0, 0]]), (192, 144))  # fmt: skip  # noqa: E501
    _, whole = wide.render(DOWN, place)
    np.testing.assert_allclose(depth, whole[48:96, 64:128], atol=1e-5)
    assert (depth < 1.9).any()
    _, behind = renderer.render(DOWN, BODY.vertices + np.array([0, 0, 3.0]))
    np.testing.assert_allclose(behind, 2.0, atol=1e-5)


def test_a_surface_facing_the_sun_is_brighter(renderer):
    """Shading is 0.45 + 0.55 |cos| of the angle to the sun, which is 0.868 for the floor."""
    color, _ = renderer.render(DOWN, None)
    expected = np.array([100, 150, 200]) * (0.45 + 0.55 * 0.82 / np.linalg.norm([0.35, -0.45, 0.82]))
    np.testing.assert_allclose(color.reshape(-1, 3), np.tile(expected, (64 * 48, 1)), atol=1.01)


def test_clothes_go_by_height():
    """Boxes at foot, thigh, chest and head height of a body with the pelvis at zero, and one for a hand."""
    centres = [(0, 0, -0.9), (0, 0, -0.5), (0, 0, 0.3), (0, 0, 0.7), (0, 0.6, 0.1)]
    colours = [SHOES, TROUSERS, SHIRT, SKIN, SKIN]
    level = look_at(np.array([[0, -3.0, 0.5]]), np.array([[0, 0, 0.5]]), np.zeros(1))[0]
    for centre, colour in zip(centres, colours, strict=True):
        body = box(centre, (0.2, 0.2, 0.02), (0, 0, 0))
        renderer = Renderer(FLOOR, body.triangles, body.vertices, K, SIZE)
        upright = box((0, 0, 0.5), (0.2, 0.2, 0.2), (0, 0, 0)).vertices
        shown, depth = renderer.render(level, upright)
        pixel = shown[np.abs(depth - 2.9) < 1e-4].astype(float)
        assert len(pixel) >= 9
        np.testing.assert_allclose(pixel[0] / pixel[0].sum(), np.array(colour) / sum(colour), atol=0.02)


def test_the_room_surrounds_the_camera():
    """From the middle of the room every level ray meets a wall or what stands before it, within its half extents."""
    mesh = room(np.random.default_rng(0))
    renderer = Renderer(mesh, BODY.triangles, BODY.vertices, K, SIZE)
    for angle in np.arange(8) * np.pi / 4:
        target = np.array([[np.cos(angle), np.sin(angle), 1.2]])
        _, depth = renderer.render(look_at(np.array([[0, 0, 1.2]]), target, np.zeros(1))[0], None)
        row = depth[SIZE[1] // 2]
        assert row.min() > 0.5 and row.max() < 3.7
