"""Foreign files: truncated, damaged, malicious, or written by others in other ways."""

import struct
import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, IndexType, Writer

from bodydouble.errors import RecordingError
from bodydouble.recording import Limits, RecordingReader, RecordingWriter, messages, records, recover
from tests.bodydouble.recording.samples import depth_mm, write_rgbd

STRING = "std_msgs/msg/String"
MAGIC = b"\x89MCAP0\r\n"


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> bytes:
    return write_rgbd(tmp_path_factory.mktemp("sound") / "r.mcap").read_bytes()


def read_all(path):
    """Use everything a reader offers; returns the number of messages."""
    with RecordingReader(path) as reader:
        assert reader.metadata is not None
        for camera in reader.cameras:
            list(reader.frames(camera))
        if reader.cameras:
            reader.check_rgbd()
        return len(list(reader.messages()))


def record(opcode: int, body: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(body)) + body


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def mcap_file(*data_records: bytes) -> bytes:
    """An MCAP file without summary."""
    head = MAGIC + record(0x01, text("ros2") + text("test"))
    return head + b"".join(data_records) + record(0x0F, bytes(4)) + record(0x02, bytes(20)) + MAGIC


def schema_and_channel(name: str = STRING, definition: bytes = b"string data\n") -> bytes:
    schema = struct.pack("<H", 1) + text(name) + text("ros2msg") + struct.pack("<I", len(definition)) + definition
    channel = struct.pack("<HH", 1, 1) + text("/a") + text("cdr") + struct.pack("<I", 0)
    return record(0x03, schema) + record(0x04, channel)


def message(data: bytes, t: int = 1, channel: int = 1) -> bytes:
    return record(0x05, struct.pack("<HIQQ", channel, 0, t, t) + data)


def chunk(inner: bytes, compression: str = "", size: int | None = None, stored: bytes | None = None) -> bytes:
    stored = inner if stored is None else stored
    size = len(inner) if size is None else size
    head = struct.pack("<QQQI", 1, 1, size, zlib.crc32(inner)) + text(compression)
    return record(0x06, head + struct.pack("<Q", len(stored)) + stored)


@pytest.mark.parametrize("content", [b"", b"x", MAGIC[:5], b"\0" * 100, b"#ROSBAG V2.0\n" + bytes(100)])
def test_no_mcap(tmp_path, content):
    path = tmp_path / "r.mcap"
    path.write_bytes(content)
    with pytest.raises(RecordingError) as caught:
        RecordingReader(path)
    assert str(caught.value) == f"{path}: is no MCAP file (wrong magic); give a recording that ends in .mcap"


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(RecordingError, match="cannot be opened"):
        RecordingReader(tmp_path / "none.mcap")
    with pytest.raises(RecordingError, match="cannot be opened"):
        RecordingReader(tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_every_truncation_is_named(tmp_path, sound, share):
    path = tmp_path / "cut.mcap"
    path.write_bytes(sound[: max(8, int(share * len(sound)))])
    with pytest.raises(RecordingError) as caught:
        RecordingReader(path)
    assert str(caught.value) == (
        f"{path}: truncated (no MCAP footer), its writer was stopped or the copy is incomplete; "
        f"rebuild it with `bodydouble recover {path} OUT.mcap`"
    )


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_flipped_bytes_raise_only_recording_errors(tmp_path, sound, data):
    content = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "flipped.mcap"
    path.write_bytes(bytes(content))
    for action in (read_all, lambda p: recover(p, tmp_path / "out.mcap")):
        try:
            action(path)
        except RecordingError as error:
            assert "\n" not in str(error)


@pytest.fixture(scope="module", params=[True, False], ids=["chunked", "unchunked"])
def unchecked(request, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("unchecked") / "r.mcap"
    write_without(path, enable_crcs=False, compression=CompressionType.NONE, use_chunking=request.param)
    return path.read_bytes()


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_flipped_bytes_without_checksums_raise_only_recording_errors(tmp_path, unchecked, data):
    """Without checksums the damage reaches the parsers behind them."""
    content = bytearray(unchecked)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    flipped = tmp_path / "flipped.mcap"
    flipped.write_bytes(bytes(content))
    for action in (read_all, lambda p: recover(p, tmp_path / "out.mcap")):
        try:
            action(flipped)
        except RecordingError as error:
            assert "\n" not in str(error)


def write_without(path, **options):
    """A small RGB-D recording written by the mcap package with other options."""
    whole = write_rgbd(path.with_name("whole.mcap"), count=2)
    with open(path, "wb") as file, RecordingReader(whole) as reader:
        writer = Writer(file, **options)
        writer.start("ros2")
        channels = {}
        for topic, msgtype in reader.topics.items():
            schema = writer.register_schema(msgtype, "ros2msg", messages.definition(msgtype).encode())
            channels[topic] = writer.register_channel(topic, "cdr", schema)
        for m in reader.raw_messages():
            writer.add_message(channels[m.topic], m.log_time_ns, bytes(m.data), m.publish_time_ns)
        writer.add_metadata("note", {"a": "b"})
        writer.finish()


@pytest.mark.parametrize(
    "options",
    [
        {"compression": CompressionType.LZ4},
        {"compression": CompressionType.NONE},
        {"use_chunking": False},
        {"index_types": IndexType.NONE},
        {"index_types": IndexType.CHUNK},
        {"use_statistics": False},
        {"repeat_channels": False, "repeat_schemas": False},
        {
            "use_chunking": False,
            "use_statistics": False,
            "repeat_channels": False,
            "repeat_schemas": False,
            "use_summary_offsets": False,
            "index_types": IndexType.NONE,
        },
    ],
    ids=lambda options: "-".join(options),
)
def test_files_of_other_writers(tmp_path, options):
    path = tmp_path / "other.mcap"
    write_without(path, **options)
    with RecordingReader(path) as reader:
        assert reader.frame_count("cam0") == 2
        frames = list(reader.frames("cam0"))
        assert all(f.color is not None and f.T_world_camera is not None for f in frames)
        np.testing.assert_array_equal(np.rint(frames[1].depth * 1000), depth_mm(1))
        # Where the summary has an index but not of the metadata, they are not searched for.
        assert reader.metadata == ({} if options == {"index_types": IndexType.CHUNK} else {"note": {"a": "b"}})
    found = recover(path, tmp_path / "again.mcap")
    assert (found.messages, found.damage, found.lost_bytes) == (7, "", 0)


def test_limits(tmp_path):
    path = tmp_path / "r.mcap"
    with RecordingWriter(path) as writer:
        for i in range(5):
            writer.write(f"/t{i}", STRING, {"data": "x" * 1000}, i)
        writer.write_metadata("m", {"k": "v" * 1000})
    for limits, word in [
        (Limits(max_channels=4), "more than 4"),
        (Limits(max_chunk_bytes=4000), "a chunk of"),
        (Limits(max_record_bytes=100), "a record of"),
        (Limits(max_message_bytes=500), "a message of"),
        (Limits(max_small_message_bytes=500), "a message of"),
        (Limits(max_schema_bytes=4), "a message definition of"),
        (Limits(max_summary_bytes=100), "a summary of"),
        (Limits(max_chunks=0), "more than 0 chunks"),
        (Limits(max_metadata_bytes=100), "bytes of metadata"),
    ]:
        with pytest.raises(RecordingError, match=word), RecordingReader(path, limits=limits) as reader:
            list(reader.messages())


def test_decompression_bombs_are_refused(tmp_path):
    bomb = zstandard.compress(bytes(64 << 20))
    inner = schema_and_channel() + message(b"\0\1\0\0" + text("a\0"))
    liar = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 << 20))
    for name, data in {
        "declared larger than the chunk": chunk(inner, "zstd", stored=bomb),
        "not declared": chunk(inner, "zstd", stored=liar),
        "beyond the limit": chunk(inner, "zstd", size=1 << 40, stored=bomb),
        "no zstd": chunk(inner, "zstd", stored=b"nonsense"),
        "no lz4": chunk(inner, "lz4", stored=b"nonsense"),
        "unknown": chunk(inner, "brotli"),
    }.items():
        path = tmp_path / "bomb.mcap"
        path.write_bytes(mcap_file(data))
        with pytest.raises(RecordingError), RecordingReader(path) as reader:
            list(reader.messages())
            pytest.fail(name)


def test_empty_messages_are_not_free(tmp_path):
    """A chunk of empty messages compresses to nearly nothing; as objects that wait they would fill the memory."""
    inner = schema_and_channel() + message(b"") * 10_000
    path = tmp_path / "r.mcap"
    path.write_bytes(mcap_file(chunk(inner, "zstd", stored=zstandard.compress(inner))))
    assert path.stat().st_size < 2000
    with RecordingReader(path) as reader:
        assert sum(1 for _ in reader.raw_messages()) == 10_000
    with (
        pytest.raises(RecordingError, match="more than 1048576 bytes of messages overlap in time"),
        RecordingReader(path, limits=Limits(max_pending_bytes=1 << 20)) as reader,
    ):
        list(reader.raw_messages())


@pytest.mark.parametrize(
    "data",
    [
        message(b"\0\1\0\0" + text("a\0")),  # before its channel
        schema_and_channel() + message(b""),
        schema_and_channel() + message(b"\0\1\0\0\xff\xff\xff\x7f"),
        schema_and_channel() + message(b"\0\1\0\0" + text("a\0"), t=1 << 63),
        schema_and_channel() + record(0x05, b"short"),
        schema_and_channel() + message(b"\0\7\0\0" + text("a\0")),
        record(0x03, struct.pack("<H", 1) + struct.pack("<I", 2) + b"\xff\xfe" + text("") + text("")),
        record(0x04, struct.pack("<HH", 1, 9) + text("/a") + text("cdr") + struct.pack("<I", 0)),
        schema_and_channel(definition=b"((" * 1000) + message(b"\0\1\0\0" + text("a\0")),
        record(0x0C, text("m") + struct.pack("<I", 5) + b"\1\0\0\0a"),
        schema_and_channel() + chunk(b"\x05" + struct.pack("<Q", 1 << 60)),
        chunk(b"\x05\0\0"),
    ],
)
def test_crafted_records(tmp_path, data):
    path = tmp_path / "r.mcap"
    path.write_bytes(mcap_file(data))
    with pytest.raises(RecordingError), RecordingReader(path) as reader:
        list(reader.messages())


def test_a_crafted_file_that_is_sound_is_read(tmp_path):
    path = tmp_path / "r.mcap"
    path.write_bytes(mcap_file(schema_and_channel(), record(0x7F, b"unknown"), message(b"\0\1\0\0" + text("hi\0"))))
    with RecordingReader(path) as reader:
        assert [m.message.data for m in reader.messages()] == ["hi"]
        assert (reader.start_ns, reader.end_ns, reader.message_count("/a")) == (1, 1, 1)


def test_an_index_that_points_elsewhere_is_refused(tmp_path, sound):
    footer = len(sound) - 8 - 29
    (summary,) = struct.unpack_from("<Q", sound, footer + 9)
    content = bytearray(sound)
    at = summary
    while at < footer:
        opcode, length = struct.unpack_from("<BQ", content, at)
        if opcode == records.CHUNK_INDEX:
            struct.pack_into("<Q", content, at + 9 + 16, 60)  # chunk_start_offset
        at += 9 + length
    struct.pack_into("<I", content, footer + 9 + 16, 0)  # no checksum of the summary
    path = tmp_path / "r.mcap"
    path.write_bytes(bytes(content))
    with pytest.raises(RecordingError, match=r"there is no such chunk|exceeds|no record"):
        read_all(path)
    assert recover(path, tmp_path / "out.mcap").messages == read_all_sound(tmp_path, sound)


def read_all_sound(tmp_path, sound):
    path = tmp_path / "sound.mcap"
    path.write_bytes(sound)
    return read_all(path)
