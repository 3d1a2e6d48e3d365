import numpy as np
import pytest
import torch
from hypothesis import given

from bodydouble import frames
from tests.bodydouble.strategies import unit_quats, vectors


def test_known_rotation_by_hand():
    quarter_turn = frames.quat_from_axis_angle(np.array([0.0, 0.0, 1.0]), np.array(np.pi / 2))
    np.testing.assert_allclose(quarter_turn, [np.sqrt(0.5), 0, 0, np.sqrt(0.5)])
    np.testing.assert_allclose(frames.quat_rotate(quarter_turn, np.array([1.0, 0.0, 0.0])), [0, 1, 0], atol=1e-15)
    np.testing.assert_allclose(frames.yaw_angle(quarter_turn), np.pi / 2)


@given(unit_quats(), unit_quats(), vectors())
def test_product_rotates_by_right_then_left(a, b, vec):
    once = frames.quat_rotate(frames.quat_mul(a, b), vec)
    twice = frames.quat_rotate(a, frames.quat_rotate(b, vec))
    np.testing.assert_allclose(once, twice, atol=1e-12 * max(1, np.abs(vec).max()))


@given(unit_quats(), vectors())
def test_rotate_agrees_with_the_matrix_and_its_inverse(quat, vec):
    by_matrix = np.einsum("nij,nj->ni", frames.quat_to_matrix(quat), vec)
    scale = max(1, np.abs(vec).max())
    np.testing.assert_allclose(frames.quat_rotate(quat, vec), by_matrix, atol=1e-12 * scale)
    back = frames.quat_rotate_inv(quat, by_matrix)
    np.testing.assert_allclose(back, vec, atol=1e-12 * scale)


@given(unit_quats())
def test_matrix_round_trip_up_to_sign(quat):
    back = frames.quat_from_matrix(frames.quat_to_matrix(quat))
    np.testing.assert_allclose(np.abs(np.sum(back * quat, axis=-1)), 1.0, atol=1e-12)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_matrix_round_trip_at_half_turns(axis):
    quat = frames.quat_from_axis_angle(np.array(axis, float), np.array(np.pi))
    back = frames.quat_from_matrix(frames.quat_to_matrix(quat))
    np.testing.assert_allclose(np.abs(np.dot(back, quat)), 1.0, atol=1e-12)


@given(unit_quats())
def test_rotation_vector_round_trip(quat):
    back = frames.quat_from_rotvec(frames.quat_to_rotvec(quat))
    np.testing.assert_allclose(np.abs(np.sum(back * quat, axis=-1)), 1.0, atol=1e-12)


def test_rotation_vector_is_exact_through_zero():
    tiny = np.array([[0.0, 0.0, 0.0], [1e-9, -2e-9, 3e-9]])
    np.testing.assert_allclose(frames.quat_to_rotvec(frames.quat_from_rotvec(tiny)), tiny, rtol=1e-9)


@given(unit_quats(), unit_quats())
def test_error_takes_one_orientation_to_the_other(a, b):
    turned = frames.quat_mul(frames.quat_from_rotvec(frames.quat_error(a, b)), a)
    np.testing.assert_allclose(np.abs(np.sum(turned * b, axis=-1)), 1.0, atol=1e-12)


@given(unit_quats(), unit_quats())
def test_slerp_ends_and_halves(a, b):
    np.testing.assert_allclose(np.abs(np.sum(frames.quat_slerp(a, b, 0.0) * a, axis=-1)), 1.0, atol=1e-12)
    np.testing.assert_allclose(np.abs(np.sum(frames.quat_slerp(a, b, 1.0) * b, axis=-1)), 1.0, atol=1e-12)
    middle = frames.quat_slerp(a, b, 0.5)
    np.testing.assert_allclose(frames.quat_angle(a, middle), frames.quat_angle(middle, b), atol=1e-6)


@given(unit_quats())
def test_ros_order_round_trip_and_place_of_w(quat):
    xyzw = frames.xyzw_from_wxyz(quat)
    np.testing.assert_array_equal(xyzw[:, 3], quat[:, 0])
    np.testing.assert_array_equal(frames.wxyz_from_xyzw(xyzw), quat)


@given(unit_quats(), vectors())
def test_numpy_and_torch_agree(quat, vec):
    quat, vec = quat.astype(np.float32), vec.astype(np.float32)
    for name in ("quat_rotate", "quat_rotate_inv"):
        mine = getattr(frames, name)(quat, vec)
        theirs = getattr(frames, name)(torch.from_numpy(quat), torch.from_numpy(vec)).numpy()
        np.testing.assert_allclose(mine, theirs, atol=1e-6 * max(1, np.abs(vec).max()))
    np.testing.assert_allclose(frames.yaw_quat(quat), frames.yaw_quat(torch.from_numpy(quat)).numpy(), atol=2e-6)


@given(unit_quats(), vectors(), vectors())
def test_se3_inverse_undoes(quat, translation, points):
    transform = frames.make_se3(frames.quat_to_matrix(quat), translation)
    there = frames.se3_apply(transform, points[:, None, :])
    back = frames.se3_apply(frames.se3_inverse(transform), there)
    np.testing.assert_allclose(back[:, 0], points, atol=1e-11 * max(1, np.abs(translation).max()))


@given(unit_quats())
def test_fix_rotation_restores_a_disturbed_rotation(quat):
    rotation = frames.quat_to_matrix(quat)
    fixed = frames.fix_rotation(rotation * 1.0004)
    np.testing.assert_allclose(fixed, rotation, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(fixed), 1.0)


def test_fix_rotation_never_returns_a_reflection():
    fixed = frames.fix_rotation(np.diag([1.0, 1.0, -1.0]))
    np.testing.assert_allclose(np.linalg.det(fixed), 1.0)
