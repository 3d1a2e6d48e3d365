"""One camera of a recording: its intrinsics, its frames, and whether it can be reconstructed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bodydouble.errors import RecordingError
from bodydouble.recording import messages
from bodydouble.recording.images import decode_color, decode_depth
from bodydouble.recording.limits import Limits
from bodydouble.recording.rgbd import Match, Matcher, RgbdFrame
from bodydouble.recording.topics import CameraTopics

if TYPE_CHECKING:
    from bodydouble.recording.reader import RecordingReader

_DISTORTION_TOLERANCE = 1e-6
_IMAGES = (messages.IMAGE, messages.COMPRESSED_IMAGE)
Result = TypeVar("Result")


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
    """Depth images."""
    has_color: bool
    has_poses: bool


class CameraReader:
    """Reads one camera; RecordingReader makes and keeps it.

    Args:
        reader: The recording.
        name: The camera's name.
        topics: Where its messages are.
        limits: Upper bounds on image sizes and on frames that wait.
        max_color_gap_ns: See RecordingReader.
        max_pose_gap_ns: See RecordingReader.
    """

    def __init__(
        self,
        reader: RecordingReader,
        name: str,
        topics: CameraTopics,
        limits: Limits,
        max_color_gap_ns: int,
        max_pose_gap_ns: int,
    ):
        self.topics = topics
        self._reader = reader
        self._name = name
        self._limits = limits
        self._gaps = max_color_gap_ns, max_pose_gap_ns
        self._info: CameraInfo | None = None

    def info(self) -> CameraInfo:
        """Return the intrinsics of the first camera_info.

        Raises:
            RecordingError: There is none, or it is no pinhole without distortion.
        """
        if self._info is None:
            first = next(self._reader.messages([self.topics.info]), None)
            if first is None:
                raise self._error(
                    f"has no camera_info ({self.topics.info}); record it, or import again with intrinsics"
                )
            self._expect(first.topic, first.msgtype, (messages.CAMERA_INFO,))
            self._info = self._parse_info(first.message)
        return self._info

    def frames(self, every: int = 1, color: bool = True) -> Iterator[RgbdFrame]:
        """Yield the frames in the order of time; see RecordingReader.frames."""
        if every < 1:
            raise ValueError(f"every = {every}, expected 1 or more")
        info = self.info()
        for match in self._matches(info, every, color):
            yield self._frame(info, match)

    def check(self, require_poses: bool) -> CameraSummary:
        """Return what the camera recorded; see RecordingReader.check_rgbd."""
        info, topics = self.info(), self.topics
        count = self._reader.message_count(topics.depth)
        if count == 0:
            raise self._error(f"has no depth image ({topics.depth}); record or import depth")
        first = next((frame for frame in self.frames(color=False) if frame.depth.any()), None)
        if first is None:
            raise self._error(f"has {count} depth images, all zero; check the sensor and its units")
        has_poses = first.T_world_camera is not None
        if require_poses and not has_poses:
            raise self._error(f"has no pose on /tf at {first.t_ns} ns; record or import camera poses")
        return CameraSummary(info, count, self._reader.message_count(topics.color) > 0, has_poses)

    def _parse_info(self, message: Any) -> CameraInfo:
        K = np.array(message.k, np.float64).reshape(3, 3)
        width, height = int(message.width), int(message.height)
        if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0) or not np.array_equal(K[2], [0, 0, 1]):
            raise self._error(f"has no intrinsics in camera_info (K = {K.reshape(-1).tolist()}); calibrate it")
        if width < 1 or height < 1 or width * height > self._limits.max_image_pixels:
            raise self._error(f"has a camera_info for {width} x {height} pixels; calibrate it")
        d = np.asarray(message.d, np.float64)
        if not (np.abs(d) <= _DISTORTION_TOLERANCE).all():
            raise self._error(f"has distorted images (D = {d[:8].tolist()}); rectify them first (image_proc)")
        return CameraInfo(K, width, height)

    def _matches(self, info: CameraInfo, every: int, color: bool) -> Iterator[Match]:
        topics = self.topics
        has_color = color and self._reader.message_count(topics.color) > 0
        has_poses = self._reader.message_count("/tf") > 0
        matcher = Matcher(has_color, has_poses, *self._gaps, self._limits.max_pending_frames)
        wanted = [topics.depth, topics.info, "/tf", "/tf_static", *([topics.color] if has_color else [])]
        count = 0
        for topic, msgtype, _, message in self._reader.messages(wanted):
            if topic == topics.depth:
                self._expect(topic, msgtype, _IMAGES)
                if count % every == 0:
                    matcher.add_depth(messages.stamp_ns(message.header.stamp), message.header.frame_id, message)
                count += 1
            elif topic == topics.color:
                self._expect(topic, msgtype, _IMAGES)
                matcher.add_color(messages.stamp_ns(message.header.stamp), message)
            elif topic == topics.info:
                self._expect(topic, msgtype, (messages.CAMERA_INFO,))
                if not np.array_equal(np.asarray(message.k).reshape(3, 3), info.K):
                    raise self._error("changes its intrinsics while recording; record with a fixed zoom")
            else:
                self._expect(topic, msgtype, (messages.TF_MESSAGE,))
                self._convert(topic, lambda m=message, s=topic == "/tf_static": matcher.tree.add(m, s))
            yield from self._ready(matcher, final=False)
        yield from self._ready(matcher, final=True)

    def _ready(self, matcher: Matcher, final: bool) -> list[Match]:
        return self._convert("poses", lambda: list(matcher.ready(final)))

    def _frame(self, info: CameraInfo, match: Match) -> RgbdFrame:
        depth = self._convert(f"depth at {match.t_ns} ns", lambda: decode_depth(match.depth, self._limits))
        color = None
        if match.color is not None:
            color = self._convert(f"colour at {match.t_ns} ns", lambda: decode_color(match.color, self._limits))
        for kind, image in (("depth", depth), ("colour", color)):
            if image is not None and image.shape[:2] != (info.height, info.width):
                raise self._error(
                    f"has {kind} of {image.shape[1]} x {image.shape[0]} pixels, its camera_info says "
                    f"{info.width} x {info.height}; record images registered to each other"
                )
        return RgbdFrame(match.t_ns, color, depth, info.K, match.T_world_camera)

    def _expect(self, topic: str, msgtype: str, allowed: tuple[str, ...]) -> None:
        if msgtype not in allowed:
            raise self._error(f"has {msgtype} on {topic}, expected {' or '.join(allowed)}; name the right topics")

    def _convert(self, what: str, action: Callable[[], Result]) -> Result:
        try:
            return action()
        except ValueError as error:
            raise self._error(f"has damaged {what}: {error}; record or export it again") from None

    def _error(self, text: str) -> RecordingError:
        return RecordingError(f"{self._reader.path}: camera {self._name!r} {text}")
