"""The replayer's node: the topics of a recorded run or a rosbag2 again, with /clock, at any rate.

    python -m robot.nodes.replayer_node --run runs/demo/run [--rate 2] [--ros-args ...]

What a robot obeys (commands, skills, the operator's heartbeat) is published below `replayed/`, never where a robot
listens: what was safe then need not be safe now.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from bodydouble.errors import BodydoubleError
from bodydouble.recording.bag import open_bag
from bodydouble.recording.foreign import ForeignTypes
from bodydouble.recording.messages import full_type_name, is_known
from bodydouble.recording.reader import SerializedMessage
from robot.nodes.process import CLOCK, CONTRACT, GAINS, HEARTBEAT, SKILL, reliable, running_node
from robot.playback import check_rate, playback

REPLAYED = "replayed"
"""Namespace of what a robot would obey."""
OBEYED = (SKILL, HEARTBEAT, CONTRACT, GAINS)
"""Topics that move a robot, keep it moving or set it up."""
OBEYED_TYPES = (
    "std_msgs/msg/Float64MultiArray",
    "trajectory_msgs/msg/JointTrajectory",
    "geometry_msgs/msg/Twist",
    "geometry_msgs/msg/TwistStamped",
)
"""Types of commands: whatever a recording of others calls them, no robot hears them."""


def topic_for(recorded: str, msgtype: str = "") -> str:
    """Return the topic a recorded one is published on: what a robot obeys below REPLAYED, others as they are.

    Args:
        recorded: The topic in the recording; the result is relative to the namespace.
        msgtype: Its type.
    """
    name = recorded.lstrip("/")
    obeyed = full_type_name(msgtype) in OBEYED_TYPES or f"/{name}".endswith(tuple(f"/{topic}" for topic in OBEYED))
    return f"{REPLAYED}/{name}" if obeyed else name


def publishers(node: Node, topics: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return a publisher for each recorded topic, and the topics whose type ROS does not have here.

    Args:
        node: The node.
        topics: Message type by recorded topic.
    """
    made: dict[str, Any] = {}
    absent = []
    for topic, msgtype in topics.items():
        if topic == CLOCK:
            continue
        # Only ROS 2's own types may name code to import, whatever a file claims.
        if not is_known(msgtype):
            absent.append(f"{topic} ({msgtype})")
            continue
        package, _, name = full_type_name(msgtype).split("/")
        try:
            kind = getattr(importlib.import_module(f"{package}.msg"), name)
        except (ImportError, AttributeError):
            absent.append(f"{topic} ({msgtype})")
            continue
        made[topic] = node.create_publisher(kind, topic_for(topic, msgtype), reliable(1000))
    return made, absent


def play(path: Path, rate: float, subscribers: int = 0) -> int:
    """Publish a recording's topics once, with the clock; return the number of messages sent.

    Args:
        path: Folder of a run, an MCAP file or a rosbag2 folder.
        rate: Speed, in units of the recording's own time.
        subscribers: Subscribers of the first topic that is heard to wait for.

    Raises:
        InputError: The recording cannot be read, or the rate is not positive.
    """
    check_rate(rate)
    run, sent = path / "run.mcap", 0
    with open_bag(run if run.is_file() else path) as bag, running_node("replayer") as running:
        types = ForeignTypes()
        against = {name: types.reason_against(topic) for name, topic in bag.topics.items() if is_known(topic.msgtype)}
        for topic, reason in against.items():
            if reason:
                running.node.get_logger().warning(f"skipped {topic}: {reason}")
        topics = {name: topic.msgtype for name, topic in bag.topics.items() if not against.get(name)}
        made, absent = publishers(running.node, topics)
        for topic in absent:
            running.node.get_logger().warning(f"skipped {topic}: its type is not installed in ROS here")
        clock = running.node.create_publisher(Clock, CLOCK, reliable(10))
        while subscribers and not running.stop.is_set():
            if any(publisher.get_subscription_count() >= subscribers for publisher in made.values()):
                break
            time.sleep(0.02)
        messages = (
            SerializedMessage(m.topic, topics[m.topic], m.received_ns, m.received_ns, memoryview(m.data))
            for m in bag.messages(list(made))
        )
        begun = time.monotonic()
        for due in playback(messages, rate):
            if running.stop.wait(max(0.0, begun + due.at_s - time.monotonic())):
                break
            if due.message is None:
                message = Clock()
                message.clock.sec, message.clock.nanosec = divmod(due.clock_ns, 1_000_000_000)
                clock.publish(message)
            else:
                made[due.message.topic].publish(bytes(due.message.data))
                sent += 1
        time.sleep(0.2)  # the last messages leave before the node goes
    return sent


def main() -> int:
    """Publish the run once, then stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run, an .mcap file or a rosbag2 folder")
    parser.add_argument("--rate", type=float, default=1.0, help="speed, in units of the run's own time")
    parser.add_argument("--subscribers", type=int, default=0, help="subscribers of the first topic to wait for")
    args, _ = parser.parse_known_args()
    try:
        play(args.run, args.rate, args.subscribers)
    except BodydoubleError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
