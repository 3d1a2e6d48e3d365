"""The policy's node: control thread with absolute deadlines, messages on a single-threaded executor.

python -m robot.nodes.policy_node --policy policy.onnx --reference stage/reference.npz [--ros-args ...]
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Empty, Float64MultiArray, String
from std_srvs.srv import Trigger

from bodydouble.errors import BodydoubleError, ContractError
from bodydouble.frames import wxyz_from_xyzw
from bodydouble.motion import RobotMotion
from bodydouble.recording.messages import stamp_ns
from robot.nodes.process import (
    COMMANDS,
    DIAGNOSTICS,
    HEARTBEAT,
    IMU,
    JOINT_STATES,
    ODOM,
    SKILL,
    TICK,
    reliable,
    running_node,
)
from robot.policy_file import PolicyFile
from robot.runtime import PolicyRuntime, TickResult


class PolicyNode:
    """Publishers, subscriptions and services around a PolicyRuntime."""

    def __init__(self, node: Node, runtime: PolicyRuntime, subscribers: int) -> None:
        """Connect the runtime to topics.

        Args:
            node: The node.
            runtime: The runtime.
            subscribers: Subscribers of the tick topic to wait for before the first tick, so that none is missed.
        """
        self._node, self._runtime = node, runtime
        self._lock = threading.Lock()
        self._wait_for = subscribers
        self._heartbeat_ns = time.time_ns()
        self._durations: deque[float] = deque(maxlen=500)
        self._missed = self._ticks = self._interventions = 0
        self._last: TickResult | None = None
        self._command = node.create_publisher(Float64MultiArray, COMMANDS, reliable(1))
        self._tick = node.create_publisher(String, TICK, reliable(200))
        self._diagnostics = node.create_publisher(DiagnosticArray, DIAGNOSTICS, reliable(1))
        node.create_subscription(JointState, JOINT_STATES, self._on_joint_state, reliable(5))
        node.create_subscription(Imu, IMU, self._on_imu, reliable(5))
        node.create_subscription(Odometry, ODOM, self._on_odom, reliable(5))
        node.create_subscription(String, SKILL, self._on_skill, reliable(10))
        node.create_subscription(Empty, HEARTBEAT, self._on_heartbeat, reliable(1))
        node.create_service(Trigger, "~/estop", self._on_estop)
        node.create_service(Trigger, "~/resume", self._on_resume)
        node.create_timer(1.0, self._diagnose)

    def control(self, stop: threading.Event) -> None:
        """Tick at the contract's rate until told to stop; a late tick is counted, never made up for."""
        while self._tick.get_subscription_count() < self._wait_for and not stop.wait(0.01):
            pass
        period_ns = round(1e9 / self._runtime.contract.control_hz)
        gc.collect()
        gc.freeze()
        deadline = time.monotonic_ns() + period_ns
        while not stop.is_set():
            time.sleep(max(0, deadline - time.monotonic_ns()) / 1e9)
            late_ns = time.monotonic_ns() - deadline
            self._step(late_ns)
            deadline += period_ns
            behind = time.monotonic_ns() - deadline
            if behind > 0:
                skipped = 1 + behind // period_ns
                self._missed += skipped
                deadline += skipped * period_ns

    def _step(self, late_ns: int) -> None:
        begun = time.perf_counter_ns()
        with self._lock:
            now = time.time_ns()
            result = self._runtime.tick(now, (now - self._heartbeat_ns) / 1e9)
        if result.command is not None:
            self._command.publish(Float64MultiArray(data=result.command.tolist()))
        duration_ms = (time.perf_counter_ns() - begun) / 1e6
        self._durations.append(duration_ms)
        self._ticks += 1
        self._interventions += bool(result.events)
        self._last = result
        text = json.dumps(result.to_dict() | {"tick_ms": duration_ms, "late_ms": late_ns / 1e6, "missed": self._missed})
        self._tick.publish(String(data=text))

    def _on_joint_state(self, message: JointState) -> None:
        with self._lock:
            try:
                self._runtime.on_joint_state(
                    stamp_ns(message.header.stamp), tuple(message.name), np.array(message.position),
                    np.array(message.velocity),
                )  # fmt: skip
            except ContractError as error:
                self._refuse(error)

    def _on_imu(self, message: Imu) -> None:
        q, w = message.orientation, message.angular_velocity
        quat = wxyz_from_xyzw(np.array([q.x, q.y, q.z, q.w]))
        with self._lock:
            self._runtime.on_imu(stamp_ns(message.header.stamp), quat, np.array([w.x, w.y, w.z]))

    def _on_odom(self, message: Odometry) -> None:
        p = message.pose.pose.position
        with self._lock:
            self._runtime.on_odom(stamp_ns(message.header.stamp), np.array([p.x, p.y, p.z]))

    def _on_skill(self, message: String) -> None:
        try:
            skill = json.loads(message.data)["skill"]
            with self._lock:
                self._runtime.ask(skill)
        except (ValueError, KeyError, TypeError, ContractError) as error:
            self._node.get_logger().error(f"skill message refused: {error}")

    def _on_heartbeat(self, message: Empty) -> None:
        del message
        self._heartbeat_ns = time.time_ns()

    def _on_estop(self, request: Any, response: Any) -> Any:
        del request
        with self._lock:
            self._runtime.ask("estop")
        response.success, response.message = True, "emergency stop latched; call resume to release it"
        return response

    def _on_resume(self, request: Any, response: Any) -> Any:
        del request
        with self._lock:
            self._runtime.ask("resume")
        response.success, response.message = True, "stop released; the policy ramps in from the present pose"
        return response

    def _refuse(self, error: BodydoubleError) -> None:
        # In doubt it stops: a robot whose joints are not understood must not be commanded.
        if not self._runtime.safety.stopped:
            self._runtime.ask("estop")
            self._node.get_logger().error(f"stopped: {error}", throttle_duration_sec=1.0)

    def _diagnose(self) -> None:
        last = self._last
        status = DiagnosticStatus(name="policy", hardware_id=self._runtime.contract.robot)
        stopped = self._runtime.safety.stopped
        status.level = DiagnosticStatus.ERROR if stopped else DiagnosticStatus.OK
        status.message = (
            f"stopped: {self._runtime.safety.stop_reason}" if stopped else last.mode if last else "starting"
        )
        times = np.array(self._durations) if self._durations else np.zeros(1)
        values = {
            "tick_p50_ms": f"{np.percentile(times, 50):.3f}",
            "tick_p99_ms": f"{np.percentile(times, 99):.3f}",
            "tick_max_ms": f"{times.max():.3f}",
            "ticks": str(self._ticks),
            "missed_ticks": str(self._missed),
            "interventions": str(self._interventions),
        }
        if last is not None and last.stamps:
            values["oldest_input_ms"] = f"{(last.t_ns - min(last.stamps.values())) / 1e6:.1f}"
        status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._diagnostics.publish(array)


def main() -> int:
    """Run the node until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", type=Path, required=True, help="the policy (.onnx)")
    parser.add_argument("--reference", type=Path, required=True, help="the stage's reference.npz")
    parser.add_argument("--subscribers", type=int, default=0, help="subscribers of the tick topic to wait for")
    args, _ = parser.parse_known_args()
    try:
        runtime = PolicyRuntime(PolicyFile(args.policy), RobotMotion.load(args.reference))
    except BodydoubleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with running_node("policy") as running:
        PolicyNode(running.node, runtime, args.subscribers).control(running.stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
