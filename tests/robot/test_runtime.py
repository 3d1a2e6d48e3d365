"""The runtime: one tick at a time, the same bits for the same inputs, and no command without good inputs."""

from __future__ import annotations

import numpy as np
import pytest

from bodydouble.errors import ContractError
from robot.policy_file import PolicyFile
from robot.runtime import RAMP_S, PolicyRuntime, TickResult
from sim.closed_loop import ClosedLoop, RobotModel
from sim.stage.stage import Stage

TICK_NS = 20_000_000


def feed(runtime: PolicyRuntime, stage: Stage, t_ns: int) -> None:
    """Give the first frame of the reference, at rest, as it is measured."""
    motion, names = stage.reference, stage.robot.joint_names
    runtime.on_joint_state(t_ns, names, motion.joint_pos[0], np.zeros(len(names)))
    runtime.on_imu(t_ns, motion.root_quat[0], np.zeros(3))
    runtime.on_odom(t_ns, motion.root_pos[0])


@pytest.fixture
def runtime(policy_file: PolicyFile, stage: Stage) -> PolicyRuntime:
    return PolicyRuntime(policy_file, stage.reference)


def test_waits_until_every_input_came(runtime: PolicyRuntime, stage: Stage) -> None:
    assert runtime.tick(0).mode == "waiting"
    runtime.on_imu(0, stage.reference.root_quat[0], np.zeros(3))
    result = runtime.tick(TICK_NS)
    assert result.mode == "waiting" and result.command is None
    feed(runtime, stage, 2 * TICK_NS)
    assert runtime.tick(2 * TICK_NS).command is not None


def test_first_commands_ramp_from_the_measured_pose(runtime: PolicyRuntime, stage: Stage) -> None:
    ticks = int(RAMP_S * stage.control_hz) + 2
    results = []
    for i in range(ticks):
        feed(runtime, stage, i * TICK_NS)
        results.append(runtime.tick(i * TICK_NS))
    first = results[0].command
    assert first is not None
    share = 1 / (RAMP_S * stage.control_hz)
    assert np.abs(first - stage.reference.joint_pos[0]).max() <= share * 2.0
    assert [r.mode for r in results[:3]] == ["ramp"] * 3 and results[-1].mode == "run"


def test_same_inputs_give_the_same_bits(policy_file: PolicyFile, stage: Stage) -> None:
    def play() -> list[TickResult]:
        loop = ClosedLoop(RobotModel.of(stage), policy_file, stage.reference)
        loop.runtime.ask("track")
        return [loop.step() for _ in range(40)]

    for one, two in zip(play(), play(), strict=True):
        assert one.to_dict() == two.to_dict()


def test_joints_are_mapped_by_name(policy_file: PolicyFile, stage: Stage) -> None:
    order = np.random.default_rng(0).permutation(len(stage.robot.joint_names))
    names = stage.robot.joint_names
    position = stage.reference.joint_pos[0] + 0.01 * np.arange(len(names))
    commands = []
    for index in (np.arange(len(names)), order):
        runtime = PolicyRuntime(policy_file, stage.reference)
        feed(runtime, stage, 0)
        runtime.on_joint_state(0, tuple(names[i] for i in index), position[index], np.zeros(len(names)))
        commands.append(runtime.tick(0).command)
    np.testing.assert_array_equal(commands[0], commands[1])


def test_joint_state_that_does_not_fit(runtime: PolicyRuntime, stage: Stage) -> None:
    names, zeros = stage.robot.joint_names, np.zeros(len(stage.robot.joint_names))
    with pytest.raises(ContractError, match="0 times"):
        runtime.on_joint_state(0, names[1:], zeros[1:], zeros[1:])
    with pytest.raises(ContractError, match="2 times"):
        runtime.on_joint_state(0, (*names, names[0]), np.append(zeros, 0), np.append(zeros, 0))
    with pytest.raises(ContractError, match="speeds"):
        runtime.on_joint_state(0, names, zeros, zeros[:0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_input_that_is_not_finite_stops(runtime: PolicyRuntime, stage: Stage, bad: float) -> None:
    feed(runtime, stage, 0)
    before = runtime.tick(0).command
    feed(runtime, stage, TICK_NS)
    runtime.on_odom(TICK_NS, np.array([bad, 0, 0.8]))
    result = runtime.tick(TICK_NS)
    assert result.mode == "stopped" and result.command is not None
    np.testing.assert_array_equal(result.command, before)


def test_silence_stops_and_says_why(runtime: PolicyRuntime, stage: Stage) -> None:
    feed(runtime, stage, 0)
    modes, events = [], []
    for i in range(20):
        result = runtime.tick(i * TICK_NS)
        modes.append(result.mode)
        events += result.events
    assert modes[-1] == "stopped" and any("old" in event for event in events)
    assert modes.index("stopped") == 13  # 0.26 s is the first tick past 0.25 s


def test_estop_latches_and_resume_ramps_again(runtime: PolicyRuntime, stage: Stage) -> None:
    for i in range(20):
        feed(runtime, stage, i * TICK_NS)
        runtime.tick(i * TICK_NS)
    runtime.ask("estop")
    feed(runtime, stage, 20 * TICK_NS)
    assert runtime.tick(20 * TICK_NS).mode == "stopped"
    runtime.ask("track")
    feed(runtime, stage, 21 * TICK_NS)
    assert runtime.tick(21 * TICK_NS).mode == "stopped"
    runtime.ask("resume")
    feed(runtime, stage, 22 * TICK_NS)
    assert runtime.tick(22 * TICK_NS).mode == "ramp"


def test_unknown_command(runtime: PolicyRuntime) -> None:
    with pytest.raises(ContractError, match="'dance' is unknown"):
        runtime.ask("dance")
