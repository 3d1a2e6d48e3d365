"""A robot that stands and sways, over DDS: what it sends, and what it hears of the policy's node.

Messages go out and come in as bytes: making and reading them in Python would be measured as the robot's, whose driver
is no Python program. A command has come when the middleware of this process has it, and again when a callback has.
"""

from __future__ import annotations

import json
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray, String

from bodydouble.recording import messages
from robot.nodes.process import COMMANDS, IMU, JOINT_STATES, ODOM, TICK, latched, reliable, running_node

OTHER_HZ = 200.0
"""Rate of imu and odom."""
PATIENCE_S = 60.0
SWITCH_INTERVAL_S = 0.0005
"""How long one thread here may keep the interpreter from the other, s."""
_STAMP_AT = 4
"""Where a message with a header has its stamp."""
_MARK = 1.2345678e77
"""A value that stands where the positions go, to find the place."""


class Heard:
    """What came: every tick's lateness, and with `keep` what a latency is told by."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []
        self.missed = 0
        self.running = self.keep = False
        self._commands: list[tuple[bytes, int, int, int]] = []
        self._ticks: list[bytes] = []

    def on_tick(self, data: bytes) -> None:
        # At 500 Hz over ten minutes: only what is needed is read, and only that is kept.
        self.late_ms.append(_number(data, b'"late_ms": '))
        self.missed = int(_number(data, b'"missed": '))
        running = b'"mode": "run"' in data
        self.running = self.running or running
        if self.keep and running:
            self._ticks.append(data)

    def on_command(self, data: bytes, info: dict[str, int]) -> None:
        now = time.time_ns()
        if self.keep:
            self._commands.append((data, info["source_timestamp"], info["received_timestamp"], now))

    def wait_for_run(self) -> None:
        """Wait until the policy is in charge."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.running:
            if time.monotonic() > deadline:
                raise SystemExit("the policy's node did not come into charge; see what it said")
            time.sleep(0.05)
        time.sleep(1.0)
        self.keep = True

    def latencies_ms(self) -> dict[str, np.ndarray]:
        """Return times of each command (N,), ms, told apart by its bits.

        ros_in_to_out is from the joint state's sending to the command's receipt by this process's middleware; the hops
        in between: to_tick until the tick begins, tick until the command is given to the middleware, and out from there
        to the receipt; and to_callback from the receipt to the callback.
        """
        found: dict[tuple[float, ...], tuple[int, int, int]] = {}
        for data, given, received, called in self._commands:
            values = messages.deserialize("std_msgs/msg/Float64MultiArray", data).data
            found.setdefault(tuple(values.tolist()), (given, received, called))
        rows = []
        for data in self._ticks:
            tick = json.loads(messages.deserialize("std_msgs/msg/String", data).data)
            if times := found.get(tuple(tick["command"])):
                rows.append([tick["stamps"]["joint_states"], tick["t_ns"], *times])
        sent, tick, given, received, called = np.array(rows, dtype=np.int64).reshape(-1, 5).T
        spans = {
            "ros_in_to_out": received - sent, "to_tick": tick - sent, "tick": given - tick, "out": received - given,
            "to_callback": called - received,
        }  # fmt: skip
        return {name: span / 1e6 for name, span in spans.items()}


@contextmanager
def standing_robot(joints: tuple[str, ...], joint_hz: float) -> Iterator[Heard]:
    """Send joint states at a rate, imu and odom at OTHER_HZ, and hear ticks and commands."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    heard, stop = Heard(), threading.Event()
    with running_node("robot", []) as running:
        running.node.create_subscription(String, TICK, heard.on_tick, latched(1000), raw=True)
        hear: Any = heard.on_command  # rclpy's types know of callbacks with one argument alone
        running.node.create_subscription(Float64MultiArray, COMMANDS, hear, reliable(100), raw=True)
        thread = threading.Thread(target=_send, args=(running.node, joints, joint_hz, stop), daemon=True)
        thread.start()
        try:
            yield heard
        finally:
            stop.set()
            thread.join()


def _send(node: Node, joints: tuple[str, ...], joint_hz: float, stop: threading.Event) -> None:
    count = len(joints)
    state, imu, odom = JointState(name=list(joints)), Imu(), Odometry()
    state.position, state.velocity = [_MARK] * count, [0.0] * count
    imu.orientation.w, imu.linear_acceleration.z, odom.pose.pose.position.z = 1.0, 9.81, 0.8
    made = [(JOINT_STATES, state), (IMU, imu), (ODOM, odom)]
    states, *others = [
        (node.create_publisher(type(message), topic, reliable(5)), bytearray(serialize_message(message)))
        for topic, message in made
    ]
    at = states[1].index(np.full(count, _MARK).tobytes())
    position = np.frombuffer(states[1], np.float64, count, at)
    begun, number, due_other, phase = time.monotonic(), 0, 0.0, np.arange(count)
    while not stop.is_set():
        since = time.monotonic() - begun
        # Never the same twice: a command must tell which joint state it is from.
        position[:] = 0.05 * np.sin(since + phase)
        due: list[tuple[Any, bytearray]] = [states]
        if since >= due_other:
            due_other = since + 1 / OTHER_HZ
            due = [*others, states]
        for publisher, data in due:
            struct.pack_into("<iI", data, _STAMP_AT, *divmod(time.time_ns(), 1_000_000_000))
            publisher.publish(bytes(data))
        number = max(number + 1, int(since * joint_hz))
        time.sleep(max(0.0, begun + number / joint_hz - time.monotonic()))


def _number(data: bytes, key: bytes) -> float:
    at = data.index(key) + len(key)
    end = min(place for place in (data.find(b",", at), data.find(b"}", at)) if place >= 0)
    return float(data[at:end])
