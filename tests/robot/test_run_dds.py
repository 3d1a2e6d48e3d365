"""Separate processes over DDS: a whole run and its replay, emergency stop, watchdog, and a recorder that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bodydouble.recording import RecordingReader, RecordingWriter, messages, recover
from robot.launch import RunConfig, run
from robot.nodes.process import COMMANDS, SKILL, TICK, reliable, running_node
from robot.replay import replay
from sim.stage.stage import Stage
from tests.robot.faults import FaultLog
from tests.ros_domain import ros_domain

JOINT_STATE = "sensor_msgs/msg/JointState"


@pytest.fixture(scope="module")
def finished(policy_path: Path, stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the small stage, without the orchestrator."""
    out = tmp_path_factory.mktemp("run") / "run"
    config = RunConfig(orchestrator=False, stand_s=0.5, end_s=0.2)
    result = run(policy_path, stage.path, out, config)
    figures = result.figures
    assert figures["robot_up_s"] == figures["run_s"] > stage.reference.duration_s
    assert figures["body_error_m"] < 0.12
    assert figures["dropped_messages"] == 0
    return out


def test_replay_repeats_every_bit(finished: Path, policy_path: Path, stage: Stage) -> None:
    report = replay(finished / "run.mcap", policy_path, stage.path)
    assert report.diff_bits == 0 and report.ticks > 50 and report.first_difference == ""


def rewritten(run_file: Path, out: Path, change: Callable[[str, int, bytes], bytes | None]) -> Path:
    """Write the run again, each message as the function returns it; None leaves it out."""
    counts: dict[str, int] = {}
    with RecordingReader(run_file) as reader, RecordingWriter(out) as writer:
        for raw in reader.raw_messages():
            index = counts[raw.topic] = counts.get(raw.topic, -1) + 1
            data = change(raw.topic, index, bytes(raw.data))
            if data is not None:
                writer.write_cdr(raw.topic, raw.msgtype, data, raw.log_time_ns, raw.publish_time_ns)
    return out


def test_one_changed_input_is_found(finished: Path, policy_path: Path, stage: Stage, tmp_path: Path) -> None:
    def change(topic: str, index: int, data: bytes) -> bytes:
        if topic != "/joint_states":
            return data
        state = messages.deserialize(JOINT_STATE, data)
        position = np.array(state.position)
        position[3] += 1e-4 * (index > 100)
        fields = {"header": state.header, "name": list(state.name), "position": position, "velocity": state.velocity}
        return messages.serialize(JOINT_STATE, fields)

    report = replay(rewritten(finished / "run.mcap", tmp_path / "run.mcap", change), policy_path, stage.path)
    assert report.diff_bits > 0 and "tick" in report.first_difference


def test_one_changed_command_is_found(finished: Path, policy_path: Path, stage: Stage, tmp_path: Path) -> None:
    def change(topic: str, index: int, data: bytes) -> bytes:
        # The last byte of a float64 array is the sign and exponent of its last number; bit 0 of its first is tiny.
        return data if not topic.endswith(COMMANDS) or index != 20 else data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]

    report = replay(rewritten(finished / "run.mcap", tmp_path / "run.mcap", change), policy_path, stage.path)
    assert report.diff_bits == 1 and "sent" in report.first_difference


def test_lost_inputs_are_taken_from_the_ticks(finished: Path, policy_path: Path, stage: Stage, tmp_path: Path) -> None:
    def change(topic: str, index: int, data: bytes) -> bytes | None:
        return None if topic == "/imu" and index > 50 else data

    report = replay(rewritten(finished / "run.mcap", tmp_path / "run.mcap", change), policy_path, stage.path)
    assert report.diff_bits == 0 and report.inputs_from_ticks > 20


class Robot:
    """The nodes of a robot, and what is heard of them."""

    def __init__(self, policy: Path, stage: Stage, folder: Path, env: dict[str, str]) -> None:
        self.record = folder / "run.mcap"
        commands = {
            "recorder": ["robot.nodes.recorder_node", "--out", str(self.record)],
            "sim_robot": ["sim.nodes.sim_robot_node", "--stage", str(stage.path), "--subscribers", "1"],
            "policy": [
                *("robot.nodes.policy_node", "--policy", str(policy)),
                *("--reference", str(stage.path / "reference.npz"), "--subscribers", "2"),
                *("--ros-args", "-p", "autostart:=true"),
            ],
        }
        self.ticks: list[dict] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands, self._env = commands, env
        for name in commands:
            self.start(name)

    def start(self, name: str) -> None:
        self.processes[name] = subprocess.Popen([sys.executable, "-m", *self._commands[name]], env=self._env)

    def wait_for(self, condition: Callable[[dict], bool], seconds: float = 40.0, since: int | None = None) -> dict:
        """Return the first tick from now on, or from tick `since` on, that meets a condition."""
        deadline, seen = time.monotonic() + seconds, len(self.ticks) if since is None else since
        while time.monotonic() < deadline:
            for tick in self.ticks[seen:]:
                if condition(tick):
                    return tick
            seen = max(seen, len(self.ticks) - 1)
            time.sleep(0.01)
        raise AssertionError(f"not seen; last tick: {self.ticks[-1:]}")


@pytest.fixture
def robot(policy_path: Path, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Robot]:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(ros_domain("run")))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    robot = Robot(policy_path, stage, tmp_path, dict(os.environ))
    from std_msgs.msg import String

    with running_node("test_robot", []) as running:
        robot.node = running.node  # type: ignore[attr-defined]
        hear = reliable(500)
        running.node.create_subscription(String, TICK, lambda m: robot.ticks.append(json.loads(m.data)), hear)
        try:
            yield robot
        finally:
            for process in robot.processes.values():
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
            for process in robot.processes.values():
                process.wait(20)


def call(robot: Robot, service: str) -> str:
    from std_srvs.srv import Trigger

    client = robot.node.create_client(Trigger, f"/policy/{service}")  # type: ignore[attr-defined]
    assert client.wait_for_service(10.0)
    future = client.call_async(Trigger.Request())
    deadline = time.monotonic() + 10
    while not future.done():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return future.result().message


def test_stop_watchdog_and_a_killed_recorder(robot: Robot, tmp_path: Path, fault_log: FaultLog) -> None:
    from std_msgs.msg import String

    robot.wait_for(lambda tick: tick["mode"] == "run")
    skill = robot.node.create_publisher(String, SKILL, reliable(10))  # type: ignore[attr-defined]
    time.sleep(0.5)
    skill.publish(String(data=json.dumps({"skill": "track", "reason": "test"})))
    robot.wait_for(lambda tick: tick["skill"] == "track" and tick["frame"] > 2)

    call(robot, "estop")
    stopped = robot.wait_for(lambda tick: tick["mode"] == "stopped")
    later = robot.wait_for(lambda tick: tick["tick"] > stopped["tick"] + 20)
    assert later["mode"] == "stopped" and later["command"] == stopped["command"]
    skill.publish(String(data=json.dumps({"skill": "track", "reason": "test"})))
    later = robot.wait_for(lambda tick: tick["tick"] > later["tick"] + 20)
    assert later["mode"] == "stopped"
    call(robot, "resume")
    robot.wait_for(lambda tick: tick["mode"] == "run")

    # The robot falls silent: the policy keeps its last command, then stops and says why.
    # At once: a robot whose joints stood still for a second may fall over soon, and that stops it too.
    since = len(robot.ticks)
    robot.processes["sim_robot"].kill()
    robot.processes["sim_robot"].wait()
    silent = robot.wait_for(lambda tick: tick["mode"] == "stopped", since=since)
    assert any("old" in event for event in silent["events"])

    # A new one comes: nothing moves until the operator says so; then the policy ramps in from where the robot is.
    robot.start("sim_robot")
    heard = robot.wait_for(lambda tick: tick["stamps"]["joint_states"] > silent["t_ns"])
    assert heard["mode"] == "stopped" and heard["command"] == silent["command"]
    call(robot, "resume")
    robot.wait_for(lambda tick: tick["mode"] == "ramp")
    running = robot.wait_for(lambda tick: tick["mode"] == "run")
    fault_log.passed(
        "robot_killed",
        "stop latched, runs again after resume",
        silent_s=(heard["t_ns"] - silent["t_ns"]) / 1e9,
        ramp_s=(running["t_ns"] - heard["t_ns"]) / 1e9,
    )

    # The recorder dies without a word; what it wrote until then is there.
    time.sleep(1.2)
    robot.processes["recorder"].kill()
    robot.processes["recorder"].wait()
    unfinished = robot.record.with_name(robot.record.name + ".tmp")
    found = recover(unfinished, tmp_path / "rescued.mcap")
    assert found.messages > 200
    with RecordingReader(tmp_path / "rescued.mcap") as reader:
        rescued = sum(1 for _ in reader.messages(["/joint_states"]))
        assert rescued > 50 and reader.message_count(f"/{COMMANDS}") > 20
    fault_log.passed("recorder_killed", "readable up to the last chunk after recover", messages=found.messages)
