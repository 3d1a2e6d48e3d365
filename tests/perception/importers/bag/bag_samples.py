"""Bags that the tests write: ROS 2 messages of one RGB-D camera, into sqlite3, MCAP, or Foxglove's schemas."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as BagWriter

from bodydouble.recording import messages
from perception.importers.bag.bag_messages import IMU

W, H = 32, 24
K = np.array([[30.0, 0, 15.5], [0, 30.0, 11.5], [0, 0, 1]])
T0 = 1_700_000_000_000_000_000
STEP = 33_333_333
LATE = 4_000_000
FRAME = "cam_color_optical_frame"
DEPTH, DEPTH_INFO = "/cam/aligned_depth_to_color/image_raw", "/cam/aligned_depth_to_color/camera_info"
COLOR, COLOR_INFO = "/cam/color/image_raw", "/cam/color/camera_info"


class Event(NamedTuple):
    """One message of a bag."""

    received_ns: int
    topic: str
    msgtype: str
    fields: dict[str, Any]


def depth_mm(i: int) -> np.ndarray:
    depth = np.random.default_rng(i).integers(800, 4000, (H, W)).astype(np.uint16)
    depth[0, 0] = 0
    return depth


def color(i: int) -> np.ndarray:
    return np.full((H, W, 3), (20 * i, 100, 200), np.uint8)


def header(i: int, frame: str = FRAME, shift_ns: int = 0) -> dict[str, Any]:
    return messages.header(T0 + i * STEP + shift_ns, frame)


def image(pixels: np.ndarray, encoding: str, head: dict[str, Any], pad: int = 0, big: bool = False) -> dict[str, Any]:
    """Fields of an Image; rows padded by `pad` bytes."""
    data = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).reshape(len(pixels), -1)
    rows = data.view(np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, pad)), constant_values=77)
    size = {"height": pixels.shape[0], "width": pixels.shape[1], "step": rows.shape[1]}
    return {"header": head, **size, "encoding": encoding, "is_bigendian": int(big), "data": rows.reshape(-1)}


def info(head: dict[str, Any], k: np.ndarray = K, size: tuple[int, int] = (W, H), **more: Any) -> dict[str, Any]:
    base = {"header": head, "width": size[0], "height": size[1], "distortion_model": "plumb_bob", "d": np.zeros(5)}
    projection = np.hstack([k, np.zeros((3, 1))])
    return {**base, "k": k.reshape(-1), "r": np.eye(3).reshape(-1), "p": projection.reshape(-1), **more}


def transform(parent: str, child: str, t_ns: int, xyz=(0.0, 0.0, 0.0), xyzw=(0.0, 0.0, 0.0, 1.0)) -> dict[str, Any]:
    return {
        "header": messages.header(t_ns, parent),
        "child_frame_id": child,
        "transform": {
            "translation": dict(zip("xyz", xyz, strict=True)),
            "rotation": dict(zip("xyzw", xyzw, strict=True)),
        },
    }


def tf(t_ns: int, *transforms: dict[str, Any], static: bool = False) -> Event:
    topic = "/tf_static" if static else "/tf"
    return Event(t_ns, topic, messages.TF_MESSAGE, {"transforms": list(transforms)})


def depth_event(i: int, fields: dict[str, Any] | None = None, topic: str = DEPTH, kind: str = messages.IMAGE) -> Event:
    fields = image(depth_mm(i), "16UC1", header(i)) if fields is None else fields
    return Event(T0 + i * STEP + LATE, topic, kind, fields)


def color_event(i: int, fields: dict[str, Any] | None = None, topic: str = COLOR, kind: str = messages.IMAGE) -> Event:
    fields = image(color(i), "rgb8", header(i, shift_ns=2_000_000)) if fields is None else fields
    return Event(T0 + i * STEP + LATE + 1_000_000, topic, kind, fields)


def camera(count: int = 6) -> list[Event]:
    """A camera whose depth is registered to its colour; no poses."""
    out = [
        Event(T0 + LATE, DEPTH_INFO, messages.CAMERA_INFO, info(header(0))),
        Event(T0 + LATE, COLOR_INFO, messages.CAMERA_INFO, info(header(0))),
    ]
    for i in range(count):
        out += [depth_event(i), color_event(i)]
    return out


def moving(count: int = 6) -> list[Event]:
    """Transforms world -> base -> optical frame: the base moves by 0.1 m a frame, the camera looks along its x."""
    # The optical axes of a camera that looks along x, its mount 0.2 m above the base.
    looks = (-0.5, 0.5, -0.5, 0.5)
    out = [tf(T0, transform("cam_base", FRAME, T0, (0, 0, 0.2), looks), static=True)]
    for i in range(-1, count + 1):
        t_ns = T0 + i * STEP + STEP // 2
        out.append(tf(t_ns + LATE, transform("world", "cam_base", t_ns, (0.1 * (i + 0.5), 0, 1))))
    return out


def imu_event(i: int, frame: str = "cam_imu") -> Event:
    fields = {"header": header(i, frame), "linear_acceleration": {"x": 0.0, "y": -9.81, "z": 0.0}}
    return Event(T0 + i * STEP + LATE, "/cam/imu", IMU, fields)


def write_bag(path: Path, events: list[Event], storage: str = "sqlite3") -> Path:
    """Write a rosbag2 folder."""
    plugin = {"sqlite3": StoragePlugin.SQLITE3, "mcap": StoragePlugin.MCAP}[storage]
    with BagWriter(path, version=9, storage_plugin=plugin) as writer:
        connections = {}
        for event in sorted(events, key=lambda e: e.received_ns):
            key = event.topic
            if key not in connections:
                connections[key] = writer.add_connection(key, event.msgtype, typestore=messages.typestore())
            writer.write(connections[key], event.received_ns, messages.serialize(event.msgtype, event.fields))
    return path


def write_mcap(path: Path, events: list[Event]) -> Path:
    """Write a plain MCAP file with ROS 2 messages."""
    with open(path, "wb") as file:
        writer = McapWriter(file)
        writer.start("ros2", "tests")
        schemas: dict[str, int] = {}
        channels: dict[str, int] = {}
        for event in sorted(events, key=lambda e: e.received_ns):
            kind = event.msgtype
            if kind not in schemas:
                schemas[kind] = writer.register_schema(kind, "ros2msg", messages.definition(kind).encode())
            if event.topic not in channels:
                channels[event.topic] = writer.register_channel(event.topic, "cdr", schemas[kind])
            data = messages.serialize(kind, event.fields)
            writer.add_message(channels[event.topic], event.received_ns, data, event.received_ns)
        writer.finish()
    return path


def foxglove_json(event: Event) -> tuple[str, dict[str, Any]]:
    """Return the Foxglove schema and the JSON object of an event."""
    fields = event.fields

    def head(header: dict[str, Any]) -> dict[str, Any]:
        stamp = {"sec": header["stamp"] // 10**9, "nsec": header["stamp"] % 10**9}
        return {"timestamp": stamp, "frame_id": header["frame_id"]}

    def encoded(data: Any) -> str:
        return base64.b64encode(bytes(data)).decode()

    if event.msgtype == messages.IMAGE:
        keys = {key: fields[key] for key in ("width", "height", "encoding", "step")}
        return "foxglove.RawImage", {**head(fields["header"]), **keys, "data": encoded(fields["data"])}
    if event.msgtype == messages.COMPRESSED_IMAGE:
        data = {"format": fields["format"], "data": encoded(fields["data"])}
        return "foxglove.CompressedImage", {**head(fields["header"]), **data}
    if event.msgtype == messages.CAMERA_INFO:
        keys = {key: fields[key] for key in ("width", "height", "distortion_model")}
        numbers = {key.upper(): list(map(float, fields[key])) for key in "dkrp"}
        return "foxglove.CameraCalibration", {**head(fields["header"]), **keys, **numbers}
    assert len(fields["transforms"]) == 1
    item = fields["transforms"][0]
    stamp = head(item["header"])
    names = {"parent_frame_id": stamp.pop("frame_id"), "child_frame_id": item["child_frame_id"]}
    return "foxglove.FrameTransform", {**stamp, **names, **item["transform"]}


def write_foxglove(path: Path, events: list[Event], encoding: str = "json", schema: str | None = None) -> Path:
    """Write an MCAP file with Foxglove's schemas, in JSON."""
    with open(path, "wb") as file:
        writer = McapWriter(file)
        writer.start("", "tests")
        channels: dict[str, int] = {}
        for event in sorted(events, key=lambda e: e.received_ns):
            name, value = foxglove_json(event)
            if event.topic not in channels:
                schema_id = writer.register_schema(schema or name, "jsonschema", b'{"type": "object"}')
                channels[event.topic] = writer.register_channel(event.topic, encoding, schema_id)
            data = json.dumps(value).encode()
            writer.add_message(channels[event.topic], event.received_ns, data, event.received_ns)
        writer.finish()
    return path
