"""Writing Recordings and Runs: one MCAP file in the ROS 2 profile, definitions embedded, zstd chunks."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from mcap.writer import CompressionType, Writer

from bodydouble import __version__
from bodydouble.errors import InputError
from bodydouble.frames import fix_rotation, quat_from_matrix, xyzw_from_wxyz
from bodydouble.recording import messages
from bodydouble.recording.cdr import Extent, extent
from bodydouble.recording.images import depth_to_mm, encode_jpeg
from bodydouble.recording.topics import WORLD_FRAME, camera_topics, optical_frame

CHUNK_BYTES = 1 << 20
_MAX_TIME_NS = (1 << 31) * 1_000_000_000 - 1
"""ROS stamps hold int32 seconds."""
_ROTATION_TOLERANCE = 1e-3
_TOPIC = re.compile(r"/[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*")


class RecordingWriter:
    """Writes one Recording or Run; use it as a context manager.

    The messages go to `<path>.tmp`, which takes the place of `path` on success. The same calls give the same bytes
    (not in live mode, where chunks also end by the clock).

    Args:
        path: The file to write.
        live: The messages happen now and cannot be made again: a chunk is written at least every `flush_s` seconds
            of activity, and after an error what was recorded is kept and finished; where the disk took no more it is
            left as `<path>.tmp` for `recover`. Otherwise an error removes the file.
        flush_s: Longest time, in seconds, that messages stay in memory in live mode.
        jpeg_quality: Quality (1 to 95) of colour images.

    Raises:
        InputError: The file cannot be created, or an earlier live recording was left unfinished there.
    """

    def __init__(self, path: Path | str, *, live: bool = False, flush_s: float = 1.0, jpeg_quality: int = 90):
        self.path = Path(path)
        self._temporary = self.path.with_name(self.path.name + ".tmp")
        self._live = live
        self._flush_s = flush_s
        self._jpeg_quality = jpeg_quality
        self._channels: dict[tuple[str, str], int] = {}
        self._schemas: dict[str, int] = {}
        self._extents: dict[tuple[str, str], Extent] = {}
        self._lock = threading.Lock()
        self._last_flush = time.monotonic()
        self._unsaved_bytes = 0
        self.message_count = 0
        self.saved_count = 0
        """Messages of a live recording that lie in the file in whole chunks: what a crash or a full disk leaves."""
        self.failed = False
        """Whether the disk took no more of a live recording; nothing more is written then."""
        if live and self._temporary.exists():
            raise InputError(
                f"{self._temporary}: an unfinished recording is in the way; rescue it with "
                f"`bodydouble recover {self._temporary} OUT.mcap`, then delete it"
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._temporary, "wb")  # noqa: SIM115 (closed by close)
        except OSError as error:
            raise self._not_written(error) from None
        self._mcap: Writer | None = Writer(self._file, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
        self._mcap.start(profile="ros2", library=f"bodydouble {__version__}")

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or self._live:
            self.close()
        else:
            self.discard()

    def close(self) -> None:
        """Finish the file and put it in place; a second call does nothing."""
        with self._lock:
            if self._mcap is None:
                return
            try:
                self._mcap.finish()
                sync_file(self._file)
            except OSError as error:
                raise self._not_written(error) from None
            finally:
                self._mcap = None
                self._file.close()
            os.replace(self._temporary, self.path)

    def discard(self) -> None:
        """Remove what was written; `path` stays as it was."""
        with self._lock:
            self._mcap = None
            self._file.close()
            self._temporary.unlink(missing_ok=True)

    def flush(self) -> None:
        """Write the messages so far to the file as a complete chunk."""
        with self._lock:
            self._save(self._open())

    def write_cdr(self, topic: str, msgtype: str, data: bytes, log_time_ns: int, publish_time_ns: int) -> None:
        """Write a message that is serialized already (CDR with encapsulation header, as rclpy's raw messages are).

        Bytes after the message, as Fast DDS appends, are left out.

        Raises:
            InputError: A topic, type or time that is not valid, or bytes that hold no such message.
        """
        data = bytes(data)
        # A sensor's messages differ in their numbers: the last one mostly tells where this one ends.
        known = self._extents.get((topic, msgtype))
        if known is None or not known.fits(data):
            try:
                known = self._extents[topic, msgtype] = extent(msgtype, data)
            except ValueError as error:
                raise InputError(f"{topic}: {len(data)} bytes that are no {msgtype} ({error})") from None
        data = data if len(data) == known.end else data[: known.end]
        self._append(topic, msgtype, data, _check_time(log_time_ns), _check_time(publish_time_ns))

    def write(self, topic: str, msgtype: str, message: Any, t_ns: int, log_time_ns: int | None = None) -> None:
        """Write any standard message.

        Args:
            topic: Absolute topic name.
            msgtype: E.g. `sensor_msgs/msg/JointState`.
            message: Mapping of fields or a message object; see `messages.build`. Stamps may be integer nanoseconds.
            t_ns: Time of the message (MCAP publish time), int64 nanoseconds.
            log_time_ns: Time of receipt, by which readers order messages; `t_ns` unless given.

        Raises:
            InputError: As `messages.build`, or a topic or time that is not valid.
        """
        t_ns = _check_time(t_ns)
        log_ns = t_ns if log_time_ns is None else _check_time(log_time_ns)
        self._append(topic, msgtype, messages.serialize(msgtype, message), log_ns, t_ns)

    def write_camera_info(self, camera: str, K: np.ndarray, width: int, height: int, t_ns: int) -> None:
        """Write a camera's pinhole intrinsics; the images are taken to be free of distortion.

        Args:
            camera: Camera name.
            K: (3, 3) intrinsics in pixels, pixel centres at integers.
            width: Image width in pixels.
            height: Image height in pixels.
            t_ns: Time in nanoseconds.

        Raises:
            InputError: K is not a pinhole matrix.
        """
        K = np.asarray(K, np.float64)
        if K.shape != (3, 3) or not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0:
            raise InputError(f"intrinsics of {camera}: expected a finite (3, 3) K with positive focal lengths")
        if not np.array_equal([K[0, 1], K[1, 0], *K[2]], [0, 0, 0, 0, 1]):
            raise InputError(
                f"intrinsics of {camera}: expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {K.tolist()}"
            )
        fields = {
            "header": messages.header(_check_time(t_ns), optical_frame(camera)),
            "height": int(height),
            "width": int(width),
            "distortion_model": "plumb_bob",
            "d": np.zeros(5),
            "k": K.reshape(-1),
            "r": np.eye(3).reshape(-1),
            "p": np.hstack([K, np.zeros((3, 1))]).reshape(-1),
        }
        self.write(camera_topics(camera).info, messages.CAMERA_INFO, fields, t_ns)

    def write_color(self, camera: str, rgb: np.ndarray, t_ns: int) -> None:
        """Write a colour image (H, W, 3) uint8 RGB as JPEG.

        Raises:
            InputError: Another shape or type.
        """
        self.write_color_encoded(camera, encode_jpeg(rgb, self._jpeg_quality), "jpeg", t_ns)

    def write_color_encoded(self, camera: str, data: bytes, image_format: str, t_ns: int) -> None:
        """Write a colour image that is a file's bytes already.

        Args:
            camera: Camera name.
            data: The bytes of a JPEG or PNG file.
            image_format: `jpeg` or `png`.
            t_ns: Time in nanoseconds.

        Raises:
            InputError: The bytes are of another format.
        """
        magic = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}.get(image_format)
        if magic is None or not data.startswith(magic):
            raise InputError(f"colour image of {camera}: the bytes are no {image_format} file, expected jpeg or png")
        fields = {
            "header": messages.header(_check_time(t_ns), optical_frame(camera)),
            "format": image_format,
            "data": data,
        }
        self.write(camera_topics(camera).color, messages.COMPRESSED_IMAGE, fields, t_ns)

    def write_depth(self, camera: str, depth: np.ndarray, t_ns: int) -> None:
        """Write a depth image (H, W), float metres or uint16 millimetres, 0 = no reading; stored as 16UC1.

        Raises:
            InputError: Another shape or type, NaN, infinity, or more than 65.534 m.
        """
        mm = depth_to_mm(depth)
        fields = {
            "header": messages.header(_check_time(t_ns), optical_frame(camera)),
            "height": mm.shape[0],
            "width": mm.shape[1],
            "encoding": "16UC1",
            "is_bigendian": 0,
            "step": mm.shape[1] * 2,
            "data": mm.astype("<u2", copy=False).view(np.uint8).reshape(-1),
        }
        self.write(camera_topics(camera).depth, messages.IMAGE, fields, t_ns)

    def write_pose(self, camera: str, T_world_camera: np.ndarray, t_ns: int, frame: str = "") -> None:
        """Write a camera's pose (4, 4), camera axes x right, y down, z forward, on /tf.

        Args:
            camera: Camera name.
            T_world_camera: The pose.
            t_ns: Time in nanoseconds.
            frame: Frame of its depth images, where they were written as received and have a frame of their own.

        Raises:
            InputError: The matrix is no rigid transform (rotation off by more than 1e-3).
        """
        transform = _transform(WORLD_FRAME, frame or optical_frame(camera), T_world_camera, t_ns)
        self.write("/tf", messages.TF_MESSAGE, {"transforms": [transform]}, t_ns)

    def write_static_transform(self, parent: str, child: str, T_parent_child: np.ndarray, t_ns: int) -> None:
        """Write a transform (4, 4) that never changes, on /tf_static: where a sensor is mounted.

        Raises:
            InputError: The matrix is no rigid transform (rotation off by more than 1e-3).
        """
        transform = _transform(parent, child, T_parent_child, t_ns)
        self.write("/tf_static", messages.TF_MESSAGE, {"transforms": [transform]}, t_ns)

    def write_metadata(self, name: str, data: Mapping[str, str]) -> None:
        """Write a named record of texts: provenance and the like.

        Raises:
            InputError: A key or value is no text.
        """
        if not all(isinstance(key, str) and isinstance(value, str) for key, value in data.items()):
            raise InputError(f"metadata {name!r}: keys and values must be text")
        with self._lock:
            self._open().add_metadata(name, dict(data))

    def _not_written(self, error: OSError) -> InputError:
        return InputError(f"{self.path}: cannot be written ({error.strerror}); give a writable path with free space")

    def _open(self) -> Writer:
        if self._mcap is None:
            raise InputError(f"{self.path}: the recording is closed")
        return self._mcap

    def _append(self, topic: str, msgtype: str, data: bytes, log_ns: int, publish_ns: int) -> None:
        with self._lock:
            writer = self._open()
            channel = self._channels.get((topic, msgtype))
            if channel is None:
                channel = self._register(writer, topic, msgtype)
            try:
                writer.add_message(channel, log_time=log_ns, data=data, publish_time=publish_ns)
                self.message_count += 1
                self._unsaved_bytes += len(data)
                due = self._unsaved_bytes >= CHUNK_BYTES or time.monotonic() - self._last_flush >= self._flush_s
                if self._live and due:
                    self._save(writer)
            except OSError as error:
                if self._live:
                    self._abandon()
                raise self._not_written(error) from None

    def _save(self, writer: Writer) -> None:
        """Write the messages so far as a whole chunk."""
        writer.flush()
        self._last_flush = time.monotonic()
        self._unsaved_bytes, self.saved_count = 0, self.message_count

    def _abandon(self) -> None:
        """Leave the temporary file as it is, for `recover`: after half a chunk nothing can follow."""
        self._mcap, self.failed = None, True
        # The raw file alone: what waits in its buffer did not fit and would fail again.
        raw = getattr(self._file, "raw", self._file)
        raw.close()

    def _register(self, writer: Writer, topic: str, msgtype: str) -> int:
        if not _TOPIC.fullmatch(topic):
            raise InputError(f"topic {topic!r}: expected an absolute ROS name such as /joint_states")
        name = messages.require_known(msgtype)
        if name not in self._schemas:
            self._schemas[name] = writer.register_schema(name, "ros2msg", messages.definition(name).encode())
        channel = self._channels.get((topic, name))
        if channel is None:
            channel = writer.register_channel(topic, "cdr", self._schemas[name], {"offered_qos_profiles": ""})
            self._channels[topic, name] = channel
        self._channels[topic, msgtype] = channel
        return channel


def _transform(parent: str, child: str, T_parent_child: np.ndarray, t_ns: int) -> dict[str, Any]:
    """Return the fields of a TransformStamped."""
    T = np.asarray(T_parent_child, np.float64)
    if T.shape != (4, 4) or not np.isfinite(T).all() or not np.array_equal(T[3], [0, 0, 0, 1]):
        raise InputError(f"pose of {child}: expected a finite (4, 4) transform with last row 0 0 0 1")
    rotation = fix_rotation(T[:3, :3])
    if np.abs(rotation - T[:3, :3]).max() > _ROTATION_TOLERANCE:
        raise InputError(f"pose of {child}: its 3x3 part is no rotation; re-orthonormalise it first")
    xyzw = xyzw_from_wxyz(quat_from_matrix(rotation))
    return {
        "header": messages.header(_check_time(t_ns), parent),
        "child_frame_id": child,
        "transform": {
            "translation": dict(zip("xyz", T[:3, 3].tolist(), strict=True)),
            "rotation": dict(zip("xyzw", xyzw.tolist(), strict=True)),
        },
    }


def sync_file(file: BinaryIO) -> None:
    """Hand a file's content to the disk, so that renaming it never leaves an empty file after a power cut."""
    file.flush()
    os.fsync(file.fileno())


def _check_time(t_ns: int) -> int:
    if isinstance(t_ns, bool) or not isinstance(t_ns, int | np.integer) or not 0 <= t_ns <= _MAX_TIME_NS:
        raise InputError(f"time {t_ns!r}: expected integer nanoseconds from 0 to {_MAX_TIME_NS}")
    return int(t_ns)
