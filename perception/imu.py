"""Accelerations of a camera's IMU, in the camera's axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bodydouble.frames import quat_to_matrix
from bodydouble.recording import messages
from bodydouble.recording.reader import RecordingReader
from bodydouble.recording.topics import camera_topics

IMU = "sensor_msgs/msg/Imu"


def imu_topic(camera: str) -> str:
    """Return the topic of a camera's IMU."""
    return f"/{camera}/imu"


@dataclass(frozen=True)
class Accelerations:
    """What a camera's accelerometer read: at rest, 9.81 m/s^2 upwards."""

    times_ns: np.ndarray
    """Times (N,), int64, ns."""
    force: np.ndarray
    """Specific force (N, 3), m/s^2, camera axes: x right, y down, z forward."""
    note: str = ""
    """Why there are no samples, where the recording has an IMU that cannot be used."""


def read_accelerations(reader: RecordingReader, camera: str) -> Accelerations | None:
    """Return the accelerations of `/<camera>/imu`, or None where the recording has no such topic.

    The IMU's axes are the camera's where both have the same frame, else they come from /tf_static.

    Raises:
        RecordingError: A message is damaged.
    """
    topic = imu_topic(camera)
    if reader.topics.get(topic) != IMU:
        return None
    parents: dict[str, tuple[str, np.ndarray]] = {}
    for message in reader.messages(["/tf_static"]):
        for item in message.message.transforms:
            q = item.transform.rotation
            rotation = quat_to_matrix(np.array([q.w, q.x, q.y, q.z]))
            parents[item.child_frame_id.lstrip("/")] = item.header.frame_id.lstrip("/"), rotation
    first = next(reader.messages([camera_topics(camera).depth]), None)
    camera_frame = "" if first is None else first.message.header.frame_id.lstrip("/")
    times, force, frame = [], [], ""
    for message in reader.messages([topic]):
        frame = message.message.header.frame_id.lstrip("/")
        a = message.message.linear_acceleration
        times.append(messages.stamp_ns(message.message.header.stamp))
        force.append((a.x, a.y, a.z))
    turn = _turn(parents, camera_frame, frame)
    if turn is None:
        note = f"the IMU's frame {frame!r} is not tied to the camera's {camera_frame!r} on /tf_static; it is not used"
        return Accelerations(np.zeros(0, np.int64), np.zeros((0, 3)), note)
    values = np.array(force).reshape(-1, 3) @ turn.T
    finite = np.isfinite(values).all(axis=1)
    order = np.argsort(np.array(times, np.int64)[finite], kind="stable")
    return Accelerations(np.array(times, np.int64)[finite][order], values[finite][order])


def _turn(parents: dict[str, tuple[str, np.ndarray]], to: str, frame: str) -> np.ndarray | None:
    """Return the rotation R_to_frame (3, 3) between two frames of one tree, or None."""

    def above(name: str) -> dict[str, np.ndarray]:
        chain, turn = {name: np.eye(3)}, np.eye(3)
        while name in parents and parents[name][0] not in chain:
            name, step = parents[name]
            turn = step @ turn
            chain[name] = turn
        return chain

    one, other = above(to), above(frame)
    shared = next((name for name in one if name in other), None)
    return None if shared is None else one[shared].T @ other[shared]
