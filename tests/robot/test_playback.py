"""The rhythm of a playback, and a run heard again by another process's node."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bodydouble.errors import InputError
from bodydouble.recording import RecordingWriter, SerializedMessage
from robot.nodes.replayer_node import OBEYED_TYPES, publishers, topic_for
from robot.playback import CLOCK_PERIOD_NS, playback
from tests.ros_domain import ros_domain

MS = 1_000_000


def message(t_ms: int) -> SerializedMessage:
    return SerializedMessage("/a", "std_msgs/msg/String", t_ms * MS, t_ms * MS, memoryview(b""))


def test_messages_keep_their_distances_at_any_rate() -> None:
    times = [1000, 1003, 1025, 1100]
    for rate in (0.5, 1.0, 4.0):
        due = [d.at_s for d in playback(map(message, times), rate) if d.message is not None]
        np.testing.assert_allclose(due, (np.array(times) - 1000) / 1000 / rate)


def test_clock_ticks_evenly_and_never_runs_ahead_of_a_message() -> None:
    plan = list(playback(map(message, [0, 35, 60]), 1.0))
    assert [d.clock_ns for d in plan if d.message is None] == [i * CLOCK_PERIOD_NS for i in range(7)]
    assert [d.clock_ns for d in plan] == sorted(d.clock_ns for d in plan)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_rate_must_be_positive(rate: float) -> None:
    with pytest.raises(InputError, match="rate"):
        list(playback([message(0)], rate))


def test_commands_are_not_sent_to_a_robot() -> None:
    floats, trajectory, twist = OBEYED_TYPES[:3]
    topic = "forward_position_controller/commands"
    assert topic_for(f"/{topic}", floats) == f"replayed/{topic}"
    assert topic_for(f"/arm/{topic}", floats).startswith("replayed/")
    assert (
        topic_for("/anything", trajectory)
        == "replayed/anything"
        == topic_for("/anything", "trajectory_msgs/JointTrajectory")
    )
    assert topic_for("/cmd_vel", twist) == "replayed/cmd_vel"
    assert topic_for("/policy/gains", "std_msgs/msg/String") == "replayed/policy/gains"
    assert topic_for("/skill") == "replayed/skill" and topic_for("/heartbeat") == "replayed/heartbeat"
    assert topic_for("/joint_states", "sensor_msgs/msg/JointState") == "joint_states"
    assert topic_for("/known_skill") == "known_skill"


class FakeNode:
    """Stands for rclpy's node: no type may get as far as a publisher here."""

    def create_publisher(self, kind: Any, topic: str, qos: Any) -> Any:
        raise AssertionError(f"{kind} on {topic}")


def test_a_type_that_is_not_ros_own_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's type name must not choose a module to run."""
    (tmp_path / "trap").mkdir()
    (tmp_path / "trap" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    named = {"/a": "trap/msg/Thing", "/b": "Thing", "/c": "a/b/c/d", "/clock": "rosgraph_msgs/msg/Clock"}
    made, absent = publishers(FakeNode(), named)  # type: ignore[arg-type]
    assert made == {} and absent == ["/a (trap/msg/Thing)", "/b (Thing)", "/c (a/b/c/d)"]


LISTENER = """
import json, sys, time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from robot.nodes.process import CLOCK, reliable, running_node
heard = {"states": [], "clock": [], "commands": 0, "replayed": 0, "at": []}
with running_node("listener", []) as running:
    def states(m):
        heard["states"].append([m.header.stamp.sec * 10**9 + m.header.stamp.nanosec, list(m.position)])
        heard["at"].append(time.monotonic())
    def count(name):
        def add(_): heard[name] += 1
        return add
    node = running.node
    node.create_subscription(JointState, "joint_states", states, reliable(1000))
    node.create_subscription(Clock, CLOCK, lambda m: heard["clock"].append(m.clock.sec + m.clock.nanosec * 1e-9),
                             reliable(1000))
    topic = "forward_position_controller/commands"
    node.create_subscription(Float64MultiArray, topic, count("commands"), reliable(1000))
    node.create_subscription(Float64MultiArray, "replayed/" + topic, count("replayed"), reliable(1000))
    print("ready", flush=True)
    while not running.stop.wait(0.05) and len(heard["states"]) < 100: pass
    time.sleep(0.3)
print(json.dumps(heard))
"""


def test_run_is_heard_again_over_dds(tmp_path: Path) -> None:
    import json

    run = tmp_path / "run.mcap"
    start = 5_000_000_000
    with RecordingWriter(run) as writer:
        for i in range(100):
            t = start + i * 20 * MS
            fields = {"header": {"stamp": t, "frame_id": ""}, "name": ["a"], "position": [0.1 * i]}
            writer.write("/joint_states", "sensor_msgs/msg/JointState", fields, t)
            command = {"data": np.array([float(i)])}
            writer.write("/forward_position_controller/commands", "std_msgs/msg/Float64MultiArray", command, t)
    env = {**os.environ, "ROS_DOMAIN_ID": str(ros_domain("playback"))}
    listener = subprocess.Popen([sys.executable, "-c", LISTENER], env=env, stdout=subprocess.PIPE, text=True)
    assert listener.stdout is not None and listener.stdout.readline() == "ready\n"
    begun = time.monotonic()
    argv = [sys.executable, "-m", "robot.nodes.replayer_node", "--run", str(run), "--rate", "2", "--subscribers", "1"]
    done = subprocess.run(argv, env=env, timeout=60, check=False)
    assert done.returncode == 0 and time.monotonic() - begun < 30
    text, _ = listener.communicate(timeout=30)
    heard = json.loads(text.splitlines()[-1])
    assert [stamp for stamp, _ in heard["states"]] == [start + i * 20 * MS for i in range(100)]
    assert [position for _, position in heard["states"]] == [[0.1 * i] for i in range(100)]
    assert heard["commands"] == 0 and heard["replayed"] > 90
    assert 0.9 < heard["at"][-1] - heard["at"][0] < 1.5  # 1.98 s of recording at twice the speed
    assert heard["clock"] == sorted(heard["clock"]) and heard["clock"][0] >= 5.0 and heard["clock"][-1] <= 6.99


def test_damaged_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.mcap").write_bytes(b"nothing")
    argv = [sys.executable, "-m", "robot.nodes.replayer_node", "--run", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "run.mcap" in done.stderr and done.stderr.count("\n") == 1


def test_a_bag_with_a_foreign_type_plays_without_it(tmp_path: Path) -> None:
    from tests.bodydouble.recording.test_foreign import write_bag

    bag = write_bag(tmp_path / "bag")
    env = {**os.environ, "ROS_DOMAIN_ID": str(ros_domain("playback"))}
    argv = [sys.executable, "-m", "robot.nodes.replayer_node", "--run", str(bag), "--rate", "10"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "skipped /hand (hand_msgs/msg/Hand): its type is not installed in ROS here" in done.stderr + done.stdout
    assert "/joint_states" not in done.stderr + done.stdout
