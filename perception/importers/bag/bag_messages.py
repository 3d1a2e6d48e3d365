"""A bag's messages as ROS 2 messages: CDR as it is, Foxglove's own schemas in JSON or Protobuf converted."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from bodydouble.errors import InputError
from bodydouble.recording import messages
from bodydouble.recording.bag import BagMessage, BagTopic
from bodydouble.recording.limits import DEFAULT_LIMITS, Limits

IMU, POSE, ODOMETRY = "sensor_msgs/msg/Imu", "geometry_msgs/msg/PoseStamped", "nav_msgs/msg/Odometry"
IMAGES = (messages.IMAGE, messages.COMPRESSED_IMAGE)
"""Types of images."""
READ = (*IMAGES, messages.CAMERA_INFO, messages.TF_MESSAGE, IMU, POSE, ODOMETRY)
"""Types that an import reads."""
FOXGLOVE = {
    "foxglove.RawImage": messages.IMAGE,
    "foxglove.CompressedImage": messages.COMPRESSED_IMAGE,
    "foxglove.CameraCalibration": messages.CAMERA_INFO,
    "foxglove.FrameTransform": messages.TF_MESSAGE,
    "foxglove.FrameTransforms": messages.TF_MESSAGE,
}
"""Foxglove's schemas and the ROS 2 types that they become."""


def type_of(topic: BagTopic) -> str | None:
    """Return the ROS 2 type that a topic's messages become, one of READ, or None where they are not read."""
    if topic.encoding == "cdr":
        return topic.msgtype if topic.msgtype in READ else None
    if topic.encoding in ("json", "protobuf"):
        return FOXGLOVE.get(topic.msgtype)
    return None


class Decoder:
    """Decodes the messages of one bag.

    Args:
        topics: The bag's topics.
        limits: Upper bounds on messages.
    """

    def __init__(self, topics: dict[str, BagTopic], limits: Limits = DEFAULT_LIMITS):
        self._topics = topics
        self._limits = limits
        self._decoders: dict[str, Callable[[bytes | memoryview], Any]] = {}

    def __call__(self, message: BagMessage) -> Any:
        """Return a message of the type that `type_of` names.

        Raises:
            InputError: The message is damaged or beyond a limit, or its definition is not the one that is read.
        """
        topic = self._topics[message.topic]
        kind = type_of(topic)
        # Images are one array; other messages become objects, which take more memory than their bytes.
        limit = self._limits.max_message_bytes if kind in IMAGES else self._limits.max_small_message_bytes
        if len(message.data) > limit:
            raise InputError(f"{message.topic}: a message of {len(message.data)} bytes, the limit is {limit}")
        if message.topic not in self._decoders:
            self._decoders[message.topic] = self._decoder(topic)
        try:
            return self._decoders[message.topic](message.data)
        except InputError as error:
            raise InputError(f"{message.topic}: {error}") from None
        except Exception as error:  # foreign bytes: ValueError, KeyError, TypeError, DecodeError, RecursionError, ...
            said = " ".join(str(error).split())[:120]
            raise InputError(
                f"{message.topic}: the message received at {message.received_ns} ns is no {topic.msgtype} "
                f"({type(error).__name__}: {said}); copy the bag again"
            ) from None

    def _decoder(self, topic: BagTopic) -> Callable[[bytes | memoryview], Any]:
        if topic.encoding == "cdr":
            text = topic.definition.decode("utf-8", "replace")
            if topic.definition_encoding == "ros2msg" and text and not messages.same_definition(topic.msgtype, text):
                raise InputError(
                    f"{topic.name}: its definition of {topic.msgtype} is not ROS 2's; convert the bag first"
                )
            return lambda data: messages.deserialize(topic.msgtype, data)
        convert = _CONVERTERS[topic.msgtype]
        if topic.encoding == "json":
            return lambda data: convert(json.loads(bytes(data)))
        parse = _protobuf_parser(topic)
        return lambda data: convert(parse(bytes(data)))


def pose_of(msgtype: str, message: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return position (3,) and wxyz quaternion (4,) of a PoseStamped or Odometry message."""
    pose = message.pose if msgtype == POSE else message.pose.pose
    p, q = pose.position, pose.orientation
    return np.array([p.x, p.y, p.z]), np.array([q.w, q.x, q.y, q.z])


def _protobuf_parser(topic: BagTopic) -> Callable[[bytes], Any]:
    """Return the parser of a topic's own schema, a serialized FileDescriptorSet."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError:
        raise InputError(f"{topic.name}: is Protobuf, which needs the package protobuf: pip install protobuf") from None
    pool = descriptor_pool.DescriptorPool()
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(topic.definition)
        for file in files.file:
            pool.Add(file)  # files stand after those that they import
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(topic.msgtype)).FromString
    except Exception as error:  # foreign bytes: DecodeError, TypeError, KeyError, ...
        raise InputError(
            f"{topic.name}: its Protobuf schema of {topic.msgtype} is damaged ({str(error)[:80]}); record it again"
        ) from None


def _get(holder: Any, key: str) -> Any:
    """Return a field of a JSON object or a Protobuf message."""
    return holder[key] if isinstance(holder, dict) else getattr(holder, key)


def _stamp(holder: Any) -> int:
    stamp = _get(holder, "timestamp")
    second, fine = ("sec", "nsec") if isinstance(stamp, dict) else ("seconds", "nanos")
    return int(_get(stamp, second)) * 1_000_000_000 + int(_get(stamp, fine))


def _header(holder: Any, frame: str = "frame_id") -> dict[str, Any]:
    return messages.header(_stamp(holder), _get(holder, frame))


def _bytes(holder: Any) -> bytes:
    data = _get(holder, "data")
    return base64.b64decode(data, validate=True) if isinstance(data, str) else data


def _image(holder: Any) -> Any:
    fields = {key: _get(holder, key) for key in ("width", "height", "encoding", "step")}
    return messages.build(messages.IMAGE, {"header": _header(holder), "data": _bytes(holder), **fields})


def _compressed(holder: Any) -> Any:
    fields = {"header": _header(holder), "format": _get(holder, "format"), "data": _bytes(holder)}
    return messages.build(messages.COMPRESSED_IMAGE, fields)


def _calibration(holder: Any) -> Any:
    fields = {key: _get(holder, key) for key in ("width", "height", "distortion_model")}
    numbers = {key.lower(): np.array(_get(holder, key), np.float64).reshape(-1) for key in "DKRP"}
    for key, size in (("r", 9), ("p", 12)):  # may be left out
        if not numbers[key].size:
            numbers[key] = np.zeros(size)
    return messages.build(messages.CAMERA_INFO, {"header": _header(holder), **fields, **numbers})


def _transforms(holder: Any) -> Any:
    items = _get(holder, "transforms")
    if len(items) > 4096:
        raise ValueError(f"{len(items)} transforms in one message")
    return messages.build(messages.TF_MESSAGE, {"transforms": [_transform(item) for item in items]})


def _transform(holder: Any) -> dict[str, Any]:
    translation, rotation = _get(holder, "translation"), _get(holder, "rotation")
    return {
        "header": _header(holder, "parent_frame_id"),
        "child_frame_id": _get(holder, "child_frame_id"),
        "transform": {
            "translation": {axis: _get(translation, axis) for axis in "xyz"},
            "rotation": {axis: _get(rotation, axis) for axis in "xyzw"},
        },
    }


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "foxglove.RawImage": _image,
    "foxglove.CompressedImage": _compressed,
    "foxglove.CameraCalibration": _calibration,
    "foxglove.FrameTransform": lambda holder: messages.build(messages.TF_MESSAGE, {"transforms": [_transform(holder)]}),
    "foxglove.FrameTransforms": _transforms,
}
