"""A rig: the policy's and the recorder's processes over DDS, and a robot of three joints in this process.

The nodes run below a namespace with a topic remapped, as on a robot beside others. The robot follows each command at
once; what it says can be altered message by message, which is how the faults are made.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robot.nodes.process import CONTRACT, DIAGNOSTICS, GAINS, SETTINGS, latched, reliable
from tests.robot.samples import JOINTS, toy_contract

NAMESPACE = "/g1"
JOINT_TOPIC = f"{NAMESPACE}/sensors/joint_states"
ROS_ARGUMENTS = ["--ros-args", "-r", f"__ns:={NAMESPACE}", "-r", "joint_states:=sensors/joint_states"]
STOP_AGE_S = 1.5
"""Age of an input at which the rig's policy stops, s: this process may itself be late on a busy machine."""
PARAMETERS = (f"safety.stop_input_age_s:={STOP_AGE_S}", "safety.max_input_age_s:=0.5", "safety.max_input_lead_s:=0.5")
PERIOD_S = 0.01
"""Time between two messages of the robot."""
PATIENCE_S = 40.0
"""Longest wait for anything: a busy machine is slow, and no test here is about how fast it is."""


@dataclass
class Reading:
    """What the robot is about to say; a fault alters it."""

    number: int
    t_ns: int
    names: list[str]
    position: np.ndarray
    quat_w: float = 1.0
    lost: set[str] = field(default_factory=set)


class Rig:
    """The processes, the robot, and everything that was heard."""

    def __init__(self, node: Node, folder: Path, policy: Path, reference: Path) -> None:
        self.node, self.record = node, folder / "run.mcap"
        self._policy = ["--policy", str(policy), "--reference", str(reference), "--subscribers", "2"]
        self.contract = toy_contract()
        self.ticks: list[dict[str, Any]] = []
        self.commands: list[np.ndarray] = []
        self.trajectories: list[JointTrajectory] = []
        self.diagnostics: list[Any] = []
        self.announced: dict[str, dict[str, Any]] = {}
        self.pose = np.array([0.05, 0.1, -0.1])
        self.alter: Callable[[Reading], Reading | None] = lambda reading: reading
        self._joints = node.create_publisher(JointState, JOINT_TOPIC, reliable(5))
        self._imu = node.create_publisher(Imu, f"{NAMESPACE}/imu", reliable(5))
        self._odom = node.create_publisher(Odometry, f"{NAMESPACE}/odom", reliable(5))
        self._listen(String, "policy/tick", lambda m: self.ticks.append(json.loads(m.data)), latched(200))
        self._listen(Float64MultiArray, "forward_position_controller/commands", self._on_command)
        self._listen(JointTrajectory, "joint_trajectory_controller/joint_trajectory", self.trajectories.append)
        for topic in (CONTRACT, GAINS, SETTINGS):
            self._listen(String, topic, lambda m, t=topic: self.announced.update({t: json.loads(m.data)}), latched())
        from diagnostic_msgs.msg import DiagnosticArray

        node.create_subscription(DiagnosticArray, DIAGNOSTICS, lambda m: self.diagnostics.append(m.status[0]), 10)
        self.recorder = self._start("robot.nodes.recorder_node", "--out", str(self.record))
        self.policy = self.start_policy()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", module, *arguments, *ROS_ARGUMENTS], env=dict(os.environ))

    def start_policy(self, *parameters: str) -> subprocess.Popen[bytes]:
        """Start the policy's process; ROS parameters are given as name:=value."""
        given = [word for parameter in (*PARAMETERS, *parameters) for word in ("-p", parameter)]
        self.policy = subprocess.Popen(
            [sys.executable, "-m", "robot.nodes.policy_node", *self._policy, *ROS_ARGUMENTS, *given],
            env=dict(os.environ),
        )
        return self.policy

    def _listen(self, kind: Any, topic: str, callback: Callable[[Any], Any], qos: Any = None) -> None:
        self.node.create_subscription(kind, f"{NAMESPACE}/{topic}", callback, qos or reliable(1000))

    def _on_command(self, message: Float64MultiArray) -> None:
        self.commands.append(np.array(message.data))
        self.pose = self.commands[-1]

    def _live(self) -> None:
        number = 0
        while not self._stop.wait(PERIOD_S):
            reading = self.alter(Reading(number, time.time_ns(), list(JOINTS), self.pose.copy()))
            number += 1
            if reading is None:
                continue
            joints, imu, odom = JointState(name=reading.names), Imu(), Odometry()
            joints.position, joints.velocity = reading.position.tolist(), [0.0] * len(reading.names)
            imu.orientation.w, imu.linear_acceleration.z, odom.pose.pose.position.z = reading.quat_w, 9.81, 1.0
            for name, publisher, message in (
                ("joint_states", self._joints, joints),
                ("imu", self._imu, imu),
                ("odom", self._odom, odom),
            ):
                message.header.stamp.sec, message.header.stamp.nanosec = divmod(reading.t_ns, 10**9)
                if name not in reading.lost:
                    publisher.publish(message)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Return what a condition gives once it is true."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.005)
        events = [event for tick in self.ticks[-3000:] for event in tick["events"]][-3:]
        raise AssertionError(f"not seen: {what}; last tick: {self.ticks[-1:]}; last events: {events}")

    def tick(self, condition: Callable[[dict[str, Any]], bool], what: str, since: int | None = None) -> dict[str, Any]:
        """Return the first tick from now on, or from that place in `ticks` on, that meets a condition."""
        start = len(self.ticks) if since is None else since
        return self.wait(lambda: next((t for t in self.ticks[start:] if condition(t)), None), what)

    def call(self, kind: Any, service: str, request: Any) -> Any:
        """Return the answer of a service of the policy's node."""
        client = self.node.create_client(kind, f"{NAMESPACE}/policy/{service}")
        try:
            assert client.wait_for_service(PATIENCE_S), service
            future = client.call_async(request)
            return self.wait(lambda: future.result() if future.done() else None, f"answer of {service}")
        finally:
            self.node.destroy_client(client)

    def trigger(self, service: str) -> str:
        """Call estop, resume or hold; return the message."""
        answer = self.call(Trigger, service, Trigger.Request())
        assert answer.success, answer.message
        return answer.message

    def state(self) -> str:
        """Return the lifecycle state."""
        return self.call(GetState, "get_state", GetState.Request()).current_state.label

    def transition(self, name: str) -> bool:
        """Ask for a lifecycle transition; return whether it was made."""
        request = ChangeState.Request()
        request.transition.label = name
        return self.call(ChangeState, "change_state", request).success

    def run(self) -> None:
        """Bring the policy to running, from any state."""
        state = self.state()
        if state == "unconfigured":
            assert self.transition("configure")
        if state != "active":
            assert self.transition("activate")
        since = len(self.ticks)
        self.tick(lambda t: t["mode"] != "waiting", "inputs", since)
        self.resume()

    def resume(self) -> None:
        """Release a stop or a hold, and wait until the policy runs again."""
        since = len(self.ticks)
        first = int(re.findall(r"from tick (\d+)", self.trigger("resume"))[0])
        self.tick(lambda t: t["mode"] == "run" and t["tick"] >= first, "run", since)

    def check_limits(self, since: int) -> None:
        """Check every command since a place in `ticks`: finite, inside the limits, and never a jump."""
        lower, upper = np.array(self.contract.joint_lower), np.array(self.contract.joint_upper)
        step, last, number = np.array(self.contract.joint_velocity_limit) / self.contract.control_hz, None, 0
        for tick in self.ticks[since:]:
            if tick["command"] is None:
                continue
            # A restarted policy's first command begins at the measured pose, wherever the robot was put meanwhile.
            last, number = last if tick["tick"] > number else None, tick["tick"]
            command = np.array(tick["command"])
            assert np.isfinite(command).all() and (command >= lower).all() and (command <= upper).all(), tick
            assert last is None or (np.abs(command - last) <= step * (1 + 1e-9)).all(), tick
            last = command

    def close(self) -> None:
        """End everything."""
        self._stop.set()
        self._thread.join()
        for process in (self.policy, self.recorder):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in (self.policy, self.recorder):
            process.wait(30)
