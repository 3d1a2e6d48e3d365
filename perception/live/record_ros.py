"""`record_ros`: RGB-D camera topics over ROS 2 into a Recording."""

from __future__ import annotations

import importlib
import importlib.util
import json
import queue
import struct
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from bodydouble.errors import InputError
from bodydouble.frames import make_se3, quat_to_matrix
from bodydouble.recording import RecordingWriter, messages
from bodydouble.recording.topics import camera_topics
from perception.live.pairing import Pair, Pairing

IMAGE_TYPES = (messages.IMAGE, messages.COMPRESSED_IMAGE)
"""Message types of images."""
POSE, ODOMETRY = "geometry_msgs/msg/PoseStamped", "nav_msgs/msg/Odometry"
"""Message types of poses."""
QUEUE_SIZE = 400
"""Messages that can wait to be written."""
WAITING = 30
"""Images of a camera that wait for their partner."""


@dataclass(frozen=True)
class RosRecordConfig:
    """What is recorded."""

    cameras: tuple[str, ...] = ("camera",)
    """Names of the cameras; they take the place of {camera} in the topics."""
    color: str = "/{camera}/color/image_raw"
    """Colour images, Image or CompressedImage (JPEG, PNG). Empty: depth only."""
    depth: str = "/{camera}/aligned_depth_to_color/image_raw"
    """Depth images registered to the colour images: 16UC1 in mm or 32FC1 in m."""
    info: str = "/{camera}/aligned_depth_to_color/camera_info"
    """CameraInfo of the depth images."""
    pose: str = ""
    """Poses of a camera's optical frame in the world, PoseStamped or Odometry. Empty: transforms on /tf are taken."""
    seconds: float = 0.0
    """Length of the recording, s; 0 records until Ctrl-C."""
    wait_s: float = 10.0
    """Longest wait for every topic to appear, s."""
    slop_ms: float = 20.0
    """Farthest distance in time between a depth image and its colour image, ms."""


@dataclass(frozen=True)
class CameraCount:
    """What came of one camera."""

    frames: int
    """Depth images that were written."""
    dropped_depth: int
    """Depth images without a colour image near in time."""
    dropped_color: int
    """Colour images without a depth image near in time."""


@dataclass(frozen=True)
class RosRecorded:
    """A finished recording."""

    path: Path
    """The recording."""
    cameras: dict[str, CameraCount]
    """Counts by camera."""
    transforms: int
    """Messages with poses or transforms."""
    queue_full: int
    """Messages dropped because the disk could not follow."""
    warnings: tuple[str, ...]
    """What the user must know."""

    def __str__(self) -> str:
        """One line per camera."""
        lines = [
            f"{self.path}: {name}: {count.frames} frames; without a partner: {count.dropped_depth} depth, "
            f"{count.dropped_color} colour"
            for name, count in self.cameras.items()
        ]
        lines.append(f"poses: {self.transforms}; dropped, disk too slow: {self.queue_full}")
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])


class _Received(NamedTuple):
    camera: str
    kind: str
    msgtype: str
    data: bytes
    received_ns: int


def stamp_of(data: bytes) -> int:
    """Return the header's stamp of a serialized message whose first field is a header, ns.

    Raises:
        ValueError: The bytes are too few.
    """
    if len(data) < 12:
        raise ValueError(f"{len(data)} bytes hold no header")
    sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return sec * 1_000_000_000 + nanosec


class Recorder:
    """Writes messages as they come: images in pairs, intrinsics and transforms as they are. Knows nothing of ROS.

    Args:
        writer: The recording.
        config: What is recorded.
    """

    def __init__(self, writer: RecordingWriter, config: RosRecordConfig) -> None:
        self._writer = writer
        self._has_color = bool(config.color)
        self._pairings: dict[str, Pairing[_Received]] = {
            name: Pairing(int(config.slop_ms * 1e6), WAITING) for name in config.cameras
        }
        self._depth_only = dict.fromkeys(config.cameras, 0)
        self.transforms = 0

    def add(self, item: _Received) -> None:
        """Take in one message."""
        if item.kind in ("/tf", "/tf_static"):
            self._writer.write_cdr(item.kind, item.msgtype, item.data, item.received_ns, item.received_ns)
            self.transforms += 1
            return
        stamp = stamp_of(item.data)
        if item.kind == "pose":
            self._writer.write_pose(item.camera, _pose_matrix(item), stamp)
            self.transforms += 1
        elif item.kind == "info":
            topic = camera_topics(item.camera).info
            self._writer.write_cdr(topic, item.msgtype, item.data, item.received_ns, stamp)
        elif item.kind == "depth" and not self._has_color:
            self._write_image(camera_topics(item.camera).depth, item, stamp)
            self._depth_only[item.camera] += 1
        else:
            pairing = self._pairings[item.camera]
            ready = pairing.add_depth(stamp, item) if item.kind == "depth" else pairing.add_color(stamp, item)
            for pair in ready:
                self._write_pair(item.camera, pair)

    def finish(self) -> dict[str, CameraCount]:
        """Write the last pairs and return the counts by camera."""
        for name, pairing in self._pairings.items():
            for pair in pairing.finish():
                self._write_pair(name, pair)
        return self.counts()

    def counts(self) -> dict[str, CameraCount]:
        """Return the counts so far by camera."""
        return {
            name: CameraCount(pairing.paired + self._depth_only[name], pairing.dropped_depth, pairing.dropped_color)
            for name, pairing in self._pairings.items()
        }

    def _write_pair(self, camera: str, pair: Pair[_Received]) -> None:
        topics = camera_topics(camera)
        self._write_image(topics.color, pair.color, pair.color_ns)
        self._write_image(topics.depth, pair.depth, pair.depth_ns)

    def _write_image(self, topic: str, item: _Received, stamp: int) -> None:
        self._writer.write_cdr(topic, item.msgtype, item.data, item.received_ns, stamp)


def record_ros(out: Path, config: RosRecordConfig) -> RosRecorded:
    """Record RGB-D camera topics and transforms until the time is up or Ctrl-C.

    Args:
        out: The recording to write (.mcap).
        config: What is recorded.

    Raises:
        InputError: A topic does not appear or is of another type, no frame came, or the file cannot be written.
    """
    from robot.nodes.process import running_node

    topics = _wanted(config)
    warnings = []
    full = 0
    waiting: queue.Queue[_Received | None] = queue.Queue(QUEUE_SIZE)

    def receiver(camera: str, kind: str, msgtype: str) -> Any:
        def receive(data: bytes) -> None:
            nonlocal full
            try:
                waiting.put_nowait(_Received(camera, kind, msgtype, data, time.time_ns()))
            except queue.Full:
                full += 1

        return receive

    with running_node("bodydouble_record", []) as running:
        types = _await_topics(running.node, [topic for topic, _, _ in topics], config.wait_s, running.stop)
        _check_types(topics, types)
        with RecordingWriter(out, live=True) as writer:
            recorder = Recorder(writer, config)
            failure: list[Exception] = []

            def write() -> None:
                try:
                    while (item := waiting.get()) is not None:
                        recorder.add(item)
                except Exception as error:
                    failure.append(error)
                    running.stop.set()

            thread = threading.Thread(target=write, name="recording-writer", daemon=True)
            thread.start()
            for topic, camera, kind in topics:
                _subscribe(running.node, topic, types[topic], receiver(camera, kind, types[topic]))
            if not config.pose and importlib.util.find_spec("tf2_msgs") is None:
                warnings.append("ROS has no tf2_msgs here, so /tf was not recorded; give poses with config.pose")
            elif not config.pose:
                for topic in ("/tf", "/tf_static"):
                    _subscribe(running.node, topic, messages.TF_MESSAGE, receiver("", topic, messages.TF_MESSAGE))
            _wait(recorder, config.seconds, running.stop)
            waiting.put(None)
            thread.join()
            if failure:
                raise failure[0]
            counts = recorder.finish()
            writer.write_metadata("recorder", {"config": json.dumps(asdict(config)), "queue_full": str(full)})
    if not any(count.frames for count in counts.values()):
        out.unlink()
        raise InputError(f"{out}: no depth image with its colour image came; raise config.slop_ms or check the cameras")
    if not recorder.transforms and not warnings:
        warnings.append("no pose came; the cameras' motion has to be tracked from the images")
    return RosRecorded(out, counts, recorder.transforms, full, tuple(warnings))


def _pose_matrix(item: _Received) -> np.ndarray:
    message = messages.deserialize(item.msgtype, item.data)
    pose = message.pose if item.msgtype == POSE else message.pose.pose
    p, q = pose.position, pose.orientation
    return make_se3(quat_to_matrix(np.array([q.w, q.x, q.y, q.z])), np.array([p.x, p.y, p.z]))


def _wanted(config: RosRecordConfig) -> list[tuple[str, str, str]]:
    """Return topic, camera and kind of everything that is subscribed to."""
    if not config.cameras or len(set(config.cameras)) != len(config.cameras):
        raise InputError("config.cameras: expected one or more different names")
    patterns = {"color": config.color, "depth": config.depth, "info": config.info, "pose": config.pose}
    out = []
    for camera in config.cameras:
        camera_topics(camera)
        for kind, pattern in patterns.items():
            if pattern:
                out.append((pattern.replace("{camera}", camera), camera, kind))
    if len({topic for topic, _, _ in out}) != len(out):
        raise InputError("config: two cameras have the same topic; write {camera} where their names differ")
    return out


def _await_topics(node: Any, wanted: list[str], seconds: float, stop: threading.Event) -> dict[str, str]:
    deadline = time.monotonic() + seconds
    while True:
        found = {topic: types[0] for topic, types in node.get_topic_names_and_types()}
        missing = [topic for topic in wanted if topic not in found]
        if not missing:
            return found
        if time.monotonic() > deadline or stop.is_set():
            images = sorted(topic for topic, kind in found.items() if kind in IMAGE_TYPES)
            seen = ", ".join(images[:8]) or "none"
            raise InputError(
                f"topic {missing[0]} did not appear in {seconds:g} s; image topics here: {seen}; set config.cameras, "
                "config.color, config.depth and config.info, and check ROS_DOMAIN_ID"
            )
        time.sleep(0.1)


def _check_types(topics: list[tuple[str, str, str]], types: dict[str, str]) -> None:
    for topic, _, kind in topics:
        allowed = {"info": (messages.CAMERA_INFO,), "pose": (POSE, ODOMETRY)}.get(kind, IMAGE_TYPES)
        if types[topic] not in allowed:
            raise InputError(f"topic {topic} is {types[topic]}, expected {' or '.join(allowed)}")


def _subscribe(node: Any, topic: str, msgtype: str, receive: Any) -> None:
    import rclpy.qos as qos

    package, _, name = msgtype.split("/")
    kind = getattr(importlib.import_module(f"{package}.msg"), name)
    publishers = node.get_publishers_info_by_topic(topic)
    reliable = bool(publishers) and all(
        publisher.qos_profile.reliability == qos.ReliabilityPolicy.RELIABLE for publisher in publishers
    )
    profile = qos.QoSProfile(
        # A best-effort subscription also hears reliable publishers; a reliable one does not hear best-effort ones.
        reliability=qos.ReliabilityPolicy.RELIABLE if reliable else qos.ReliabilityPolicy.BEST_EFFORT,
        durability=qos.DurabilityPolicy.TRANSIENT_LOCAL if topic == "/tf_static" else qos.DurabilityPolicy.VOLATILE,
        depth=100,
    )
    if topic == "/tf_static":
        profile.reliability = qos.ReliabilityPolicy.RELIABLE
    node.create_subscription(kind, topic, receive, profile, raw=True)


def _wait(recorder: Recorder, seconds: float, stop: threading.Event) -> None:
    begun = time.monotonic()
    with Live(console=Console(stderr=True), transient=True, auto_refresh=False) as live:
        while not stop.wait(0.2):
            elapsed = time.monotonic() - begun
            frames = "  ".join(f"{name} {count.frames} frames" for name, count in recorder.counts().items())
            live.update(Text(f"recording {elapsed:.0f} s  {frames}"), refresh=True)
            if seconds and elapsed >= seconds:
                return
