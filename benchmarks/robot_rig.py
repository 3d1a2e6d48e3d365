"""A robot that stands and sways, over DDS: what it sends, and what it hears of the policy's node."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray, String

from robot.nodes.process import COMMANDS, IMU, JOINT_STATES, ODOM, TICK, latched, reliable, running_node

OTHER_HZ = 200.0
"""Rate of imu and odom."""
PATIENCE_S = 60.0


class Heard:
    """What came: every tick's lateness, and with `keep` what a latency is told by."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []
        self.missed = 0
        self.running = False
        self._commands: dict[tuple[float, ...], int] = {}
        self._ticks: list[tuple[int, tuple[float, ...]]] = []
        self.keep = False

    def on_tick(self, message: String) -> None:
        # At 500 Hz over ten minutes: only what is needed is read, and only that is kept.
        text = message.data
        self.late_ms.append(_number(text, '"late_ms": '))
        self.missed = int(_number(text, '"missed": '))
        self.running = self.running or '"mode": "run"' in text
        if self.keep and '"mode": "run"' in text:
            tick = json.loads(text)
            self._ticks.append((tick["stamps"]["joint_states"], tuple(tick["command"])))

    def on_command(self, message: Float64MultiArray) -> None:
        now = time.time_ns()
        if self.keep:
            self._commands.setdefault(tuple(message.data), now)

    def wait_for_run(self) -> None:
        """Wait until the policy is in charge."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.running:
            if time.monotonic() > deadline:
                raise SystemExit("the policy's node did not come into charge; see what it said")
            time.sleep(0.05)
        time.sleep(1.0)
        self.keep = True

    def latencies_ms(self) -> list[float]:
        """Return the time from a joint state's sending to its command's receipt, ms; commands differ bit by bit."""
        return [(self._commands[c] - sent) / 1e6 for sent, c in self._ticks if c in self._commands]


@contextmanager
def standing_robot(joints: tuple[str, ...], joint_hz: float) -> Iterator[Heard]:
    """Send joint states at a rate, imu and odom at OTHER_HZ, and hear ticks and commands."""
    heard, stop = Heard(), threading.Event()
    with running_node("robot", []) as running:
        running.node.create_subscription(String, TICK, heard.on_tick, latched(1000))
        running.node.create_subscription(Float64MultiArray, COMMANDS, heard.on_command, reliable(100))
        thread = threading.Thread(target=_send, args=(running.node, joints, joint_hz, stop), daemon=True)
        thread.start()
        try:
            yield heard
        finally:
            stop.set()
            thread.join()


def _send(node: Node, joints: tuple[str, ...], joint_hz: float, stop: threading.Event) -> None:
    states = node.create_publisher(JointState, JOINT_STATES, reliable(5))
    imus, odoms = node.create_publisher(Imu, IMU, reliable(5)), node.create_publisher(Odometry, ODOM, reliable(5))
    state, imu, odom = JointState(name=list(joints)), Imu(), Odometry()
    imu.orientation.w, imu.linear_acceleration.z, odom.pose.pose.position.z = 1.0, 9.81, 0.8
    state.velocity = [0.0] * len(joints)
    begun, number, due_other = time.monotonic(), 0, 0.0
    phase = np.arange(len(joints))
    while not stop.is_set():
        since = time.monotonic() - begun
        # Never the same twice: a command must tell which joint state it is from.
        state.position = (0.05 * np.sin(since + phase)).tolist()
        messages = [(states, state)]
        if since >= due_other:
            due_other = since + 1 / OTHER_HZ
            messages = [(imus, imu), (odoms, odom), (states, state)]
        for publisher, message in messages:
            now = time.time_ns()
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 1_000_000_000)
            publisher.publish(message)
        number = max(number + 1, int(since * joint_hz))
        stop.wait(max(0.0, begun + number / joint_hz - time.monotonic()))


def _number(text: str, key: str) -> float:
    at = text.index(key) + len(key)
    end = min(place for place in (text.find(",", at), text.find("}", at)) if place >= 0)
    return float(text[at:end])
