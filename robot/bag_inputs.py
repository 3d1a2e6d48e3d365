"""Which topics of a recording are a policy's inputs: told by name where only one answer is possible, asked for else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bodydouble.errors import InputError
from bodydouble.recording import messages
from bodydouble.recording.bag import Bag, BagMessage
from bodydouble.recording.limits import DEFAULT_LIMITS

JOINT_STATE, IMU, ODOMETRY = "sensor_msgs/msg/JointState", "sensor_msgs/msg/Imu", "nav_msgs/msg/Odometry"
FLOATS, TRAJECTORY, TWIST = (
    "std_msgs/msg/Float64MultiArray",
    "trajectory_msgs/msg/JointTrajectory",
    "geometry_msgs/msg/Twist",
)
STRING = "std_msgs/msg/String"


@dataclass(frozen=True)
class TopicOptions:
    """Topics to read where they do not have their usual names; empty takes the usual name."""

    joint_states: str = ""
    """JointState of all of the policy's joints."""
    imu: str = ""
    """Imu of the base."""
    odom: str = ""
    """Odometry of the base; read where the policy's observation needs it."""
    commands: str = ""
    """Joint targets that were sent (Float64MultiArray in the contract's order, or JointTrajectory), to compare with."""
    velocity: str = ""
    """Twist that the robot was told, for policies that obey one."""
    command: str = ""
    """Float64MultiArray that the robot was told, for policies that obey anything else."""
    skill: str = ""
    """String with the skill as JSON, for policies that follow a reference."""


@dataclass(frozen=True)
class Chosen:
    """A topic that is read, and as what."""

    name: str
    """The topic; empty where there is none."""
    msgtype: str
    """Its type."""


class TopicChooser:
    """Finds topics by the names that ROS users expect, in the namespace of the joint states."""

    def __init__(self, bag: Bag) -> None:
        """Look at a bag's topics."""
        self._bag = bag
        self._namespace = ""

    def joint_states(self, named: str) -> Chosen:
        """Return the joint states' topic: the named one, /joint_states, or the only one of that name in a namespace.

        Raises:
            InputError: There is none, or more than one and none is named.
        """
        found = [topic for topic in self._of(JOINT_STATE) if topic.endswith("/joint_states")]
        if not named and "/joint_states" not in found and len(found) != 1:
            raise self._ask("joint states", (JOINT_STATE,), "joint-states")
        chosen = self._named(named, (JOINT_STATE,), "joint-states") if named else None
        name = chosen.name if chosen else "/joint_states" if "/joint_states" in found else found[0]
        self._namespace = name.rpartition("/")[0]
        return Chosen(name, JOINT_STATE)

    def find(self, what: str, usual: tuple[str, ...], kinds: tuple[str, ...], named: str, option: str) -> Chosen | None:
        """Return a topic: the named one, or the usual one beside the joint states; None where neither is there.

        Args:
            what: What it is, for messages.
            usual: Usual names, without a namespace.
            kinds: Types that are read.
            named: What the option says; empty for nothing.
            option: The option's name.

        Raises:
            InputError: The named topic is not there or has another type, or two usual ones are there.
        """
        if named:
            return self._named(named, kinds, option)
        there = [f"{self._namespace}/{name}" for name in usual]
        there = [name for name in there if name in self._bag.topics and self._bag.topics[name].msgtype in kinds]
        if len(there) > 1:
            raise self._ask(what, kinds, option)
        return Chosen(there[0], self._bag.topics[there[0]].msgtype) if there else None

    def need(self, what: str, usual: tuple[str, ...], kinds: tuple[str, ...], named: str, option: str) -> Chosen:
        """Return as `find`, and ask for the topic where it is not there."""
        chosen = self.find(what, usual, kinds, named, option)
        if chosen is None:
            raise self._ask(what, kinds, option)
        return chosen

    def _of(self, *kinds: str) -> list[str]:
        return [name for name, topic in self._bag.topics.items() if topic.msgtype in kinds and topic.count]

    def _named(self, name: str, kinds: tuple[str, ...], option: str) -> Chosen:
        topic = self._bag.topics.get(name)
        if topic is None or topic.msgtype not in kinds:
            found = "is not there" if topic is None else f"is {topic.msgtype}"
            known = ", ".join(sorted(self._of(*kinds))) or "none"
            raise InputError(
                f"{self._bag.path}: --config.topics.{option} {name} {found}, expected {_or(kinds)}; these are: {known}"
            )
        return Chosen(name, topic.msgtype)

    def _ask(self, what: str, kinds: tuple[str, ...], option: str) -> InputError:
        known = ", ".join(sorted(self._of(*kinds))) or "none"
        return InputError(
            f"{self._bag.path}: which topic is the {what}? Name it with --config.topics.{option}; "
            f"topics of type {_or(kinds)}: {known}"
        )


def decoder(bag: Bag, chosen: Chosen) -> Callable[[BagMessage], Any]:
    """Return what decodes a topic's messages.

    Raises:
        InputError: The topic is not in CDR, or its definition is not ROS 2's; the function, where a message is damaged.
    """
    topic = bag.topics[chosen.name]
    text = topic.definition.decode("utf-8", "replace")
    if topic.encoding != "cdr":
        raise InputError(f"{bag.path}: {topic.name} is in {topic.encoding or 'no encoding'}, expected cdr; convert it")
    if topic.definition_encoding == "ros2msg" and text and not messages.same_definition(topic.msgtype, text):
        raise InputError(f"{bag.path}: {topic.name}: its definition of {topic.msgtype} is not ROS 2's; convert the bag")

    def decode(message: BagMessage) -> Any:
        limit = DEFAULT_LIMITS.max_small_message_bytes
        if len(message.data) > limit:
            raise InputError(
                f"{bag.path}: a message of {topic.name} has {len(message.data)} bytes, the limit is {limit}"
            )
        try:
            return messages.deserialize(chosen.msgtype, message.data)
        except ValueError as error:
            raise InputError(
                f"{bag.path}: the message of {topic.name} received at {message.received_ns} ns is no {chosen.msgtype} "
                f"({error}); copy the recording again"
            ) from None

    return decode


def _or(kinds: tuple[str, ...]) -> str:
    return " or ".join(kinds)
