"""The runtime: one tick at a time, the same bits for the same inputs, and no command without good inputs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodydouble.errors import ContractError
from bodydouble.motion import RobotMotion
from robot.engagement import RAMP_S
from robot.policy_file import PolicyFile
from robot.runtime import PolicyRuntime, TickResult
from robot.safety import SafetyConfig
from sim.closed_loop import ClosedLoop, RobotModel
from sim.stage.stage import Stage
from tests.robot.samples import JOINTS, known, toy_contract, toy_motion, toy_policy

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


def test_a_rehearsal_changes_no_bit(policy_file: PolicyFile, stage: Stage) -> None:
    def play(rehearsals: int) -> list[dict[str, Any]]:
        runtime, ticks = PolicyRuntime(policy_file, stage.reference), []
        for number in range(30):
            for _ in range(rehearsals):
                runtime.rehearse()
            feed(runtime, stage, number * 20_000_000)
            for command in {5: ["track"], 12: ["estop"], 15: ["resume"], 20: ["hold"], 25: ["engage"]}.get(number, []):
                runtime.ask(command)
            ticks.append(runtime.tick(number * 20_000_000).to_dict())
        return ticks

    assert play(2) == play(0)


def test_joints_are_mapped_by_name(policy_file: PolicyFile, stage: Stage) -> None:
    order = np.random.default_rng(0).permutation(len(stage.robot.joint_names))
    names = stage.robot.joint_names
    position = stage.reference.joint_pos[0] + 0.01 * np.arange(len(names))
    commands = []
    for index in (np.arange(len(names)), order):
        runtime = PolicyRuntime(policy_file, stage.reference)
        feed(runtime, stage, 0)
        runtime.on_joint_state(1, tuple(names[i] for i in index), position[index], np.zeros(len(names)))
        commands.append(runtime.tick(1).command)
    assert not np.array_equal(known(commands[0]), stage.reference.joint_pos[0]), "the second message counts"
    np.testing.assert_array_equal(known(commands[0]), known(commands[1]))


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
    runtime.on_odom(TICK_NS + 1, np.array([bad, 0, 0.8]))
    result = runtime.tick(TICK_NS + 1)
    assert result.events == ("stop: an input is not finite: odom",)
    assert result.mode == "stopped" and result.command is not None
    np.testing.assert_array_equal(known(result.command), known(before))


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


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> PolicyFile:
    return PolicyFile(toy_policy(tmp_path_factory.mktemp("toy") / "toy.onnx"))


def feed_toy(
    runtime: PolicyRuntime, t_ns: int, position: np.ndarray | None = None, reading: np.ndarray | None = None
) -> None:
    runtime.on_joint_state(t_ns, JOINTS, np.zeros(3) if position is None else position, np.zeros(3))
    runtime.on_imu(t_ns, np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(3), reading)
    runtime.on_odom(t_ns, np.array([0.0, 0.0, 1.0]))


def test_estop_is_told_with_its_reason(toy: PolicyFile) -> None:
    runtime = PolicyRuntime(toy, toy_motion())
    feed_toy(runtime, 0)
    runtime.ask("estop")
    result = runtime.tick(0)
    assert result.commands == ("estop",) and result.events == ("stop: emergency stop",)
    assert result.obs is None and result.action is None


def test_commands_do_not_change_while_stopped(toy: PolicyFile) -> None:
    """However the robot is pushed about, what is sent stays the same until the resume."""
    runtime = PolicyRuntime(toy, toy_motion())
    runtime.ask("track")
    for i in range(30):
        feed_toy(runtime, i * TICK_NS)
        held = runtime.tick(i * TICK_NS).command
    runtime.ask("estop")
    frame = runtime.player.frame
    for i in range(30, 60):
        feed_toy(runtime, i * TICK_NS, np.full(3, 0.01 * i))
        result = runtime.tick(i * TICK_NS)
        assert result.mode == "stopped"
        np.testing.assert_array_equal(known(result.command), known(held))
    assert runtime.player.frame == frame


@pytest.mark.parametrize("late", ["joint_states", "imu", "odom"])
def test_the_oldest_input_counts(toy: PolicyFile, late: str) -> None:
    """One silent input stops the robot, however fresh the two others are."""
    runtime = PolicyRuntime(toy, toy_motion())
    feed_toy(runtime, 0)
    modes = []
    for i in range(20):
        t_ns = i * TICK_NS
        if late != "joint_states":
            runtime.on_joint_state(t_ns, JOINTS, np.zeros(3), np.zeros(3))
        if late != "imu":
            runtime.on_imu(t_ns, np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(3))
        if late != "odom":
            runtime.on_odom(t_ns, np.array([0.0, 0.0, 1.0]))
        modes.append(runtime.tick(t_ns).mode)
    assert modes.index("stopped") == 13 and set(modes[13:]) == {"stopped"}


def test_a_stamp_from_the_future_stops(toy: PolicyFile) -> None:
    """A clock that is ahead would hide silence for as long as it is ahead."""
    runtime = PolicyRuntime(toy, toy_motion())
    feed_toy(runtime, 0)
    assert runtime.tick(0).mode == "ramp"
    feed_toy(runtime, TICK_NS)
    runtime.on_joint_state(TICK_NS + 10**9, JOINTS, np.zeros(3), np.zeros(3))
    result = runtime.tick(TICK_NS)
    assert result.mode == "stopped"
    assert result.events == ("stop: input stamped 1000 ms ahead of the clock, at most 60 ms; set the clocks",)


@pytest.mark.parametrize("quat", [[0.0, 0, 0, 0], [np.nan, 0, 0, 0], [0.5, 0.86, 0, 0]], ids=["zero", "nan", "fallen"])
def test_an_orientation_that_says_no_good_stops(toy: PolicyFile, quat: list[float]) -> None:
    runtime = PolicyRuntime(toy, toy_motion())
    feed_toy(runtime, 0)
    runtime.tick(0)
    feed_toy(runtime, TICK_NS)
    runtime.on_imu(TICK_NS + 1, np.array(quat), np.zeros(3))
    assert runtime.tick(TICK_NS + 1).mode == "stopped"


def test_the_tilt_does_not_count_the_heading(toy: PolicyFile) -> None:
    """Turned by 3 rad about the vertical the robot is as upright as before."""
    runtime = PolicyRuntime(toy, toy_motion())
    feed_toy(runtime, 0)
    runtime.on_imu(1, np.array([np.cos(1.5), 0, 0, np.sin(1.5)]), np.zeros(3))
    assert runtime.tick(1).mode == "ramp"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_stops(toy: PolicyFile, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """Infinity would be clipped to a joint limit and look like a wish; it is none."""
    runtime = PolicyRuntime(toy, toy_motion())
    feed_toy(runtime, 0)
    held = runtime.tick(0).command
    bad = np.array([0.0, value, 0.0], dtype=np.float32)
    monkeypatch.setattr(toy, "step", lambda obs, memory: (bad, memory))
    feed_toy(runtime, TICK_NS)
    result = runtime.tick(TICK_NS)
    assert result.mode == "stopped" and result.events == ("stop: an action of the policy is not finite",)
    np.testing.assert_array_equal(known(result.command), known(held))


def test_nothing_is_sent_before_the_first_good_pose(toy: PolicyFile) -> None:
    runtime = PolicyRuntime(toy, toy_motion())
    feed_toy(runtime, 0, np.array([0.0, np.nan, 0.0]))
    result = runtime.tick(0)
    assert result.mode == "stopped" and result.command is None
    runtime.ask("resume")
    feed_toy(runtime, TICK_NS)
    assert runtime.tick(TICK_NS).mode == "ramp"


def test_a_command_by_hand(tmp_path: Path) -> None:
    """With the weights at zero the action is the bias: the target is the reference plus scale times bias."""
    policy = PolicyFile(toy_policy(tmp_path / "toy.onnx", gain=0.0, bias=0.2))
    runtime = PolicyRuntime(policy, toy_motion())
    for i in range(40):
        feed_toy(runtime, i * TICK_NS)
        result = runtime.tick(i * TICK_NS)
        if i == 2:
            # The ramp of 15 ticks is at 3/15 of the way from the measured zero to 0.5 * 0.2.
            np.testing.assert_allclose(known(result.command), 0.1 * 3 / 15, rtol=1e-6)
    np.testing.assert_allclose(known(result.action), 0.2, rtol=1e-6)
    np.testing.assert_allclose(known(result.command), 0.1, rtol=1e-6)
    assert result.mode == "run" and result.events == ()


@pytest.mark.parametrize(
    ("motion", "words"),
    [
        (toy_motion(joint_names=("knee", "hip", "ankle")), "its joints are not the reference's"),
        (toy_motion(fps=60.0), "runs at 50.0 Hz, the reference is at 60.0"),
    ],
)
def test_a_reference_that_does_not_fit(toy: PolicyFile, motion: RobotMotion, words: str) -> None:
    with pytest.raises(ContractError, match=words) as error:
        PolicyRuntime(toy, motion)
    assert str(toy.path) in str(error.value)


def test_an_observation_that_cannot_be_built_is_refused_at_the_start(tmp_path: Path) -> None:
    """The sizes of two terms exchanged keep the network's input size: it would only show on the running robot."""
    observation = tuple(
        dataclasses.replace(term, size={"joint_pos": 4, "joint_vel": 2}.get(term.name, term.size))
        for term in toy_contract().observation
    )
    policy = PolicyFile(toy_policy(tmp_path / "toy.onnx", observation=observation))
    with pytest.raises(ContractError, match=r"toy\.onnx: observation term 'joint_pos' has 3 values, the spec says 4"):
        PolicyRuntime(policy, toy_motion())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observation": (dataclasses.replace(toy_contract().observation[0], name="smell"),)}, "'smell' is unknown"),
        ({"reference_offsets": ()}, "offsets"),
    ],
    ids=["term", "offsets"],
)
def test_an_unknown_term_or_bad_offsets_name_the_file(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ContractError, match=rf"toy\.onnx: .*{words}"):
        PolicyRuntime(PolicyFile(toy_policy(tmp_path / "toy.onnx", **changes)), toy_motion())


def test_a_tick_as_json_keeps_every_bit(toy: PolicyFile) -> None:
    runtime = PolicyRuntime(toy, toy_motion())
    feed_toy(runtime, 0, np.array([0.1, 1 / 3, -np.pi / 7]))
    result = runtime.tick(0)
    back = json.loads(json.dumps(result.to_dict()))
    assert result.obs is not None and result.action is not None and result.command is not None
    np.testing.assert_array_equal(np.array(back["obs"], dtype=np.float32), result.obs)
    np.testing.assert_array_equal(np.array(back["action"], dtype=np.float32), result.action)
    np.testing.assert_array_equal(np.array(back["command"]), result.command)


def test_time_going_backwards_is_refused_and_told(toy: PolicyFile) -> None:
    """The older message is not taken; the newer one ages, and the watchdog has the last word."""
    runtime = PolicyRuntime(toy, toy_motion())
    feed_toy(runtime, 10 * TICK_NS)
    runtime.tick(10 * TICK_NS)
    feed_toy(runtime, 9 * TICK_NS, np.full(3, 0.5))
    feed_toy(runtime, 8 * TICK_NS, np.full(3, 0.5))
    result = runtime.tick(11 * TICK_NS)
    assert result.stamps["joint_states"] == 10 * TICK_NS and result.mode == "ramp"
    told = ("joint_states", "imu", "odom")
    assert result.events == tuple(f"refused: {name}: stamped 20.0 ms before the last one" for name in told)
    assert result.commands == result.events, "a replay is told the same"
    for i in range(12, 30):
        feed_toy(runtime, i % 3 * TICK_NS)
        result = runtime.tick(i * TICK_NS)
    assert result.mode == "stopped" and "old" in runtime.safety.stop_reason


def test_a_message_with_the_stamp_of_the_last_is_not_taken(toy: PolicyFile) -> None:
    """A replay finds the messages by their stamps: the first with a stamp is the one."""
    runtime = PolicyRuntime(toy, toy_motion())
    feed_toy(runtime, 0)
    runtime.on_joint_state(0, JOINTS, np.full(3, 0.5), np.zeros(3))
    result = runtime.tick(0)
    assert result.events == () and float(np.abs(known(result.command)).max()) < 0.1


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_clock_that_jumps_stops_and_does_not_silence_an_input_for_good(toy: PolicyFile, jump_s: float) -> None:
    """The robot's own clock and the stamps jump together; what was heard before is of another time."""
    runtime, t_ns = PolicyRuntime(toy, toy_motion()), 10**13
    for _ in range(20):
        t_ns += TICK_NS
        feed_toy(runtime, t_ns)
        runtime.tick(t_ns)
    t_ns += round(jump_s * 1e9)
    assert runtime.tick(t_ns).mode == "stopped"
    for _ in range(3):
        t_ns += TICK_NS
        feed_toy(runtime, t_ns)
        assert runtime.tick(t_ns).mode == "stopped"
    runtime.ask("resume")
    t_ns += TICK_NS
    feed_toy(runtime, t_ns)
    assert runtime.tick(t_ns).mode == "ramp"


def test_lets_go_and_takes_hold_again(toy: PolicyFile) -> None:
    """hold, ramp, run, ramp_out, hold: the policy is asked in ramp and run alone; the rest pose is the contract's."""
    runtime, t_ns, modes = PolicyRuntime(toy, toy_motion()), 0, []
    plan = {0: "hold", 5: "engage", 25: "hold", 70: "engage", 100: "hold", 103: "resume"}
    position, results = np.full(3, 0.1), []
    for i in range(130):
        t_ns += TICK_NS
        feed_toy(runtime, t_ns, position)
        if i in plan:
            runtime.ask(plan[i])
        results.append(runtime.tick(t_ns))
        modes.append(results[-1].mode)
        position = known(results[-1].command)
        assert (results[-1].obs is None) == (modes[-1] in ("hold", "ramp_out"))
    assert [m for m, before in zip(modes, [None, *modes], strict=False) if m != before] == [
        "hold", "ramp", "run", "ramp_out", "hold", "ramp", "run", "ramp_out", "ramp", "run",
    ]  # fmt: skip
    np.testing.assert_array_equal(known(results[4].command), np.full(3, 0.1))
    np.testing.assert_array_equal(known(results[69].command), toy.contract.default_joint_pos)
    assert all(result.events == () for result in results), "no step of it needs the safety layer"


def test_a_stop_is_not_released_by_engaging(toy: PolicyFile) -> None:
    runtime = PolicyRuntime(toy, toy_motion())
    for i, command in enumerate(["track", "estop: the operator", "engage", "hold", "track", "engage"]):
        feed_toy(runtime, i * TICK_NS)
        runtime.ask(command)
        result = runtime.tick(i * TICK_NS)
        assert (result.mode == "stopped") == (i > 0)
    assert runtime.safety.stop_reason == "emergency stop: the operator"


def test_a_policy_that_takes_hold_again_has_forgotten(tmp_path: Path) -> None:
    """The last action and the history are those of the start: nothing of before the pause comes back."""
    policy = PolicyFile(toy_policy(tmp_path / "toy.onnx", gain=0.3))
    runtime = PolicyRuntime(policy, toy_motion())
    feed_toy(runtime, 0)
    first = runtime.tick(0)
    feed_toy(runtime, TICK_NS)
    assert not np.array_equal(known(runtime.tick(TICK_NS).obs), known(first.obs))
    runtime.ask("resume")
    feed_toy(runtime, 2 * TICK_NS)
    np.testing.assert_array_equal(known(runtime.tick(2 * TICK_NS).obs), known(first.obs))


def test_requests_are_bounded_and_an_emergency_stop_is_always_taken(toy: PolicyFile) -> None:
    runtime = PolicyRuntime(toy, toy_motion())
    with pytest.raises(ContractError, match="101th"):
        for _ in range(1000):
            runtime.ask("track")
    for _ in range(1000):
        runtime.refuse("imu", "anything")
        runtime.ask("estop")
    feed_toy(runtime, 0)
    result = runtime.tick(0)
    assert result.mode == "stopped" and len(result.commands) == 101


@pytest.mark.parametrize("text", ["hold: why", "resume: now", "track: fast", "refuse", "", ": x"])
def test_only_stops_and_refusals_carry_a_reason(toy: PolicyFile, text: str) -> None:
    with pytest.raises(ContractError, match="is unknown"):
        PolicyRuntime(toy, toy_motion()).ask(text)


def test_a_joint_state_of_a_thousand_names_is_refused(toy: PolicyFile) -> None:
    names = tuple(f"j{i}" for i in range(1001))
    with pytest.raises(ContractError, match="names 1001 joints"):
        PolicyRuntime(toy, toy_motion()).on_joint_state(0, names, np.zeros(1001), np.zeros(1001))


def test_free_fall_is_seen_from_the_accelerometer(toy: PolicyFile) -> None:
    runtime = PolicyRuntime(toy, toy_motion(), SafetyConfig(free_fall_s=0.1))
    with pytest.raises(ContractError, match="imu has no accelerometer"):
        runtime.on_imu(0, np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(3))
    modes = []
    for i in range(30):
        feed_toy(runtime, i * TICK_NS, reading=np.array([0.0, 0.0, 9.81 if i < 10 else 0.2]))
        modes.append(runtime.tick(i * TICK_NS).mode)
    assert modes.index("stopped") == 15 and "falls freely" in runtime.safety.stop_reason


def test_feet_in_the_air_stop_and_their_silence_too(toy: PolicyFile) -> None:
    runtime = PolicyRuntime(toy, toy_motion(), SafetyConfig(contact_loss_s=0.1))
    feed_toy(runtime, 0)
    assert runtime.tick(0).mode == "waiting", "what is asked for must be there"
    modes = []
    for i in range(1, 30):
        feed_toy(runtime, i * TICK_NS)
        runtime.ask(f"feet: {[0, int(i < 10)]}")
        modes.append(runtime.tick(i * TICK_NS).mode)
    assert modes.index("stopped") == 14 and "no foot" in runtime.safety.stop_reason
    runtime = PolicyRuntime(toy, toy_motion(), SafetyConfig(contact_loss_s=0.1))
    runtime.ask("feet: [1, 1]")
    for i in range(20):
        feed_toy(runtime, i * TICK_NS)
        mode = runtime.tick(i * TICK_NS).mode
    assert mode == "stopped" and "old" in runtime.safety.stop_reason
    for bad in ("feet: ", "feet: 1", "feet: []", "feet: [true]", "feet: [0.5]", f"feet: {[1] * 65}"):
        with pytest.raises(ContractError, match="feet are"):
            runtime.ask(bad)


anything = st.floats() | st.floats(-1, 1)
arrays = {size: st.lists(anything, min_size=size, max_size=size).map(np.array) for size in (3, 4)}
stamps = st.integers(-(2**40), 2**40) | st.integers(0, 10**8)
moves = st.one_of(
    st.tuples(st.just("on_joint_state"), stamps, st.just(JOINTS), arrays[3], arrays[3]),
    st.tuples(st.just("on_imu"), stamps, arrays[4], arrays[3]),
    st.tuples(st.just("on_odom"), stamps, arrays[3]),
    st.tuples(st.just("ask"), st.sampled_from(["stand", "track", "stop", "estop", "resume", "hold", "engage"])),
    st.tuples(st.just("tick"), st.integers(0, 10**8)),
    st.tuples(st.just("good")),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(moves, min_size=5, max_size=30))
def test_no_stream_of_messages_gets_a_command_outside_the_limits_through(toy: PolicyFile, stream: list) -> None:
    """Whatever arrives, in whatever order: finite, inside the limits and the slew, and held while stopped."""
    runtime = PolicyRuntime(toy, toy_motion())
    contract, last, stopped = toy.contract, None, False
    lower, upper = np.array(contract.joint_lower), np.array(contract.joint_upper)
    with np.errstate(all="ignore"):
        for name, *arguments in stream:
            if name == "good":
                feed_toy(runtime, 10**7)
                name, arguments = "tick", [10**7]
            if name != "tick":
                getattr(runtime, name)(*arguments)
                continue
            result = runtime.tick(*arguments)
            if stopped:
                assert result.mode in ("stopped", "waiting") or "resume" in result.commands
            stopped = result.mode == "stopped"
            if result.command is None:
                assert last is None
                continue
            assert np.isfinite(result.command).all()
            assert (result.command >= lower).all() and (result.command <= upper).all()
            if last is not None:
                assert (np.abs(result.command - last) <= 0.1 * (1 + 1e-12)).all()
                assert not stopped or np.array_equal(result.command, last)
            last = result.command
