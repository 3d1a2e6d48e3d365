"""Reading Recordings and Runs: frames and messages, streamed in the order of time."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from bodydouble.errors import RecordingError
from bodydouble.recording import messages
from bodydouble.recording.container import Channel, ChunkRef, Container, RawMessage
from bodydouble.recording.images import decode_color, decode_depth
from bodydouble.recording.limits import DEFAULT_LIMITS, Limits
from bodydouble.recording.rgbd import Match, Matcher, RgbdFrame
from bodydouble.recording.topics import CameraTopics, find_cameras

_DISTORTION_TOLERANCE = 1e-6


class TimedMessage(NamedTuple):
    """A decoded message."""

    topic: str
    msgtype: str
    t_ns: int
    """Publish time."""
    message: Any


class SerializedMessage(NamedTuple):
    """A message as stored."""

    topic: str
    msgtype: str
    log_time_ns: int
    publish_time_ns: int
    data: memoryview


@dataclass(frozen=True, eq=False)
class CameraInfo:
    """Intrinsics of a camera."""

    K: np.ndarray
    """(3, 3) float64, pixels."""
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class CameraSummary:
    """What `check_rgbd` found of one camera."""

    info: CameraInfo
    frame_count: int
    has_color: bool
    has_poses: bool


class RecordingReader:
    """Reads one Recording or Run; nothing but the index is held in memory.

    Args:
        path: An MCAP file.
        cameras: Topics by camera name, for files with other names than bodydouble's own.
        limits: Upper bounds on every size in the file.
        max_color_gap_ns: Farthest colour image, in time, that still belongs to a depth image.
        max_pose_gap_ns: Longest time between two transforms over which a pose is interpolated.

    Raises:
        RecordingError: The file is missing, truncated, damaged or beyond a limit.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        cameras: Mapping[str, CameraTopics] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        max_color_gap_ns: int = 20_000_000,
        max_pose_gap_ns: int = 100_000_000,
    ):
        self.path = Path(path)
        self._limits = limits
        self._gaps = max_color_gap_ns, max_pose_gap_ns
        self._container = Container(self.path, limits)
        self._index = self._container.index
        self._cameras = dict(cameras) if cameras is not None else find_cameras(list(self.topics))
        self._checked_channels: set[int] = set()
        self._infos: dict[str, CameraInfo] = {}

    def __enter__(self) -> RecordingReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @property
    def topics(self) -> dict[str, str]:
        """Message type by topic."""
        return {channel.topic: channel.msgtype for channel in self._index.channels.values()}

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras."""
        return tuple(self._cameras)

    @property
    def start_ns(self) -> int:
        """Time of the first message (log time)."""
        return self._index.start_time

    @property
    def end_ns(self) -> int:
        """Time of the last message (log time)."""
        return self._index.end_time

    @property
    def metadata(self) -> dict[str, dict[str, str]]:
        """The metadata records by name."""
        return {name: dict(data) for name, data in self._index.metadata.items()}

    def message_count(self, topic: str) -> int:
        """Return the number of messages of a topic."""
        channels = self._index.channels.items()
        return sum(self._index.counts.get(key, 0) for key, channel in channels if channel.topic == topic)

    def frame_count(self, camera: str) -> int:
        """Return the number of depth images of a camera."""
        return self.message_count(self._topics_of(camera).depth)

    def raw_messages(self, topics: Collection[str] | None = None) -> Iterator[SerializedMessage]:
        """Yield the messages of some or all topics as stored, in the order of log time.

        Raises:
            RecordingError: The file is damaged or beyond a limit.
        """
        for raw in self._in_order(self._select(topics)):
            channel = self._index.channels[raw.channel_id]
            yield SerializedMessage(channel.topic, channel.msgtype, raw.log_time, raw.publish_time, raw.data)

    def messages(self, topics: Collection[str] | None = None) -> Iterator[TimedMessage]:
        """Yield the messages of some or all topics, decoded, in the order of log time.

        Raises:
            RecordingError: The file is damaged or beyond a limit, or a topic's type is not one of ROS 2 Jazzy's.
        """
        for raw in self._in_order(self._select(topics)):
            channel = self._index.channels[raw.channel_id]
            yield TimedMessage(channel.topic, channel.msgtype, raw.publish_time, self._decode(raw))

    def camera_info(self, camera: str) -> CameraInfo:
        """Return a camera's intrinsics.

        Raises:
            RecordingError: There are none, or they are no pinhole without distortion.
        """
        if camera not in self._infos:
            topic = self._topics_of(camera).info
            first = next(self.messages([topic]), None)
            if first is None:
                raise RecordingError(
                    f"{self.path}: camera {camera!r} has no camera_info ({topic}); "
                    "record it, or import again with intrinsics"
                )
            self._infos[camera] = self._parse_info(camera, first.message)
        return self._infos[camera]

    def frames(self, camera: str, every: int = 1, color: bool = True) -> Iterator[RgbdFrame]:
        """Yield a camera's frames in the order of time, one at a time.

        Args:
            camera: Name of the camera.
            every: Take every n-th depth image.
            color: Decode the colour images too.

        Raises:
            RecordingError: The camera or its camera_info is missing, or an image is damaged or beyond a limit.
        """
        if every < 1:
            raise ValueError(f"every = {every}, expected 1 or more")
        info = self.camera_info(camera)
        for match in self._matches(camera, every, color):
            yield self._frame(camera, info, match)

    def check_rgbd(self, require_poses: bool = False) -> dict[str, CameraSummary]:
        """Return a summary by camera, after checking that the recording can be reconstructed.

        Args:
            require_poses: Also refuse cameras without poses.

        Raises:
            RecordingError: No camera; or a camera without camera_info, depth images, any depth reading, or poses.
        """
        if not self._cameras:
            raise RecordingError(f"{self.path}: holds no camera (no topic /<camera>/depth/image); record RGB-D first")
        return {camera: self._check_camera(camera, require_poses) for camera in self._cameras}

    def _check_camera(self, camera: str, require_poses: bool) -> CameraSummary:
        topics = self._topics_of(camera)
        info = self.camera_info(camera)
        count = self.frame_count(camera)
        if count == 0:
            raise RecordingError(
                f"{self.path}: camera {camera!r} has no depth image ({topics.depth}); record or import depth"
            )
        has_color = self.message_count(topics.color) > 0
        found = None
        for frame in self.frames(camera, color=False):
            if frame.depth.any():
                found = frame
                break
        if found is None:
            raise RecordingError(
                f"{self.path}: all {count} depth images of camera {camera!r} are zero; check the sensor and its units"
            )
        has_poses = found.T_world_camera is not None
        if require_poses and not has_poses:
            raise RecordingError(
                f"{self.path}: camera {camera!r} has no pose on /tf at {found.t_ns} ns; record or import camera poses"
            )
        return CameraSummary(info, count, has_color, has_poses)

    def _topics_of(self, camera: str) -> CameraTopics:
        if camera not in self._cameras:
            known = ", ".join(self._cameras) or "none"
            raise RecordingError(f"{self.path}: no camera {camera!r}; the recording's cameras: {known}")
        return self._cameras[camera]

    def _select(self, topics: Collection[str] | None) -> frozenset[int]:
        if isinstance(topics, str):
            topics = (topics,)
        channels = self._index.channels.items()
        return frozenset(key for key, channel in channels if topics is None or channel.topic in topics)

    def _in_order(self, ids: frozenset[int]) -> Iterator[RawMessage]:
        """Yield the channels' messages by log time; ties in the order of the file."""
        chunks = sorted(
            (c for c in self._index.chunks if c.channel_ids is None or c.channel_ids & ids),
            key=lambda c: (c.start_time, c.offset),
        )
        heap: list[tuple[int, int, int, RawMessage]] = []
        pending = 0
        for chunk in chunks:
            while heap and heap[0][0] < chunk.start_time:
                yield heapq.heappop(heap)[3]
            if not heap:
                pending = 0
            pending += self._push(heap, chunk, ids)
            if pending > self._limits.max_pending_bytes:
                pending = sum(len(entry[3].data) for entry in heap)
            if pending > self._limits.max_pending_bytes:
                raise RecordingError(
                    f"{self.path}: its chunks overlap in time by more than {self._limits.max_pending_bytes} bytes; "
                    "write it again in the order of time"
                )
        while heap:
            yield heapq.heappop(heap)[3]

    def _push(self, heap: list, chunk: ChunkRef, ids: frozenset[int]) -> int:
        size = 0
        for at, raw in enumerate(self._container.messages_of(chunk)):
            if raw.channel_id in ids:
                heapq.heappush(heap, (raw.log_time, chunk.offset, at, raw))
                size += len(raw.data)
        return size

    def _decode(self, raw: RawMessage) -> Any:
        channel = self._index.channels[raw.channel_id]
        if raw.channel_id not in self._checked_channels:
            self._check_channel(channel)
            self._checked_channels.add(raw.channel_id)
        try:
            return messages.deserialize(channel.msgtype, raw.data)
        except ValueError as error:
            raise RecordingError(
                f"{self.path}: a message of {channel.topic} at {raw.log_time} ns is no {channel.msgtype} "
                f"({error}); record it again"
            ) from None

    def _check_channel(self, channel: Channel) -> None:
        if channel.encoding != "cdr" or not messages.is_known(channel.msgtype):
            raise RecordingError(
                f"{self.path}: {channel.topic} is {channel.msgtype or 'of no type'} in "
                f"{channel.encoding or 'no encoding'}, expected a ROS 2 Jazzy type in cdr; name the topics to read"
            )
        if channel.definition_encoding == "ros2msg" and channel.definition:
            text = channel.definition.decode("utf-8", "replace")
            if not messages.same_definition(channel.msgtype, text):
                raise RecordingError(
                    f"{self.path}: {channel.topic}: its definition of {channel.msgtype} is not ROS 2 Jazzy's; "
                    "convert the recording first"
                )

    def _parse_info(self, camera: str, message: Any) -> CameraInfo:
        K = np.array(message.k, np.float64).reshape(3, 3)
        width, height = int(message.width), int(message.height)
        if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0) or not np.array_equal(K[2], [0, 0, 1]):
            raise RecordingError(
                f"{self.path}: camera_info of {camera!r} holds no intrinsics (K = {K.reshape(-1).tolist()}); "
                "calibrate it"
            )
        if width < 1 or height < 1 or width * height > self._limits.max_image_pixels:
            raise RecordingError(
                f"{self.path}: camera_info of {camera!r} is for {width} x {height} pixels; calibrate it"
            )
        d = np.asarray(message.d, np.float64)
        if d.size and not (np.abs(d) <= _DISTORTION_TOLERANCE).all():
            raise RecordingError(
                f"{self.path}: the images of {camera!r} are distorted (D = {d.tolist()}); "
                "rectify them first (image_proc)"
            )
        return CameraInfo(K, width, height)

    def _matches(self, camera: str, every: int, color: bool) -> Iterator[Match]:
        topics = self._topics_of(camera)
        has_color = color and self.message_count(topics.color) > 0
        matcher = Matcher(has_color, self.message_count("/tf") > 0, *self._gaps, self._limits.max_pending_frames)
        wanted = [topics.depth, topics.info, "/tf", "/tf_static", *([topics.color] if has_color else [])]
        count = 0
        for topic, _, _, message in self.messages(wanted):
            if topic == topics.depth:
                if count % every == 0:
                    matcher.add_depth(messages.stamp_ns(message.header.stamp), message.header.frame_id, message)
                count += 1
            elif topic == topics.color:
                matcher.add_color(messages.stamp_ns(message.header.stamp), message)
            elif topic == topics.info:
                if not np.array_equal(np.asarray(message.k).reshape(3, 3), self._infos[camera].K):
                    raise RecordingError(
                        f"{self.path}: the intrinsics of {camera!r} change while recording; record with a fixed zoom"
                    )
            else:
                self._convert(topic, lambda m=message, s=topic == "/tf_static": matcher.tree.add(m, s))
            yield from self._ready(camera, matcher, final=False)
        yield from self._ready(camera, matcher, final=True)

    def _ready(self, camera: str, matcher: Matcher, final: bool) -> list[Match]:
        return self._convert(f"/tf of {camera}", lambda: list(matcher.ready(final)))

    def _frame(self, camera: str, info: CameraInfo, match: Match) -> RgbdFrame:
        topics, types = self._topics_of(camera), self.topics
        depth = self._convert(
            f"depth of {camera} at {match.t_ns} ns",
            lambda: decode_depth(match.depth, types[topics.depth] == messages.COMPRESSED_IMAGE, self._limits),
        )
        color = None
        if match.color is not None:
            color = self._convert(
                f"colour of {camera} at {match.t_ns} ns",
                lambda: decode_color(match.color, types[topics.color] == messages.COMPRESSED_IMAGE, self._limits),
            )
        for name, image in (("depth", depth), ("colour", color)):
            if image is not None and image.shape[:2] != (info.height, info.width):
                raise RecordingError(
                    f"{self.path}: {name} of {camera!r} is {image.shape[1]} x {image.shape[0]}, its camera_info says "
                    f"{info.width} x {info.height}; record images registered to each other"
                )
        return RgbdFrame(match.t_ns, color, depth, info.K, match.T_world_camera)

    def _convert(self, what: str, action: Any) -> Any:
        try:
            return action()
        except ValueError as error:
            raise RecordingError(f"{self.path}: {what}: {error}; record or export it again") from None
