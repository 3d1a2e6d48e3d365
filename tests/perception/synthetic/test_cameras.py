"""The hand-held cameras: axes by hand, and motion as a hand has it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodydouble.frames import se3_apply, se3_inverse
from perception.synthetic.cameras import hand_held, intrinsics, look_at

POINTS = st.tuples(*[st.floats(-3, 3)] * 3).map(np.array)


def test_intrinsics_by_hand():
    """The image centre lies between pixels; the focal length goes with the width alone."""
    np.testing.assert_array_equal(intrinsics(640, 480), [[524.8, 0, 319.5], [0, 524.8, 239.5], [0, 0, 1]])
    assert 2 * np.degrees(np.arctan(320 / intrinsics(640, 480)[0, 0])) == pytest.approx(63, abs=0.5)


def test_looking_along_x():
    """From the origin along +x: image right is -y, image down is -z."""
    T = look_at(np.zeros((1, 3)), np.array([[2.0, 0, 0]]), np.zeros(1))[0]
    np.testing.assert_allclose(T[:3, :3], np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]), atol=1e-12)


def test_roll_turns_about_the_line_of_sight():
    """A quarter turn of roll brings the camera's x to where its y was."""
    level, rolled = look_at(np.zeros((2, 3)), np.array([[1.0, 2, 0.5]] * 2), np.array([0, np.pi / 2]))
    np.testing.assert_allclose(rolled[:3, 0], level[:3, 1], atol=1e-12)
    np.testing.assert_allclose(rolled[:3, 2], level[:3, 2], atol=1e-12)


@given(POINTS, POINTS, st.floats(-1, 1))
def test_the_target_is_in_the_middle_and_the_pose_rigid(position, target, roll):
    if np.linalg.norm((target - position)[:2]) < 0.1:
        return
    T = look_at(position[None], target[None], np.array([roll]))[0]
    np.testing.assert_allclose(T[:3, :3].T @ T[:3, :3], np.eye(3), atol=1e-9)
    assert np.linalg.det(T[:3, :3]) == pytest.approx(1)
    np.testing.assert_allclose(T[:3, 3], position)
    distance = float(np.linalg.norm(target - position))
    np.testing.assert_allclose(se3_apply(se3_inverse(T), target[None])[0], (0, 0, distance), atol=1e-8)
    assert T[2, 1] < 0  # down is down


def walk(seconds: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    t = np.arange(round(30 * seconds)) / 30
    return t, np.stack([0.5 * np.sin(t / 3), 0.3 * np.cos(t / 4), 0.95 + 0 * t], axis=-1)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([-0.55, 1.05]))
def test_the_camera_follows_the_person_within_the_room(seed, angle):
    t, person = walk()
    T = hand_held(np.random.default_rng(seed), t, person, angle)
    place = T[:, :3, 3]
    assert np.abs(place[:, :2]).max() < 2.35 and place[:, 2].min() > 1.2 and place[:, 2].max() < 1.7
    around = np.arctan2(place[:, 1], place[:, 0])
    assert np.abs(around - angle).max() < 0.4
    local = np.einsum("tji,tj->ti", T[:, :3, :3], person - place)
    K = intrinsics(640, 480)
    u, v = (K[axis, axis] * local[:, axis] / local[:, 2] + K[axis, 2] for axis in (0, 1))
    assert local[:, 2].min() > 1.0
    assert u.min() > 100 and u.max() < 540 and v.min() > 140 and v.max() < 340


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_the_hand_trembles_a_little(seed):
    """The camera is never still, never faster than 1 m/s and 1 rad/s, and shakes by millimetres above 2.5 Hz."""
    t, person = walk()
    T = hand_held(np.random.default_rng(seed), t, person, -0.55)
    place, turn = T[:, :3, 3], T[:, :3, :3]
    speed = 30 * np.linalg.norm(np.diff(place, axis=0), axis=1)
    assert speed.mean() > 0.05 and speed.max() < 1.0
    cosine = 0.5 * (np.einsum("tij,tij->t", turn[1:], turn[:-1]) - 1)
    assert 30 * np.arccos(np.clip(cosine, -1, 1)).max() < 1.0
    power = np.abs(np.fft.rfft(place - place.mean(axis=0), axis=0)) ** 2
    shaking = np.fft.rfftfreq(len(t), 1 / 30) > 2.5
    tremor = np.sqrt(2 * power[shaking].sum(axis=0)) / len(t)
    assert tremor.min() > 0.0005 and tremor.max() < 0.03


def test_the_seed_decides_the_motion():
    t, person = walk(1.0)
    one, same, other = (hand_held(np.random.default_rng(seed), t, person, 1.05) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01
