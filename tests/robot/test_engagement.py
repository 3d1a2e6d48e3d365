"""The phases: every way through them is continuous, inside the limits, and ends where it should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.engagement import HOLD, RAMP_IN, RAMP_OUT, RAMP_OUT_SPEED, RUN, Engagement, Ramps

LIMIT = 5.0
RAMPS = Ramps(rest=np.array([0.0, 0.25, -0.25]), max_step=np.full(3, LIMIT / 50), control_hz=50.0)
pose = st.lists(st.floats(-2.0, 2.0), min_size=3, max_size=3).map(np.array)


def test_the_ramp_in_is_linear_from_the_measured_pose():
    now, measured, target = Engagement(), np.zeros(3), np.ones(3)
    for tick in range(1, 15):
        now, command = now.advance(target, measured + 0.3 * (tick > 1), None, RAMPS)
        np.testing.assert_allclose(command, tick / 15, atol=1e-12)
        assert now.phase == RAMP_IN
    now, command = now.advance(target, measured, None, RAMPS)
    assert now.phase == RUN and np.array_equal(command, target)


def test_hold_keeps_the_last_command_or_the_measured_pose():
    measured, last = np.full(3, 0.4), np.full(3, 0.5)
    for before, held in ((None, measured), (last, last)):
        now, command = Engagement(HOLD).advance(None, measured, before, RAMPS)
        np.testing.assert_array_equal(command, held)
        _, command = now.advance(None, np.zeros(3), np.zeros(3), RAMPS)
        np.testing.assert_array_equal(command, held)


def test_told_twice_is_told_once():
    running = Engagement(RUN, np.zeros(3), 15)
    assert running.engage() is running
    out = running.release()
    assert out.phase == RAMP_OUT and out.release() is out
    assert out.engage().phase == RAMP_IN
    assert Engagement(HOLD).release().phase == HOLD


def test_what_was_never_commanded_needs_no_ramp_out():
    assert Engagement().release().phase == HOLD


def test_the_policy_must_be_asked_where_it_rules():
    with pytest.raises(ValueError, match="needs the policy's target"):
        Engagement().advance(None, np.zeros(3), None, RAMPS)


@settings(max_examples=150, deadline=None)
@given(pose, pose)
def test_the_ramp_out_is_smooth_slow_and_ends_at_rest(start, measured):
    now, last, path = Engagement(RAMP_OUT), start, [start]
    while now.phase != HOLD:
        now, last = now.advance(None, measured, last, RAMPS)
        path.append(last)
        assert len(path) < 1000
    np.testing.assert_array_equal(last, RAMPS.rest)
    steps = np.diff(np.array(path), axis=0)
    assert np.abs(steps).max() <= RAMP_OUT_SPEED * LIMIT / 50 * (1 + 1e-9), "half of the velocity limit"
    assert (np.sign(steps) * np.sign(RAMPS.rest - start) >= 0).all(), "straight there"
    assert len(path) > 0.6 * 50


@settings(max_examples=150, deadline=None)
@given(pose, st.lists(st.tuples(st.sampled_from(["engage", "release", ""]), pose), min_size=1, max_size=80))
def test_no_sequence_of_requests_jumps(measured, sequence):
    """The robot follows exactly. From tick to tick a command moves no more than a ramp or the policy does."""
    now, last, before = Engagement(HOLD), None, None
    lower, upper = np.full(3, -2.0), np.full(3, 2.0)
    at = measured
    for request, target in sequence:
        if request:
            now = getattr(now, request)()
        asks = now.asks_policy
        now, command = now.advance(target if asks else None, at, last, RAMPS)
        assert np.isfinite(command).all() and (command >= lower - 1e-12).all() and (command <= upper + 1e-12).all()
        policy_moved = np.zeros(3) if before is None or not asks else np.abs(target - before)
        bound = policy_moved + np.maximum(4.0 / RAMPS.in_ticks, RAMP_OUT_SPEED * LIMIT / 50)
        assert (np.abs(command - at) <= bound + 1e-9).all()
        at, last, before = command, command, target if asks else None
