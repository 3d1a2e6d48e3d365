"""What every node process shares: start, spin in a thread, stop on a signal, names of topics."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

JOINT_STATES = "joint_states"
"""sensor_msgs/JointState of the robot."""
IMU = "imu"
"""sensor_msgs/Imu: orientation and angular velocity of the base, in the base frame."""
ODOM = "odom"
"""nav_msgs/Odometry: pose of the base in the world."""
CLOCK = "/clock"
"""rosgraph_msgs/Clock: simulated time, for tools; nodes use the stamps."""
COMMANDS = "forward_position_controller/commands"
"""std_msgs/Float64MultiArray: joint targets in the contract's order, as ros2_control's controller takes them."""
TRAJECTORY = "joint_trajectory_controller/joint_trajectory"
"""trajectory_msgs/JointTrajectory: the same targets by name, as ros2_control's other controller takes them."""
COMMAND_VELOCITY = "cmd_vel"
"""geometry_msgs/Twist: what a velocity policy is told to do."""
COMMAND = "policy/command"
"""std_msgs/Float64MultiArray: what a policy whose command is no velocity is told, in the contract's order."""
FEET = "feet_contact"
"""std_msgs/UInt8MultiArray: one number per foot, 0 where it does not touch the ground."""
CONTRACT = "policy/contract"
"""std_msgs/String, latched: the policy's contract as JSON."""
GAINS = "policy/gains"
"""std_msgs/String, latched: JSON with joint_names, kp, kd and effort_limit that the policy was trained with."""
SETTINGS = "policy/settings"
"""std_msgs/String, latched: JSON with the SHA-256 of policy and reference, the signer and the safety layer's bounds."""
SKILL = "skill"
"""std_msgs/String: JSON with the skill that the orchestrator chose and its reason."""
TICK = "policy/tick"
"""std_msgs/String: JSON of every tick, numbers exact; the last 200 are kept for late subscribers that ask for them."""
HEARTBEAT = "heartbeat"
"""std_msgs/Empty: the operator is there."""
DIAGNOSTICS = "/diagnostics"
"""diagnostic_msgs/DiagnosticArray, once a second."""


def reliable(depth: int) -> QoSProfile:
    """Return the quality of service of every topic here: reliable, volatile, the last `depth` kept."""
    return QoSProfile(
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
    )


def latest(depth: int) -> QoSProfile:
    """Return the quality of service for what is only of use when new: best effort, volatile, the last `depth` kept.

    It hears reliable and best-effort publishers, and a lost message delays none of those after it.
    """
    return QoSProfile(
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
    )


def latched(depth: int = 1) -> QoSProfile:
    """Return the quality of service of what late subscribers that ask for it get too: the last `depth` messages.

    A publisher knows of a subscriber before that one knows of it: what must not be lost in between is sent so.
    """
    return QoSProfile(
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
    )


def parameter(node: Node, name: str, default: Any, description: str) -> Any:
    """Declare a parameter and return its value: the default, or what the command line or a file gave.

    Its type is the default's, and rclpy refuses others.
    """
    return node.declare_parameter(name, default, ParameterDescriptor(description=description)).value


@dataclass(frozen=True)
class RunningNode:
    """A node whose callbacks run in a thread of their own."""

    node: Node
    """The node."""
    stop: threading.Event
    """Set by SIGINT and SIGTERM."""


@contextlib.contextmanager
def running_node(
    name: str, arguments: list[str] | None = None, make: Callable[[str], Node] | None = None
) -> Iterator[RunningNode]:
    """Make a node and spin it in a thread on a single-threaded executor until the block ends.

    The many-threaded executor is slower by an order of magnitude at the tail, and the events executor can hang.

    Args:
        name: Name of the node.
        arguments: Command line with `--ros-args`; None takes the process's.
        make: Makes the node of that name; None makes a plain one.
    """
    rclpy.init(args=sys.argv if arguments is None else arguments, signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    if threading.current_thread() is threading.main_thread():
        # They stay when the block ends: a second Ctrl-C must not cut what a process still has to write.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
    node = (make or rclpy.create_node)(name)
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, name=f"{name}-io", daemon=True)
    thread.start()
    try:
        yield RunningNode(node, stop)
    finally:
        executor.shutdown()
        thread.join(timeout=5.0)
        node.destroy_node()
        rclpy.try_shutdown()  # pyright: ignore[reportPrivateImportUsage]
