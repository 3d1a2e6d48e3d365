"""Tracking of small rendered rooms whose camera poses are known."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

import perception.tracking.tracker
from bodydouble.errors import InputError
from bodydouble.frames import se3_inverse
from perception.imu import Accelerations
from perception.tracking.gaps import BRIDGED
from perception.tracking.tracker import Trajectory, track_camera, track_cameras
from tests.perception.tracking.rooms import errors, only, path, seen, without

COUNT = 24
PATH = path(COUNT)
VIEW = seen(PATH)


def check(found: Trajectory, truth: np.ndarray, lost: set[int], most_m: float = 0.02) -> None:
    """Every frame is either right or NaN with quality 0, and just these are lost."""
    off, turn = errors(found.T_world_camera, truth)
    assert set(np.flatnonzero(np.isnan(off))) == set(np.flatnonzero(found.quality == 0)) == lost
    assert np.nanmax(off) < most_m and np.nanmax(turn) < 1.0


def up_and_floor(found: Trajectory, truth: np.ndarray) -> tuple[float, float]:
    """Angle of Z from the true up, degrees, and error of the floor's height, m."""
    kept = np.flatnonzero(found.quality > 0)
    off = found.T_world_camera[kept[0]] @ se3_inverse(truth[kept[0]])
    height = np.mean(found.T_world_camera[kept, 2, 3] - truth[kept, 2, 3])
    return float(np.degrees(np.arccos(min(1.0, off[2, 2])))), float(height)


@pytest.mark.parametrize("colour", [True, False])
def test_a_moving_camera_is_followed_and_the_floor_is_level_at_zero(colour):
    found = track_camera(VIEW if colour else replace(VIEW, gray=None))
    check(found, PATH, set())
    tilt, height = up_and_floor(found, PATH)
    assert tilt < 0.5 and abs(height) < 0.01
    (warning,) = found.warnings
    assert "up is taken from the largest level surface" in warning and "below the camera" in warning


def test_poses_of_the_view_are_not_looked_at():
    wrong = np.tile(np.diag([1.0, -1, -1, 1]), (COUNT, 1, 1))
    first = track_camera(only(VIEW, slice(0, 8)))
    second = track_camera(only(replace(VIEW, T_world_camera=wrong), slice(0, 8)))
    np.testing.assert_array_equal(first.T_world_camera, second.T_world_camera)


def test_a_fifth_of_the_frames_is_dropped_at_random():
    kept = np.flatnonzero(np.random.default_rng(5).random(COUNT) > 0.2)
    assert len(kept) < COUNT
    check(track_camera(only(VIEW, kept)), PATH[kept], set())


def test_somebody_who_crosses_the_image_does_not_drag_the_camera():
    """A metre from the lens, flat, moving by 8 cm from frame to frame; the error stays within 6 cm."""
    walk = [(0.6 - 0.02 * i, -1.0 + 0.08 * i) for i in range(COUNT)]
    check(track_camera(seen(PATH, walk)), PATH, set(), 0.06)


def test_frames_without_readings_are_lost_and_named_and_the_place_is_recognised_afterwards():
    """More than a second later the camera is somewhere else that it has seen before."""
    order = np.concatenate([np.arange(16), np.full(12, 15), np.arange(5, 0, -1)])
    shown = replace(only(VIEW, order), times_ns=np.arange(len(order)) * 100_000_000)
    found = track_camera(without(shown, slice(16, 28)))
    check(found, PATH[order], set(range(16, 28)))
    assert any("no pose (lost) in 12 of 33 frames: 16-27" in warning for warning in found.warnings)


def test_a_short_gap_is_bridged_and_marked():
    shown = replace(VIEW, times_ns=VIEW.times_ns // 3)
    found = track_camera(without(shown, [9, 10]))
    check(found, PATH, set())
    assert (found.quality[[9, 10]] == BRIDGED).all() and (np.delete(found.quality, [9, 10]) > 0.5).all()
    assert any("interpolated pose in 2 of 24 frames: 9-10" in warning for warning in found.warnings)


def wall(count: int) -> np.ndarray:
    """Depth images of a plain wall at 2 m, which leaves three motions open."""
    noise = np.random.default_rng(1).normal(0, 6, (count, 120, 160))
    return np.round(2000 + noise).astype(np.uint16)


def test_a_plain_wall_is_no_start_and_what_follows_is_tracked():
    depth, gray = np.asarray(VIEW.depth_mm).copy(), np.asarray(VIEW.gray).copy()
    depth[:8], gray[:8] = wall(8), 128
    check(track_camera(replace(VIEW, depth_mm=depth, gray=gray)), PATH, set(range(8)))


def test_a_plain_wall_alone_is_refused():
    with pytest.raises(InputError, match="plain wall"):
        track_camera(only(replace(VIEW, depth_mm=wall(COUNT), gray=None), slice(0, 4)))


def test_a_place_that_was_never_seen_is_not_taken_for_another():
    """The camera is covered, turned round, and uncovered: there is no way to know where it is."""
    away = PATH[:6] @ np.diag([-1.0, 1, -1, 1])
    shown, other = only(VIEW, np.arange(18) % COUNT), seen(away)
    depth, gray = np.asarray(shown.depth_mm).copy(), np.asarray(shown.gray).copy()
    depth[12:], gray[12:] = np.asarray(other.depth_mm), np.asarray(other.gray)
    times = np.where(np.arange(18) < 12, 0, 2_000_000_000) + np.arange(18) * 100_000_000
    found = track_camera(replace(shown, times_ns=times, depth_mm=depth, gray=gray))
    check(found, PATH[:18], set(range(12, 18)))


def test_up_is_taken_from_an_imu_that_is_tied_to_the_camera():
    """The accelerometer says that up leans by 3 degrees from the floor's normal; it is believed."""
    lean = np.array([np.sin(np.radians(3)), 0, np.cos(np.radians(3))])
    force = 9.81 * np.einsum("fij,i->fj", PATH[:, :3, :3], lean)
    times = VIEW.times_ns
    found = track_camera(replace(VIEW, imu=Accelerations(times - 1, force)))
    tilt, _ = up_and_floor(found, PATH)
    assert tilt == pytest.approx(3.0, abs=0.3)
    assert "up is taken from an IMU" in found.warnings[0]


def test_cameras_in_processes_of_their_own_give_the_same(monkeypatch):
    views = [only(VIEW, slice(0, 6)), only(VIEW, slice(6, 12))]
    alone = track_cameras(views, workers=1)
    monkeypatch.setattr(perception.tracking.tracker, "MIN_FRAMES_APART", 1)
    together = track_cameras(views, workers=2)
    for one, two in itertools.zip_longest(alone, together):
        np.testing.assert_allclose(one.T_world_camera, two.T_world_camera, atol=1e-6)
        assert one.warnings == two.warnings
