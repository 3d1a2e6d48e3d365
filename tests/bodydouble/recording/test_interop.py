"""The tools of others read our files."""

import numpy as np
import pytest
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader

from bodydouble.recording import RecordingReader, RecordingWriter, messages
from tests.bodydouble.recording.samples import depth_mm, pose, write_rgbd

RUN_MESSAGES = {
    "/joint_states": (
        "sensor_msgs/msg/JointState",
        {"header": messages.header(7, "base"), "name": ["a"], "position": [0.1]},
    ),
    "/imu": ("sensor_msgs/msg/Imu", {"header": messages.header(7, "imu"), "orientation": {"w": 1.0}}),
    "/odom": ("nav_msgs/msg/Odometry", {"header": messages.header(7, "odom"), "child_frame_id": "base"}),
    "/clock": ("rosgraph_msgs/msg/Clock", {"clock": 7}),
    "/forward_position_controller/commands": ("std_msgs/msg/Float64MultiArray", {"data": [0.25, -1.5]}),
    "/policy/tick": ("std_msgs/msg/String", {"data": '{"tick": 1}'}),
    "/diagnostics": (
        "diagnostic_msgs/msg/DiagnosticArray",
        {"status": [{"level": 1, "name": "loop", "values": [{"key": "k", "value": "v"}]}]},
    ),
}


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run.mcap"
    with RecordingWriter(path) as writer:
        for i, (topic, (msgtype, fields)) in enumerate(RUN_MESSAGES.items()):
            writer.write(topic, msgtype, fields, i)
    return path


def test_mcap_reads_header_summary_and_checksums(tmp_path):
    path = write_rgbd(tmp_path / "r.mcap", count=3)
    with open(path, "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        assert summary.statistics.message_count == 10
        assert {channel.topic for channel in summary.channels.values()} == {
            "/cam0/color/image/compressed",
            "/cam0/depth/image",
            "/cam0/depth/camera_info",
            "/tf",
        }
        assert {schema.encoding for schema in summary.schemas.values()} == {"ros2msg"}
        assert {index.compression for index in summary.chunk_indexes} == {"zstd"}
        assert len(list(reader.iter_messages())) == 10
        assert [(m.name, m.metadata) for m in reader.iter_metadata()] == [("provenance", {"seed": "7"})]


def test_mcap_ros2_decodes_with_the_embedded_definitions(tmp_path, run):
    decoder = pytest.importorskip("mcap_ros2.decoder")
    with open(write_rgbd(tmp_path / "r.mcap", count=3), "rb") as file:
        reader = make_reader(file, decoder_factories=[decoder.DecoderFactory()])
        decoded = [(item.channel.topic, item.decoded_message) for item in reader.iter_decoded_messages()]
    transforms = [m.transforms[0] for topic, m in decoded if topic == "/tf"]
    assert [t.child_frame_id for t in transforms] == ["cam0_optical"] * 3
    assert transforms[2].transform.translation.x == pose(2)[0, 3]
    depths = [m for topic, m in decoded if topic == "/cam0/depth/image"]
    np.testing.assert_array_equal(np.frombuffer(depths[1].data, "<u2").reshape(depths[1].height, -1), depth_mm(1))
    with open(run, "rb") as file:
        reader = make_reader(file, decoder_factories=[decoder.DecoderFactory()])
        found = {item.channel.topic: item.decoded_message for item in reader.iter_decoded_messages()}
    assert found.keys() == RUN_MESSAGES.keys()
    assert list(found["/forward_position_controller/commands"].data) == [0.25, -1.5]
    assert found["/diagnostics"].status[0].values[0].key == "k"


def test_rosbags_reads_the_bare_file(tmp_path, run):
    path = write_rgbd(tmp_path / "r.mcap", count=3)
    with AnyReader([path]) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
        assert counts["/tf"] == 3 and counts["/cam0/depth/camera_info"] == 1
        for connection, t_ns, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            if connection.topic == "/tf":
                stamp = message.transforms[0].header.stamp
                assert stamp.sec * 10**9 + stamp.nanosec == t_ns
    with Reader(run) as reader:
        assert {c.topic: c.msgtype for c in reader.connections} == {t: m for t, (m, _) in RUN_MESSAGES.items()}
    with AnyReader([run]) as reader:
        found = {c.topic: reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages()}
    assert found["/joint_states"].position.tolist() == [0.1]
    assert found["/clock"].clock.nanosec == 7


def test_our_reader_reads_what_ros_serialized(tmp_path):
    """Messages serialized by rclpy's own type support, written as the recorder node does."""
    serialization = pytest.importorskip("rclpy.serialization")
    from sensor_msgs.msg import JointState

    message = JointState()
    message.header.stamp.sec, message.header.stamp.nanosec = 3, 5
    message.name = ["left", "right"]
    message.position = [0.1, 1e-300]
    path = tmp_path / "run.mcap"
    with RecordingWriter(path) as writer:
        writer.write_cdr("/raw", "sensor_msgs/msg/JointState", serialization.serialize_message(message), 9, 8)
        writer.write("/built", "sensor_msgs/msg/JointState", message, 9)
    with RecordingReader(path) as reader:
        for item in reader.messages():
            assert messages.stamp_ns(item.message.header.stamp) == 3_000_000_005
            assert item.message.name == ["left", "right"]
            assert item.message.position.tolist() == [0.1, 1e-300]
        raw = {m.topic: bytes(m.data) for m in reader.raw_messages()}
    back = serialization.deserialize_message(raw["/built"], JointState)
    assert back == message
