"""Where a message ends: as rosbags has it for every type of ROS 2, and refused where rosbags refuses."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from rosbags.interfaces import Nodetype

from bodydouble.errors import InputError
from bodydouble.recording import RecordingReader, RecordingWriter, messages
from bodydouble.recording.cdr import extent

JOINT_STATE = "sensor_msgs/msg/JointState"
TYPES = sorted(messages.typestore().fielddefs)


def made(rng: random.Random, name: str) -> dict[str, Any]:
    """Return fields of a type with random numbers of items."""
    return {field: value(rng, desc) for field, desc in messages.typestore().fielddefs[name][1]}


def value(rng: random.Random, desc: Any) -> Any:
    kind, detail = desc
    if kind == Nodetype.NAME:
        return made(rng, detail)
    if kind == Nodetype.BASE:
        if detail[0] == "string":
            return "".join(rng.choice("aé☃") for _ in range(rng.randrange(6)))
        return rng.random() if detail[0].startswith("float") else rng.randrange(2)
    item, count = detail
    return [value(rng, item) for _ in range(count if kind == Nodetype.ARRAY else rng.randrange(min(count or 3, 3) + 1))]


def rosbags_end(name: str, data: bytes) -> int:
    store = messages.typestore()
    layout = store.get_msgdef(name)
    parse = layout.deserialize_cdr_le if data[1] else layout.deserialize_cdr_be
    return parse(data[4:], 0, layout.cls, store)[1] + 4


@pytest.mark.parametrize("little", [True, False])
def test_every_type_ends_where_rosbags_says(little: bool) -> None:
    rng, store = random.Random(0), messages.typestore()
    for name in TYPES:
        for _ in range(3):
            message = messages.build(name, made(rng, name))
            data = bytes(store.serialize_cdr(message, name, little_endian=little))
            found = extent(name, data + bytes(rng.randrange(5)))
            assert found.end == len(data) == rosbags_end(name, data), name
            assert found.fits(data)


def test_bytes_that_were_changed_are_refused_as_by_rosbags_or_end_at_the_same_place() -> None:
    rng, store = random.Random(1), messages.typestore()
    names = [JOINT_STATE, "diagnostic_msgs/msg/DiagnosticArray", "trajectory_msgs/msg/JointTrajectory",
             "std_msgs/msg/String", "tf2_msgs/msg/TFMessage", "sensor_msgs/msg/Image"]  # fmt: skip
    refused = 0
    for number in range(3000):
        name = names[number % len(names)]
        data = bytearray(store.serialize_cdr(messages.build(name, made(rng, name)), name, little_endian=True))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(4, len(data))] = rng.choice([0, 1, 4, 128, 255])
        cut = bytes(data[: rng.randrange(4, len(data) + 1)]) if number % 3 == 0 else bytes(data)
        try:
            messages.deserialize(name, cut)
        except ValueError:
            refused += 1
            with pytest.raises(ValueError):
                extent(name, cut)
        else:
            assert extent(name, cut).end == rosbags_end(name, cut)
    assert refused > 500


def joints(names: list[str], number: float) -> bytes:
    fields = {"header": messages.header(int(number), "base"), "name": names, "position": np.full(len(names), number)}
    return messages.serialize(JOINT_STATE, fields)


def test_the_last_message_tells_only_those_of_its_own_structure() -> None:
    first = extent(JOINT_STATE, joints(["hip", "knee"], 1.0))
    assert first.fits(joints(["hip", "knee"], 2.0) + b"\0\0\0")
    assert not first.fits(joints(["hip", "ankle"], 2.0)) and not first.fits(joints(["hip"], 2.0))
    assert not first.fits(joints(["hip", "knee"], 2.0)[:-1])
    hostile = bytearray(joints(["hip", "knee"], 2.0))
    hostile[-4:] = b"\xff\xff\xff\xff"  # the number of efforts
    assert not first.fits(bytes(hostile))
    with pytest.raises(ValueError, match="a sequence of 4294967295 items"):
        extent(JOINT_STATE, bytes(hostile))


def test_the_writer_cuts_what_follows_and_names_what_is_no_message(tmp_path: Any) -> None:
    kept = [joints(["hip", "knee"], 1.0), joints(["hip", "knee"], 2.0), joints(["knee"], 3.0), joints(["knee"], 4.0)]
    with RecordingWriter(tmp_path / "run.mcap") as writer:
        for number, data in enumerate(kept):
            writer.write_cdr("/joint_states", JOINT_STATE, data + bytes(number), number, number)
        for bad in (b"", b"\0\1\0\0", kept[0][:-1], b"\0\7" + kept[0][2:]):
            with pytest.raises(InputError, match=f"/joint_states: {len(bad)} bytes that are no {JOINT_STATE}"):
                writer.write_cdr("/joint_states", JOINT_STATE, bad, 9, 9)
    with RecordingReader(tmp_path / "run.mcap") as reader:
        assert [bytes(message.data) for message in reader.raw_messages()] == kept
