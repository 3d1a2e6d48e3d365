"""The safety layer: each reason to intervene by hand, then any input whatever."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bodydouble.errors import InputError
from robot.policy_file import PolicyFile
from robot.safety import SafetyConfig, SafetyDecision, SafetyFilter, SafetyInputs
from tests.robot.samples import known, toy_contract

STEP = 5.0 / 50.0
"""Velocity limit times the tick of the toy robot, rad."""
ERROR = 1.5 * 5.0 / 10.0
"""error_factor times effort over kp of the toy robot, rad."""
nan, inf = float("nan"), float("inf")


def good(**changes) -> SafetyInputs:
    """Inputs that nothing is wrong with: the robot at zero, asked to stay there."""
    values: dict[str, Any] = {
        "target": np.zeros(3),
        "joint_pos": np.zeros(3),
        "joint_vel": np.zeros(3),
        "tilt": 0.0,
        "input_age_s": 0.002,
        "input_lead_s": -0.001,
        "heartbeat_age_s": 0.1,
    }
    return SafetyInputs(**{**values, **changes})


def fresh(**config) -> SafetyFilter:
    return SafetyFilter(toy_contract(), SafetyConfig(**config))


def sent(decision: SafetyDecision) -> np.ndarray:
    return known(decision.command)


def test_a_good_target_passes_unchanged():
    decision = fresh().filter(good(target=np.array([0.05, -0.05, 0.1])))
    np.testing.assert_array_equal(sent(decision), [0.05, -0.05, 0.1])
    assert decision.events == () and not decision.stopped


def test_no_target_keeps_the_last_command():
    safety = fresh()
    safety.filter(good(target=np.array([0.05, 0.0, 0.0])))
    decision = safety.filter(good(target=None))
    np.testing.assert_array_equal(sent(decision), [0.05, 0.0, 0.0])
    assert decision.events == ()


def test_slew_is_the_velocity_limit_times_the_tick():
    safety = fresh()
    first = safety.filter(good(target=np.array([0.5, 0.0, -0.5])))
    np.testing.assert_allclose(sent(first), [0.1, 0.0, -0.1], atol=1e-15)
    assert first.events == ("slew: hip, ankle",)
    second = safety.filter(good(target=np.array([0.5, 0.0, -0.5])))
    np.testing.assert_allclose(sent(second), [0.2, 0.0, -0.2], atol=1e-15)


def test_slew_factor_scales_the_slew():
    decision = fresh(slew_factor=0.5).filter(good(target=np.array([0.5, 0.0, 0.0])))
    np.testing.assert_allclose(sent(decision), [0.05, 0.0, 0.0], atol=1e-15)


def test_the_first_command_slews_from_the_measured_pose():
    pose = np.array([0.5, 1.5, -0.5])
    decision = fresh().filter(good(joint_pos=pose, target=np.zeros(3)))
    np.testing.assert_allclose(sent(decision), [0.4, 1.4, -0.4], atol=1e-15)


def test_joint_limits_hold():
    pose = np.array([0.95, 1.95, -0.95])
    decision = fresh().filter(good(joint_pos=pose, target=np.array([1.04, 2.04, -1.04])))
    np.testing.assert_array_equal(sent(decision), [1.0, 2.0, -1.0])
    assert decision.events == ("joint limit: hip, knee, ankle",)


def test_a_measured_pose_outside_the_limits_is_commanded_back_inside():
    decision = fresh().filter(good(joint_pos=np.array([1.2, 0.0, 0.0]), target=None))
    np.testing.assert_array_equal(sent(decision), [1.0, 0.0, 0.0])


def test_a_target_that_saturates_the_motor_is_brought_nearer():
    safety = fresh(slew_factor=100.0)
    decision = safety.filter(good(target=np.array([0.9, 0.7, -0.9])))
    np.testing.assert_allclose(sent(decision), [ERROR, 0.7, -ERROR], atol=1e-15)
    assert decision.events == ("far from the measured position: hip, ankle",)


def test_a_late_input_keeps_the_last_command_and_is_forgiven():
    safety = fresh()
    safety.filter(good(target=np.array([0.05, 0.0, 0.0])))
    late = safety.filter(good(target=np.zeros(3), input_age_s=0.0601))
    np.testing.assert_array_equal(sent(late), [0.05, 0.0, 0.0])
    assert late.events == ("late input: 60 ms old, the last command is kept",) and not late.stopped
    assert safety.filter(good(input_age_s=0.06)).events == ()


STOPS = [
    ({"joint_pos": np.array([0.0, nan, 0.0])}, "measured joint position of joint knee is not finite"),
    ({"joint_vel": np.array([0.0, 0.0, -inf])}, "measured joint speed of joint ankle is not finite"),
    ({"joint_pos": np.zeros(2)}, "measured joint position has shape (2,), expected (3,)"),
    ({"joint_vel": np.zeros((3, 1))}, "measured joint speed has shape (3, 1), expected (3,)"),
    ({"target": np.array([nan, 0.0, 0.0])}, "target of joint hip is not finite"),
    ({"target": np.array([0.0, 0.0, inf])}, "target of joint ankle is not finite"),
    ({"target": np.zeros(1)}, "target has shape (1,), expected (3,)"),
    ({"target": np.zeros(4)}, "target has shape (4,), expected (3,)"),
    ({"tilt": 1.01}, "base tilted by 1.01 rad, at most 1 is allowed"),
    ({"tilt": nan}, "base tilted by nan rad, at most 1 is allowed"),
    ({"input_age_s": 0.251}, "input 251 ms old, at most 250 ms"),
    ({"input_age_s": nan}, "input nan ms old, at most 250 ms"),
    ({"input_lead_s": 0.061}, "input stamped 61 ms ahead of the clock, at most 60 ms; set the clocks"),
    ({"input_lead_s": nan}, "input stamped nan ms ahead of the clock, at most 60 ms; set the clocks"),
    ({"heartbeat_age_s": 0.51}, "no heartbeat of the operator for 0.51 s"),
    ({"heartbeat_age_s": nan}, "no heartbeat of the operator for nan s"),
    ({"joint_vel": np.array([0.0, -7.6, 0.0])}, "joint knee moves at -7.6 rad/s"),
]


@pytest.mark.parametrize(("changes", "reason"), STOPS, ids=[reason for _, reason in STOPS])
def test_each_reason_stops_latches_and_is_told_once(changes, reason):
    safety = fresh(heartbeat_timeout_s=0.5)
    safety.filter(good(target=np.array([0.05, 0.0, 0.0])))
    decision = safety.filter(good(**changes))
    assert decision.stopped and decision.events == (f"stop: {reason}",) and safety.stop_reason == reason
    np.testing.assert_array_equal(sent(decision), [0.05, 0.0, 0.0])
    after = safety.filter(good(target=np.array([0.1, 0.1, 0.1])))
    assert after.stopped and after.events == ()
    np.testing.assert_array_equal(sent(after), [0.05, 0.0, 0.0])
    safety.resume()
    assert safety.filter(good(**changes)).events == (f"stop: {reason}",), "the cause holds, so it stops again"
    safety.resume()
    free = safety.filter(good(target=np.array([0.1, 0.0, 0.0])))
    assert not free.stopped
    np.testing.assert_array_equal(sent(free), [0.1, 0.0, 0.0])


@pytest.mark.parametrize(
    "changes",
    [
        {"tilt": 1.0},
        {"input_age_s": 0.25},
        {"input_lead_s": 0.06},
        {"heartbeat_age_s": 0.5},
        {"joint_vel": np.array([7.5, -7.5, 7.5])},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_value_on_its_bound_does_not_stop(changes):
    assert not fresh(heartbeat_timeout_s=0.5).filter(good(**changes)).stopped


def test_no_heartbeat_is_asked_for_by_default():
    assert not fresh().filter(good(heartbeat_age_s=1e9)).stopped


def test_an_emergency_stop_is_told_with_its_reason_and_the_first_reason_is_kept():
    safety = fresh()
    safety.filter(good())
    safety.stop("emergency stop")
    safety.stop("something else")
    decision = safety.filter(good(tilt=3.0))
    assert decision.stopped and decision.events == ("stop: emergency stop",)
    assert safety.stop_reason == "emergency stop"


def test_a_stop_before_the_first_command_holds_the_measured_pose():
    safety = fresh()
    safety.stop("emergency stop")
    decision = safety.filter(good(joint_pos=np.array([0.5, 0.5, 0.5]), target=np.zeros(3)))
    np.testing.assert_array_equal(sent(decision), [0.5, 0.5, 0.5])


def test_nothing_is_sent_to_a_robot_whose_pose_was_never_read():
    safety = fresh()
    decision = safety.filter(good(joint_pos=np.full(3, nan)))
    assert decision.command is None and decision.stopped and safety.last_command is None
    safety.resume()
    decision = safety.filter(good(joint_pos=np.full(3, 0.5), target=np.full(3, 0.5)))
    np.testing.assert_array_equal(sent(decision), [0.5, 0.5, 0.5])


def test_what_is_handed_out_is_a_copy():
    safety = fresh()
    sent(safety.filter(good()))[:] = 9.0
    known(safety.last_command)[:] = 9.0
    np.testing.assert_array_equal(sent(safety.filter(good(target=None))), np.zeros(3))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(SafetyConfig)])
@pytest.mark.parametrize("value", [nan, inf, -1.0])
def test_a_bound_that_binds_nothing_is_refused(field, value):
    with pytest.raises(InputError, match=f"safety bound {field} is"):
        SafetyConfig(**{field: value})


def test_only_what_can_be_switched_off_may_be_zero():
    off = SafetyConfig(heartbeat_timeout_s=0.0, contact_loss_s=0.0, free_fall_s=0.0)
    assert off.heartbeat_timeout_s == off.contact_loss_s == off.free_fall_s == 0.0
    with pytest.raises(InputError, match=r"acceleration_s is 1000000000.0, expected at most 1e\+06"):
        SafetyConfig(acceleration_s=1e9)
    with pytest.raises(InputError, match="slew_factor"):
        SafetyConfig(slew_factor=0.0)


anything = st.floats(width=64) | st.sampled_from([nan, inf, -inf, 1e308, -1e308, 5e-324, -0.0])
plausible = st.floats(-2.5, 2.5)


def vectors():
    """Per-joint values: plausible ones mostly, anything else too, and now and then of another length or shape."""
    right = st.lists(plausible, min_size=3, max_size=3) | st.lists(plausible | anything, min_size=3, max_size=3)
    wrong = st.lists(anything, max_size=5)
    return st.one_of(right, right, right, wrong).map(lambda values: np.array(values, dtype=np.float64)) | wrong.map(
        lambda values: np.array([values])
    )


def test_acceleration_is_limited_and_the_target_stops_at_the_joint_limit():
    """With a quarter of the slew as the largest change a target takes four ticks to full speed, and four to stop."""
    safety = fresh(acceleration_s=0.08)
    events, path = [], [0.0]
    for _ in range(30):
        decision = safety.filter(good(target=np.array([1.5, 0.0, 0.0]), joint_pos=np.array([path[-1], 0.0, 0.0])))
        path.append(float(sent(decision)[0]))
        events.append(decision.events)
    steps = np.diff(path)
    np.testing.assert_allclose(steps[:6], [0.025, 0.05, 0.075, 0.1, 0.1, 0.1], atol=1e-9)
    assert np.abs(np.diff(steps, prepend=0.0)).max() <= 0.025 * (1 + 1e-6)
    assert path[-1] == 1.0 and max(path) == 1.0 and "acceleration: hip" in events[0]


def test_a_stop_freezes_at_once_and_the_way_on_begins_from_rest():
    safety = fresh(acceleration_s=0.08)
    for _ in range(6):
        moving = sent(safety.filter(good(target=np.array([0.7, 0.0, 0.0]))))
    safety.stop("emergency stop")
    np.testing.assert_array_equal(sent(safety.filter(good())), moving)
    safety.resume()
    on = sent(safety.filter(good(target=np.array([0.7, 0.0, 0.0]))))
    np.testing.assert_allclose(on - moving, [0.025, 0.0, 0.0], atol=1e-9)


def test_contact_is_not_looked_for_by_default():
    safety = fresh()
    assert not any(safety.filter(good(feet_in_contact=(False,), base_acceleration=0.0)).stopped for _ in range(200))


@pytest.mark.parametrize(
    ("config", "lost", "kept", "words"),
    [
        ("contact_loss_s", {"feet_in_contact": (False, False)}, {"feet_in_contact": (False, True)}, "no foot"),
        ("free_fall_s", {"base_acceleration": 1.0}, {"base_acceleration": 9.0}, "the base falls freely"),
        ("free_fall_s", {"base_acceleration": nan}, {"base_acceleration": None}, "the base falls freely"),
    ],
)
def test_contact_lost_for_too_long_stops(config, lost, kept, words):
    safety = fresh(**{config: 0.1})
    for _ in range(20):  # four ticks in the air, one on the ground
        assert not any(safety.filter(good(**lost)).stopped for _ in range(4))
        assert not safety.filter(good(**kept)).stopped
    stopped = [safety.filter(good(**lost)) for _ in range(6)]
    assert [d.stopped for d in stopped] == [False] * 5 + [True], "0.12 s is the first tick past 0.1 s"
    assert words in stopped[-1].events[0] and "0.12 s" in stopped[-1].events[0]
    safety.resume()
    assert safety.filter(good(**lost)).stopped, "it is in the air still"
    safety.resume()
    assert not safety.filter(good(**kept)).stopped


seconds = st.floats(-0.1, 0.1) | anything
inputs = st.builds(
    SafetyInputs,
    target=st.none() | vectors(),
    joint_pos=vectors(),
    joint_vel=vectors(),
    tilt=st.floats(0, 1.2) | anything,
    input_age_s=seconds,
    heartbeat_age_s=seconds,
    input_lead_s=seconds,
    feet_in_contact=st.none() | st.lists(st.booleans(), max_size=3).map(tuple),
    base_acceleration=st.none() | anything,
)
moves = st.lists(inputs | st.sampled_from(["stop", "resume"]), min_size=1, max_size=12)


@settings(max_examples=400, deadline=None)
@given(moves, st.sampled_from([0.1, 1.0, 50.0]), st.sampled_from([1e-6, 0.02, 0.5]))
@example([good(), good(target=np.array([1e308, -1e308, 0.0])), good(target=np.full(3, -1e308))], 1.0, 0.02)
@example([good(joint_pos=np.full(3, 1e308), target=np.full(3, 1e308))], 1.0, 0.02)
@example([good(joint_pos=np.full(3, 5.0)), good(joint_pos=np.full(3, -5.0)), good(target=np.full(3, 5.0))], 50.0, 0.02)
def test_no_input_lets_a_command_outside_the_limits_through(sequence, slew_factor, acceleration_s):
    """Position limits always; from command to command never more than slew and acceleration; a stop latches."""
    contract = toy_contract()
    safety = SafetyFilter(contract, SafetyConfig(slew_factor=slew_factor, acceleration_s=acceleration_s, free_fall_s=1))
    change, step = slew_factor * STEP / 50.0 / acceleration_s, np.zeros(3)
    lower, upper = np.array(contract.joint_lower), np.array(contract.joint_upper)
    last, stopped = None, False
    with np.errstate(all="ignore"):
        for move in sequence:
            if isinstance(move, str):
                getattr(safety, move)(*(["test"] if move == "stop" else []))
                stopped = move == "stop" or (stopped and move != "resume")
                continue
            decision = safety.filter(move)
            command = decision.command
            assert decision.stopped or not stopped, "only a resume releases"
            if command is None:
                assert last is None and decision.stopped
            else:
                assert command.shape == (3,) and command.dtype == np.float64
                assert np.isfinite(command).all() and (command >= lower).all() and (command <= upper).all()
                if last is not None:
                    assert (np.abs(command - last) <= slew_factor * STEP * (1 + 1e-12)).all()
                    moved = command - last
                    held = np.array_equal(command, last)
                    assert held or (np.abs(moved - step) <= change * (1 + 1e-6) + 1e-12).all()
                    step = moved
                    assert not decision.stopped or np.array_equal(command, last), "a stopped robot is held"
                else:
                    start = np.clip(move.joint_pos, lower, upper)
                    step = command - start
                    assert (np.abs(command - start) <= slew_factor * STEP * (1 + 1e-12)).all()
            last, stopped = command, decision.stopped


@settings(max_examples=200, deadline=None)
@given(inputs)
def test_a_bad_value_never_moves_the_robot(move):
    """A command other than the last is only sent when every number that was looked at is sound."""
    safety = fresh()
    held = np.array([0.25, 0.25, 0.25])
    safety.filter(good(joint_pos=held, target=held))
    with np.errstate(all="ignore"):
        decision = safety.filter(move)
    if not np.array_equal(sent(decision), held):
        for values in (move.target, move.joint_pos, move.joint_vel):
            assert values is not None and np.shape(values) == (3,) and np.isfinite(values).all()
        assert move.tilt <= 1.0 and move.input_age_s <= 0.06 and move.input_lead_s <= 0.06
        assert (np.abs(move.joint_vel) <= 7.5).all()
    assert all(math.isfinite(value) for value in sent(decision))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(plausible, min_size=3, max_size=3), min_size=1, max_size=30))
def test_a_target_near_the_measured_position_is_reached_without_an_event(targets):
    """Nothing is changed that needs no change: small steps inside the limits pass bit for bit."""
    safety = fresh()
    position = np.zeros(3)
    for target in targets:
        # Half the slew: even there and back again stays below the acceleration limit, which is one slew a tick.
        wanted = np.clip(target, position - 0.49 * STEP, position + 0.49 * STEP)
        wanted = np.clip(wanted, -1.0, 1.0)
        decision = safety.filter(good(target=wanted, joint_pos=position))
        assert decision.events == ()
        np.testing.assert_array_equal(sent(decision), wanted)
        position = wanted


def test_the_shipped_robot_has_room_to_move(policy_file: PolicyFile):
    """A filter that forbids everything would be safe too."""
    default = np.array(policy_file.contract.default_joint_pos)
    safety = SafetyFilter(policy_file.contract, SafetyConfig())
    still = good(target=default, joint_pos=default, joint_vel=np.zeros(len(default)))
    assert safety.filter(still).events == ()
    decision = safety.filter(dataclasses.replace(still, target=default + 0.05))
    assert decision.events == ()
    np.testing.assert_array_equal(sent(decision), default + 0.05)
