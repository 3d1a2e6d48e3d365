from __future__ import annotations

import numpy as np
import pytest
import torch

from bodydouble.errors import InputError
from perception.scene_field import MAX_CELLS, field_around, flat_field, scene_field
from perception.static_scene import StaticScene
from perception.synthetic.room import box

LOW, HIGH = np.array([-1.0, -1.0, -0.2]), np.array([1.0, 1.0, 1.0])


def step_scene(height: float = 0.2) -> StaticScene:
    mesh = box((0.5, 0.0, height / 2), (1.0, 2.0, height), (0, 0, 0))
    return StaticScene(mesh.vertices, mesh.triangles.astype(np.int64), np.zeros((len(mesh.vertices), 3)))


def test_flat_field_is_the_height_over_the_floor():
    points = torch.tensor([[0.0, 0.0, 0.3], [12.0, -3.0, -0.05], [0.4, 0.2, 0.1]])
    distance, gradient = flat_field(0.1).read(points)
    torch.testing.assert_close(distance, torch.tensor([0.2, -0.15, 0.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(gradient, torch.tensor([0.0, 0.0, 1.0]).expand(3, 3), atol=1e-5, rtol=0)


def test_distances_over_a_step_and_inside_it():
    field = scene_field(step_scene(), 0.0, LOW, HIGH, 0.04)
    points = torch.tensor([[0.5, 0.0, 0.26], [0.5, 0.0, 0.15], [-0.5, 0.0, 0.1], [-0.2, 0.0, 0.5]])
    distance, gradient = field.read(points)
    expected = torch.tensor([0.06, -0.05, 0.1, np.hypot(0.2, 0.3)], dtype=torch.float32)
    torch.testing.assert_close(distance, expected, atol=0.01, rtol=0)
    torch.testing.assert_close(gradient[:3], torch.tensor([0.0, 0.0, 1.0]).expand(3, 3), atol=0.02, rtol=0)


def test_gradient_is_the_slope_of_the_value():
    field = scene_field(step_scene(), 0.0, LOW, HIGH, 0.05)
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.6, 1.6, 0.8]) - 0.7
    points[:, 2] += 0.75
    # Away from the nodes' planes, where the interpolation has a kink.
    place = (points - field.low) / field.cell_m
    points = field.low + (place.floor() + (place - place.floor()).clamp(0.1, 0.9)) * field.cell_m
    _, gradient = field.read(points)
    for axis in range(3):
        change = 1e-3 * torch.eye(3)[axis]
        slope = (field.read(points + change)[0] - field.read(points - change)[0]) / 2e-3
        torch.testing.assert_close(gradient[:, axis], slope, atol=5e-3, rtol=0)


def test_a_hole_in_the_floor_does_not_let_a_foot_through():
    nothing = StaticScene(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64), np.zeros((0, 3)))
    distance, _ = scene_field(nothing, 0.0, LOW, HIGH, 0.05).read(torch.tensor([[0.0, 0.0, -0.1]]))
    torch.testing.assert_close(distance, torch.tensor([-0.1]), atol=1e-4, rtol=0)


def test_mesh_that_barely_rises_is_the_floor():
    distance, _ = scene_field(step_scene(0.02), 0.0, LOW, HIGH, 0.04).read(torch.tensor([[0.5, 0.0, 0.1]]))
    torch.testing.assert_close(distance, torch.tensor([0.1]), atol=1e-3, rtol=0)


def test_points_outside_take_the_border():
    field = scene_field(step_scene(), 0.0, LOW, HIGH, 0.1)
    inside, _ = field.read(torch.tensor([[-0.5, 0.0, 1.0]]))
    outside, _ = field.read(torch.tensor([[-0.5, 0.0, 50.0]]))
    assert float(inside) <= float(outside) < 2.0


def test_impossible_boxes_are_refused():
    with pytest.raises(InputError, match="empty"):
        scene_field(step_scene(), 0.0, HIGH, LOW, 0.05)
    with pytest.raises(InputError, match="cells"):
        scene_field(step_scene(), 0.0, 100 * LOW, 100 * HIGH, 0.01)


def test_the_field_around_somebody_who_gets_around_far_has_larger_cells():
    points = np.array([[0.0, 0.0, 0.0], [30.0, 20.0, 1.8]])
    field = field_around(step_scene(), 0.0, points, 0.03)
    assert field.values.numel() <= MAX_CELLS
    assert field.cell_m > 0.03
    near = field_around(step_scene(), 0.0, points[:1], 0.03)
    assert near.cell_m == 0.03
    assert float(near.low[2]) <= -0.3
