"""Reading Recordings and Runs: messages and RGB-D frames, streamed in the order of time."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from bodydouble.errors import RecordingError
from bodydouble.recording import messages
from bodydouble.recording.camera import CameraInfo, CameraReader, CameraSummary
from bodydouble.recording.container import ChunkRef, Container
from bodydouble.recording.limits import DEFAULT_LIMITS, MESSAGE_BYTES, Limits
from bodydouble.recording.records import Channel, RawMessage
from bodydouble.recording.rgbd import RgbdFrame
from bodydouble.recording.topics import CameraTopics, find_cameras

_LARGE_TYPES = (messages.IMAGE, messages.COMPRESSED_IMAGE, "sensor_msgs/msg/PointCloud2")
"""Types whose size is one array, which costs no more memory decoded than stored."""

_COPY_BELOW = 8
"""A message smaller than its chunk by this factor is copied while it waits, so that it does not keep the chunk."""


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
        self._container = Container(self.path, limits)
        self._index = self._container.index
        self._checked_channels: set[int] = set()
        named = dict(cameras) if cameras is not None else find_cameras(list(self.topics))
        gaps = max_color_gap_ns, max_pose_gap_ns
        self._cameras = {name: CameraReader(self, name, topics, limits, *gaps) for name, topics in named.items()}

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

    def channels(self) -> list[tuple[Channel, int]]:
        """Return every channel as stored, whatever its encoding, and the number of its messages."""
        return [(channel, self._index.counts.get(key, 0)) for key, channel in self._index.channels.items()]

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
            yield TimedMessage(channel.topic, channel.msgtype, raw.publish_time, self._decode(raw, channel))

    def frame_count(self, camera: str) -> int:
        """Return the number of depth images of a camera.

        Raises:
            RecordingError: There is no such camera.
        """
        return self.message_count(self._camera(camera).topics.depth)

    def camera_info(self, camera: str) -> CameraInfo:
        """Return a camera's intrinsics.

        Raises:
            RecordingError: There are none, or they are no pinhole without distortion.
        """
        return self._camera(camera).info()

    def frames(self, camera: str, every: int = 1, color: bool = True) -> Iterator[RgbdFrame]:
        """Yield a camera's frames in the order of time, one at a time.

        Args:
            camera: Name of the camera.
            every: Take every n-th depth image.
            color: Decode the colour images too.

        Raises:
            RecordingError: The camera or its camera_info is missing, or an image is damaged or beyond a limit.
        """
        return self._camera(camera).frames(every, color)

    def check_rgbd(self, require_poses: bool = False) -> dict[str, CameraSummary]:
        """Return a summary by camera, after checking that the recording can be reconstructed.

        Args:
            require_poses: Also refuse cameras without poses.

        Raises:
            RecordingError: No camera; or a camera without camera_info, depth images, any depth reading, or poses.
        """
        if not self._cameras:
            raise RecordingError(f"{self.path}: holds no camera (no topic /<camera>/depth/image); record RGB-D first")
        return {name: camera.check(require_poses) for name, camera in self._cameras.items()}

    def _camera(self, name: str) -> CameraReader:
        if name not in self._cameras:
            known = ", ".join(self._cameras) or "none"
            raise RecordingError(f"{self.path}: no camera {name!r}; the recording's cameras: {known}")
        return self._cameras[name]

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
                raw = heapq.heappop(heap)[3]
                pending -= len(raw.data) + MESSAGE_BYTES
                yield raw
            pending = self._push(heap, chunk, ids, pending)
        while heap:
            yield heapq.heappop(heap)[3]

    def _push(
        self, heap: list[tuple[int, int, int, RawMessage]], chunk: ChunkRef, ids: frozenset[int], pending: int
    ) -> int:
        """Put a chunk's messages on the heap, and return how many bytes are held now."""
        for at, raw in enumerate(self._container.messages_of(chunk)):
            if raw.channel_id in ids:
                if len(raw.data) * _COPY_BELOW < memoryview(raw.data.obj).nbytes:
                    raw = raw._replace(data=memoryview(bytes(raw.data)))
                heapq.heappush(heap, (raw.log_time, chunk.offset, at, raw))
                pending += len(raw.data) + MESSAGE_BYTES
                if pending > self._limits.max_pending_bytes:
                    raise RecordingError(
                        f"{self.path}: more than {self._limits.max_pending_bytes} bytes of messages overlap in time; "
                        "write it again in the order of time"
                    )
        return pending

    def _decode(self, raw: RawMessage, channel: Channel) -> Any:
        if raw.channel_id not in self._checked_channels:
            self._check_channel(channel)
            self._checked_channels.add(raw.channel_id)
        if len(raw.data) > self._limits.max_small_message_bytes and channel.msgtype not in _LARGE_TYPES:
            raise RecordingError(
                f"{self.path}: a message of {channel.topic} has {len(raw.data)} bytes, the limit for "
                f"{channel.msgtype} is {self._limits.max_small_message_bytes}; read it with larger `Limits`"
            )
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
