import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perception.joints.canonical import PIXEL_M, SIZE, canonical_views


def one_view(points: list[tuple[float, float, float]], eye: tuple[float, float, float]):
    return canonical_views(torch.tensor([points]), torch.ones(1, len(points), dtype=torch.bool), torch.tensor([eye]))


def test_right_up_and_away_are_the_cameras():
    """Seen along +x, the world's -y is right; the median point is the centre."""
    views = one_view([(3.0, 0.0, 1.0), (3.0, -0.5, 1.0), (3.0, 0.5, 1.0), (3.0, 0.0, 1.6), (3.4, 0.0, 0.4)], (0, 0, 1))
    assert torch.allclose(views.axes[0], torch.tensor([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]), atol=1e-5)
    assert torch.allclose(views.centre[0], torch.tensor([3.0, 0.0, 1.0]), atol=1e-5)
    local = views.from_world(torch.tensor([[[3.4, -0.5, 1.6]]]))
    assert torch.allclose(local[0, 0], torch.tensor([0.5, 0.6, 0.4]), atol=1e-5)
    assert torch.allclose(views.to_world(local)[0, 0], torch.tensor([3.4, -0.5, 1.6]), atol=1e-5)


def test_a_pixel_holds_its_nearest_points_depth():
    eye = (0.0, 0.0, 1.0)
    # Some at the centre, one right and up, one hidden behind it, two left so that the mean lies ahead.
    points = [(3.0, 0.0, 1.0)] * 5 + [(2.8, -0.51, 1.31), (3.1, -0.51, 1.31), (3.0, 0.51, 0.8), (3.0, 0.51, 0.8)]
    image = one_view(points, eye).images[0]
    row, column = SIZE // 2 - 1 - math.floor(0.31 / PIXEL_M), SIZE // 2 + math.floor(0.51 / PIXEL_M)
    assert image[0].sum() == 3
    assert image[0, row, column] == 1
    assert math.isclose(float(image[1, row, column]), -0.2, abs_tol=1e-5)


def test_points_that_are_not_there_and_points_far_away_are_left_out():
    points = torch.tensor([[[3.0, 0.0, 1.0]] * 5 + [[3.0, 0.3, 1.0], [3.0, 5.0, 1.0], [6.0, 0.0, 1.2]]])
    valid = torch.ones(1, 8, dtype=torch.bool)
    valid[0, 5] = False
    image = canonical_views(points, valid, torch.tensor([[0.0, 0.0, 1.0]])).images[0]
    assert image[0].sum() == 1
    assert image[1].abs().max() < 1e-5


@settings(max_examples=30, deadline=None)
@given(st.floats(-3.1, 3.1), st.floats(-20, 20), st.floats(-20, 20))
def test_the_image_does_not_depend_on_where_the_world_has_its_origin(yaw: float, x: float, y: float):
    rng = np.random.default_rng(0)
    points = rng.uniform((2.5, -0.4, 0.0), (3.0, 0.4, 1.7), size=(200, 3))
    turn = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
    moved = points @ turn.T + (x, y, 0.3)
    eye = np.array([0.0, 0.2, 1.4])
    valid = torch.ones(1, 200, dtype=torch.bool)
    here = canonical_views(torch.tensor(points)[None], valid, torch.tensor(eye)[None])
    there = canonical_views(torch.tensor(moved)[None], valid, torch.tensor(turn @ eye + (x, y, 0.3))[None])
    # A point may cross a pixel's edge by rounding.
    assert (here.images[0, 0] != there.images[0, 0]).sum() <= 4
    local = here.from_world(torch.tensor(points[:1])[None])
    assert torch.allclose(local, there.from_world(torch.tensor(moved[:1])[None]), atol=1e-4)
    assert torch.allclose(there.to_world(local)[0], torch.tensor(moved[:1]), atol=1e-4)
