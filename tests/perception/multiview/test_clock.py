import dataclasses

import numpy as np
import pytest

from perception.multiview.clock import ClockCandidate, ClockConfig, clock_candidates, determined, refine_clock
from perception.multiview.paths import JointPath
from tests.perception.multiview.sketches import displaced, path

CONFIG = ClockConfig()
HERE, THERE = displaced(0.3, 1.0, -2.0), displaced(-2.2, 0.4, 3.0)


def found_offset(a: JointPath, b: JointPath) -> float:
    candidates = clock_candidates(a, b, CONFIG)
    assert determined(candidates, CONFIG)
    return refine_clock(a, b, candidates[0].offset_s, candidates[0].yaw, CONFIG, fix_yaw=False)[0]


def frames(start: float, end: float, fps: float = 15.0) -> np.ndarray:
    return np.arange(start, end, 1 / fps)


@pytest.mark.parametrize("offset", [0.0, 0.2137, -1.731, 8.4])
def test_without_noise_the_offset_is_right_to_a_millisecond(offset: float):
    a, b = path(frames(0, 14), HERE), path(frames(0.41, 14.3), THERE, offset)
    assert found_offset(a, b) == pytest.approx(offset, abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_with_noise_bias_and_dropped_frames_it_is_right_to_ten_milliseconds(seed: int):
    """3 cm of noise and 3 cm of constant error in each joint, a fifth of the frames gone, irregular exposures."""
    rng = np.random.default_rng(seed)
    ways = []
    for view, (world, offset) in enumerate(((HERE, 0.0), (THERE, 0.357))):
        times = frames(0.1 * view, 14) + rng.uniform(-0.003, 0.003, len(frames(0.1 * view, 14)))
        times = times[rng.random(len(times)) > 0.2]
        ways.append(path(times, world, offset, noise_m=0.03, bias_m=0.03, seed=10 * seed + view))
    assert found_offset(*ways) == pytest.approx(0.357, abs=10e-3)


def test_a_camera_that_fails_half_way_is_enough():
    a, b = path(frames(0, 14), HERE, noise_m=0.02), path(frames(0, 6.5), THERE, -3.3, noise_m=0.02, seed=1)
    assert found_offset(a, b) == pytest.approx(-3.3, abs=10e-3)


def test_clocks_that_share_no_time_at_all_are_related():
    a, b = path(frames(0, 12), HERE, noise_m=0.02), path(frames(0.2, 12), THERE, 86_400.0, noise_m=0.02, seed=1)
    assert found_offset(a, b) == pytest.approx(86_400.0, abs=10e-3)


def test_the_yaw_comes_along():
    a, b = path(frames(0, 10), HERE), path(frames(0, 10), THERE, 0.1)
    best = clock_candidates(a, b, CONFIG)[0]
    assert best.yaw == pytest.approx(-2.5, abs=0.02)
    assert refine_clock(a, b, best.offset_s, best.yaw, CONFIG, fix_yaw=False)[1] == pytest.approx(-2.5, abs=1e-4)


def test_who_stands_still_determines_nothing():
    a = path(frames(0, 14), HERE, noise_m=0.03, still=True)
    b = path(frames(0, 14), THERE, 0.2, noise_m=0.03, seed=1, still=True)
    assert not determined(clock_candidates(a, b, CONFIG), CONFIG)


def test_a_motion_that_repeats_itself_is_ambiguous():
    def again(times: np.ndarray, offset: float, seed: int) -> JointPath:
        rng = np.random.default_rng(seed)
        wave = 0.3 * np.sin(2 * np.pi * times / 2.0)[:, None, None] * np.ones((1, 12, 3))
        joints = wave + rng.normal(0, 1, (1, 12, 3)) + rng.normal(0, 0.01, (len(times), 12, 3))
        return JointPath(times + offset, joints, np.full((len(times), 12), 0.02))

    candidates = clock_candidates(again(frames(0, 14), 0.0, 0), again(frames(0, 14), 0.3, 0), CONFIG)
    apart = np.diff(sorted(one.offset_s for one in candidates[:3]))
    assert apart == pytest.approx([2.0, 2.0], abs=0.1)
    # The overlap is longest at the true one, which makes it likelier, but the others fit as well.
    assert candidates[1].correlation > 0.95


def test_a_straight_walk_tells_the_time_once_the_places_are_known():
    """At one speed along a line nothing tells earlier from farther back, until the worlds are one."""

    def walk(times: np.ndarray, offset: float, seed: int) -> JointPath:
        rng = np.random.default_rng(seed)
        joints = np.zeros((len(times), 12, 3))
        joints[..., 0] = times[:, None]
        joints += np.random.default_rng(9).normal(0, 0.3, (12, 3)) + rng.normal(0, 0.02, joints.shape)
        return JointPath(times + offset, joints, np.full(joints.shape[:2], 0.02))

    a, b = walk(frames(0, 4), 0.0, 0), walk(frames(0, 4), 0.25, 1)
    assert not determined(clock_candidates(a, b, CONFIG), CONFIG)
    placed = clock_candidates(a, b, CONFIG, placed=True)
    assert determined(placed, CONFIG)
    assert placed[0].offset_s == pytest.approx(0.25, abs=0.03)


def test_too_short_an_overlap_gives_no_candidate():
    assert clock_candidates(path(frames(0, 1.5), HERE), path(frames(0, 1.5), THERE), CONFIG) == []


def test_determined_needs_gain_and_margin():
    best, other = ClockCandidate(0.0, 0.0, 20.0, 0.8, 10.0, 0.01), ClockCandidate(2.0, 0.0, 18.0, 0.8, 10.0, 0.01)
    assert determined([best], CONFIG)
    assert not determined([best, other], CONFIG)
    assert not determined([], CONFIG)
    assert not determined([dataclasses.replace(best, deviation_s=0.3)], CONFIG)
