"""What is done with each message of a live recording: images in pairs, intrinsics, poses. Knows nothing of ROS."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bodydouble.errors import InputError
from bodydouble.frames import make_se3, quat_to_matrix
from bodydouble.recording import RecordingWriter, messages
from bodydouble.recording.images import decode_color, decode_depth_values
from bodydouble.recording.limits import DEFAULT_LIMITS
from bodydouble.recording.topics import camera_topics
from bodydouble.recording.transforms import TransformTree
from perception.importers.bag.bag_messages import pose_of
from perception.importers.bag.poses import PoseLookup, PoseQueue, choose_world, is_world, relative
from perception.importers.depth_unit import UNITS, doubt, sample_depth
from perception.imu import imu_topic
from perception.live.pairing import Pair, Pairing

WAITING = 30
"""Images of a camera that wait for their partner."""
_SAMPLES = 8
_SAMPLE_EVERY = 15
_MAX_POSE_GAP_NS = 100_000_000


@dataclass(frozen=True)
class CameraCount:
    """What came of one camera."""

    frames: int
    """Depth images that were written."""
    dropped_depth: int
    """Depth images without a colour image near in time."""
    dropped_color: int
    """Colour images without a depth image near in time."""
    poses: int
    """Poses that were written."""
    imu: int = 0
    """Messages of its IMU that were written."""


class Received(NamedTuple):
    """A message as it came."""

    camera: str
    """Empty for transforms, which belong to all cameras."""
    kind: str
    """depth, color, info, pose, imu, /tf or /tf_static."""
    msgtype: str
    data: bytes
    received_ns: int


@dataclass
class _Camera:
    pairing: Pairing[Received]
    queue: PoseQueue
    frame_id: str = ""
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Width and height by kind of image."""
    depth_only: int = 0
    told_poses: int = 0
    has_info: bool = False
    imu: int = 0
    imu_frame: str = ""
    imu_ns: int = 0
    """Stamp of the first message of its IMU."""
    imu_tied: bool = False
    """Whether the recording says where the IMU is in the camera."""
    seen: int = 0
    unit: str = "mm"
    samples: list[np.ndarray] = field(default_factory=list)


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
    """Writes messages as they come.

    Images and intrinsics are written as received. Poses are those of the camera's optical frame in the world: from a
    pose topic, or looked up in the transforms at each depth image, by the rules of the import of bags.

    Args:
        writer: The recording.
        cameras: Names of the cameras.
        has_color: Whether colour images are to come.
        slop_ns: Farthest distance of the stamps of a pair, ns.
        world: Frame that stands still in the room; empty: told by its name. `none`: no poses.
    """

    def __init__(
        self, writer: RecordingWriter, cameras: tuple[str, ...], has_color: bool, slop_ns: int, world: str = ""
    ):
        self._writer = writer
        self._has_color = has_color
        self._world = world
        self._tree = TransformTree(_MAX_POSE_GAP_NS)
        self._cameras = {
            name: _Camera(Pairing(slop_ns, WAITING), PoseQueue(self._pose_writer(name))) for name in cameras
        }
        self.transforms = 0
        """Messages with transforms."""
        self.damaged = 0
        """Messages that were left out because they are damaged."""
        self._warnings: list[str] = []

    def add(self, item: Received) -> None:
        """Take in one message; a damaged one is counted and left out.

        Raises:
            InputError: The first images cannot be read, or depth and colour are not of one size.
        """
        try:
            self._add(item)
        except InputError:
            raise
        except ValueError:
            self.damaged += 1

    def finish(self) -> dict[str, CameraCount]:
        """Write the last pairs and poses and return the counts by camera."""
        for name, camera in self._cameras.items():
            for pair in camera.pairing.finish():
                self._write_pair(name, pair)
            if (lookup := self._lookup(camera)) is not None:
                camera.queue.flush(lookup, final=True)
            self._tie_imu(camera)
        return self.counts()

    def counts(self) -> dict[str, CameraCount]:
        """Return the counts so far by camera."""
        return {
            name: CameraCount(
                camera.pairing.paired + camera.depth_only,
                camera.pairing.dropped_depth,
                camera.pairing.dropped_color,
                camera.queue.written + camera.told_poses,
                camera.imu,
            )
            for name, camera in self._cameras.items()
        }

    def warnings(self) -> list[str]:
        """Return what the user must know, after `finish`."""
        out = list(self._warnings)
        if self.damaged:
            out.append(f"{self.damaged} damaged messages were left out")
        for name, camera in self._cameras.items():
            if not camera.seen:
                continue
            if not camera.has_info:
                out.append(f"{name}: no camera_info came; it cannot be reconstructed without")
            if camera.imu and not camera.imu_tied:
                out.append(
                    f"{name}: nothing on /tf_static ties the IMU's frame {camera.imu_frame!r} to the camera's "
                    f"{camera.frame_id!r}; tracking will not use it"
                )
            if camera.samples and any((sample > 0).any() for sample in camera.samples):
                text = doubt(sample_depth(camera.samples, name), UNITS[camera.unit])
                out += [f"{name}: {text}"] if text else []
            if not camera.told_poses and not camera.queue.written:
                out.append(f"{name}: {self._why_no_pose(camera)}; its motion has to be tracked from the images")
        return out

    def _why_no_pose(self, camera: _Camera) -> str:
        if not self.transforms:
            return "no pose came"
        try:
            _, note = choose_world(self._tree, camera.frame_id, self._world)
        except InputError as error:
            return str(error)
        return note or "no pose was asked for"

    def _add(self, item: Received) -> None:
        if item.kind in ("/tf", "/tf_static"):
            self._tree.add(messages.deserialize(item.msgtype, item.data), item.kind == "/tf_static")
            self.transforms += 1
            for camera in self._cameras.values():
                if (lookup := self._lookup(camera)) is not None:
                    camera.queue.flush(lookup)
                self._tie_imu(camera)
            return
        camera = self._cameras[item.camera]
        stamp = stamp_of(item.data)
        if item.kind == "pose":
            if camera.frame_id:
                self._writer.write_pose(item.camera, _pose_matrix(item), stamp, camera.frame_id)
                camera.told_poses += 1
        elif item.kind == "imu":
            self._writer.write_cdr(imu_topic(item.camera), item.msgtype, item.data, item.received_ns, stamp)
            if not camera.imu:
                camera.imu_frame = messages.deserialize(item.msgtype, item.data).header.frame_id.lstrip("/")
                camera.imu_ns = stamp
            camera.imu += 1
        elif item.kind == "info":
            self._check_info(camera, item)
            self._writer.write_cdr(camera_topics(item.camera).info, item.msgtype, item.data, item.received_ns, stamp)
        else:
            self._look_at(camera, item)
            if not self._has_color:
                self._write_image(camera_topics(item.camera).depth, item, stamp)
                camera.depth_only += 1
                camera.queue.add(stamp)
                return
            add = camera.pairing.add_depth if item.kind == "depth" else camera.pairing.add_color
            for pair in add(stamp, item):
                self._write_pair(item.camera, pair)

    def _look_at(self, camera: _Camera, item: Received) -> None:
        """Decode the first images, and some depth images for their unit."""
        first = item.kind not in camera.sizes
        sample = item.kind == "depth" and camera.seen % _SAMPLE_EVERY == 0 and len(camera.samples) < _SAMPLES
        camera.seen += item.kind == "depth"
        if not (first or sample):
            return
        message = messages.deserialize(item.msgtype, item.data)
        decode = decode_depth_values if item.kind == "depth" else decode_color
        try:
            pixels = decode(message, DEFAULT_LIMITS)
        except ValueError as error:
            if first:
                raise InputError(f"camera {item.camera}: {item.kind} images cannot be read: {error}") from None
            raise
        camera.sizes.setdefault(item.kind, (pixels.shape[1], pixels.shape[0]))
        if item.kind == "depth":
            camera.frame_id = camera.frame_id or message.header.frame_id.lstrip("/")
            camera.unit = "mm" if pixels.dtype == np.uint16 else "m"
            camera.samples.append(pixels)
        if len(set(camera.sizes.values())) > 1:
            (w, h), (cw, ch) = camera.sizes["depth"], camera.sizes["color"]
            raise InputError(
                f"camera {item.camera}: depth has {w} x {h} pixels, colour {cw} x {ch}; record depth registered to the "
                "colour images (realsense: align_depth.enable), or record a bag and use `bodydouble import rosbag`"
            )

    def _check_info(self, camera: _Camera, item: Received) -> None:
        if camera.has_info:
            return
        camera.has_info = True
        message = messages.deserialize(item.msgtype, item.data)
        if not (np.abs(np.asarray(message.d)) <= 1e-6).all():
            self._warnings.append(
                f"{item.camera}: camera_info says distorted (D = {np.round(message.d[:8], 5).tolist()}), which is "
                "refused later; record rectified images (image_proc), or a bag and `bodydouble import rosbag`"
            )

    def _lookup(self, camera: _Camera) -> PoseLookup | None:
        """Return where a camera's poses are looked up; None while it is not known which frame is the world."""
        if not camera.frame_id or self._world == "none":
            return None
        try:
            above = [parent for parent, _ in self._tree.above(camera.frame_id)]
        except ValueError:  # the frames form a loop: there is no pose
            return None
        if not self._world and above and is_world(above[-1]):
            self._world = above[-1]  # for all cameras and for the whole recording
        return PoseLookup(self._tree, camera.frame_id, self._world) if self._world in above else None

    def _tie_imu(self, camera: _Camera) -> None:
        """Write where a camera's IMU is in it, once static transforms tell."""
        if camera.imu_tied or not camera.imu or not camera.frame_id:
            return
        if camera.imu_frame == camera.frame_id:
            camera.imu_tied = True
            return
        try:
            T = relative(self._tree, camera.frame_id, camera.imu_frame)
        except InputError:  # the frames form a loop
            return
        if T is not None:
            self._writer.write_static_transform(camera.frame_id, camera.imu_frame, T, camera.imu_ns)
            camera.imu_tied = True

    def _pose_writer(self, name: str) -> Callable[[np.ndarray, int], None]:
        return lambda pose, t_ns: self._writer.write_pose(name, pose, t_ns, self._cameras[name].frame_id)

    def _write_pair(self, name: str, pair: Pair[Received]) -> None:
        topics = camera_topics(name)
        self._write_image(topics.color, pair.color, pair.color_ns)
        self._write_image(topics.depth, pair.depth, pair.depth_ns)
        self._cameras[name].queue.add(pair.depth_ns)

    def _write_image(self, topic: str, item: Received, stamp: int) -> None:
        self._writer.write_cdr(topic, item.msgtype, item.data, item.received_ns, stamp)


def _pose_matrix(item: Received) -> np.ndarray:
    message: Any = messages.deserialize(item.msgtype, item.data)
    position, quat = pose_of(item.msgtype, message)
    norm = float(np.linalg.norm(quat))
    if not (np.isfinite(position).all() and 0.5 < norm < 2.0):
        raise ValueError("a pose that is not finite or has no orientation")
    return make_se3(quat_to_matrix(quat / norm), position)
