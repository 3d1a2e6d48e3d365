"""Bags of types that ROS 2 does not ship: listed, drawn with their definitions, refused by name without."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from bodydouble.cli import main
from bodydouble.errors import InputError
from bodydouble.recording import messages
from bodydouble.recording.bag import BagTopic, open_bag
from bodydouble.recording.foreign import ForeignTypes, numbers

DATA = Path(os.environ.get("BODYDOUBLE_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
DEFINITIONS = {"Tip": "int32 id\ngeometry_msgs/Point position\n", "Hand": "Tip[] tips\nfloat64[3] force\nstring name\n"}


def write_definitions(folder: Path) -> Path:
    for name, text in DEFINITIONS.items():
        path = folder / "hand_msgs" / "msg" / f"{name}.msg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def write_bag(path: Path, storage: StoragePlugin = StoragePlugin.SQLITE3, with_definition: bool = False) -> Path:
    """Write three hands with i fingers each, and joint states."""
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(DEFINITIONS["Tip"], "hand_msgs/msg/Tip"))
    store.register(get_types_from_msg(DEFINITIONS["Hand"], "hand_msgs/msg/Hand"))
    tip, hand, point = (store.types[n] for n in ("hand_msgs/msg/Tip", "hand_msgs/msg/Hand", "geometry_msgs/msg/Point"))
    text = store.generate_msgdef("hand_msgs/msg/Hand", ros_version=2)[0] if with_definition else ""
    with Writer(path, version=9, storage_plugin=storage) as bag:
        hands = bag.add_connection("/hand", "hand_msgs/msg/Hand", msgdef=text, rihs01="RIHS01_0")
        states = bag.add_connection("/joint_states", "sensor_msgs/msg/JointState", typestore=store)
        for i in range(3):
            t = 10**18 + i * 10**8
            message = hand([tip(n, point(0.1 * i, float(n), 0.0)) for n in range(i)], np.full(3, float(i)), "left")
            bag.write(hands, t, store.serialize_cdr(message, "hand_msgs/msg/Hand"))
            state = {"header": {"stamp": t, "frame_id": ""}, "name": ["a"], "position": [0.5 * i]}
            bag.write(states, t, messages.serialize("sensor_msgs/msg/JointState", state))
    return path


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_numbers_by_hand(storage: StoragePlugin, tmp_path: Path) -> None:
    types = ForeignTypes(write_definitions(tmp_path))
    with open_bag(write_bag(tmp_path / "bag", storage)) as bag:
        topic = bag.topics["/hand"]
        assert types.reason_against(topic) == ""
        found = [dict(numbers(types.decode(topic, message))) for message in bag.messages(["/hand"])]
    assert found[0].keys() == {"force[]"}
    assert {name: values.tolist() for name, values in found[2].items()} == {
        "tips[].id": [0, 1],
        "tips[].position.x": [0.2, 0.2],
        "tips[].position.y": [0, 1],
        "tips[].position.z": [0, 0],
        "force[]": [2, 2, 2],
    }
    assert not messages.is_known("hand_msgs/msg/Hand"), "what a folder claims stays in its reader"


def test_a_definition_in_the_bag_is_enough(tmp_path: Path) -> None:
    with open_bag(write_bag(tmp_path / "bag", with_definition=True)) as bag:
        types = ForeignTypes()
        assert types.reason_against(bag.topics["/hand"]) == ""
        last = list(bag.messages(["/hand"]))[-1]
        assert dict(numbers(types.decode(bag.topics["/hand"], last)))["force[]"].tolist() == [2, 2, 2]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds 0 files PACKAGE/msg/NAME.msg"):
        ForeignTypes(tmp_path)
    folder = tmp_path / "p" / "msg"
    folder.mkdir(parents=True)
    (folder / "Bad.msg").write_text("float64[ x")
    with pytest.raises(InputError, match=r"Bad.msg: is no message definition"):
        ForeignTypes(tmp_path)
    (folder / "Bad.msg").write_text("x" * (1 << 20))
    with pytest.raises(InputError, match="the limit is"):
        ForeignTypes(tmp_path)
    types = ForeignTypes()
    assert "has no definition here" in types.reason_against(BagTopic("/a", "p/msg/Thing", "cdr", 1))
    assert types.reason_against(BagTopic("/a", "p/msg/Thing", "json", 1)) == "is in json, expected cdr"
    other = BagTopic("/a", "geometry_msgs/msg/Point", "cdr", 1, "ros2msg", b"float32 x\n")
    assert "has another definition" in types.reason_against(other)


def test_topics_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag, picture = str(write_bag(tmp_path / "bag")), tmp_path / "p.png"
    assert main(["topics", bag, "--picture", str(picture), "--topics", "/hand"]) == 2
    said = capsys.readouterr()
    assert "/hand hand_msgs/msg/Hand has no definition here" in said.err and "10.00" in said.out
    definitions = str(write_definitions(tmp_path))
    assert main(["topics", bag, "--definitions", definitions, "--picture", str(picture)]) == 0
    assert "5 of 5 numbers" in capsys.readouterr().out and picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["gravacao_esqueletos", "menos_movimentacao"])
def test_real_recordings_are_read_and_drawn(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = DATA / "ros2_skeleton_bags"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here; set BODYDOUBLE_DATA")
    picture = tmp_path / "p.png"
    argv = ["topics", str(folder / "rosbags" / name), "--definitions", str(folder / "custom_message")]
    assert main([*argv, "--picture", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "/skeleton_list" in out and "5.00" in out and re.search(r"[45] of [45] numbers", out)
    assert picture.stat().st_size > 10_000
    types = ForeignTypes(folder / "custom_message")
    with open_bag(folder / "rosbags" / name) as bag:
        topic = bag.topics["/skeleton_list"]
        assert types.reason_against(topic) == ""
        heights = np.concatenate([
            values
            for message in bag.messages(["/skeleton_list"])
            for path, values in numbers(types.decode(topic, message))
            if path == "skeletons[].joints[].position.z"
        ])  # fmt: skip
    assert 0.5 < np.median(heights) < 1.6, "a standing person, in metres"
