"""What a policy is told: bounds, silence, and a policy without a reference run by it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodydouble.command import CommandSpec
from bodydouble.errors import ContractError
from bodydouble.observation import ObservationTerm
from robot.command_input import CommandInput
from robot.policy_file import PolicyFile
from robot.runtime import PolicyRuntime, TickResult
from tests.robot.samples import JOINTS, known, toy_motion, toy_policy

TICK_NS = 20_000_000
WALK = CommandSpec(("velocity_forward", "yaw_rate"), (-0.5, -1.0), (1.0, 1.0))
REACH = CommandSpec(("target_x", "target_y"), (0.2, -1.0), (1.0, 1.0))


def test_a_velocity_is_zero_until_one_is_given_and_again_when_it_falls_silent():
    told = CommandInput(WALK, 0.5)
    assert told.known and told.is_velocity
    np.testing.assert_array_equal(told.at(0, False)[0], [[0.0, 0.0]])
    assert told.give([0.5, 0.25], 10**9) == ()
    np.testing.assert_array_equal(told.at(15 * 10**8, False)[0], [[0.5, 0.25]])
    command, events = told.at(15 * 10**8 + 10**6, False)
    np.testing.assert_array_equal(command, [[0.0, 0.0]])
    assert events == ("late command: 501 ms old, the velocity is zero",)
    assert told.at(2 * 10**9, False)[1] == (), "told once"


def test_a_clock_that_was_set_back_makes_a_velocity_stale():
    told = CommandInput(WALK, 0.5)
    told.give([0.5, 0.25], 10**9)
    np.testing.assert_array_equal(told.at(0, False)[0], [[0.0, 0.0]])


def test_what_is_out_of_bounds_is_clipped_and_told():
    told = CommandInput(WALK, 0.5)
    assert told.give([3.0, -0.5], 0) == ("command: velocity_forward clipped from 3 to 1",)
    np.testing.assert_array_equal(told.at(0, False)[0], [[1.0, -0.5]])
    np.testing.assert_array_equal(told.at(0, True)[0], [[0.0, 0.0]])


def test_a_pose_to_reach_must_be_given_and_stays():
    told = CommandInput(REACH, 0.5)
    assert not told.known and not told.is_velocity
    assert told.give([0.0, 0.5], 0) == ("command: target_x clipped from 0 to 0.2",)
    assert told.known
    command, events = told.at(10**12, True)
    np.testing.assert_array_equal(command, np.array([[0.2, 0.5]], dtype=np.float32))
    assert events == ()


@pytest.mark.parametrize("text", ["", "[", "1", "[1]", "[1, NaN]", "[1, Infinity]", "[1, true]", '[1, "2"]', "{}",
                                  "[1, 1" + "0" * 400 + "]", "[" * 5000])  # fmt: skip
def test_a_command_that_is_none_is_refused(text: str):
    with pytest.raises(ContractError, match="expected 2 finite numbers"):
        CommandInput(WALK, 0.5).check(text)


@given(st.lists(st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**62), 2**62))))
def test_no_command_leaves_its_bounds(moves):
    told = CommandInput(WALK, 0.5)
    for value, t_ns in moves:
        told.give(told.check(json.dumps([value, -value])), t_ns)
        command, _ = told.at(t_ns, False)
        assert (command >= np.array(WALK.low, dtype=np.float32)).all() and (
            command <= np.array(WALK.high, dtype=np.float32)
        ).all()


TERMS = (
    ObservationTerm("base_ang_vel", 3, 0.25, 10.0, 1, "base"),
    ObservationTerm("joint_pos", 3, 1.0, 10.0, 1, "joint"),
    ObservationTerm("command", 2, 1.0, 10.0, 1, "heading"),
)


def walker(folder: Path) -> PolicyFile:
    path = toy_policy(
        folder / "walk.onnx", gain=0.1, action_mode="residual_default", observation=TERMS, reference_offsets=(),
        command_names=WALK.names, command_low=WALK.low, command_high=WALK.high,
    )  # fmt: skip
    return PolicyFile(path)


def tick(runtime: PolicyRuntime, number: int) -> TickResult:
    t_ns = number * TICK_NS
    runtime.on_joint_state(t_ns, JOINTS, np.zeros(3), np.zeros(3))
    runtime.on_imu(t_ns, np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(3))
    return runtime.tick(t_ns)


def test_a_walking_policy_needs_neither_reference_nor_odometry(tmp_path: Path):
    policy = walker(tmp_path)
    runtime = PolicyRuntime(policy, None)
    assert tick(runtime, 0).mode == "ramp"
    runtime.on_odom(10**15, np.zeros(3))
    runtime.ask("command: [0.5, 2.0]")
    result = tick(runtime, 1)
    assert result.events == ("command: yaw_rate clipped from 2 to 1",)
    assert result.commands == ("command: [0.5, 2.0]",) and set(result.stamps) == {"joint_states", "imu"}
    np.testing.assert_array_equal(known(result.obs)[-2:], np.array([0.5, 1.0], dtype=np.float32))
    for number in range(2, 60):
        result = tick(runtime, number)
    # Half a second after the last command: zero velocity. The target is the default pose plus the scaled action.
    np.testing.assert_array_equal(known(result.obs)[-2:], np.zeros(2, dtype=np.float32))
    expected = np.array(policy.contract.default_joint_pos) + 0.5 * known(result.action)
    np.testing.assert_allclose(known(result.command), expected, atol=1e-6)
    assert result.mode == "run" and result.events == ()


def test_only_the_last_of_many_commands_counts_and_stand_rests(tmp_path: Path):
    runtime = PolicyRuntime(walker(tmp_path), toy_motion())
    for value in range(500):
        runtime.ask(f"command: [{value / 1000}, 0.0]")
    result = tick(runtime, 0)
    assert result.commands == ("command: [0.499, 0.0]",)
    np.testing.assert_array_equal(known(result.obs)[-2:], np.array([0.499, 0.0], dtype=np.float32))
    runtime.ask("stand")
    np.testing.assert_array_equal(known(tick(runtime, 1).obs)[-2:], np.zeros(2))
    runtime.ask("track")
    np.testing.assert_array_equal(known(tick(runtime, 2).obs)[-2:], np.array([0.499, 0.0], dtype=np.float32))


def test_a_policy_that_follows_a_reference_needs_one(tmp_path: Path):
    with pytest.raises(ContractError, match=r"toy\.onnx: follows a reference motion"):
        PolicyRuntime(PolicyFile(toy_policy(tmp_path / "toy.onnx")), None)
