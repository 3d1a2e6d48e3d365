"""The safety layer: every intervention by hand, and properties that no input may break."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodydouble.contract import PolicyContract
from robot.policy_file import PolicyFile
from robot.safety import SafetyConfig, SafetyFilter, SafetyInputs
from tests.bodydouble.test_contract import contract

CONTRACT = contract()
JOINTS = len(CONTRACT.joint_names)
LOWER, UPPER = np.array(CONTRACT.joint_lower), np.array(CONTRACT.joint_upper)
STEP = np.array(CONTRACT.joint_velocity_limit) / CONTRACT.control_hz
DEFAULT = np.array(CONTRACT.default_joint_pos)


def inputs(**changes: object) -> SafetyInputs:
    calm = SafetyInputs(DEFAULT.copy(), DEFAULT.copy(), np.zeros(JOINTS), tilt=0.0, input_age_s=0.0)
    return dataclasses.replace(calm, **changes)  # type: ignore[arg-type]


def calm_filter(config: SafetyConfig | None = None) -> SafetyFilter:
    """A filter that has sent the default pose once."""
    safety = SafetyFilter(CONTRACT, config or SafetyConfig())
    assert safety.filter(inputs()).events == ()
    return safety


def moved(joint: int, by: float) -> np.ndarray:
    out = DEFAULT.copy()
    out[joint] += by
    return out


def test_small_step_passes_unchanged() -> None:
    target = moved(0, 0.5 * STEP[0])
    decision = calm_filter().filter(inputs(target=target))
    np.testing.assert_array_equal(decision.command, target)
    assert decision.events == () and not decision.stopped


def test_slew_is_cut_to_one_step() -> None:
    decision = calm_filter(SafetyConfig(error_factor=1e6)).filter(inputs(target=moved(0, 10 * STEP[0])))
    np.testing.assert_allclose(decision.command, moved(0, STEP[0]), atol=1e-12)
    assert decision.events == (f"slew: {CONTRACT.joint_names[0]}",)


def test_joint_limit_holds() -> None:
    safety = calm_filter(SafetyConfig(slew_factor=1e6, error_factor=1e6))
    decision = safety.filter(inputs(target=UPPER + 1.0))
    np.testing.assert_array_equal(decision.command, UPPER)
    assert decision.events[0].startswith("joint limit: ")


def test_distance_to_the_measured_position_is_bounded() -> None:
    config = SafetyConfig(slew_factor=1e6, error_factor=1e-3)
    decision = calm_filter(config).filter(inputs(target=moved(0, 0.05)))
    allowed = 1e-3 * CONTRACT.effort_limit[0] / CONTRACT.kp[0]
    assert decision.command[0] - DEFAULT[0] == pytest.approx(allowed)
    assert decision.events == (f"far from the measured position: {CONTRACT.joint_names[0]}",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": np.full(JOINTS, np.nan)}, "not finite"),
        ({"joint_pos": np.full(JOINTS, np.inf)}, "not finite"),
        ({"joint_vel": np.full(JOINTS, np.nan)}, "not finite"),
        ({"joint_vel": np.full(JOINTS, 1e3)}, "moves at"),
        ({"tilt": 1.2}, "tilted"),
        ({"tilt": float("nan")}, "tilted"),
        ({"input_age_s": 0.3}, "old"),
        ({"input_age_s": float("nan")}, "old"),
        ({"heartbeat_age_s": 0.6}, "heartbeat"),
    ],
)
def test_stop_latches_with_its_reason(changes: dict[str, object], words: str) -> None:
    safety = calm_filter(SafetyConfig(heartbeat_timeout_s=0.5))
    held = safety.last_command
    decision = safety.filter(inputs(**changes))
    assert decision.stopped and words in decision.events[0] and words in safety.stop_reason
    # All is well again, but the stop stays, and so does the command.
    after = safety.filter(inputs(target=moved(0, 0.5 * STEP[0])))
    assert after.stopped
    np.testing.assert_array_equal(after.command, held)
    safety.resume()
    assert not safety.filter(inputs(target=moved(0, 0.5 * STEP[0]))).stopped


def test_late_input_keeps_the_last_command_without_a_stop() -> None:
    safety = calm_filter()
    decision = safety.filter(inputs(target=moved(0, 0.5 * STEP[0]), input_age_s=0.1))
    np.testing.assert_array_equal(decision.command, DEFAULT)
    assert not decision.stopped and decision.events[0].startswith("late input: 100 ms")


def test_resume_does_not_hide_a_cause_that_lasts() -> None:
    safety = calm_filter()
    safety.filter(inputs(tilt=2.0))
    safety.resume()
    assert safety.filter(inputs(tilt=2.0)).stopped


def test_first_reason_is_kept() -> None:
    safety = calm_filter()
    safety.stop("first")
    safety.stop("second")
    assert safety.stop_reason == "first"


def test_first_command_starts_at_the_measured_position() -> None:
    measured = moved(0, 0.1)
    decision = SafetyFilter(CONTRACT, SafetyConfig()).filter(inputs(joint_pos=measured, target=None))
    np.testing.assert_allclose(decision.command, np.clip(measured, LOWER, UPPER))


anything = st.floats(allow_nan=True, allow_infinity=True, width=64)
vectors = st.lists(anything, min_size=JOINTS, max_size=JOINTS).map(np.array)
wild = st.builds(
    SafetyInputs,
    target=st.none() | vectors,
    joint_pos=vectors | st.just(DEFAULT),
    joint_vel=vectors | st.just(np.zeros(JOINTS)),
    tilt=anything | st.just(0.0),
    input_age_s=anything | st.just(0.0),
    heartbeat_age_s=anything | st.just(0.0),
)
events = st.lists(wild | st.sampled_from(["estop", "resume"]), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(events)
def test_no_sequence_gets_a_command_past_the_limits(sequence: list[SafetyInputs | str]) -> None:
    safety = SafetyFilter(CONTRACT, SafetyConfig())
    before: np.ndarray | None = None
    for item in sequence:
        if item == "estop":
            safety.stop("emergency stop")
        elif item == "resume":
            safety.resume()
        else:
            assert isinstance(item, SafetyInputs)
            stopped = safety.stopped
            decision = safety.filter(item)
            if decision.command is None:
                assert before is None and decision.stopped
                continue
            assert np.isfinite(decision.command).all()
            assert (decision.command >= LOWER).all() and (decision.command <= UPPER).all()
            if before is not None:
                assert (np.abs(decision.command - before) <= STEP * (1 + 1e-9) + 1e-12).all()
            if stopped:
                assert decision.stopped
                if before is not None:
                    np.testing.assert_array_equal(decision.command, before)
            before = decision.command


def test_real_contract_has_room_to_move(policy_file: PolicyFile) -> None:
    """The shipped robot's limits let it take a step; a filter that forbids everything would be safe too."""
    real: PolicyContract = policy_file.contract
    safety = SafetyFilter(real, SafetyConfig())
    default = np.array(real.default_joint_pos)
    calm = SafetyInputs(default, default, np.zeros(len(default)), 0.0, 0.0)
    safety.filter(calm)
    decision = safety.filter(dataclasses.replace(calm, target=default + 0.05))
    assert decision.events == () and np.allclose(decision.command, default + 0.05)
