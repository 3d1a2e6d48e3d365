"""From sensor messages to the runtime: one reading of each message, for the node and for the replay.

The functions take any object with ROS 2's field names: rclpy's messages and those read from a recording.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bodydouble.frames import wxyz_from_xyzw
from robot.runtime import PolicyRuntime


def joint_states(runtime: PolicyRuntime, stamp_ns: int, message: Any) -> None:
    """Give a sensor_msgs/JointState.

    Raises:
        ContractError: A joint is missing or named twice, or positions or speeds are missing.
    """
    position, velocity = np.array(message.position), np.array(message.velocity)
    runtime.on_joint_state(stamp_ns, tuple(message.name), position, velocity)


def imu(runtime: PolicyRuntime, stamp_ns: int, message: Any) -> None:
    """Give a sensor_msgs/Imu; a covariance of -1 says that it has no accelerometer."""
    q, w, a = message.orientation, message.angular_velocity, message.linear_acceleration
    acceleration = None if message.linear_acceleration_covariance[0] == -1 else np.array([a.x, a.y, a.z])
    quat = wxyz_from_xyzw(np.array([q.x, q.y, q.z, q.w]))
    runtime.on_imu(stamp_ns, quat, np.array([w.x, w.y, w.z]), acceleration)


def odom(runtime: PolicyRuntime, stamp_ns: int, message: Any) -> None:
    """Give a nav_msgs/Odometry."""
    p = message.pose.pose.position
    runtime.on_odom(stamp_ns, np.array([p.x, p.y, p.z]))


READERS: dict[str, Callable[[PolicyRuntime, int, Any], None]] = {
    "joint_states": joint_states,
    "imu": imu,
    "odom": odom,
}
"""The reader of each of the runtime's inputs."""
