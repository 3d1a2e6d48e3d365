import numpy as np
import pytest

from bodydouble.errors import InputError
from perception.multiview.yaw import yaw_alignment, yaw_matrix


@pytest.mark.parametrize("seed", range(5))
def test_yaw_scale_and_shift_come_back_exactly(seed: int):
    rng = np.random.default_rng(seed)
    points, yaw, scale, shift = rng.normal(size=(40, 3)), rng.uniform(-3, 3), rng.uniform(0.5, 2), rng.normal(size=3)
    target = scale * points @ yaw_matrix(yaw).T + shift
    found = yaw_alignment(points, target, rng.random(40), with_scale=True)
    assert found[0] == pytest.approx(scale, abs=1e-9)
    assert found[1] == pytest.approx(yaw, abs=1e-9)
    assert found[2] == pytest.approx(shift, abs=1e-9)


def test_a_point_without_weight_does_not_count():
    points = np.random.default_rng(0).normal(size=(10, 3))
    target, weight = points + np.array([1.0, 2.0, 0.5]), np.ones(10)
    target[3], weight[3] = 50.0, 0.0
    assert yaw_alignment(points, target, weight)[2] == pytest.approx([1.0, 2.0, 0.5], abs=1e-9)


def test_points_on_an_upright_line_have_no_yaw():
    points = np.array([[1.0, 2.0, z] for z in range(5)])
    with pytest.raises(InputError, match="upright line"):
        yaw_alignment(points, points)


def test_shapes_must_match():
    with pytest.raises(InputError, match="expected"):
        yaw_alignment(np.zeros((3, 3)), np.zeros((4, 3)))
