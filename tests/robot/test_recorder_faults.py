"""The recorder as a process of its own: its disk fills up while messages keep coming."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import String

from bodydouble.recording import RecordingReader, recover
from robot.nodes.process import IMU, JOINT_STATES, TICK, latched, latest, reliable, running_node
from tests.robot.faults import FaultLog
from tests.ros_domain import ros_domain

DISK_BYTES = 1_500_000
RECORDER = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({DISK_BYTES}, {DISK_BYTES}))
from robot.nodes.recorder_node import main
sys.exit(main())
"""
"""The recorder, whose files cannot grow beyond DISK_BYTES: writes fail as on a full disk."""


def test_sensors_that_send_with_best_effort_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(ros_domain("recorder_best_effort")))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    path = tmp_path / "run.mcap"
    with running_node("robot", []) as running:
        argv = [sys.executable, "-m", "robot.nodes.recorder_node", "--out", str(path)]
        recorder = subprocess.Popen(argv, env=dict(os.environ))
        try:
            states = running.node.create_publisher(JointState, JOINT_STATES, reliable(1000))
            imus = running.node.create_publisher(Imu, IMU, latest(1000))
            deadline = time.monotonic() + 40
            while not (states.get_subscription_count() and imus.get_subscription_count()):
                assert time.monotonic() < deadline and recorder.poll() is None
                time.sleep(0.02)
            time.sleep(0.2)
            for i in range(50):
                states.publish(JointState(name=["hip"], position=[float(i)]))
                imus.publish(Imu())
                time.sleep(0.01)
            time.sleep(0.3)
        finally:
            recorder.send_signal(signal.SIGINT)
            assert recorder.wait(20) == 0
    with RecordingReader(path) as reader:
        assert reader.message_count(f"/{JOINT_STATES}") == 50 and reader.message_count(f"/{IMU}") > 40


def test_a_full_disk_is_told_counted_and_slows_no_one(
    tmp_path: Path, fault_log: FaultLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(ros_domain("recorder_disk_full")))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    path, log = tmp_path / "run.mcap", tmp_path / "recorder.log"
    rng = np.random.default_rng(0)
    sent, publish_ms = 0, {False: [], True: []}
    with running_node("robot", []) as running, open(log, "w") as output:
        argv = [sys.executable, "-c", RECORDER, "--out", str(path)]
        recorder = subprocess.Popen(argv, env=dict(os.environ), stdout=output, stderr=subprocess.STDOUT)
        try:
            states = running.node.create_publisher(JointState, JOINT_STATES, reliable(1000))
            ticks = running.node.create_publisher(String, TICK, latched(1000))
            deadline = time.monotonic() + 40
            while not (states.get_subscription_count() and ticks.get_subscription_count()):
                assert time.monotonic() < deadline and recorder.poll() is None, log.read_text()
                time.sleep(0.02)
            after = 0
            while after < 50:
                assert time.monotonic() < deadline and recorder.poll() is None, log.read_text()
                full = "recording stopped" in log.read_text()
                after += full
                # Random letters: what compresses well would never fill the disk.
                text = rng.integers(65, 91, 30_000, dtype=np.uint8).tobytes().decode()
                begun = time.perf_counter()
                states.publish(JointState(name=["hip"], position=[float(sent)]))
                ticks.publish(String(data=text))
                publish_ms[full].append(1000 * (time.perf_counter() - begun))
                sent += 1
                time.sleep(0.01)
            time.sleep(0.5)
        finally:
            recorder.send_signal(signal.SIGINT)
            code = recorder.wait(20)
    said = log.read_text()
    kept, dropped = map(int, re.findall(r"(\d+) messages are kept, (\d+) were dropped", said)[0])
    assert code == 1 and f"bodydouble recover {path}.tmp OUT.mcap" in said
    assert said.count("recording stopped") == 1 and "File too large" in said
    assert kept + dropped == 2 * sent, "every message is accounted for"
    found = recover(Path(f"{path}.tmp"), tmp_path / "rescued.mcap")
    assert found.messages == kept > 20
    with RecordingReader(tmp_path / "rescued.mcap") as reader:
        positions = [message.message.position[0] for message in reader.messages([f"/{JOINT_STATES}"])]
    assert positions == [float(i) for i in range(len(positions))], "without a gap up to the last whole chunk"
    before, since = (float(np.median(publish_ms[full])) for full in (False, True))
    assert since < 10 * before + 5.0
    fault_log.passed(
        "disk_full", "the recorder says so and goes on counting, what was written stays readable, nobody waits",
        kept=kept, dropped=dropped, publish_median_before_ms=before, publish_median_after_ms=since,
    )  # fmt: skip
