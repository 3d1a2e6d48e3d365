"""From sensor messages to the runtime: one reading of each message, for the node and for the replay.

A replay may also give what a tick says that it consumed, where the message itself was not recorded.

The functions take any object with ROS 2's field names: rclpy's messages and those read from a recording.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bodydouble.errors import ContractError
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


def give_consumed(runtime: PolicyRuntime, source: str, stamp_ns: int, values: Mapping[str, Any]) -> None:
    """Give what a tick consumed, in the form of `TickResult.inputs` as JSON.

    Raises:
        ContractError: A value is missing or is no list of so many numbers.
    """
    if source == "joint_states":
        names = runtime.contract.joint_names
        position, velocity = (_vector(source, values, part, len(names)) for part in ("position", "velocity"))
        runtime.on_joint_state(stamp_ns, names, position, velocity)
    elif source == "imu":
        quat, gyro = _vector(source, values, "quat", 4), _vector(source, values, "gyro", 3)
        none = values.get("acceleration") is None
        runtime.on_imu(stamp_ns, quat, gyro, None if none else _vector(source, values, "acceleration", 3))
    elif source == "odom":
        runtime.on_odom(stamp_ns, _vector(source, values, "position", 3))
    else:
        raise ContractError(f"input {source[:40]!r} is unknown; known inputs: {', '.join(READERS)}")


def _vector(source: str, values: Mapping[str, Any], part: str, size: int) -> np.ndarray:
    found = values.get(part)
    try:
        if isinstance(found, list) and len(found) == size and all(type(value) in (int, float) for value in found):
            return np.array(found, dtype=np.float64)
    except OverflowError:  # a whole number beyond any float
        pass
    raise ContractError(f"{part} of {source} is {str(found)[:40]}, expected {size} numbers")
