"""Copies of a recording: without poses, with a clock that is ahead, with fewer cameras. The images are not touched."""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bodydouble.artifacts import atomic_dir, inputs_hash, is_current, provenance, write_json
from bodydouble.errors import InputError
from bodydouble.recording import RecordingReader, RecordingWriter
from bodydouble.recording.topics import camera_topics

POSE_TOPICS = ("/tf", "/tf_static")
"""Topics that a copy without poses leaves out."""
RECORDING_FILE, TRUTH_FILE = "recording.mcap", "truth.npz"
"""Files of a recording's folder."""


@dataclass(frozen=True)
class Variant:
    """What is recorded of a clip, and what is not."""

    cameras: tuple[str, ...]
    """The cameras that are kept."""
    poses: bool
    """Whether the poses are known."""
    ahead_s: dict[str, float] = field(default_factory=dict)
    """How much a camera's clock is ahead, s."""


VARIANTS = {
    "single": Variant(("camera_1",), poses=False),
    "dual": Variant(("camera_1", "camera_2"), poses=False, ahead_s={"camera_2": 0.137}),
    "dual_calibrated": Variant(("camera_1", "camera_2"), poses=True),
}
"""The benchmark's ways to record: one camera; two with poses and clocks unknown; two with both known."""


@dataclass(frozen=True)
class _Message:
    topic: str
    msgtype: str
    log_ns: int
    publish_ns: int
    data: bytes


def write_variant(source: Path, variant: Variant, out: Path) -> None:
    """Write a copy of a synthetic recording and of its truth; one that is there already is left as it is.

    Args:
        source: Folder with recording.mcap and truth.npz, poses recorded, clocks right.
        variant: What is kept.
        out: Folder for the copy.

    Raises:
        RecordingError: The recording is damaged.
        InputError: It lacks a camera, or the truth is missing.
    """
    inputs = {"recording": source / RECORDING_FILE, "truth": source / TRUTH_FILE}
    manifest = out / "recording.json"
    if is_current(manifest, inputs_hash(variant, inputs)):
        return
    with atomic_dir(out) as folder:
        with RecordingReader(inputs["recording"]) as reader, RecordingWriter(folder / RECORDING_FILE) as writer:
            missing = set(variant.cameras) - set(reader.cameras)
            if missing:
                raise InputError(f"{inputs['recording']}: has no {', '.join(sorted(missing))}")
            streams = [_camera_messages(reader, name, variant.ahead_s.get(name, 0.0)) for name in variant.cameras]
            if variant.poses:
                streams.insert(0, _topic_messages(reader, POSE_TOPICS))
            for message in heapq.merge(*streams, key=lambda message: message.log_ns):
                writer.write_cdr(message.topic, message.msgtype, message.data, message.log_ns, message.publish_ns)
        _write_truth(inputs["truth"], variant, folder / TRUTH_FILE)
        write_json(folder / "recording.json", {"provenance": provenance(variant, inputs), "figures": {}})


def _topic_messages(reader: RecordingReader, topics: tuple[str, ...], ahead_ns: int = 0) -> Iterator[_Message]:
    for raw in reader.raw_messages(topics):
        data = stamped(bytes(raw.data), ahead_ns) if ahead_ns else bytes(raw.data)
        yield _Message(raw.topic, raw.msgtype, raw.log_time_ns + ahead_ns, raw.publish_time_ns + ahead_ns, data)


def _camera_messages(reader: RecordingReader, name: str, ahead_s: float) -> Iterator[_Message]:
    topics = camera_topics(name)
    return _topic_messages(reader, (topics.info, topics.color, topics.depth), round(ahead_s * 1e9))


def stamped(data: bytes, ahead_ns: int) -> bytes:
    """Return a serialized message that begins with a header, its stamp moved by some time.

    Args:
        data: CDR bytes with their encapsulation header, of a type whose first field is a std_msgs/Header.
        ahead_ns: How much later the stamp becomes, ns.
    """
    order = "<" if data[1] & 1 else ">"
    seconds, nanoseconds = struct.unpack_from(f"{order}iI", data, 4)
    moved = struct.pack(f"{order}iI", *divmod(seconds * 1_000_000_000 + nanoseconds + ahead_ns, 1_000_000_000))
    return data[:4] + moved + data[12:]


def _write_truth(source: Path, variant: Variant, out: Path) -> None:
    with np.load(source, allow_pickle=False) as data:
        truth = {name: data[name] for name in data.files}
    for name in variant.cameras:
        ahead_ns = round(variant.ahead_s.get(name, 0.0) * 1e9)
        truth[f"{name}_clock_offset_ns"] = truth[f"{name}_clock_offset_ns"] + np.int64(ahead_ns)
    truth["poses_recorded"] = np.bool_(variant.poses)
    with open(out, "wb") as file:
        np.savez_compressed(file, **truth)  # type: ignore[arg-type]
