"""Bags of one RGB-D camera, whatever stores them, become Recordings."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bodydouble.cli import main
from bodydouble.errors import InputError
from bodydouble.recording import RecordingReader, RgbdFrame, messages
from perception.importers.rosbag import RosbagConfig, import_rosbag
from perception.imu import read_accelerations
from tests.perception.importers.bag.bag_samples import (
    COLOR,
    COLOR_INFO,
    DEPTH,
    DEPTH_INFO,
    FRAME,
    LATE,
    STEP,
    T0,
    Event,
    H,
    K,
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
    write_bag,
    write_foxglove,
    write_mcap,
)


def run(source: Path, **options) -> tuple[list[RgbdFrame], str]:
    """Import, and return the frames of the one camera and the notes."""
    out = source.parent / "out.mcap"
    summary = import_rosbag(source, out, RosbagConfig(**options))
    with RecordingReader(out) as reader:
        return list(reader.frames(reader.cameras[0])), "\n".join(summary.notes)


@pytest.mark.parametrize("kind", ["sqlite3", "mcap folder", "db3 file", "mcap file", "foxglove"])
def test_every_storage_gives_the_same_frames(tmp_path: Path, kind: str) -> None:
    events = camera() + moving()
    if kind == "foxglove":
        source = write_foxglove(tmp_path / "bag.mcap", events)
    elif kind == "mcap file":
        source = write_mcap(tmp_path / "bag.mcap", events)
    else:
        source = write_bag(tmp_path / "bag", events, "mcap" if kind == "mcap folder" else "sqlite3")
        source = source / "bag.db3" if kind == "db3 file" else source
    out = tmp_path / "out.mcap"
    assert main(["import", "rosbag", "--source", str(source), "--out", str(out)]) == 0
    with RecordingReader(out) as reader:
        assert reader.cameras == ("cam",)
        frames = list(reader.frames("cam"))
        assert reader.metadata["import"]["world"] == "world"
    assert [frame.t_ns for frame in frames] == [T0 + i * STEP for i in range(6)]
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(np.rint(frame.depth * 1000).astype(np.uint16), depth_mm(i))
        np.testing.assert_array_equal(frame.K, K)
        assert np.abs(frame.color.astype(int) - color(i)).max() <= 4
        assert frame.T_world_camera is not None
        # Looks along the world's x, from the base's height and its own 0.2 m.
        np.testing.assert_allclose(frame.T_world_camera[:3, 2], [1, 0, 0], atol=1e-9)
        np.testing.assert_allclose(frame.T_world_camera[:3, 1], [0, 0, -1], atol=1e-9)
        np.testing.assert_allclose(frame.T_world_camera[:3, 3], [0.1 * i, 0, 1.2], atol=1e-6)


def png16(depth: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(depth).save(buffer, "PNG")
    return buffer.getvalue()


def test_compressed_depth_and_colour(tmp_path: Path) -> None:
    events = [event for event in camera(3) if event.msgtype == messages.CAMERA_INFO]
    for i in range(3):
        buffer = io.BytesIO()
        Image.fromarray(color(i)).save(buffer, "PNG")
        fields = {"header": header(i), "format": "rgb8; png compressed rgb8", "data": buffer.getvalue()}
        events.append(color_event(i, fields, COLOR + "/compressed", messages.COMPRESSED_IMAGE))
        data = bytes(12) + png16(depth_mm(i))
        fields = {"header": header(i), "format": "16UC1; compressedDepth png", "data": data}
        events.append(depth_event(i, fields, DEPTH + "/compressedDepth", messages.COMPRESSED_IMAGE))
    frames, _ = run(write_bag(tmp_path / "bag", events))
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(np.rint(frame.depth * 1000).astype(np.uint16), depth_mm(i))
        np.testing.assert_array_equal(frame.color, color(i))


def test_raw_and_compressed_of_one_stream_are_one(tmp_path: Path) -> None:
    events = camera(3)
    for i in range(3):
        data = bytes(12) + png16(depth_mm(i))
        fields = {"header": header(i), "format": "16UC1; compressedDepth png", "data": data}
        events.append(depth_event(i, fields, DEPTH + "/compressedDepth", messages.COMPRESSED_IMAGE))
    frames, notes = run(write_bag(tmp_path / "bag", events))
    assert len(frames) == 3 and f"depth {DEPTH}, {COLOR}" in notes


def test_float_metres_with_nan(tmp_path: Path) -> None:
    metres = depth_mm(0).astype(np.float32) / 1000
    metres[1, 1], metres[2, 2], metres[3, 3] = np.nan, np.inf, -1.0
    events = [e for e in camera(1) if e.topic != DEPTH]
    frames, notes = run(write_bag(tmp_path / "bag", [*events, depth_event(0, image(metres, "32FC1", header(0)))]))
    expected = depth_mm(0)
    expected[1, 1] = expected[2, 2] = expected[3, 3] = 0
    np.testing.assert_array_equal(np.rint(frames[0].depth * 1000).astype(np.uint16), expected)
    assert "whole millimetres" in notes and "depth in m (median" in notes


def test_wrong_unit_is_named_and_can_be_told(tmp_path: Path) -> None:
    events = [e for e in camera(3) if e.topic != DEPTH]
    events += [depth_event(i, image(depth_mm(i) * 5, "16UC1", header(i))) for i in range(3)]
    bag = write_bag(tmp_path / "bag", events)
    with pytest.raises(InputError, match=r"should be in mm .* looks like 0.2mm .*--config.depth-unit"):
        run(bag)
    frames, notes = run(bag, depth_unit="0.2mm")
    np.testing.assert_array_equal(np.rint(frames[1].depth * 1000).astype(np.uint16), depth_mm(1))
    assert "as told" in notes


def test_missing_camera_info_is_asked_for(tmp_path: Path) -> None:
    events = [e for e in camera(2) if e.msgtype != messages.CAMERA_INFO]
    bag = write_bag(tmp_path / "bag", events)
    with pytest.raises(InputError, match=f"{DEPTH}: no calibrated camera_info .*--config.intrinsics"):
        run(bag)
    frames, notes = run(bag, intrinsics=(30.0, 30.0, 15.5, 11.5))
    np.testing.assert_array_equal(frames[0].K, K)
    assert "no camera_info; depth has its frame" in notes


def test_two_depth_topics_are_asked_for(tmp_path: Path) -> None:
    events = camera(2)
    for i in range(2):
        events.append(depth_event(i, topic="/cam/aligned_depth_to_infra/image_raw"))
    bag = write_bag(tmp_path / "bag", events)
    with pytest.raises(InputError, match=r"which depth topic.*aligned_depth_to_color/image_raw \(16UC1, 32 x 24, 2\)"):
        run(bag)
    frames, _ = run(bag, depth=(DEPTH,))
    assert len(frames) == 2


def test_registered_depth_is_preferred_and_said(tmp_path: Path) -> None:
    events = camera(2) + [depth_event(i, topic="/cam/depth/image_rect_raw") for i in range(2)]
    _, notes = run(write_bag(tmp_path / "bag", events))
    assert f"{DEPTH} is taken, not /cam/depth/image_rect_raw" in notes


def test_two_colour_topics_are_asked_for(tmp_path: Path) -> None:
    events = camera(2) + [color_event(i, topic="/cam/color/image_rect") for i in range(2)]
    bag = write_bag(tmp_path / "bag", events)
    with pytest.raises(InputError, match=r"which colour topic belongs to .*image_rect \(rgb8"):
        run(bag)
    frames, _ = run(bag, depth=(DEPTH,), color=("none",))
    assert all(frame.color is None for frame in frames)
    with pytest.raises(InputError, match=r"--config.color /nope: no image topic .*/cam/color/image_raw \(rgb8"):
        run(bag, depth=(DEPTH,), color=("/nope",))
    with pytest.raises(InputError, match="holds rgb8 images, which are no depth"):
        run(bag, depth=(COLOR,))


def test_two_cameras_keep_their_names(tmp_path: Path) -> None:
    second = [e._replace(topic=e.topic.replace("/cam/", "/other/")) for e in camera(3)]
    out = tmp_path / "out.mcap"
    summary = import_rosbag(write_bag(tmp_path / "bag", camera(3) + second), out)
    assert summary.frames == 6 and summary.with_color == 6
    with RecordingReader(out) as reader:
        assert reader.cameras == ("cam", "other")


def test_no_depth_lists_what_is_there(tmp_path: Path) -> None:
    events = [e for e in camera(2) if e.topic != DEPTH]
    with pytest.raises(InputError, match=r"holds no depth images .*/cam/color/image_raw \(rgb8, 32 x 24, 2\)"):
        run(write_bag(tmp_path / "bag", events))
    source = write_foxglove(tmp_path / "bag.mcap", camera(2), encoding="flatbuffer")
    with pytest.raises(InputError, match=r"not read: .*\(foxglove.RawImage, flatbuffer\)"):
        run(source)


def test_colour_far_in_time_is_dropped_and_counted(tmp_path: Path) -> None:
    events = [e for e in camera(4) if not (e.topic == COLOR and e.received_ns == color_event(2).received_ns)]
    events.append(color_event(2, image(color(2), "rgb8", header(2, shift_ns=15_000_000))))
    frames, notes = run(write_bag(tmp_path / "bag", events), slop_ms=10)
    assert [frame.color is not None for frame in frames] == [True, True, False, True]
    assert "1 depth images without a colour image within 10 ms" in notes
    assert "1 colour images without a depth image" in notes


def unregistered(with_tf: bool) -> list[Event]:
    """A depth camera 0.1 m to the left of the colour camera, with half its focal length."""
    frame = "cam_depth_optical_frame"
    depth_k = np.array([[15.0, 0, 15.5], [0, 15.0, 11.5], [0, 0, 1]])
    out = [
        Event(T0, "/cam/depth/camera_info", messages.CAMERA_INFO, info(header(0, frame), depth_k)),
        Event(T0, COLOR_INFO, messages.CAMERA_INFO, info(header(0))),
    ]
    wall = np.full((H, W), 2000, np.uint16)
    wall[:, 16:] = 1000
    for i in range(2):
        out += [depth_event(i, image(wall, "16UC1", header(i, frame)), "/cam/depth/image_rect_raw"), color_event(i)]
    if with_tf:
        out.append(
            tf(
                T0,
                transform("cam_link", FRAME, T0, (0.05, 0, 0)),
                transform("cam_link", frame, T0, (-0.05, 0, 0)),
                static=True,
            )
        )
    return out


def test_unregistered_depth_is_moved_into_the_colour_camera(tmp_path: Path) -> None:
    frames, notes = run(write_bag(tmp_path / "bag", unregistered(True)))
    assert "moved into the camera of /cam/color/image_raw, 16 x 12 pixels" in notes
    assert "no poses. If the camera stood still, give --config.world cam_link" in notes
    frame = frames[0]
    assert frame.depth.shape == (12, 16) and frame.color.shape == (12, 16, 3)
    assert frame.K[0, 0] == 15.0
    # A ray of the new camera meets the near wall right of x = 0 in the depth camera, which is -0.1 m in the colour's.
    x = (np.arange(16) - frame.K[0, 2]) / frame.K[0, 0]
    near = x * 1.0 > -0.1 + 1.5 / 15
    far = x * 2.0 < -0.1 - 2 * 1.5 / 15
    assert near.sum() > 5 and far.sum() > 2
    assert (frame.depth[:, near] == 1.0).all()
    assert (frame.depth[:, far] == 2.0).all()


def test_unregistered_depth_without_transform_is_asked_for(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", unregistered(False))
    with pytest.raises(InputError, match=r"is not registered .*--config.extrinsic"):
        run(bag)
    told, _ = run(bag, extrinsic=(-0.1, 0, 0, 0, 0, 0, 1))
    (tmp_path / "two").mkdir()
    by_tf, _ = run(write_bag(tmp_path / "two" / "bag", unregistered(True)))
    np.testing.assert_array_equal(told[0].depth, by_tf[0].depth)
    same, _ = run(bag, registered=True)
    assert same[0].depth.shape == (H, W) and same[0].depth[0, 0] == 2.0


def test_distorted_images_are_asked_for(tmp_path: Path) -> None:
    d = np.array([0.2, 0, 0, 0, 0])
    events = [e for e in camera(1) if e.msgtype != messages.CAMERA_INFO]
    events += [Event(T0, topic, messages.CAMERA_INFO, info(header(0), d=d)) for topic in (DEPTH_INFO, COLOR_INFO)]
    bag = write_bag(tmp_path / "bag", events)
    with pytest.raises(InputError, match=r"says distorted \(plumb_bob, D = \[0.2.*--config.distortion undistort"):
        run(bag)
    ignored, notes = run(bag, distortion="ignore")
    assert "ignored, as told" in notes
    np.testing.assert_array_equal(np.rint(ignored[0].depth * 1000).astype(np.uint16), depth_mm(0))
    straight, notes = run(bag, distortion="undistort")
    # By hand: pixel (20, 14) is x = 0.15, y = 2.5 / 30, r2 = 0.0294; times 1 + 0.2 r2 it lands at (20.03, 14.01).
    assert straight[0].depth[14, 20] == ignored[0].depth[14, 20]
    # Pixel (31, 23): x = 0.5167, y = 0.3833, r2 = 0.4139, factor 1.0828: (32.3, 24) lies outside.
    assert straight[0].depth[23, 31] == 0.0
    # Pixel (27, 20): x = 0.3833, y = 0.2833, r2 = 0.2272, factor 1.0454: (27.52, 20.39).
    assert straight[0].depth[20, 27] == ignored[0].depth[20, 28]


def test_world_is_asked_for_where_it_is_not_clear(tmp_path: Path) -> None:
    events = camera(4) + [
        e._replace(fields={"transforms": [{**e.fields["transforms"][0], "header": {**head, "frame_id": "arm_base"}}]})
        if (head := e.fields["transforms"][0]["header"])["frame_id"] == "world"
        else e
        for e in moving(4)
    ]
    bag = write_bag(tmp_path / "bag", events)
    with pytest.raises(InputError, match=f"which frame stands still .*{FRAME} -> cam_base -> arm_base.*--config.world"):
        run(bag)
    frames, _ = run(bag, world="none")
    assert all(frame.T_world_camera is None for frame in frames)
    frames, _ = run(bag, world="arm_base")
    np.testing.assert_allclose(frames[2].T_world_camera[:3, 3], [0.2, 0, 1.2], atol=1e-6)
    with pytest.raises(InputError, match=r"--config.world moon: is not above"):
        run(bag, world="moon")


def test_world_in_the_middle_of_the_tree(tmp_path: Path) -> None:
    events = camera(3) + moving(3)
    for i in range(-1, 5):
        t_ns = T0 + i * STEP
        events.append(tf(t_ns, transform("map", "world", t_ns, (5.0 + i, 0, 0))))
    frames, _ = run(write_bag(tmp_path / "bag", events), world="world")
    np.testing.assert_allclose(frames[1].T_world_camera[:3, 3], [0.1, 0, 1.2], atol=1e-6)


def test_pose_topic(tmp_path: Path) -> None:
    events = camera(3)
    for i in range(3):
        pose = {"position": {"x": 0.5 * i, "y": 0.0, "z": 1.0}, "orientation": {"w": 1.0}}
        fields = {"header": header(i, "world"), "pose": pose}
        events.append(Event(T0 + i * STEP, "/tracker/pose", "geometry_msgs/msg/PoseStamped", fields))
    bag = write_bag(tmp_path / "bag", events)
    frames, _ = run(bag, pose=("/tracker/pose",))
    np.testing.assert_allclose([f.T_world_camera[0, 3] for f in frames], [0, 0.5, 1.0])
    with pytest.raises(InputError, match=r"--config.pose /nope: no PoseStamped or Odometry topic; these are: /tracker"):
        run(bag, pose=("/nope",))


def test_zero_stamps_give_the_times_of_receipt(tmp_path: Path) -> None:
    events = camera(3)
    for i, event in enumerate(events):
        head = {**event.fields["header"], "stamp": 0}
        events[i] = event._replace(fields={**event.fields, "header": head})
    bag = write_bag(tmp_path / "bag", events)
    frames, notes = run(bag)
    assert [frame.t_ns for frame in frames] == [T0 + LATE + i * STEP for i in range(3)]
    assert "times are those of receipt" in notes and "zero" in notes
    with pytest.raises(InputError, match=r"--config.stamps received"):
        run(bag, stamps="header")


def test_imu_is_kept_with_its_place_in_the_camera(tmp_path: Path) -> None:
    events = camera(3) + [imu_event(i) for i in range(3)]
    events.append(tf(T0, transform("cam_imu", FRAME, T0, (0.0, 0.0, 0.02)), static=True))
    bag = write_bag(tmp_path / "bag", events)
    run(bag)
    with RecordingReader(tmp_path / "out.mcap") as reader:
        assert reader.message_count("/cam/imu") == 3
        imu = next(reader.messages(["/cam/imu"]))
        assert (imu.message.linear_acceleration.y, imu.t_ns) == (-9.81, T0)
        static = next(reader.messages(["/tf_static"])).message.transforms[0]
    assert (static.header.frame_id, static.child_frame_id) == ("cam_optical", "cam_imu")
    assert static.transform.translation.z == pytest.approx(-0.02)


def at(topic: str, events: list[Event]) -> list[Event]:
    """The same messages on another topic."""
    return [event._replace(topic=topic) for event in events]


def test_the_imu_in_the_cameras_namespace_is_the_cameras(tmp_path: Path) -> None:
    """Not the gyroscope, not the raw one, not the robot's; tracking reads it in the camera's axes."""
    felt = [imu_event(i) for i in range(4)]
    others = at("/imu", felt[:1]) + at("/cam/gyro/sample", felt[:1]) + at("/cam/imu/data_raw", felt[:1])
    tie = tf(T0, transform("cam_imu", FRAME, T0, (0.0, 0.0, 0.02)), static=True)
    bag = write_bag(tmp_path / "bag", [*camera(3), *at("/cam/imu/data", felt), *others, tie])
    _, notes = run(bag)
    assert "cam: its Imu is /cam/imu/data, kept as /cam/imu" in notes
    with RecordingReader(tmp_path / "out.mcap") as reader:
        found = read_accelerations(reader, "cam")
        assert found is not None and found.note == ""
        np.testing.assert_allclose(found.force, [[0.0, -9.81, 0.0]] * 4)
        assert reader.message_count("/imu") == 1
    _, notes = run(bag, imu=("/imu",))
    assert "its Imu is /imu, kept as /cam/imu" in notes
    with RecordingReader(tmp_path / "out.mcap") as reader:
        assert reader.message_count("/cam/imu") == 1
    with pytest.raises(InputError, match=r"--config\.imu /cam/none: no Imu topic .*/cam/imu/data"):
        run(bag, imu=("/cam/none",))


def test_imus_that_are_not_clear_or_not_tied_are_said(tmp_path: Path) -> None:
    felt = [imu_event(i) for i in range(2)]
    _, notes = run(write_bag(tmp_path / "two", [*camera(2), *at("/cam/imu/a", felt), *at("/cam/imu/b", felt)]))
    assert "which Imu is the camera's? /cam/imu/a, /cam/imu/b; name it with --config.imu" in notes
    _, notes = run(write_bag(tmp_path / "loose", [*camera(2), *felt]))
    assert f"no static transform ties the Imu's frame 'cam_imu' to the camera's '{FRAME}'" in notes


def test_max_frames(tmp_path: Path) -> None:
    frames, _ = run(write_bag(tmp_path / "bag", camera(6)), max_frames=2)
    assert len(frames) == 2 and all(frame.color is not None for frame in frames)


def test_colour_of_another_size_is_brought_to_depth(tmp_path: Path) -> None:
    k2 = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])
    events = [e for e in camera(2) if e.topic not in (COLOR, COLOR_INFO)]
    events.append(Event(T0, COLOR_INFO, messages.CAMERA_INFO, info(header(0), k2, (2 * W, 2 * H))))
    big = np.repeat(np.repeat(color(1), 2, axis=0), 2, axis=1)
    events += [color_event(i, image(big, "rgb8", header(i))) for i in range(2)]
    frames, notes = run(write_bag(tmp_path / "bag", events))
    assert frames[0].color.shape == (H, W, 3) and "colour is brought to the size of the depth images" in notes


def test_camera_that_begins_with_empty_images(tmp_path: Path) -> None:
    events = camera(0) + [color_event(i) for i in range(130)]
    empty = np.zeros((H, W), np.uint16)
    events += [depth_event(i, image(empty if i < 120 else depth_mm(i), "16UC1", header(i))) for i in range(130)]
    frames, notes = run(write_bag(tmp_path / "bag", events))
    assert len(frames) == 130 and "depth in mm (median" in notes
    events = camera(0) + [depth_event(i, image(empty, "16UC1", header(i))) for i in range(8)]
    with pytest.raises(InputError, match="no depth image holds a reading"):
        run(write_bag(tmp_path / "empty", events))
