"""Writing and reading back: frames, poses, messages, errors."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodydouble.errors import InputError, RecordingError
from bodydouble.frames import make_se3, quat_from_rotvec, quat_to_matrix
from bodydouble.recording import CameraTopics, Limits, RecordingReader, RecordingWriter, messages
from tests.bodydouble.recording.samples import HEIGHT, PERIOD_NS, WIDTH, K, color, depth_mm, pose, write_rgbd

STRING = "std_msgs/msg/String"


def test_frames_round_trip(tmp_path):
    path = write_rgbd(tmp_path / "r.mcap", count=6, cameras=("cam0", "cam1"))
    with RecordingReader(path) as reader:
        assert reader.cameras == ("cam0", "cam1")
        assert reader.metadata == {"provenance": {"seed": "7"}}
        assert (reader.start_ns, reader.end_ns) == (1_000_000_000, 1_000_000_000 + 5 * PERIOD_NS)
        for camera in reader.cameras:
            frames = list(reader.frames(camera))
            assert len(frames) == reader.frame_count(camera) == 6
            for i, frame in enumerate(frames):
                assert frame.t_ns == 1_000_000_000 + i * PERIOD_NS
                np.testing.assert_array_equal(np.rint(frame.depth * 1000), depth_mm(i))
                assert np.abs(frame.color.astype(int) - color(i)).mean() < 4
                np.testing.assert_allclose(frame.T_world_camera, pose(i), atol=1e-12)
                np.testing.assert_array_equal(frame.K, K)
        summary = reader.check_rgbd(require_poses=True)["cam1"]
        assert (summary.frame_count, summary.has_color, summary.has_poses) == (6, True, True)
        assert (summary.info.width, summary.info.height) == (WIDTH, HEIGHT)


def test_every_and_colour_off(tmp_path):
    with RecordingReader(write_rgbd(tmp_path / "r.mcap", count=7)) as reader:
        frames = list(reader.frames("cam0", every=3, color=False))
        assert [round((f.t_ns - 1_000_000_000) / PERIOD_NS) for f in frames] == [0, 3, 6]
        assert all(f.color is None and f.T_world_camera is not None for f in frames)
        with pytest.raises(ValueError, match="every"):
            next(reader.frames("cam0", every=0))


def test_iterators_do_not_disturb_each_other(tmp_path):
    with RecordingReader(write_rgbd(tmp_path / "r.mcap", cameras=("cam0", "cam1"))) as reader:
        pairs = list(zip(reader.frames("cam0"), reader.frames("cam1"), strict=True))
        assert len(pairs) == 6
        assert all(a.t_ns == b.t_ns and np.array_equal(a.depth, b.depth) for a, b in pairs)


@settings(max_examples=25)
@given(
    rotvec=st.tuples(*[st.floats(-3, 3)] * 3),
    translation=st.tuples(*[st.floats(-1e3, 1e3)] * 3),
    metres=st.floats(0, 65.5),
    t_ns=st.integers(0, 2**31 * 10**9 - 1),
)
def test_any_pose_depth_and_time(tmp_path_factory, rotvec, translation, metres, t_ns):
    path = tmp_path_factory.mktemp("p") / "r.mcap"
    T = make_se3(quat_to_matrix(quat_from_rotvec(np.array(rotvec))), np.array(translation))
    with RecordingWriter(path) as writer:
        writer.write_camera_info("c", K, 3, 2, t_ns)
        writer.write_pose("c", T, t_ns)
        writer.write_depth("c", np.full((2, 3), metres, np.float32), t_ns)
    with RecordingReader(path) as reader:
        (frame,) = reader.frames("c")
    assert frame.t_ns == t_ns and frame.color is None
    np.testing.assert_allclose(frame.T_world_camera, T, atol=1e-9)
    np.testing.assert_allclose(frame.depth, metres, atol=5.1e-4, rtol=1e-6)


def test_same_calls_give_the_same_bytes(tmp_path):
    a, b = (write_rgbd(tmp_path / name, cameras=("x", "y")).read_bytes() for name in ("a.mcap", "b.mcap"))
    assert a == b


def test_messages_come_in_the_order_of_log_time(tmp_path):
    order = np.random.default_rng(3).permutation(300)
    path = tmp_path / "r.mcap"
    with RecordingWriter(path) as writer:
        for n, i in enumerate(order):
            # 20 kB of noise each: several chunks, whose times overlap.
            noise = np.random.default_rng(i).bytes(20_000).hex()
            writer.write(f"/t{i % 3}", STRING, {"data": f"{i}:{noise}"}, int(i), log_time_ns=int(i) * 10)
            writer.write_cdr("/raw", STRING, messages.serialize(STRING, {"data": str(n)}), int(i) * 10, 5)
    with RecordingReader(path) as reader:
        assert reader.topics == {"/t0": STRING, "/t1": STRING, "/t2": STRING, "/raw": STRING}
        found = list(reader.messages(["/t1", "/t2"]))
        assert [int(m.message.data.split(":")[0]) for m in found] == [i for i in range(300) if i % 3]
        assert [m.t_ns for m in found] == [i for i in range(300) if i % 3]
        raw = list(reader.raw_messages(["/raw"]))
        assert [m.log_time_ns for m in raw] == [i * 10 for i in range(300)]
        assert {m.publish_time_ns for m in raw} == {5}
        assert reader.message_count("/t0") == 100
        assert len(list(reader.messages())) == 600
    with (
        RecordingReader(path, limits=Limits(max_pending_bytes=1 << 20)) as reader,
        pytest.raises(RecordingError, match="overlap in time"),
    ):
        list(reader.messages())


def test_depth_and_colour_of_other_names_and_rates(tmp_path):
    """A recording as camera drivers make it: raw images, own stamps, a chain of frames with a static part."""
    path = tmp_path / "r.mcap"
    mount = make_se3(quat_to_matrix(quat_from_rotvec(np.array([0.0, 0.0, 0.5]))), np.array([0.0, 0.1, 0.0]))

    def tf(parent, child, T, t_ns):
        w, x, y, z = quat_from_rotvec(np.array([0.0, 0.0, np.arctan2(T[1, 0], T[0, 0])]))
        transform = {
            "translation": dict(zip("xyz", T[:3, 3], strict=True)),
            "rotation": {"w": w, "x": x, "y": y, "z": z},
        }
        return {
            "transforms": [{"header": messages.header(t_ns, parent), "child_frame_id": child, "transform": transform}]
        }

    def body(t_s):
        turn = quat_to_matrix(quat_from_rotvec(np.array([0.0, 0.0, 0.3 * t_s])))
        return make_se3(turn, np.array([2.0 * t_s, 0.0, 1.0]))

    with RecordingWriter(path) as writer:
        writer.write("/tf_static", messages.TF_MESSAGE, tf("link", "lens", mount, 0), 0)
        info = {"header": messages.header(0, "lens"), "k": K.reshape(-1), "width": WIDTH, "height": HEIGHT}
        for i in range(40):
            t_ns = i * 10_000_000
            if i % 4 == 1:  # poses at 25 Hz, between the images
                writer.write("/tf", messages.TF_MESSAGE, tf("map", "link", body(t_ns * 1e-9), t_ns), t_ns)
            header = messages.header(t_ns, "lens")
            size = {"width": WIDTH, "height": HEIGHT}
            if i % 3 == 0:
                metres = np.full((HEIGHT, WIDTH), i * 0.1, np.float32)
                image = {
                    "header": header,
                    **size,
                    "encoding": "32FC1",
                    "step": WIDTH * 4,
                    "data": metres.view(np.uint8).reshape(-1),
                }
                writer.write("/d/image", messages.IMAGE, image, t_ns)
            if i % 3 == 1 and i != 19:
                pixels = np.full((HEIGHT, WIDTH, 3), (1, 2, i), np.uint8)
                image = {"header": header, **size, "encoding": "bgr8", "step": WIDTH * 3, "data": pixels.reshape(-1)}
                writer.write("/c/image", messages.IMAGE, image, t_ns, log_time_ns=t_ns + 55_000_000)  # comes late
            if i == 5:
                writer.write("/d/info", messages.CAMERA_INFO, info, t_ns)
    topics = CameraTopics(color="/c/image", depth="/d/image", info="/d/info")
    with RecordingReader(path) as reader:
        assert reader.cameras == ()
        with pytest.raises(RecordingError, match="holds no camera"):
            reader.check_rgbd()
    with RecordingReader(path, cameras={"front": topics}) as reader:
        frames = list(reader.frames("front"))
        assert len(frames) == 14
        for n, frame in enumerate(frames):
            i = 3 * n
            assert frame.t_ns == i * 10_000_000
            # Nearest colour: 10 ms after; where that is left out, and for the last image, 20 ms before.
            if i == 18:
                assert frame.color[0, 0].tolist() == [16, 2, 1]
            elif i == 39:
                assert frame.color[0, 0].tolist() == [37, 2, 1]
            else:
                assert frame.color[0, 0].tolist() == [i + 1, 2, 1]
            if 1 <= i <= 37:
                np.testing.assert_allclose(frame.T_world_camera, body(i * 0.01) @ mount, atol=1e-4)
            else:
                assert frame.T_world_camera is None
    with RecordingReader(path, cameras={"front": topics}, max_color_gap_ns=0) as reader:
        assert all(f.color is None for f in reader.frames("front"))
    with RecordingReader(path, cameras={"front": topics}, max_pose_gap_ns=39_000_000) as reader:
        assert [f.t_ns for f in reader.frames("front") if f.T_world_camera is not None] == [
            90_000_000,
            210_000_000,
            330_000_000,
        ]


@pytest.mark.parametrize(
    ("leave_out", "text"),
    [
        (
            {"info": False},
            "camera 'cam0' has no camera_info (/cam0/depth/camera_info); record it, or import again with",
        ),
        ({"depth": False}, "camera 'cam0' has no depth image (/cam0/depth/image); record or import depth"),
        ({"poses": False}, "camera 'cam0' has no pose on /tf at 1000000000 ns; record or import camera poses"),
    ],
)
def test_what_is_missing_is_named(tmp_path, leave_out, text):
    path = write_rgbd(tmp_path / "r.mcap", **leave_out)
    with RecordingReader(path) as reader, pytest.raises(RecordingError) as caught:
        reader.check_rgbd(require_poses=True)
    assert str(caught.value).startswith(f"{path}: {text}")
    assert "\n" not in str(caught.value)


def test_one_camera_without_colour_works(tmp_path):
    with RecordingReader(write_rgbd(tmp_path / "r.mcap", color=False)) as reader:
        assert not reader.check_rgbd(require_poses=True)["cam0"].has_color
        assert all(frame.color is None for frame in reader.frames("cam0"))


def test_zero_depth_is_named(tmp_path):
    path = tmp_path / "r.mcap"
    with RecordingWriter(path) as writer:
        writer.write_camera_info("cam", K, WIDTH, HEIGHT, 0)
        for i in range(3):
            writer.write_depth("cam", np.zeros((HEIGHT, WIDTH), np.uint16), i)
    with RecordingReader(path) as reader, pytest.raises(RecordingError) as caught:
        reader.check_rgbd()
    assert str(caught.value) == f"{path}: camera 'cam' has 3 depth images, all zero; check the sensor and its units"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"d": [0.1, 0, 0, 0, 0]}, "distorted images"),
        ({"k": np.zeros(9)}, "no intrinsics"),
        ({"k": np.full(9, np.nan)}, "no intrinsics"),
        ({"width": 2**31, "height": 2**31}, "pixels; calibrate"),
        ({"width": WIDTH + 1}, f"depth of {WIDTH} x {HEIGHT} pixels, its camera_info says {WIDTH + 1} x {HEIGHT}"),
    ],
)
def test_bad_camera_info(tmp_path, change, text):
    path = tmp_path / "r.mcap"
    with RecordingWriter(path) as writer:
        writer.write_depth("cam", depth_mm(0), 0)
        fields = {"k": K.reshape(-1), "width": WIDTH, "height": HEIGHT} | change
        writer.write("/cam/depth/camera_info", messages.CAMERA_INFO, fields, 0)
    with RecordingReader(path) as reader, pytest.raises(RecordingError, match=text):
        reader.check_rgbd()


def test_changing_intrinsics_and_wrong_types(tmp_path):
    path = tmp_path / "r.mcap"
    with RecordingWriter(path) as writer:
        writer.write_camera_info("cam", K, WIDTH, HEIGHT, 0)
        writer.write_depth("cam", depth_mm(0), 0)
        writer.write_camera_info("cam", K * [[1.1], [1.1], [1]], WIDTH, HEIGHT, 1)
    with RecordingReader(path) as reader, pytest.raises(RecordingError, match="changes its intrinsics"):
        list(reader.frames("cam"))
    with RecordingWriter(path) as writer:
        writer.write_camera_info("cam", K, WIDTH, HEIGHT, 0)
        writer.write("/cam/depth/image", STRING, {"data": "x"}, 0)
    with (
        RecordingReader(path) as reader,
        pytest.raises(RecordingError, match="std_msgs/msg/String on /cam/depth/image"),
    ):
        list(reader.frames("cam"))
    with RecordingReader(path) as reader, pytest.raises(RecordingError, match=r"no camera 'other'.*cam"):
        reader.frame_count("other")


def test_unknown_types_and_changed_definitions(tmp_path):
    from mcap.writer import Writer

    path = tmp_path / "r.mcap"
    with open(path, "wb") as file:
        writer = Writer(file)
        writer.start("ros2")
        own = writer.register_schema("my_msgs/msg/Thing", "ros2msg", b"float64 x\n")
        changed = writer.register_schema(STRING, "ros2msg", b"string data\nint32 more\n")
        for topic, schema in (("/own", own), ("/changed", changed)):
            writer.add_message(writer.register_channel(topic, "cdr", schema), 1, b"\0\1\0\0" + bytes(8), 1)
        writer.finish()
    with RecordingReader(path) as reader:
        assert [m.msgtype for m in reader.raw_messages()] == ["my_msgs/msg/Thing", STRING]
        with pytest.raises(RecordingError, match="/own is my_msgs/msg/Thing in cdr, expected a ROS 2 Jazzy type"):
            list(reader.messages(["/own"]))
        with pytest.raises(RecordingError, match="its definition of std_msgs/msg/String is not ROS 2 Jazzy's"):
            list(reader.messages(["/changed"]))


def test_an_error_leaves_no_file(tmp_path):
    path = write_rgbd(tmp_path / "r.mcap")
    before = path.read_bytes()
    with pytest.raises(InputError), RecordingWriter(path) as writer:
        writer.write_depth("cam", np.full((2, 2), np.nan), 0)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.mcap"]


def test_a_live_recording_survives_an_error(tmp_path):
    path = tmp_path / "run.mcap"
    with pytest.raises(RuntimeError), RecordingWriter(path, live=True) as writer:
        writer.write("/a", STRING, {"data": "kept"}, 1)
        raise RuntimeError
    with RecordingReader(path) as reader:
        assert [m.message.data for m in reader.messages()] == ["kept"]


def test_an_unfinished_live_recording_is_not_overwritten(tmp_path):
    (tmp_path / "run.mcap.tmp").write_bytes(b"precious")
    with pytest.raises(InputError, match="bodydouble recover"):
        RecordingWriter(tmp_path / "run.mcap", live=True)
    assert (tmp_path / "run.mcap.tmp").read_bytes() == b"precious"


KILLED = """
import sys, time
from bodydouble.recording import RecordingWriter
writer = RecordingWriter(sys.argv[1], live=True, flush_s=0.05)
for i in range(10_000):
    writer.write("/count", "std_msgs/msg/String", {"data": str(i)}, i)
    print(i, flush=True)
    time.sleep(0.005)
"""


def test_a_killed_live_recording_loses_only_its_last_moments(tmp_path):
    path = tmp_path / "run.mcap"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 60:
            process.kill()
            break
    process.wait()
    unfinished = tmp_path / "run.mcap.tmp"
    assert not path.exists() and unfinished.exists()
    with pytest.raises(RecordingError, match="truncated"):
        RecordingReader(unfinished)
    from bodydouble.recording import recover

    recover(unfinished, path)
    with RecordingReader(path) as reader:
        found = [int(m.message.data) for m in reader.messages()]
    assert found == list(range(len(found)))
    # 60 were written for sure; a flush is due every 50 ms, that is about every 10 messages.
    assert len(found) >= 35


def test_live_mode_flushes_by_time(tmp_path):
    path = tmp_path / "run.mcap"
    writer = RecordingWriter(path, live=True, flush_s=0.02)
    writer.write("/a", STRING, {"data": "x" * 100}, 1)
    temporary = tmp_path / "run.mcap.tmp"
    time.sleep(0.03)
    writer.write("/a", STRING, {"data": "y"}, 2)
    size = temporary.stat().st_size
    assert size > 100
    writer.write("/a", STRING, {"data": json.dumps(list(range(50)))}, 3)
    writer.flush()
    assert temporary.stat().st_size > size
    writer.close()
    writer.close()
    assert not temporary.exists()
    with pytest.raises(InputError, match="closed"):
        writer.write("/a", STRING, {}, 4)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda w: w.write("a", STRING, {}, 0), "expected an absolute ROS name"),
        (lambda w: w.write("/a", STRING, {}, -1), "expected integer nanoseconds"),
        (lambda w: w.write("/a", STRING, {}, 0.5), "expected integer nanoseconds"),
        (lambda w: w.write_cdr("/a", STRING, b"hi", 0, 0), "2 bytes that are no std_msgs/msg/String"),
        (lambda w: w.write_cdr("/a", "x/msg/Y", bytes(4), 0, 0), "not one of ROS 2 Jazzy's"),
        (lambda w: w.write_depth("cam-0", np.ones((2, 2)), 0), "camera name"),
        (lambda w: w.write_camera_info("c", np.eye(4), 1, 1, 0), "intrinsics"),
        (lambda w: w.write_camera_info("c", np.full((3, 3), np.nan), 1, 1, 0), "intrinsics"),
        (lambda w: w.write_camera_info("c", np.ones((3, 3)), 1, 1, 0), "intrinsics"),
        (lambda w: w.write_pose("c", np.diag([1, 1, -1, 1.0]), 0), "no rotation"),
        (lambda w: w.write_pose("c", np.diag([1.01, 1, 1, 1.0]), 0), "no rotation"),
        (lambda w: w.write_pose("c", np.full((4, 4), np.nan), 0), "finite"),
        (lambda w: w.write_color_encoded("c", b"GIF89a", "jpeg", 0), "no jpeg file"),
        (lambda w: w.write_metadata("m", {"a": 1}), "must be text"),
    ],
)
def test_bad_calls(tmp_path, call, text):
    with pytest.raises(InputError, match=text), RecordingWriter(tmp_path / "r.mcap") as writer:
        call(writer)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        RecordingWriter(tmp_path / "file" / "r.mcap")
