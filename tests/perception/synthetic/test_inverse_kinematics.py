"""Two-bone limbs: lengths kept, targets reached, the bend on the side that was asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception.synthetic.inverse_kinematics import two_bone

UPPER, LOWER = np.array([0.0, 0.02, -0.42]), np.array([0.03, 0.0, -0.40])
REACH = float(np.linalg.norm(UPPER) + np.linalg.norm(LOWER))
HINGE = np.array([0.0, -1.0, 0.0])
VECTORS = st.tuples(*[st.floats(-1, 1)] * 3).map(np.array)


def solve(start: np.ndarray, target: np.ndarray, bend: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second, end = two_bone(start[None], target[None], UPPER, LOWER, bend[None], HINGE)
    middle = start + first[0] @ UPPER
    np.testing.assert_allclose(middle + second[0] @ LOWER, end[0], atol=1e-9)
    for rotation in (first[0], second[0]):
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation) == pytest.approx(1)
    return middle, end[0], first[0]


@given(VECTORS, VECTORS, VECTORS)
def test_targets_are_reached_and_the_middle_joint_lies_on_its_side(start, direction, bend):
    norm = np.linalg.norm(direction)
    if norm < 0.1 or np.linalg.norm(np.cross(direction, bend)) < 0.05:
        return
    for share in (0.2, 0.6, 0.95):
        target = start + share * REACH * direction / norm
        middle, end, _ = solve(start, target, bend)
        np.testing.assert_allclose(end, target, atol=1e-9)
        aside = bend - (bend @ direction) * direction / norm**2
        assert (middle - start) @ aside > 0


def test_out_of_reach_stretches_towards_the_target():
    middle, end, _ = solve(np.zeros(3), np.array([0, 0, -3.0]), np.array([1.0, 0, 0]))
    np.testing.assert_allclose(end, (0, 0, -0.999 * REACH))
    assert 0 < middle[0] < 0.03


def test_too_near_folds_as_far_as_the_bones_allow():
    shortest = float(abs(np.linalg.norm(UPPER) - np.linalg.norm(LOWER))) + 1e-3
    _, end, _ = solve(np.zeros(3), np.array([0, 0, -1e-4]), np.array([1.0, 0, 0]))
    np.testing.assert_allclose(end, (0, 0, -shortest), atol=1e-9)


def test_a_right_angle_by_hand():
    """Bones of 3 and 4 with 5 between the ends: the middle joint is 9/5 along and 12/5 aside."""
    first, _, end = two_bone(
        np.zeros((1, 3)), np.array([[5.0, 0, 0]]), np.array([0, 0, -3.0]), np.array([0, 0, -4.0]),
        np.array([[0, 0, 1.0]]), HINGE,
    )  # fmt: skip
    np.testing.assert_allclose(first[0] @ (0, 0, -3), (1.8, 0, 2.4), atol=1e-12)
    np.testing.assert_allclose(end[0], (5, 0, 0), atol=1e-12)
