"""rosbag2 folders (sqlite3 or MCAP) and MCAP files with RGB-D topics -> Recording; no ROS is needed.

What the messages do not say is detected where only one answer is possible and asked for else: which topics are which
camera, the unit of depth, whether depth is registered to colour, what to do with distortion, which frame is the world,
which clock is meant.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from bodydouble.errors import InputError
from bodydouble.frames import make_se3, quat_to_matrix
from bodydouble.recording import RecordingWriter, messages
from bodydouble.recording.bag import Bag, open_bag
from bodydouble.recording.limits import DEFAULT_LIMITS, Limits
from bodydouble.recording.topics import WORLD_FRAME, camera_topics, optical_frame
from bodydouble.recording.transforms import TransformTree
from perception.importers.bag.bag_messages import IMU, Decoder, pose_of
from perception.importers.bag.camera_stream import CameraStream
from perception.importers.bag.cameras import NONE, CameraChoice, TopicOptions, choose_cameras, choose_imus
from perception.importers.bag.geometry import DISTORTION_CHOICES, CameraGeometry, GeometryOptions, plan_geometry
from perception.importers.bag.poses import PoseLookup, choose_world, relative
from perception.importers.bag.stamps import choose_stamps
from perception.importers.bag.survey import Survey, add_transforms, is_static, survey
from perception.importers.depth_unit import UNITS, check_depth_unit, doubt, require_unit, sample_depth
from perception.importers.source_files import ImportSummary
from perception.imu import imu_topic

_UNIT_OPTION = "--config.depth-unit"


@dataclass(frozen=True)
class RosbagConfig:
    """Options of the import of bags; lists are parallel to `depth`."""

    depth: tuple[str, ...] = ()
    """Topics with depth images, one for each camera; detected where the choice is clear."""
    color: tuple[str, ...] = ()
    """Topics with the colour images of each depth topic; none for no colour."""
    info: tuple[str, ...] = ()
    """Topics with the CameraInfo of each depth topic."""
    color_info: tuple[str, ...] = ()
    """Topics with the CameraInfo of each colour topic."""
    names: tuple[str, ...] = ()
    """Names of the cameras in the recording; from the topics' names by default."""
    intrinsics: tuple[float, float, float, float] | None = None
    """fx, fy, cx, cy in pixels of the depth images, where the bag holds none."""
    registered: bool = False
    """Depth and colour show the same view, whatever their frames say."""
    extrinsic: tuple[float, float, float, float, float, float, float] | None = None
    """Depth camera in the colour camera's axes, x y z qx qy qz qw, where the transforms do not tell."""
    distortion: str = ""
    """What to do with distorted images: undistort or ignore."""
    world: str = ""
    """Frame that stands still in the room; none for no poses."""
    pose: tuple[str, ...] = ()
    """PoseStamped or Odometry topics with the poses of each camera's optical frame, instead of transforms."""
    imu: tuple[str, ...] = ()
    """Imu topic of each camera, none for no Imu; by default the one in the namespace of the camera's images."""
    stamps: str = ""
    """Which times are taken: header or received; the headers' where they are sane."""
    depth_unit: str = ""
    """Unit of depth: m, cm, mm, 0.2mm or 0.1mm; by convention mm (integers) or m (floats), which is checked."""
    slop_ms: float = 20.0
    """Farthest distance in time between a depth image and its colour image, ms."""
    max_pose_gap_s: float = 0.1
    """Longest time between two transforms over which a pose is interpolated, s."""
    max_frames: int | None = None
    """Import only the first depth images of each camera."""


@dataclass(frozen=True, eq=False)
class _Camera:
    choice: CameraChoice
    geometry: CameraGeometry
    unit: str
    world: str | None
    pose_topic: str
    imu: str | None


def import_rosbag(
    source: Path, out: Path, config: RosbagConfig | None = None, limits: Limits = DEFAULT_LIMITS
) -> ImportSummary:
    """Write the RGB-D cameras of a bag as a Recording.

    Args:
        source: A rosbag2 folder, one of its storage files, or an MCAP file; told by content.
        out: Recording to write (.mcap).
        config: Options.
        limits: Upper bounds on sizes in the bag.

    Raises:
        InputError: The bag is damaged, truncated or beyond a limit, or something that is needed is neither told nor
            detected; the message lists what there is and names the option.
    """
    config = config or RosbagConfig()
    source, out = Path(source), Path(out)
    _check(config)
    with open_bag(source, limits) as bag:
        decode = Decoder(bag.topics, limits)
        found = survey(bag, decode, limits)
        cameras, notes = _plan(found, config)
        images = {t.name: t.stamps for c in cameras for t in (c.choice.depth, c.choice.color) if t is not None}
        by_header, stamp_notes = choose_stamps(images, config.stamps, "--config.stamps")
        notes += stamp_notes
        with RecordingWriter(out) as writer:
            run = _Run(writer, bag, decode, found, cameras, config, by_header, limits)
            run.play()
            notes += run.notes()
            writer.write_metadata("import", _provenance(source, config, cameras, by_header, notes))
    streams = run.streams
    duration = (max(s.last_ns for s in streams) - min(s.first_ns or 0 for s in streams if s.frames)) * 1e-9
    return ImportSummary(
        out,
        sum(stream.frames for stream in streams),
        sum(stream.with_color for stream in streams),
        run.with_pose(),
        duration,
        tuple(notes),
    )


def _check(config: RosbagConfig) -> None:
    if config.distortion not in ("", *DISTORTION_CHOICES):
        raise InputError(f"--config.distortion {config.distortion!r}: expected {' or '.join(DISTORTION_CHOICES)}")
    if not 0.0 <= config.slop_ms <= 1000.0 or not 0.0 < config.max_pose_gap_s <= 10.0:
        raise InputError("--config.slop-ms: expected 0 to 1000; --config.max-pose-gap-s: expected above 0, to 10")
    if config.max_frames is not None and config.max_frames < 1:
        raise InputError(f"--config.max-frames {config.max_frames}: expected at least 1")


def _plan(found: Survey, config: RosbagConfig) -> tuple[list[_Camera], list[str]]:
    topics = TopicOptions(config.depth, config.color, config.info, config.color_info, config.names)
    choices = choose_cameras(found, topics)
    if config.pose and len(config.pose) != len(choices):
        raise InputError(f"--config.pose: {len(config.pose)} topics for {len(choices)} cameras; give one for each")
    if config.imu and len(config.imu) != len(choices):
        raise InputError(f"--config.imu: {len(config.imu)} topics for {len(choices)} cameras; give one for each")
    imus, imu_notes = choose_imus(found, choices, config.imu)
    options = GeometryOptions(config.intrinsics, config.registered, config.extrinsic, config.distortion)
    notes = [*imu_notes]
    cameras = []
    for i, choice in enumerate(choices):
        camera_topics(choice.name)  # says what names are allowed
        geometry = plan_geometry(choice, found.tree, options)
        unit, unit_notes = _unit(choice, config)
        notes += [choice.describe(), *choice.notes, *geometry.notes, *unit_notes]
        world, pose_topic = None, ""
        if config.pose:
            pose_topic = config.pose[i]
            if pose_topic not in found.poses:
                known = ", ".join(found.poses) or NONE
                raise InputError(f"--config.pose {pose_topic}: no PoseStamped or Odometry topic; these are: {known}")
        elif found.transforms:
            world, note = choose_world(found.tree, geometry.frame_id, config.world)
            notes += [note] if note else []
        elif config.world not in ("", NONE):
            raise InputError(f"--config.world {config.world}: {found.path} holds no transforms")
        cameras.append(_Camera(choice, geometry, unit, world, pose_topic, imus.get(choice.name)))
    worlds = sorted({camera.world for camera in cameras if camera.world})
    if len(worlds) > 1:
        raise InputError(f"the cameras are in different worlds: {', '.join(worlds)}; name one with --config.world")
    return cameras, notes


def _unit(choice: CameraChoice, config: RosbagConfig) -> tuple[str, list[str]]:
    """Return the unit of a camera's depth, and notes."""
    depth = choice.depth
    sample = sample_depth(depth.samples, depth.name)
    if not config.depth_unit:
        check_depth_unit(sample, depth.unit, depth.name, _UNIT_OPTION)
        return depth.unit, [f"{depth.name}: depth in {sample.describe(depth.unit)}"]
    text = doubt(sample, require_unit(config.depth_unit, _UNIT_OPTION))
    return config.depth_unit, [f"{depth.name}: depth in {sample.describe(config.depth_unit)}, as told"] + (
        [text] if text else []
    )


class _Run:
    """The second reading of a bag: its messages, in the order of receipt, into the recording."""

    def __init__(
        self,
        writer: RecordingWriter,
        bag: Bag,
        decode: Decoder,
        found: Survey,
        cameras: list[_Camera],
        config: RosbagConfig,
        by_header: bool,
        limits: Limits,
    ):
        self._writer, self._bag, self._decode, self._found = writer, bag, decode, found
        self._cameras, self._config, self._by_header = cameras, config, by_header
        self._tree = TransformTree(round(config.max_pose_gap_s * 1e9))
        self.streams = [self._stream(camera, limits) for camera in cameras]
        self._imus = 0
        self._untied: list[str] = []
        self._told_poses = 0
        self._route: dict[str, list[tuple[CameraStream, str]]] = {}
        for camera, stream in zip(cameras, self.streams, strict=True):
            self._route.setdefault(camera.choice.depth.name, []).append((stream, "depth"))
            if camera.choice.color is not None:
                self._route.setdefault(camera.choice.color.name, []).append((stream, "color"))
        self._pose_of = {camera.pose_topic: camera.choice.name for camera in cameras if camera.pose_topic}

    def play(self) -> None:
        """Read and write everything."""
        transforms = set(self._found.transforms) if any(camera.world for camera in self._cameras) else set()
        wanted = [*self._route, *transforms, *self._found.imus, *self._pose_of]
        total = sum(self._bag.topics[name].count for name in wanted)
        self._write_imu_frames()
        for message in track(
            self._bag.messages(wanted), "import bag", total=total, console=Console(stderr=True), transient=True
        ):
            name = message.topic
            if name in transforms:
                self._add_transforms(name, self._decode(message), message.received_ns)
            elif name in self._found.imus:
                self._write_imu(name, self._decode(message), message.received_ns)
            elif name in self._pose_of:
                self._write_pose(name, self._decode(message), message.received_ns)
            else:
                self._add_image(name, message)
            if self._is_done():
                break
        for stream in self.streams:
            stream.finish()
        if not any(stream.frames for stream in self.streams):
            raise InputError(f"{self._bag.path}: no depth image with a valid time; give --config.stamps received")

    def with_pose(self) -> int:
        """Return the number of depth images with a pose, or of poses from pose topics."""
        return sum(stream.with_pose for stream in self.streams) + self._told_poses

    def notes(self) -> list[str]:
        """Return what was dropped and what is missing."""
        notes = []
        for camera, stream in zip(self._cameras, self.streams, strict=True):
            name = camera.choice.name
            if camera.choice.color is not None:
                alone = stream.frames - stream.with_color
                notes.append(
                    f"{name}: {alone} depth images without a colour image within {self._config.slop_ms:g} ms are kept "
                    f"without colour; {stream.dropped_color} colour images without a depth image are left out"
                )
                if camera.choice.color.encoding not in ("jpeg", "png"):
                    notes.append(f"{name}: raw colour is stored as JPEG")
            if stream.went_back:
                notes.append(f"{name}: {stream.went_back} images whose stamps do not rise are left out")
            if stream.too_far:
                notes.append(f"{name}: {stream.too_far} depth readings beyond 65.5 m are left out")
            if camera.world and stream.with_pose < stream.frames:
                notes.append(f"{name}: {stream.frames - stream.with_pose} depth images have no pose")
            if camera.geometry.registration is None and camera.unit not in ("mm", "cm"):
                notes.append(f"{name}: depth is rounded to whole millimetres")
        if not self.with_pose():
            notes.append("no poses; the cameras' motion has to be tracked from the images")
        if self._imus:
            notes.append(f"{self._imus} Imu messages are kept")
            notes += [
                f"{camera.choice.name}: its Imu is {camera.imu}, kept as {imu_topic(camera.choice.name)}"
                for camera in self._cameras
                if camera.imu
            ]
            notes += self._untied
        return notes

    def _stream(self, camera: _Camera, limits: Limits) -> CameraStream:
        poses = PoseLookup(self._tree, camera.geometry.frame_id, camera.world) if camera.world else None
        slop_ns = round(self._config.slop_ms * 1e6)
        return CameraStream(self._writer, camera.choice, camera.geometry, UNITS[camera.unit], slop_ns, poses, limits)

    def _is_done(self) -> bool:
        most = self._config.max_frames
        return most is not None and all(stream.frames >= most for stream in self.streams)

    def _time(self, header: Any, received_ns: int) -> int:
        return messages.stamp_ns(header.stamp) if self._by_header else received_ns

    def _add_image(self, name: str, raw: Any) -> None:
        message = self._decode(raw)
        t_ns = self._time(message.header, raw.received_ns)
        for stream, kind in self._route[name]:
            if self._config.max_frames is None or stream.frames < self._config.max_frames:
                stream.add(kind, message, t_ns)

    def _add_transforms(self, name: str, message: Any, received_ns: int) -> None:
        add_transforms(self._tree, message, name, is_static(name), None if self._by_header else received_ns)
        for stream in self.streams:
            stream.write_poses()

    def _write_imu(self, name: str, message: Any, received_ns: int) -> None:
        """Write an Imu message on the topic of the camera whose Imu it is, else on its own."""
        topics = [imu_topic(camera.choice.name) for camera in self._cameras if camera.imu == name]
        if not topics and name not in (imu_topic(camera.choice.name) for camera in self._cameras):
            topics = [name]
        for topic in topics:
            self._writer.write(topic, IMU, message, self._time(message.header, received_ns))
        self._imus += 1

    def _write_imu_frames(self) -> None:
        """Write how each Imu's frame lies in each camera, where static transforms tell."""
        own = {WORLD_FRAME, *(optical_frame(camera.choice.name) for camera in self._cameras)}
        for frame in sorted(set(self._found.imus.values()) - own):
            # A frame has one place: under the camera whose Imu it is, where there is one.
            for camera in sorted(self._cameras, key=lambda c: self._found.imus.get(c.imu or "") != frame):
                T = relative(self._found.tree, camera.geometry.frame_id, frame)
                if T is not None:
                    self._writer.write_static_transform(
                        optical_frame(camera.choice.name), frame, T, self._first_ns(camera)
                    )
                    break
        for camera in self._cameras:
            frame = self._found.imus[camera.imu] if camera.imu else ""
            if camera.imu and relative(self._found.tree, camera.geometry.frame_id, frame) is None:
                self._untied.append(
                    f"{camera.choice.name}: no static transform ties the Imu's frame {frame!r} to the camera's "
                    f"{camera.geometry.frame_id!r}; tracking will not use it"
                )

    def _first_ns(self, camera: _Camera) -> int:
        sample = camera.choice.depth.stamps
        return sample.header_ns[0] if self._by_header else sample.received_ns[0]

    def _write_pose(self, name: str, message: Any, received_ns: int) -> None:
        position, quat = pose_of(self._found.poses[name], message)
        norm = float(np.linalg.norm(quat))
        if not (np.isfinite(position).all() and 0.5 < norm < 2.0):
            raise InputError(f"{name}: a pose is not finite or has no orientation; record it again")
        pose = make_se3(quat_to_matrix(quat / norm), position)
        self._writer.write_pose(self._pose_of[name], pose, self._time(message.header, received_ns))
        self._told_poses += 1


def _provenance(
    source: Path, config: RosbagConfig, cameras: list[_Camera], by_header: bool, notes: list[str]
) -> dict[str, str]:
    has_poses = any(camera.world or camera.pose_topic for camera in cameras)
    return {
        "layout": "rosbag",
        "folder": source.resolve().name,
        "config": json.dumps(asdict(config), sort_keys=True),
        "topics": "; ".join(camera.choice.describe() for camera in cameras),
        "times": "the headers'" if by_header else "of receipt",
        "depth_unit": ", ".join(camera.unit for camera in cameras),
        "world": ", ".join(sorted({camera.world for camera in cameras if camera.world})) or NONE,
        "world_up": "z" if has_poses else "unknown",
        "color_registered_to_depth": "yes",
        "notes": "; ".join(notes),
    }
