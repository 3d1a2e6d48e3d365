"""The fault table over DDS: each fault on running processes, what came of it, and that no command left the limits."""

from __future__ import annotations

import dataclasses
import itertools
import re
import time
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from robot.nodes.process import CONTRACT, GAINS, SETTINGS, running_node
from robot.run_figures import read_ticks
from tests.robot.faults import FaultLog
from tests.robot.rig import NAMESPACE, Reading, Rig
from tests.robot.samples import JOINTS, toy_motion, toy_policy
from tests.ros_domain import ros_domain


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("rig")
    toy_motion().save(folder / "reference.npz")
    policy = toy_policy(folder / "toy.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(ros_domain("faults")))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        with running_node("rig", []) as running:
            rig = Rig(running.node, folder, policy, folder / "reference.npz")
            try:
                yield rig
            finally:
                rig.close()


@pytest.fixture
def running(rig: Rig) -> Iterator[Rig]:
    """The rig with the policy running and nothing wrong; the limits are checked afterwards."""
    rig.alter = lambda reading: reading
    rig.run()
    since = len(rig.ticks)
    yield rig
    rig.alter = lambda reading: reading
    rig.check_limits(since)


def test_lifecycle_states_answer_and_gate_the_commands(rig: Rig) -> None:
    assert rig.state() == "unconfigured" and not rig.announced
    assert not rig.transition("activate") and rig.state() == "unconfigured"
    assert rig.transition("configure") and rig.state() == "inactive"
    contract = rig.wait(lambda: rig.announced.get(CONTRACT), "the contract")
    gains = rig.wait(lambda: rig.announced.get(GAINS), "the gains")
    assert contract["joint_names"] == gains["joint_names"] == list(JOINTS) and gains["kp"] == [10.0] * 3
    settings = rig.wait(lambda: rig.announced.get(SETTINGS), "the settings")
    assert settings["safety"]["stop_input_age_s"] == 1.5 and len(settings["policy_sha256"]) == 64
    time.sleep(0.2)
    assert not rig.commands and not rig.ticks, "an inactive policy says nothing"
    assert rig.transition("activate") and rig.state() == "active"
    start = rig.pose.copy()
    rig.tick(lambda t: t["mode"] == "run", "run", 0)
    assert next(t["mode"] for t in rig.ticks if t["mode"] != "waiting") == "ramp"
    np.testing.assert_allclose(rig.commands[0], start, atol=0.05)

    since = len(rig.ticks)
    assert rig.transition("deactivate") and rig.state() == "inactive"
    rig.tick(lambda t: t["mode"] == "hold", "hold", since)
    assert next(t["mode"] for t in rig.ticks[since:] if t["mode"] != "run") == "ramp_out"
    rig.wait(lambda: np.array_equal(rig.pose, rig.contract.default_joint_pos), "the rest pose")
    time.sleep(0.2)
    count = len(rig.ticks)
    time.sleep(0.2)
    assert len(rig.ticks) == count, "the control thread has ended"
    assert rig.transition("activate")
    rig.tick(lambda t: t["mode"] == "run", "run", count)
    assert rig.ticks[count]["tick"] == rig.ticks[count - 1]["tick"] + 1
    rig.check_limits(0)


def test_hold_and_resume_while_active(running: Rig) -> None:
    since = len(running.ticks)
    running.trigger("hold")
    running.tick(lambda t: t["mode"] == "hold", "hold", since)
    running.resume()
    modes = [t["mode"] for t in running.ticks[since:]]
    order = [mode for mode, before in zip(modes, [None, *modes], strict=False) if mode != before]
    assert order[-4:] == ["ramp_out", "hold", "ramp", "run"]


def test_diagnostics_tell_rhythm_ages_and_reasons(running: Rig) -> None:
    running.diagnostics.clear()
    status = running.wait(lambda: running.diagnostics and running.diagnostics[-1], "diagnostics")
    values = {pair.key: pair.value for pair in status.values}
    assert status.hardware_id == "toy" and status.message == "run"
    assert 0 < float(values["tick_p50_ms"]) <= float(values["tick_p99_ms"]) <= float(values["tick_max_ms"])
    assert {"missed_ticks", "joint_states_age_ms", "imu_age_ms", "odom_age_ms"} <= set(values)


def stopped_by(rig: Rig, since: int) -> tuple[dict, str]:
    """Return the first stopped tick and its reason; the command is that of the tick before, and stays."""
    stopped = rig.tick(lambda t: t["mode"] == "stopped", "stop", since)
    later = rig.tick(lambda t: t["tick"] >= stopped["tick"] + 5, "later ticks", since)
    before = [t for t in rig.ticks if t["tick"] == stopped["tick"] - 1][-1]
    assert stopped["command"] == later["command"] == before["command"]
    return stopped, next(event for event in stopped["events"] if event.startswith("stop: "))


def test_inputs_stop(running: Rig, fault_log: FaultLog) -> None:
    since = len(running.ticks)
    running.alter = lambda reading: None
    stopped, reason = stopped_by(running, since)
    age_s = (stopped["t_ns"] - min(stopped["stamps"].values())) / 1e9
    assert re.fullmatch(r"stop: input \d+ ms old, at most 1500 ms", reason)
    assert any("late input" in event for t in running.ticks[since:] for event in t["events"])
    running.alter = lambda reading: reading
    time.sleep(0.1)
    assert running.ticks[-1]["mode"] == "stopped", "it does not go on by itself"
    running.run()
    fault_log.passed("inputs_stop", "last command kept, stop latched, runs again after resume", stop_after_s=age_s)


def test_inputs_with_nan(running: Rig, fault_log: FaultLog) -> None:
    def alter(reading: Reading) -> Reading:
        reading.position[1] = np.nan
        return reading

    since = len(running.ticks)
    running.alter = alter
    _, reason = stopped_by(running, since)
    assert reason == "stop: an input is not finite: joint_states"
    fault_log.passed("inputs_nan", "stop latched in the tick that sees it, command kept")


def test_joints_in_another_order(running: Rig, fault_log: FaultLog) -> None:
    order = [2, 0, 1]

    def alter(reading: Reading) -> Reading:
        return dataclasses.replace(
            reading, names=[reading.names[i] for i in order], position=reading.position[order], t_ns=reading.t_ns
        )

    time.sleep(0.2)
    since = len(running.ticks)
    before = running.ticks[-1]
    running.alter = alter
    time.sleep(0.4)
    after = running.tick(lambda t: t["tick"] > before["tick"] + 15, "later ticks", since)
    assert all(t["mode"] == "run" and t["events"] == [] for t in running.ticks[since:])
    # Six values of gyro and gravity come before the three joint positions.
    drift = float(np.abs(np.array(after["obs"][6:9]) - before["obs"][6:9]).max())
    assert drift < 0.02, "hip, knee and ankle stand 0.25 rad apart"
    fault_log.passed("inputs_wrong_order", "mapped by name, runs on without an event", observation_drift_rad=drift)


def test_a_missing_joint(running: Rig, fault_log: FaultLog) -> None:
    since = len(running.ticks)
    running.alter = lambda r: dataclasses.replace(r, names=r.names[:2], position=r.position[:2])
    _, reason = stopped_by(running, since)
    assert reason == "stop: emergency stop: joint state names joint ankle 0 times, expected once"
    fault_log.passed("inputs_missing_joint", "stop latched, the reason names the joint, command kept")


def test_time_going_backwards(running: Rig, fault_log: FaultLog) -> None:
    """Now and then an old message: it is refused and told. Nothing but old ones: the watchdog stops."""
    since = len(running.ticks)
    running.alter = lambda r: dataclasses.replace(r, t_ns=r.t_ns - 30_000_000 * (r.number % 3 == 0))
    running.tick(lambda t: any(e.startswith("refused: imu: stamped") for e in t["events"]), "refusal", since)
    running.tick(lambda t: t["tick"] > running.ticks[since]["tick"] + 10, "later ticks", since)
    assert {t["mode"] for t in running.ticks[since:]} == {"run"}
    held = time.time_ns()
    running.alter = lambda r: dataclasses.replace(r, t_ns=2 * held - r.t_ns)
    since = len(running.ticks)
    _, reason = stopped_by(running, since)
    assert "ms old" in reason
    fault_log.passed("inputs_time_backwards", "older messages refused and told; without newer ones the stop latches")


def test_clock_jump(running: Rig, fault_log: FaultLog) -> None:
    for jump_s, words in ((3600, "ahead of the clock"), (-3600, "ms old")):
        since = len(running.ticks)
        running.alter = lambda r, by=jump_s: dataclasses.replace(r, t_ns=r.t_ns + by * 10**9)
        _, reason = stopped_by(running, since)
        assert words in reason
        running.alter = lambda reading: reading
        running.run()
    fault_log.passed("clock_jump", "an hour forward or back: stop latched, runs again after resume")


def test_emergency_stop_within_two_ticks(running: Rig, fault_log: FaultLog) -> None:
    since, asked_ns = len(running.ticks), time.time_ns()
    message = running.trigger("estop")
    taken = int(re.findall(r"from tick (\d+)", message)[0])
    stopped, reason = stopped_by(running, since)
    assert reason == "stop: emergency stop" and stopped["tick"] - taken < 2
    ticks = sum(asked_ns < t["t_ns"] <= stopped["t_ns"] for t in running.ticks[since:])
    fault_log.passed(
        "emergency_stop", "stop latched, command kept, until resume",
        ticks_after_the_service_took_it=stopped["tick"] - taken + 1, ticks_after_the_call=ticks,
    )  # fmt: skip


def test_packet_loss(running: Rig, fault_log: FaultLog) -> None:
    rng = np.random.default_rng(7)
    lost = sent = 0

    def alter(reading: Reading) -> Reading:
        nonlocal lost, sent
        reading.lost = {name for name in ("joint_states", "imu", "odom") if rng.random() < 0.05}
        lost, sent = lost + len(reading.lost), sent + 3
        return reading

    since = len(running.ticks)
    running.alter = alter
    time.sleep(1.5)
    running.tick(lambda t: t["tick"] > running.ticks[since]["tick"] + 70, "70 ticks", since)
    found = running.ticks[since:]
    assert {t["mode"] for t in found} == {"run"} and lost > 5
    late = sum(bool(t["events"]) for t in found)
    age = [(t["t_ns"] - min(t["stamps"].values())) / 1e6 for t in found]
    fault_log.passed(
        "packet_loss", "runs on", ticks=len(found), lost_pct=100 * lost / sent, ticks_with_a_late_input=late,
        input_age_p99_ms=float(np.percentile(age, 99)),
    )  # fmt: skip


def test_policy_killed_and_restarted(running: Rig, fault_log: FaultLog) -> None:
    """Nothing is sent any more; what was is recorded; the next one takes hold of the robot where it stands."""
    since = len(running.ticks)
    running.wait(lambda: len(running.ticks) > since + 5, "ticks")
    running.policy.kill()
    running.policy.wait()
    time.sleep(0.2)
    count = len(running.commands)
    held = running.pose = running.pose + 0.2
    time.sleep(0.2)
    assert len(running.commands) == count
    since = len(running.ticks)
    running.start_policy("autostart:=true", "hold_at_start:=true")
    running.tick(lambda t: t["mode"] == "hold" and t["tick"] > 5, "hold", since)
    assert all(np.allclose(command, held, atol=1e-12) for command in running.commands[count:]), "held where it stands"
    running.resume()
    jump = float(np.abs(running.commands[count] - held).max())
    fault_log.passed("policy_killed", "the robot keeps its last command; a restarted policy holds the present pose and "
                     "ramps in", first_command_from_pose_rad=jump)  # fmt: skip


def test_a_trajectory_controller_is_served_by_a_parameter(running: Rig) -> None:
    assert running.transition("deactivate") and running.transition("cleanup") and running.state() == "unconfigured"
    wanted = [("receiver", "joint_trajectory_controller"), ("safety.max_tilt", 0.8)]
    request = SetParameters.Request(parameters=[Parameter(n, value=v).to_parameter_msg() for n, v in wanted])
    answer = running.call(SetParameters, "set_parameters", request)
    assert all(result.successful for result in answer.results)
    count = len(running.commands)
    assert running.transition("configure") and running.transition("activate")
    message = running.wait(lambda: running.trajectories and running.trajectories[-1], "a trajectory")
    assert list(message.joint_names) == list(JOINTS) and len(message.points) == 1
    assert message.points[0].time_from_start.nanosec == 20_000_000 and len(message.points[0].positions) == 3
    assert len(running.commands) == count


def test_what_was_heard_before_any_fault_is_recorded_and_shutdown_is_final(rig: Rig) -> None:
    assert rig.transition("shutdown") and rig.state() == "finalized"
    rig.close()
    recorded = [(t["t_ns"], t["tick"]) for t in read_ticks(rig.record, f"{NAMESPACE}/policy/tick")]
    heard = [(t["t_ns"], t["tick"]) for t in rig.ticks]
    # Who is killed sends nothing again: the last tick before may have come to one listener and not to the other.
    last = {before for before, after in itertools.pairwise(heard) if after[1] <= before[1]}
    assert len(heard) > 300 and set(heard) - last <= set(recorded)
    assert rig.policy.returncode == 0 and rig.recorder.returncode == 0
