"""Damaged, truncated and hostile bags: one clear line, and nothing half-written."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import CompressionFormat, CompressionMode
from rosbags.rosbag2 import Writer as BagWriter

from bodydouble.cli import main
from bodydouble.errors import InputError
from bodydouble.recording import Limits, RecordingReader, messages
from bodydouble.recording.bag import open_bag
from perception.importers.rosbag import RosbagConfig, import_rosbag
from tests.perception.importers.bag.bag_samples import (
    DEPTH,
    camera,
    depth_event,
    header,
    image,
    moving,
    write_bag,
    write_foxglove,
    write_mcap,
)


def refused(source: Path, match: str, config: RosbagConfig | None = None, limits: Limits | None = None) -> None:
    out = source.parent / "out.mcap"
    with pytest.raises(InputError, match=match):
        import_rosbag(source, out, config, limits or Limits())
    assert not out.exists() and not out.with_name("out.mcap.tmp").exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_truncated_sqlite(tmp_path: Path, share: float) -> None:
    path = write_bag(tmp_path / "bag", camera(30)) / "bag.db3"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(tmp_path / "bag", "bag.db3: (truncated or damaged sqlite3|is neither an MCAP)")


def test_truncated_mcap_names_the_rescue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_mcap(tmp_path / "bag.mcap", camera(4))
    path.write_bytes(path.read_bytes()[:-200])
    assert main(["import", "mcap", "--source", str(path), "--out", str(tmp_path / "out.mcap")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "truncated" in said[0] and "bodydouble recover" in said[0]


def test_flipped_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    """Bytes of a sqlite3 file are overwritten at random: an InputError or a recording, no other exception."""
    path = write_bag(tmp_path / "bag", camera(2)) / "bag.db3"
    data = path.read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(40):
        changed = bytearray(data)
        for at in rng.integers(100, len(data), 8):
            changed[at] = int(rng.integers(0, 256))
        path.write_bytes(changed)
        try:
            import_rosbag(tmp_path / "bag", tmp_path / "out.mcap")
        except InputError as error:
            assert "\n" not in str(error)


def test_unfinished_recording(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", camera(2))
    (bag / "bag.db3-wal").write_bytes(b"x" * 100)
    refused(bag, "stopped before it finished .*wal_checkpoint")


def test_sqlite_is_opened_read_only(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", camera(2))
    before = sorted((path.name, path.read_bytes()) for path in bag.iterdir())
    import_rosbag(bag, tmp_path / "out.mcap")
    assert sorted((path.name, path.read_bytes()) for path in bag.iterdir()) == before


def test_sqlite_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "x.db3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE cats(name TEXT)")
    refused(path, "is no rosbag2 storage")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE VIEW messages AS SELECT 1 AS topic_id, 1 AS timestamp, x'00' AS data")
        connection.execute("CREATE TABLE topics(id, name, type, serialization_format)")
    refused(path, "is no rosbag2 storage")


def test_message_that_is_no_blob(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", camera(2))
    with sqlite3.connect(bag / "bag.db3") as connection:
        connection.execute("UPDATE messages SET data = 'text' WHERE id = 3")
    refused(bag, "message 3 holds no bytes")


@pytest.mark.parametrize("kind", ["sqlite3", "mcap"])
def test_message_over_the_limit(tmp_path: Path, kind: str) -> None:
    bag = write_bag(tmp_path / "bag", camera(2), kind)
    refused(bag, "limit", limits=Limits(max_message_bytes=1500))


def change_yaml(path: Path, change: Callable[[str], str]) -> None:
    yaml = path / "metadata.yaml"
    yaml.write_text(change(yaml.read_text()))


def test_metadata_cannot_point_outside(tmp_path: Path) -> None:
    write_bag(tmp_path / "secret", camera(2))
    bag = write_bag(tmp_path / "bag", camera(2))
    change_yaml(bag, lambda text: text.replace("- bag.db3", "- ../secret/secret.db3"))
    refused(bag, "which is not in the folder")
    (bag / "secret.db3").symlink_to(tmp_path / "secret" / "secret.db3")
    refused(bag, "which is not in the folder")


@pytest.mark.parametrize("text", ["", "[", "a: &a [*a, *a]", "rosbag2_bagfile_information: 3", "\0", "!!python/none"])
def test_damaged_metadata(tmp_path: Path, text: str) -> None:
    bag = write_bag(tmp_path / "bag", camera(2))
    (bag / "metadata.yaml").write_text(text)
    refused(bag, "is no rosbag2 metadata")


def test_folder_without_metadata_is_read(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", camera(2))
    (bag / "metadata.yaml").unlink()
    assert import_rosbag(bag, tmp_path / "out.mcap").frames == 2
    (bag / "bag.db3").unlink()
    (tmp_path / "out.mcap").unlink()
    refused(bag, "holds no metadata.yaml, .db3 or .mcap")


def test_messages_compressed_one_by_one(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "two", version=9)
    writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for event in sorted(camera(3), key=lambda e: e.received_ns):
            if event.topic not in connections:
                typestore = messages.typestore()
                connections[event.topic] = writer.add_connection(event.topic, event.msgtype, typestore=typestore)
            data = messages.serialize(event.msgtype, event.fields)
            writer.write(connections[event.topic], event.received_ns, data)
    assert import_rosbag(tmp_path / "two", tmp_path / "out.mcap").frames == 3
    # A frame that claims, or holds, more than the limit.
    with sqlite3.connect(tmp_path / "two" / "two.db3") as connection:
        bomb = zstandard.compress(bytes(1 << 20))
        connection.execute("UPDATE messages SET data = ?", (bomb,))
    (tmp_path / "out.mcap").unlink()
    refused(tmp_path / "two", "has 1048576 bytes, the limit", limits=Limits(max_message_bytes=1 << 16))


def test_file_compression_says_what_to_do(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", camera(2))
    change_yaml(bag, lambda text: text.replace("compression_mode: ''", "compression_mode: FILE"))
    refused(bag, "zstd -d")
    path = bag / "bag.db3"
    path.write_bytes(zstandard.compress(path.read_bytes()))
    refused(path, "zstd -d")


def test_ros1_bag_and_other_files(tmp_path: Path) -> None:
    path = tmp_path / "a.bag"
    path.write_bytes(b"#ROSBAG V2.0\n" + bytes(100))
    refused(path, "ROS 1 bag; convert it first: rosbags-convert")
    path.write_bytes(b"hello")
    refused(path, "neither an MCAP file nor")
    refused(tmp_path / "nowhere", "cannot be read")


def test_another_definition_of_a_known_type(tmp_path: Path) -> None:
    path = tmp_path / "bag.mcap"
    with open(path, "wb") as file:
        writer = McapWriter(file)
        writer.start("ros2", "tests")
        schema = writer.register_schema(messages.IMAGE, "ros2msg", b"uint8 cat\n")
        channel = writer.register_channel(DEPTH, "cdr", schema)
        event = depth_event(0)
        writer.add_message(channel, 1, messages.serialize(event.msgtype, event.fields), 1)
        writer.finish()
    refused(path, f"{DEPTH}: .*is not ROS 2's")


def test_damaged_messages_are_named(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", camera(2))
    with sqlite3.connect(bag / "bag.db3") as connection:
        connection.execute("UPDATE messages SET data = substr(data, 1, 40)")
    refused(bag, r"the message received at \d+ ns is no sensor_msgs")
    huge = image(np.zeros((2, 2), np.uint16), "16UC1", header(1))
    huge["width"] = huge["height"] = 1 << 20
    source = write_bag(tmp_path / "bag2", [*camera(1), depth_event(1, huge)])
    refused(source, "a damaged image: image of 1048576 x 1048576 pixels, the limit")


@pytest.mark.parametrize("data", [b"[", b"3", b"{}", b'{"timestamp": 3}', b"[" * 100_000, b"\xff"])
def test_damaged_json(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bag.mcap"
    with open(path, "wb") as file:
        writer = McapWriter(file)
        writer.start("", "tests")
        schema = writer.register_schema("foxglove.RawImage", "jsonschema", b"{}")
        writer.add_message(writer.register_channel(DEPTH, "json", schema), 1, data, 1)
        writer.finish()
    refused(path, f"{DEPTH}: the message received at 1 ns is no foxglove.RawImage")


def test_transform_loops_and_nan(tmp_path: Path) -> None:
    events = camera(2) + moving(2)
    loop = events[-1]._replace(topic="/tf_static")
    item = loop.fields["transforms"][0]
    item = {**item, "header": {**item["header"], "frame_id": "cam_base"}, "child_frame_id": "world"}
    source = write_bag(tmp_path / "bag", [*events, loop._replace(fields={"transforms": [item]})])
    refused(source, "transforms: the frames above .* form a loop")
    item = {**item, "transform": {"translation": {"x": float("nan")}, "rotation": {"w": 1.0}}}
    source = write_bag(tmp_path / "bag2", [*events, loop._replace(fields={"transforms": [item]})])
    refused(source, "/tf_static: transform of 'world' is not finite")


def test_topics_of_two_types(tmp_path: Path) -> None:
    path = write_foxglove(tmp_path / "bag.mcap", [])
    with open(path, "wb") as file:
        writer = McapWriter(file)
        writer.start("", "tests")
        for name in ("foxglove.RawImage", "foxglove.CompressedImage"):
            schema = writer.register_schema(name, "jsonschema", b"{}")
            writer.add_message(writer.register_channel(DEPTH, "json", schema), 1, b"{}", 1)
        writer.finish()
    refused(path, f"topic {DEPTH} holds foxglove.RawImage and foxglove.CompressedImage")


def test_split_bag_is_read_as_one(tmp_path: Path) -> None:
    events = sorted(camera(6), key=lambda e: e.received_ns)
    bag = write_bag(tmp_path / "bag", events[:8])
    second = write_bag(tmp_path / "rest", events[8:])
    (second / "rest.db3").rename(bag / "rest.db3")
    change_yaml(bag, lambda text: text.replace("- bag.db3", "- rest.db3\n  - bag.db3"))
    with open_bag(bag) as opened:
        times = [message.received_ns for message in opened.messages(list(opened.topics))]
    assert times == [event.received_ns for event in events]
    import_rosbag(bag, tmp_path / "out.mcap")
    with RecordingReader(tmp_path / "out.mcap") as reader:
        assert reader.frame_count("cam") == 6


def test_options_that_make_no_sense(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", camera(2))
    refused(bag, "distortion", RosbagConfig(distortion="guess"))
    refused(bag, "slop", RosbagConfig(slop_ms=-1))
    refused(bag, "max-frames", RosbagConfig(max_frames=0))
    refused(bag, "stamps", RosbagConfig(stamps="mine"))
    refused(bag, "depth-unit", RosbagConfig(depth_unit="ft"))
    refused(bag, "belong to --config.depth", RosbagConfig(color=("/x",)))
    refused(bag, "2 names for 1", RosbagConfig(depth=(DEPTH,), color=("/x", "/y")))
    refused(bag, "camera name", RosbagConfig(names=("a b",)))
    refused(bag, "expected x y z", RosbagConfig(extrinsic=(0, 0, 0, 0, 0, 0, 9)))
