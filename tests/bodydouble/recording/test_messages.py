import array
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodydouble.errors import InputError
from bodydouble.recording import messages

JOINT_STATE = "sensor_msgs/msg/JointState"
floats = st.floats(allow_nan=False, width=64)


@given(
    t_ns=st.integers(0, 2**31 * 10**9 - 1),
    names=st.lists(
        st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=8), max_size=5
    ),
    values=st.lists(floats, max_size=9),
)
def test_joint_state_round_trip(t_ns, names, values):
    fields = {"header": messages.header(t_ns, "base"), "name": names, "position": values}
    back = messages.deserialize(JOINT_STATE, messages.serialize(JOINT_STATE, fields))
    assert messages.stamp_ns(back.header.stamp) == t_ns
    assert back.header.frame_id == "base"
    assert back.name == names
    np.testing.assert_array_equal(back.position, np.array(values, np.float64))
    assert len(back.velocity) == 0


@given(st.lists(floats, min_size=36, max_size=36), floats, floats)
def test_odometry_round_trip(covariance, x, w):
    fields = {"pose": {"pose": {"position": {"x": x}, "orientation": {"w": w}}, "covariance": covariance}}
    back = messages.deserialize("nav_msgs/Odometry", messages.serialize("nav_msgs/msg/Odometry", fields))
    assert (back.pose.pose.position.x, back.pose.pose.orientation.w, back.pose.pose.position.y) == (x, w, 0.0)
    np.testing.assert_array_equal(back.pose.covariance, covariance)


def test_objects_are_taken_by_their_attributes():
    stamp = SimpleNamespace(sec=3, nanosec=4)
    message = SimpleNamespace(
        header=SimpleNamespace(stamp=stamp, frame_id="f"),
        name=["a"],
        position=array.array("d", [1.5]),
        velocity=array.array("d"),
        effort=array.array("d"),
    )
    back = messages.deserialize(JOINT_STATE, messages.serialize(JOINT_STATE, message))
    assert messages.stamp_ns(back.header.stamp) == 3_000_000_004
    assert back.position.tolist() == [1.5]


def test_known_bytes():
    # CDR little endian: encapsulation, length with terminator, text.
    assert messages.serialize("std_msgs/msg/String", {"data": "hi"}) == b"\0\1\0\0\3\0\0\0hi\0"


@pytest.mark.parametrize(
    ("msgtype", "fields", "text"),
    [
        ("std_msgs/msg/Nothing", {}, "not one of ROS 2 Jazzy's"),
        (JOINT_STATE, {"positions": [1.0]}, "no field 'positions'"),
        (JOINT_STATE, {"name": [1]}, "expected text"),
        (JOINT_STATE, {"header": {"stamp": {"sec": 0.5}}}, "0.5 is no integer"),
        ("sensor_msgs/msg/CameraInfo", {"k": [1.0]}, "1 items, expected 9"),
        ("sensor_msgs/msg/Image", {"data": [256]}, "do not fit uint8"),
        ("std_msgs/msg/UInt8", {"data": 300}, "cannot be serialized"),
        ("std_msgs/msg/Float64", {"data": "1"}, "expected a number"),
        (JOINT_STATE, 5, "a int is no sensor_msgs/msg/JointState"),
    ],
)
def test_what_does_not_fit_is_refused(msgtype, fields, text):
    with pytest.raises(InputError, match=text):
        messages.serialize(msgtype, fields)


@given(st.binary(max_size=120))
def test_foreign_bytes_raise_only_value_errors(data):
    for msgtype in (
        JOINT_STATE,
        "tf2_msgs/msg/TFMessage",
        "sensor_msgs/msg/Image",
        "diagnostic_msgs/msg/DiagnosticArray",
    ):
        try:
            messages.deserialize(msgtype, b"\0\1\0\0" + data)
        except ValueError:
            continue


@given(st.text(max_size=200))
def test_foreign_definitions_are_compared_without_crash(text):
    assert not messages.same_definition("std_msgs/msg/Float64", text + "\nint7 x(")


def test_definitions_are_compared_by_their_fields():
    text = messages.definition(JOINT_STATE)
    assert "MSG: std_msgs/Header" in text
    assert messages.same_definition(JOINT_STATE, text)
    assert messages.same_definition(JOINT_STATE, "# with a comment\n" + text)
    assert not messages.same_definition(JOINT_STATE, text.replace("float64[] effort", "float32[] effort"))
    assert not messages.same_definition(JOINT_STATE, text.replace("float64[] effort\n", ""))
