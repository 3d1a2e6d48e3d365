"""`record_ros`: RGB-D camera topics over ROS 2 into a Recording."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import queue
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bodydouble.errors import InputError
from bodydouble.recording import RecordingWriter, messages
from bodydouble.recording.topics import camera_topics
from perception.importers.bag.bag_messages import IMU, ODOMETRY, POSE
from perception.live.recorder import CameraCount, Received, Recorder

IMAGE_TYPES = (messages.IMAGE, messages.COMPRESSED_IMAGE)
"""Message types of images."""
IMU_TOPIC = "/{camera}/imu"
"""Where a camera's Imu is looked for by default."""
IMU_WAIT_S = 0.5
"""Longest wait for it once all other topics are there, s."""
QUEUE_SIZE = 400
"""Messages that can wait to be written."""


@dataclass(frozen=True)
class RosRecordConfig:
    """What is recorded."""

    cameras: tuple[str, ...] = ("camera",)
    """Names of the cameras; they take the place of {camera} in the topics."""
    color: str = "/{camera}/color/image_raw"
    """Colour images: Image, or CompressedImage with JPEG or PNG (.../compressed). Empty: depth only."""
    depth: str = "/{camera}/aligned_depth_to_color/image_raw"
    """Depth images registered to the colour images: 16UC1 in mm or 32FC1 in m, raw or .../compressedDepth (PNG)."""
    info: str = "/{camera}/aligned_depth_to_color/camera_info"
    """CameraInfo of the depth images."""
    pose: str = ""
    """Poses of a camera's optical frame in the world, PoseStamped or Odometry. Empty: transforms on /tf are taken."""
    imu: str = IMU_TOPIC
    """The camera's Imu, which tells tracking what is up. By default it is recorded where there is one. Empty: none."""
    world: str = ""
    """Frame of /tf that stands still in the room; empty: told by its name (world, map, odom, ...). none: no poses."""
    seconds: float = 0.0
    """Length of the recording, s; 0 records until Ctrl-C."""
    wait_s: float = 10.0
    """Longest wait for every topic to appear, s."""
    slop_ms: float = 20.0
    """Farthest distance in time between a depth image and its colour image, ms."""


@dataclass(frozen=True)
class RosRecorded:
    """A finished recording."""

    path: Path
    """The recording."""
    cameras: dict[str, CameraCount]
    """Counts by camera."""
    queue_full: int
    """Messages dropped because the disk could not follow."""
    warnings: tuple[str, ...]
    """What the user must know."""

    def __str__(self) -> str:
        """One line per camera."""
        lines = [
            f"{self.path}: {name}: {count.frames} frames, {count.poses} poses, {count.imu} Imu messages; "
            f"without a partner: "
            f"{count.dropped_depth} depth, {count.dropped_color} colour"
            for name, count in self.cameras.items()
        ]
        lines.append(f"dropped, disk too slow: {self.queue_full}")
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])


def record_ros(out: Path, config: RosRecordConfig) -> RosRecorded:
    """Record RGB-D camera topics and transforms until the time is up or Ctrl-C.

    Args:
        out: The recording to write (.mcap).
        config: What is recorded.

    Raises:
        InputError: A topic does not appear or is of another type, no frame came, or the file cannot be written.
    """
    from robot.nodes.process import running_node

    topics, optional = _wanted(config)
    warnings = []
    full = 0
    waiting: queue.Queue[Received | None] = queue.Queue(QUEUE_SIZE)

    def receiver(camera: str, kind: str, msgtype: str) -> Any:
        def receive(data: bytes) -> None:
            nonlocal full
            try:
                waiting.put_nowait(Received(camera, kind, msgtype, data, time.time_ns()))
            except queue.Full:
                full += 1

        return receive

    with running_node("bodydouble_record", []) as running:
        types = _await_topics(running.node, [topic for topic, _, _ in topics], config.wait_s, running.stop)
        topics += _those_there(running.node, optional, types, running.stop)
        _check_types(topics, types)
        with RecordingWriter(out, live=True) as writer:
            slop_ns = int(config.slop_ms * 1e6)
            recorder = Recorder(writer, config.cameras, bool(config.color), slop_ns, config.world)
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
            _end(thread, waiting)
            if failure:
                if not any(count.frames for count in recorder.counts().values()):
                    writer.discard()  # nothing worth keeping came
                raise failure[0]
            counts = recorder.finish()
            warnings += recorder.warnings()
            record = {"config": json.dumps(asdict(config)), "queue_full": str(full), "notes": "; ".join(warnings)}
            record |= {
                f"dropped_{name}": f"{c.dropped_depth} depth, {c.dropped_color} colour" for name, c in counts.items()
            }
            writer.write_metadata("recorder", record)
    if not any(count.frames for count in counts.values()):
        out.unlink()
        raise InputError(f"{out}: no depth image with its colour image came; raise config.slop_ms or check the cameras")
    return RosRecorded(out, counts, full, tuple(warnings))


Wanted = list[tuple[str, str, str]]
"""Topic, camera and kind of what is subscribed to."""


def _wanted(config: RosRecordConfig) -> tuple[Wanted, Wanted]:
    """Return what must be there, and what is recorded if it is there."""
    if not config.cameras or len(set(config.cameras)) != len(config.cameras):
        raise InputError("config.cameras: expected one or more different names")
    patterns = {"color": config.color, "depth": config.depth, "info": config.info, "pose": config.pose}
    patterns |= {"imu": config.imu}
    out = []
    for camera in config.cameras:
        camera_topics(camera)
        for kind, pattern in patterns.items():
            if pattern:
                out.append((pattern.replace("{camera}", camera), camera, kind))
    if len({topic for topic, _, _ in out}) != len(out):
        raise InputError("config: two cameras have the same topic; write {camera} where their names differ")
    optional = [item for item in out if item[2] == "imu" and config.imu == IMU_TOPIC]
    return [item for item in out if item not in optional], optional


def _those_there(node: Any, optional: Wanted, types: dict[str, str], stop: threading.Event) -> Wanted:
    """Return the topics that are there, and add their types."""
    deadline = time.monotonic() + IMU_WAIT_S
    while True:
        found = {topic: names[0] for topic, names in node.get_topic_names_and_types()}
        there = [item for item in optional if item[0] in found]
        if len(there) == len(optional) or time.monotonic() > deadline or stop.is_set():
            types |= {topic: found[topic] for topic, _, _ in there}
            return there
        time.sleep(0.05)


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


def _check_types(topics: Wanted, types: dict[str, str]) -> None:
    for topic, _, kind in topics:
        allowed = {"info": (messages.CAMERA_INFO,), "pose": (POSE, ODOMETRY), "imu": (IMU,)}.get(kind, IMAGE_TYPES)
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


def _end(thread: threading.Thread, waiting: queue.Queue[Received | None]) -> None:
    """Let the writing thread write what waits, then end; it may have ended already, with the queue full."""
    while thread.is_alive():
        with contextlib.suppress(queue.Full):
            waiting.put(None, timeout=0.1)
            thread.join()


def _wait(recorder: Recorder, seconds: float, stop: threading.Event) -> None:
    begun = time.monotonic()
    with Live(console=Console(stderr=True), transient=True, auto_refresh=False) as live:
        while not stop.wait(0.2):
            elapsed = time.monotonic() - begun
            frames = "  ".join(f"{name} {count.frames} frames" for name, count in recorder.counts().items())
            live.update(Text(f"recording {elapsed:.0f} s  {frames}"), refresh=True)
            if seconds and elapsed >= seconds:
                return
