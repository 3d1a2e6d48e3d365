"""Foxglove's schemas in Protobuf: the messages carry their own descriptors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import Writer as McapWriter

from bodydouble.errors import InputError
from bodydouble.recording import RecordingReader
from perception.importers.rosbag import import_rosbag
from tests.perception.importers.bag.bag_samples import (
    DEPTH,
    STEP,
    T0,
    camera,
    depth_mm,
    foxglove_json,
    moving,
)

pytest.importorskip("google.protobuf", reason="the package protobuf is not installed")
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

F = descriptor_pb2.FieldDescriptorProto
MESSAGE, STRING, BYTES, FIXED32, DOUBLE = F.TYPE_MESSAGE, F.TYPE_STRING, F.TYPE_BYTES, F.TYPE_FIXED32, F.TYPE_DOUBLE
STAMP = ("timestamp", 1, MESSAGE, ".google.protobuf.Timestamp")
SCHEMAS: dict[str, list[tuple]] = {
    "Vector3": [("x", 1, DOUBLE), ("y", 2, DOUBLE), ("z", 3, DOUBLE)],
    "Quaternion": [("x", 1, DOUBLE), ("y", 2, DOUBLE), ("z", 3, DOUBLE), ("w", 4, DOUBLE)],
    "RawImage": [
        STAMP, ("frame_id", 7, STRING), ("width", 2, FIXED32), ("height", 3, FIXED32), ("encoding", 4, STRING),
        ("step", 5, FIXED32), ("data", 6, BYTES),
    ],
    "CameraCalibration": [
        STAMP, ("frame_id", 9, STRING), ("width", 2, FIXED32), ("height", 3, FIXED32), ("distortion_model", 4, STRING),
        *((key, 5 + i, DOUBLE, None, F.LABEL_REPEATED) for i, key in enumerate("DKRP")),
    ],
    "FrameTransform": [
        STAMP, ("parent_frame_id", 2, STRING), ("child_frame_id", 3, STRING),
        ("translation", 4, MESSAGE, ".foxglove.Vector3"), ("rotation", 5, MESSAGE, ".foxglove.Quaternion"),
    ],
}  # fmt: skip


def descriptors() -> descriptor_pb2.FileDescriptorSet:
    out = descriptor_pb2.FileDescriptorSet()
    timestamp_pb2.DESCRIPTOR.CopyToProto(out.file.add())
    file = out.file.add(name="foxglove.proto", package="foxglove", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    for name, fields in SCHEMAS.items():
        kind = file.message_type.add(name=name)
        for key, number, field, *rest in fields:
            extra = {k: v for k, v in zip(("type_name", "label"), rest, strict=False) if v}
            kind.field.add(name=key, number=number, type=field, **{"label": F.LABEL_OPTIONAL, **extra})
    return out


def filled(target: Any, value: dict[str, Any]) -> Any:
    """Fill a Protobuf message from a Foxglove JSON object."""
    import base64

    for key, item in value.items():
        if key == "timestamp":
            target.timestamp.seconds, target.timestamp.nanos = item["sec"], item["nsec"]
        elif isinstance(item, dict):
            filled(getattr(target, key), item)
        elif isinstance(item, list):
            getattr(target, key).extend(item)
        else:
            setattr(target, key, base64.b64decode(item) if key == "data" else item)
    return target


def test_protobuf(tmp_path: Path) -> None:
    pool = descriptor_pool.DescriptorPool()
    schema = descriptors()
    for file in schema.file:
        pool.Add(file)
    with open(tmp_path / "bag.mcap", "wb") as file:
        writer = McapWriter(file)
        writer.start("", "tests")
        channels: dict[str, int] = {}
        for event in sorted(camera(3) + moving(3), key=lambda e: e.received_ns):
            name, value = foxglove_json(event)
            if event.topic not in channels:
                schema_id = writer.register_schema(name, "protobuf", schema.SerializeToString())
                channels[event.topic] = writer.register_channel(event.topic, "protobuf", schema_id)
            kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
            data = filled(kind(), value).SerializeToString()
            writer.add_message(channels[event.topic], event.received_ns, data, event.received_ns)
        writer.finish()
    import_rosbag(tmp_path / "bag.mcap", tmp_path / "out.mcap")
    with RecordingReader(tmp_path / "out.mcap") as reader:
        frames = list(reader.frames("cam"))
    assert [frame.t_ns for frame in frames] == [T0 + i * STEP for i in range(3)]
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(np.rint(frame.depth * 1000).astype(np.uint16), depth_mm(i))
        np.testing.assert_allclose(frame.T_world_camera[:3, 3], [0.1 * i, 0, 1.2], atol=1e-6)


@pytest.mark.parametrize("definition", [b"", b"\xff\xff", b"\x0a\x00"])
def test_damaged_schema(tmp_path: Path, definition: bytes) -> None:
    with open(tmp_path / "bag.mcap", "wb") as file:
        writer = McapWriter(file)
        writer.start("", "tests")
        schema = writer.register_schema("foxglove.RawImage", "protobuf", definition)
        writer.add_message(writer.register_channel(DEPTH, "protobuf", schema), 1, b"", 1)
        writer.finish()
    with pytest.raises(InputError, match=f"{DEPTH}: .*Protobuf schema of foxglove.RawImage is damaged"):
        import_rosbag(tmp_path / "bag.mcap", tmp_path / "out.mcap")
