"""The recorder's node: raw messages of every topic into one MCAP, in a process of its own.

    python -m robot.nodes.recorder_node --out run.mcap [--ros-args ...]

A message waits in a bounded queue; when the disk cannot follow, messages are dropped and counted,
and the robot is never slowed. When the disk is full the recorder says so and goes on counting; what it wrote before
stays, for `bodydouble recover`.
"""

from __future__ import annotations

import argparse
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Empty, Float64MultiArray, String, UInt8MultiArray
from trajectory_msgs.msg import JointTrajectory

from bodydouble.errors import BodydoubleError, InputError
from bodydouble.recording.writer import RecordingWriter
from robot.nodes.process import (
    CLOCK,
    COMMAND,
    COMMAND_VELOCITY,
    COMMANDS,
    CONTRACT,
    DIAGNOSTICS,
    FEET,
    GAINS,
    HEARTBEAT,
    IMU,
    JOINT_STATES,
    ODOM,
    SETTINGS,
    SKILL,
    TICK,
    TRAJECTORY,
    latched,
    latest,
    reliable,
    running_node,
)

QUEUE_SIZE = 20_000
"""Messages that can wait to be written."""
TOPICS: dict[str, tuple[Any, str]] = {
    JOINT_STATES: (JointState, "sensor_msgs/msg/JointState"),
    IMU: (Imu, "sensor_msgs/msg/Imu"),
    ODOM: (Odometry, "nav_msgs/msg/Odometry"),
    CLOCK: (Clock, "rosgraph_msgs/msg/Clock"),
    COMMANDS: (Float64MultiArray, "std_msgs/msg/Float64MultiArray"),
    TRAJECTORY: (JointTrajectory, "trajectory_msgs/msg/JointTrajectory"),
    COMMAND_VELOCITY: (Twist, "geometry_msgs/msg/Twist"),
    COMMAND: (Float64MultiArray, "std_msgs/msg/Float64MultiArray"),
    FEET: (UInt8MultiArray, "std_msgs/msg/UInt8MultiArray"),
    CONTRACT: (String, "std_msgs/msg/String"),
    GAINS: (String, "std_msgs/msg/String"),
    SETTINGS: (String, "std_msgs/msg/String"),
    SKILL: (String, "std_msgs/msg/String"),
    HEARTBEAT: (Empty, "std_msgs/msg/Empty"),
    TICK: (String, "std_msgs/msg/String"),
    DIAGNOSTICS: (DiagnosticArray, "diagnostic_msgs/msg/DiagnosticArray"),
}
"""Topics of a Run and their types."""
_LOOK_S = 0.1
"""Time between two looks for publishers that were not heard, s."""
_LATCHED = (TICK, CONTRACT, GAINS, SETTINGS)


class _Raw(NamedTuple):
    topic: str
    msgtype: str
    data: bytes
    received_ns: int
    published_ns: int


class Recorder:
    """Subscriptions on one side, a writer's thread on the other, a bounded queue between."""

    def __init__(self, node: Node, writer: RecordingWriter) -> None:
        """Subscribe to every topic of a Run."""
        self._queue: queue.Queue[_Raw | None] = queue.Queue(QUEUE_SIZE)
        self._writer = writer
        self._node = node
        self._unheard: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._subscriptions: dict[str, Any] = {}
        self._best_effort: set[str] = set()
        self._logger = node.get_logger()
        self._overflowed = self._unwritten = 0
        self.failure = ""
        """Why nothing is written any more; empty while all is well."""
        for name in TOPICS:
            # What was sent before this was connected is asked for: a replay begins at the first tick.
            self._subscribe(name, latched(1000) if name in _LATCHED else reliable(1000))
        self._thread = threading.Thread(target=self._write, name="recorder-writer", daemon=True)
        self._thread.start()

    def _subscribe(self, name: str, qos: QoSProfile) -> None:
        kind, msgtype = TOPICS[name]
        receive = self._receiver(self._node.resolve_topic_name(name), msgtype)
        events = SubscriptionEventCallbacks(incompatible_qos=lambda _: self._unheard.put(name))
        self._subscriptions[name] = self._node.create_subscription(
            kind, name, receive, qos, raw=True, event_callbacks=events
        )

    def hear_best_effort(self) -> None:
        """Hear those that send with best effort, as many sensors do: they offer less than was asked for at first.

        A best-effort subscription hears both kinds, but what is lost on the way is not sent again.
        """
        while not self._unheard.empty():
            name = self._unheard.get()
            if name in self._subscriptions and name not in self._best_effort:
                self._best_effort.add(name)
                self._node.destroy_subscription(self._subscriptions.pop(name))
                self._subscribe(name, latest(1000))
                self._logger.info(f"{name} is sent with best effort, and heard so")

    def _receiver(self, topic: str, msgtype: str) -> Any:
        def receive(data: bytes, info: dict[str, int]) -> None:
            now = time.time_ns()
            try:
                self._queue.put_nowait(_Raw(topic, msgtype, data, now, info.get("source_timestamp", 0) or now))
            except queue.Full:
                self._overflowed += 1

        return receive

    @property
    def written(self) -> int:
        """Messages that are kept."""
        return self._writer.saved_count if self.failure else self._writer.message_count

    @property
    def dropped(self) -> int:
        """Messages that were received and are lost."""
        lost = self._writer.message_count - self._writer.saved_count if self.failure else 0
        return self._overflowed + self._unwritten + lost

    def _write(self) -> None:
        while (raw := self._queue.get()) is not None:
            if self.failure:
                self._unwritten += 1
                continue
            before = self._writer.message_count
            try:
                self._writer.write_cdr(raw.topic, raw.msgtype, raw.data, raw.received_ns, raw.published_ns)
            except InputError as error:
                # A message that was counted before its chunk failed is lost with that chunk.
                self._unwritten += self._writer.message_count == before
                if self._writer.failed:
                    self.failure = str(error)
                    self._logger.error(f"recording stopped: {error}; the messages so far are kept")
                else:
                    self._logger.error(f"a message is left out: {error}", throttle_duration_sec=1.0)

    def finish(self) -> None:
        """Write what still waits."""
        self._queue.put(None)
        self._thread.join()


def main() -> int:
    """Record until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the MCAP file to write")
    args, _ = parser.parse_known_args()
    try:
        return record(args.out)
    except BodydoubleError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def record(out: Path) -> int:
    """Record into a file until SIGINT or SIGTERM; return the exit status.

    Raises:
        InputError: The file cannot be created or finished.
    """
    with RecordingWriter(out, live=True) as writer:
        with running_node("recorder") as running:
            recorder = Recorder(running.node, writer)
            while not running.stop.wait(_LOOK_S):
                recorder.hear_best_effort()
        recorder.finish()
        if recorder.failure:
            print(
                f"error: {recorder.failure}: {recorder.written} messages are kept, {recorder.dropped} were dropped; "
                f"read them with `bodydouble recover {out}.tmp OUT.mcap`",
                file=sys.stderr,
            )
            return 1
        counts = {"written": str(recorder.written), "dropped": str(recorder.dropped)}
        writer.write_metadata("recorder", counts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
