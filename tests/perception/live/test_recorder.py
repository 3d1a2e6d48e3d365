"""What a live recording makes of messages, without ROS: encodings, pairs, poses from transforms, warnings."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bodydouble.errors import InputError
from bodydouble.recording import RecordingReader, RecordingWriter, RgbdFrame, messages
from perception.imu import read_accelerations
from perception.live.recorder import CameraCount, Received, Recorder
from tests.perception.importers.bag.bag_samples import (
    COLOR,
    DEPTH,
    FRAME,
    STEP,
    T0,
    Event,
    H,
    W,
    camera,
    color,
    color_event,
    depth_event,
    depth_mm,
    header,
    image,
    imu_event,
    info,
    moving,
    tf,
    transform,
)


def kind_of(topic: str) -> str:
    if topic in ("/tf", "/tf_static"):
        return topic
    if topic.endswith("imu"):
        return "imu"
    return "info" if topic.endswith("camera_info") else "depth" if topic.startswith(DEPTH) else "color"


def record(
    tmp_path: Path, events: list[Event], has_color: bool = True, world: str = "", slop_ns: int = 5_000_000
) -> tuple[list[RgbdFrame], CameraCount, str]:
    out = tmp_path / "live.mcap"
    with RecordingWriter(out, live=True) as writer:
        recorder = Recorder(writer, ("cam",), has_color, slop_ns, world)
        for event in sorted(events, key=lambda e: e.received_ns):
            name = "" if event.topic.startswith("/tf") else "cam"
            data = messages.serialize(event.msgtype, event.fields)
            recorder.add(Received(name, kind_of(event.topic), event.msgtype, data, event.received_ns))
        counts = recorder.finish()["cam"]
        warnings = "\n".join(recorder.warnings())
    with RecordingReader(out) as reader:
        return list(reader.frames("cam")), counts, warnings


def one_info(events: list[Event]) -> list[Event]:
    """Leave the colour camera's own CameraInfo out: a live recording has one topic of intrinsics."""
    return [event for event in events if event.topic != "/cam/color/camera_info"]


def test_transforms_become_poses(tmp_path: Path) -> None:
    frames, counts, warnings = record(tmp_path, one_info(camera(6)) + moving(6))
    assert counts == CameraCount(6, 0, 0, 6) and warnings == ""
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(np.rint(frame.depth * 1000).astype(np.uint16), depth_mm(i))
        np.testing.assert_array_equal(frame.color, color(i))
        np.testing.assert_allclose(frame.T_world_camera[:3, 3], [0.1 * i, 0, 1.2], atol=1e-6)


def test_static_transforms_alone_are_no_poses(tmp_path: Path) -> None:
    events = [*one_info(camera(3)), tf(T0, transform("cam_link", FRAME, T0, (0, 0.1, 0)), static=True)]
    frames, counts, warnings = record(tmp_path, events)
    assert counts.poses == 0 and all(frame.T_world_camera is None for frame in frames)
    assert "never change and end in cam_link" in warnings and "--config.world cam_link" in warnings
    frames, counts, _ = record(tmp_path, events, world="cam_link")
    assert counts.poses == 3 and frames[0].T_world_camera[1, 3] == pytest.approx(0.1)


@pytest.mark.parametrize("tied", [True, False])
def test_imu_is_kept_with_its_place_in_the_camera(tmp_path: Path, tied: bool) -> None:
    """A box on a stand: the IMU's x is the camera's -y; without a transform it is said that it cannot be used."""
    events = one_info(camera(3)) + [imu_event(i) for i in range(3)]
    quarter = (0.0, 0.0, float(np.sqrt(0.5)), float(np.sqrt(0.5)))
    if tied:
        events.append(tf(T0 + 3 * STEP, transform("cam_imu", FRAME, T0, (0.0, 0.0, 0.02), quarter), static=True))
    _, counts, warnings = record(tmp_path, events)
    assert counts.imu == 3
    with RecordingReader(tmp_path / "live.mcap") as reader:
        felt = read_accelerations(reader, "cam")
    assert felt is not None
    said = f"nothing on /tf_static ties the IMU's frame 'cam_imu' to the camera's '{FRAME}'"
    assert (said in warnings) != tied and (felt.note == "") == tied
    if tied:
        # -y of the IMU is -x of the camera.
        np.testing.assert_allclose(felt.force, [[-9.81, 0.0, 0.0]] * 3, atol=1e-9)
        np.testing.assert_array_equal(felt.times_ns, T0 + STEP * np.arange(3))


def test_unclear_world_is_said(tmp_path: Path) -> None:
    events = one_info(camera(3))
    for i in range(4):
        events.append(tf(T0 + i * STEP, transform("arm", FRAME, T0 + i * STEP, (0.1 * i, 0, 0))))
    _, counts, warnings = record(tmp_path, events)
    assert counts.poses == 0 and "which frame stands still in the room" in warnings


def test_compressed_images(tmp_path: Path) -> None:
    events = [event for event in one_info(camera(3)) if event.msgtype == messages.CAMERA_INFO]
    a, b = 10100.0, -1009.0
    for i in range(3):
        colour, depth = io.BytesIO(), io.BytesIO()
        Image.fromarray(color(i)).save(colour, "PNG")
        values = np.rint(a / (depth_mm(i).clip(800) / 1000) + b).astype(np.uint16)
        Image.fromarray(values).save(depth, "PNG")
        fields = {"header": header(i), "format": "rgb8; png compressed", "data": colour.getvalue()}
        events.append(color_event(i, fields, COLOR + "/compressed", messages.COMPRESSED_IMAGE))
        data = struct.pack("<iff", 0, a, b) + depth.getvalue()
        fields = {"header": header(i), "format": "32FC1; compressedDepth png", "data": data}
        events.append(depth_event(i, fields, DEPTH + "/compressedDepth", messages.COMPRESSED_IMAGE))
    frames, counts, _ = record(tmp_path, events)
    assert counts.frames == 3
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.color, color(i))
        np.testing.assert_allclose(frame.depth, depth_mm(i).clip(800) / 1000, atol=1e-3)


def test_float_depth_without_colour(tmp_path: Path) -> None:
    events = [event for event in camera(3) if event.topic not in (DEPTH, COLOR, "/cam/color/camera_info")]
    metres = [depth_mm(i).astype(np.float32) / 1000 for i in range(3)]
    events += [depth_event(i, image(metres[i], "32FC1", header(i))) for i in range(3)]
    frames, counts, _ = record(tmp_path, events, has_color=False)
    assert counts.frames == 3 and frames[0].color is None
    np.testing.assert_array_equal(frames[2].depth, metres[2])


def test_drops_are_counted(tmp_path: Path) -> None:
    dropped = color_event(1).received_ns, depth_event(4).received_ns
    frames, counts, _ = record(tmp_path, [e for e in one_info(camera(6)) if e.received_ns not in dropped])
    assert (counts.frames, counts.dropped_depth, counts.dropped_color) == (4, 1, 1)
    assert len(frames) == 4


def test_first_images_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    bad = [e for e in camera(2) if e.topic != DEPTH]
    bad += [depth_event(i, image(depth_mm(i), "8UC2", header(i))) for i in range(2)]
    with pytest.raises(InputError, match="camera cam: depth images cannot be read: depth encoding '8UC2'"):
        record(tmp_path, bad)
    wide = [e for e in camera(2) if e.topic != COLOR]
    wide += [color_event(i, image(np.zeros((H, 2 * W, 3), np.uint8), "rgb8", header(i))) for i in range(2)]
    with pytest.raises(InputError, match="depth has 32 x 24 pixels, colour 64 x 24; record depth registered"):
        record(tmp_path, wide)


def test_wrong_unit_distortion_and_damage_are_warned_of(tmp_path: Path) -> None:
    events = [e for e in camera(3) if e.topic != DEPTH and e.msgtype != messages.CAMERA_INFO]
    events += [depth_event(i, image(depth_mm(i) * 5, "16UC1", header(i))) for i in range(3)]
    d = np.array([0.1, 0, 0, 0, 0])
    events.append(Event(T0, "/cam/aligned_depth_to_color/camera_info", messages.CAMERA_INFO, info(header(0), d=d)))
    with RecordingWriter(tmp_path / "live.mcap", live=True) as writer:
        recorder = Recorder(writer, ("cam",), True, 5_000_000)
        for event in sorted(events, key=lambda e: e.received_ns):
            data = messages.serialize(event.msgtype, event.fields)
            recorder.add(Received("cam", kind_of(event.topic), event.msgtype, data, event.received_ns))
        recorder.add(Received("cam", "pose", "geometry_msgs/msg/PoseStamped", b"\0\1\0\0" + bytes(9), T0))
        recorder.add(Received("", "/tf", messages.TF_MESSAGE, b"nonsense", T0))
        recorder.finish()
        warnings = "\n".join(recorder.warnings())
    assert "looks like 0.2mm" in warnings and "2 damaged messages" in warnings
    assert "camera_info says distorted" in warnings and "no pose came" in warnings
