"""The policy's node: a ROS 2 lifecycle node with a control thread of its own, everything else on one executor.

    python -m robot.nodes.policy_node --policy policy.onnx --reference stage/reference.npz [--ros-args ...]

| state | what is so |
|---|---|
| unconfigured | nothing is loaded |
| inactive | the policy is loaded and checked, inputs are heard, no command is sent |
| active | the control thread ticks: hold, ramp in from the present pose, run |
| finalized | everything is released |

A tick takes the newest message of each sensor itself; between ticks nobody is woken by them.

Deactivating lets go at once and returns; the control thread ramps out to the rest pose meanwhile, sends it, and ends.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Empty, Float64MultiArray, String, UInt8MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from bodydouble.artifacts import sha256_file
from bodydouble.errors import BodydoubleError, ContractError, InputError
from bodydouble.motion import RobotMotion
from bodydouble.recording.messages import stamp_ns
from robot.command_input import VELOCITIES
from robot.engagement import HOLD
from robot.inputs import READERS
from robot.nodes.policy_diagnostics import TickStatistics, diagnostic_status
from robot.nodes.polled import polled_subscription, take
from robot.nodes.process import (
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
    parameter,
    reliable,
    running_node,
)
from robot.policy_file import PolicyFile
from robot.reference_player import SKILLS
from robot.runtime import PolicyRuntime
from robot.safety import SafetyConfig

RECEIVERS = ("forward_position_controller", "joint_trajectory_controller")
"""Who can take the commands: ros2_control's two standard controllers."""
SWITCH_INTERVAL_S = 0.0001
"""How long the executor's thread may keep the interpreter from a control thread that is due, s."""
REHEARSAL_NS = 2_000_000
"""How long before a tick the control thread rehearses it, ns; above a fifth of the period it does not."""
KEPT_COMMANDS = 100
"""Commands that can be sent again to who missed one; with fewer the recorder loses those sent before it is connected.

A receiver takes the newest alone, by a history of one of its own.
"""
_SENSORS = {"joint_states": (JOINT_STATES, JointState), "imu": (IMU, Imu), "odom": (ODOM, Odometry)}
_OK, _FAILED = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class PolicyNode(LifecycleNode):
    """Publishers, subscriptions, services and the control thread around a PolicyRuntime."""

    def __init__(self, name: str, policy: str = "", reference: str = "", subscribers: int = 0) -> None:
        """Declare the parameters; they are read when the node is configured.

        Args:
            name: Name of the node.
            policy: Default of the parameter of that name.
            reference: Default of the parameter of that name.
            subscribers: Default of the parameter `wait_for_subscribers`.
        """
        super().__init__(name)
        parameter(self, "policy", policy, "the policy (.onnx)")
        parameter(self, "reference", reference, "the stage's reference.npz; unused by policies that follow none")
        parameter(self, "trusted_signers", "", "folder of public keys; set, only what they signed is taken")
        parameter(self, "receiver", RECEIVERS[0], f"who takes the commands: {' or '.join(RECEIVERS)}")
        parameter(self, "hold_at_start", False, "hold the present pose when activated, until `resume` is called")
        parameter(self, "autostart", False, "configure and activate at once, without a lifecycle manager")
        parameter(self, "wait_for_subscribers", subscribers, "subscribers of the ticks to wait for before the first")
        parameter(self, "realtime_priority", 50, "SCHED_FIFO priority of the control thread; 0 leaves it as it is")
        for field in dataclasses.fields(SafetyConfig):
            parameter(self, f"safety.{field.name}", field.default, "bound of the safety layer, see robot.safety")
        self.failure, self.crashed = "", False
        self.on_crash: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._quit = threading.Event()
        self._thread: threading.Thread | None = None
        self._runtime: PolicyRuntime | None = None
        self._made: list[tuple[Callable[[Any], bool], Any]] = []
        self._sensors: list[tuple[Any, Callable[[Any], None]]] = []
        self._publish: Callable[[list[float]], None] = lambda _: None
        self._active = self._ticking = False
        self._heartbeat_ns = 0
        self._reference_sha256 = ""
        self._statistics = TickStatistics()

    # Lifecycle. rclpy swallows what these raise, so they tell and fail.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and check the policy, and connect."""
        del state
        try:
            self._runtime = self._load()
        except BodydoubleError as error:
            self.failure = str(error)
            self.get_logger().error(f"not configured: {error}")
            return _FAILED
        self.failure = ""
        self._statistics = TickStatistics()
        self._connect(self._runtime)
        return _OK

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take hold of the robot: start the control thread, or turn a ramp out that still runs."""
        del state
        assert self._runtime is not None
        with self._lock:
            first = self._runtime.next_tick == 0
            if first and self._value("hold_at_start"):
                self._runtime.ask("hold")
            elif not first:
                self._runtime.ask("engage")
            self._active = True
            self._heartbeat_ns = time.time_ns()
            if not self._ticking:
                self._ticking = True
                self._thread = threading.Thread(target=self._guarded, name="policy-control", daemon=True)
                self._thread.start()
        return _OK

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the robot; the control thread ramps out and ends."""
        del state
        assert self._runtime is not None
        with self._lock:
            self._active = False
            self._runtime.ask("hold")
        return _OK

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the policy."""
        del state
        self.stop()
        for destroy, made in self._made:
            destroy(made)
        self._made, self._sensors, self._runtime = [], [], None
        return _OK

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the control thread at once and forget the policy; deactivate first where a ramp out is wanted."""
        return self.on_cleanup(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the policy; the node is unconfigured then."""
        return self.on_cleanup(state)

    def stop(self) -> None:
        """End the control thread; what was sent last stays in force at the receiver."""
        self._active = False
        self._quit.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
        self._thread = None
        self._quit.clear()

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _load(self) -> PolicyRuntime:
        policy, reference, receiver = (self._value(name) for name in ("policy", "reference", "receiver"))
        if receiver not in RECEIVERS:
            raise InputError(f"parameter receiver is '{receiver}', expected one of {', '.join(RECEIVERS)}")
        if not policy:
            raise InputError("parameter policy is empty, expected the path of a policy (.onnx)")
        safety = {field.name: self._value(f"safety.{field.name}") for field in dataclasses.fields(SafetyConfig)}
        motion = RobotMotion.load(Path(reference)) if reference else None
        self._reference_sha256 = sha256_file(Path(reference)) if reference else ""
        trusted = self._value("trusted_signers")
        file = PolicyFile(Path(policy), Path(trusted) if trusted else None)
        return PolicyRuntime(file, motion, SafetyConfig(**safety))

    def _connect(self, runtime: PolicyRuntime) -> None:
        contract = runtime.contract
        if self._value("receiver") == RECEIVERS[0]:
            forward = self._publisher(Float64MultiArray, COMMANDS, reliable(KEPT_COMMANDS))
            self._publish = lambda command: forward.publish(Float64MultiArray(data=command))
        else:
            trajectory = self._publisher(JointTrajectory, TRAJECTORY, reliable(KEPT_COMMANDS))
            names, period = list(contract.joint_names), Duration(nanosec=round(1e9 / contract.control_hz))
            self._publish = lambda command: trajectory.publish(
                JointTrajectory(
                    joint_names=names, points=[JointTrajectoryPoint(positions=command, time_from_start=period)]
                )
            )
        self._tick = self._publisher(String, TICK, latched(200))
        self._diagnostics = self._publisher(DiagnosticArray, DIAGNOSTICS, reliable(1))
        self._publisher(String, CONTRACT, latched()).publish(String(data=contract.to_json()))
        gains = {"joint_names": contract.joint_names, "kp": contract.kp, "kd": contract.kd}
        gains["effort_limit"] = contract.effort_limit
        self._publisher(String, GAINS, latched()).publish(String(data=json.dumps(gains)))
        settings: dict[str, Any] = {"policy_sha256": runtime.policy.sha256, "signer": runtime.policy.signer}
        settings["reference_sha256"] = self._reference_sha256
        settings["safety"] = dataclasses.asdict(runtime.safety.config)
        self._publisher(String, SETTINGS, latched()).publish(String(data=json.dumps(settings)))
        for source in runtime.inputs:
            topic, kind = _SENSORS[source]
            self._poll(kind, topic, self._taker(source))
        if contract.command_names and runtime.command_input.is_velocity:
            self._subscribe(Twist, COMMAND_VELOCITY, self._on_velocity, latest(1))
        elif contract.command_names:
            self._subscribe(Float64MultiArray, COMMAND, lambda m: self._give("command", list(m.data)), latest(1))
        if runtime.safety.config.contact_loss_s > 0:
            self._poll(UInt8MultiArray, FEET, lambda m: self._give("feet", list(m.data)))
        self._subscribe(String, SKILL, self._on_skill, reliable(10))
        self._subscribe(Empty, HEARTBEAT, self._on_heartbeat, reliable(1))
        for name in ("estop", "resume", "hold"):
            self._made.append((self.destroy_service, self.create_service(Trigger, f"~/{name}", self._asker(name))))
        self._made.append((self.destroy_timer, self.create_timer(1.0, self._diagnose)))

    def _publisher(self, kind: Any, topic: str, qos: Any) -> Any:
        made = self.create_publisher(kind, topic, qos)
        self._made.append((self.destroy_publisher, made))
        return made

    def _subscribe(self, kind: Any, topic: str, callback: Callable[[Any], None], qos: Any) -> None:
        self._made.append((self.destroy_subscription, self.create_subscription(kind, topic, callback, qos)))

    def _poll(self, kind: Any, topic: str, callback: Callable[[Any], None]) -> None:
        made = polled_subscription(self, kind, topic, latest(1))
        self._made.append((self.destroy_subscription, made))
        self._sensors.append((made, callback))

    def _take_sensors(self) -> None:
        for subscription, callback in self._sensors:
            for message in take(subscription):
                callback(message)

    # The control thread.

    def _guarded(self) -> None:
        try:
            self._control()
        except Exception as error:  # a fault of the program: a node that seems to run but does not tick is worse
            self.failure = f"the control thread ended: {type(error).__name__}: {error}"
            self._active, self._ticking, self.crashed = False, False, True
            self.get_logger().fatal(self.failure)
            self.on_crash()

    def _control(self) -> None:
        """Tick at the contract's rate until let go; a late tick is counted, never made up for."""
        runtime = self._runtime
        assert runtime is not None
        while self._tick.get_subscription_count() < self._value("wait_for_subscribers") and not self._quit.wait(0.01):
            pass
        told: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        teller = threading.Thread(target=self._tell, args=(told,), name="policy-ticks", daemon=True)
        teller.start()
        try:
            self._tick_on(runtime, told)
        finally:
            told.put(None)
            teller.join()

    def _tell(self, told: queue.SimpleQueue[dict[str, Any] | None]) -> None:
        """Publish the ticks in their order; to write one takes a fifth of a millisecond, and the next does not wait."""
        while (tick := told.get()) is not None:
            self._tick.publish(String(data=json.dumps(tick)))

    def _tick_on(self, runtime: PolicyRuntime, told: queue.SimpleQueue[dict[str, Any] | None]) -> None:
        # Not before the other thread is there, which would inherit it.
        if self._value("realtime_priority"):
            self._take_priority(self._value("realtime_priority"))
        period_ns = round(1e9 / runtime.contract.control_hz)
        gc.collect()
        gc.freeze()
        deadline = time.monotonic_ns() + period_ns
        while not self._quit.is_set():
            if period_ns > 5 * REHEARSAL_NS:
                _sleep_until(deadline - REHEARSAL_NS)
                runtime.rehearse()
            _sleep_until(deadline)
            if not self._step(runtime, told, time.monotonic_ns() - deadline):
                return
            deadline += period_ns
            behind = time.monotonic_ns() - deadline
            if behind > 0:
                skipped = 1 + behind // period_ns
                self._statistics.missed += skipped
                deadline += skipped * period_ns
        self._ticking = False

    def _take_priority(self, priority: int) -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
        except OSError as error:
            self.get_logger().info(f"realtime_priority {priority} is not granted ({error.strerror}); going on without")

    def _step(self, runtime: PolicyRuntime, told: queue.SimpleQueue[dict[str, Any] | None], late_ns: int) -> bool:
        """Tick once; return whether there is more to do."""
        begun = time.perf_counter_ns()
        self._take_sensors()
        with self._lock:
            now = time.time_ns()
            result = runtime.tick(now, (now - self._heartbeat_ns) / 1e9)
            # Nothing is asked for between this and the thread's end, or it would wait for the next activation.
            goes_on = self._active or result.mode not in (HOLD, "stopped", "waiting")
            self._ticking = goes_on
        if result.command is not None:
            self._publish(result.command.tolist())
        duration_ms = (time.perf_counter_ns() - begun) / 1e6
        statistics = self._statistics
        statistics.add(result, duration_ms)
        extra = {"tick_ms": duration_ms, "late_ms": late_ns / 1e6, "missed": statistics.missed}
        told.put(result.to_dict() | extra)
        return goes_on

    # Messages and services: the sensors' on the control thread, the others on the executor's.

    def _taker(self, source: str) -> Callable[[Any], None]:
        read = READERS[source]

        def take(message: Any) -> None:
            runtime = self._runtime
            if runtime is None:
                return
            with self._lock:
                try:
                    read(runtime, stamp_ns(message.header.stamp), message)
                except ContractError as error:
                    # In doubt it stops: a robot whose joints are not understood must not be commanded.
                    # While nothing ticks, nothing is commanded: such a message is only not taken.
                    if self._ticking and not runtime.safety.stopped:
                        runtime.ask(f"estop: {error}")
                        self.get_logger().error(f"stopped: {error}", throttle_duration_sec=1.0)

        return take

    def _on_velocity(self, message: Twist) -> None:
        if self._runtime is not None:
            places = (VELOCITIES[name] for name in self._runtime.contract.command_names)
            self._give("command", [getattr(getattr(message, part), axis) for part, axis in places])

    def _give(self, name: str, values: list[float]) -> None:
        """Give an input without a stamp; what cannot be read is told and not taken."""
        runtime = self._runtime
        if runtime is None or not self._ticking:
            return
        with self._lock:
            try:
                runtime.ask(f"{name}: {json.dumps(values)}")
            except ContractError as error:
                runtime.refuse(name, str(error))

    def _on_skill(self, message: String) -> None:
        runtime = self._runtime
        if runtime is None or not self._active:
            self.get_logger().warning("skill message refused: the node is not active", throttle_duration_sec=1.0)
            return
        try:
            skill = json.loads(message.data)["skill"]
            if skill not in SKILLS:
                raise ContractError(f"skill {str(skill)[:40]!r} is unknown; known skills: {', '.join(SKILLS)}")
            with self._lock:
                runtime.ask(skill)
        except (ValueError, KeyError, TypeError, RecursionError, ContractError) as error:
            self.get_logger().error(f"skill message refused: {error}", throttle_duration_sec=1.0)

    def _on_heartbeat(self, message: Empty) -> None:
        del message
        self._heartbeat_ns = time.time_ns()

    def _asker(self, name: str) -> Callable[[Any, Any], Any]:
        told = {
            "estop": "emergency stop latched; call resume to release it",
            "resume": "stop released; the policy ramps in from the present pose",
            "hold": "the policy lets go: ramp out to the rest pose, then hold; call resume to go on",
        }[name]

        def answer(request: Any, response: Any) -> Any:
            del request
            runtime = self._runtime
            if runtime is None:
                response.success, response.message = False, "the node is not configured"
                return response
            with self._lock:
                try:
                    runtime.ask(name)
                except ContractError as error:
                    response.success, response.message = False, str(error)
                    return response
                tick = runtime.next_tick
            response.success, response.message = True, f"{told} (from tick {tick})"
            return response

        return answer

    def _diagnose(self) -> None:
        runtime = self._runtime
        if runtime is None:
            return
        if not self._ticking:
            self._take_sensors()
        array = DiagnosticArray(status=[diagnostic_status(self.get_name(), runtime, self._statistics, self._active)])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)


def _sleep_until(deadline_ns: int) -> None:
    time.sleep(max(0, deadline_ns - time.monotonic_ns()) / 1e9)


def main(arguments: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="", help="default of the parameter policy")
    parser.add_argument("--reference", default="", help="default of the parameter reference")
    parser.add_argument("--subscribers", type=int, default=0, help="default of the parameter wait_for_subscribers")
    argv = sys.argv if arguments is None else arguments
    args = parser.parse_args(remove_ros_args(argv)[1:])
    sys.setswitchinterval(SWITCH_INTERVAL_S)

    def make(name: str) -> PolicyNode:
        return PolicyNode(name, args.policy, args.reference, args.subscribers)

    with running_node("policy", argv, make) as running:
        node = running.node
        assert isinstance(node, PolicyNode)
        if node.get_parameter("autostart").value and not start(node):
            print(f"error: {node.failure}", file=sys.stderr)
            return 2
        node.on_crash = running.stop.set
        running.stop.wait()
        node.stop()
        if node.crashed:
            print(f"error: {node.failure}", file=sys.stderr)
            return 1
    return 0


def start(node: PolicyNode) -> bool:
    """Configure and activate a node; return whether it could."""
    return node.trigger_configure() == _OK and node.trigger_activate() == _OK


if __name__ == "__main__":
    sys.exit(main())
