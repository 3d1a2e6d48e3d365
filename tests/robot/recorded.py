"""Runs without ROS: the closed loop written as the recorder writes it, and runs rewritten with an edit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bodydouble.frames import xyzw_from_wxyz
from bodydouble.recording.reader import RecordingReader
from bodydouble.recording.writer import RecordingWriter
from robot.policy_file import PolicyFile
from robot.replay import COMMAND_TOPIC
from robot.run_figures import TICK_TOPIC
from sim.closed_loop import ClosedLoop, RobotModel
from sim.stage.stage import Stage

STRING = "std_msgs/msg/String"
START_NS = 1_000_000_000
"""Time of the first message: a recording's times are not negative, and zero would hide a missing offset."""


def record_closed_loop(
    path: Path, stage: Stage, policy: PolicyFile, ticks: int, ask: Mapping[int, tuple[str, ...]]
) -> Path:
    """Run the closed loop and write inputs, commands and ticks.

    Args:
        path: The file to write.
        stage: The stage.
        policy: The policy.
        ticks: Control steps.
        ask: What is asked for before a tick.
    """
    loop = ClosedLoop(RobotModel.of(stage), policy, stage.reference)
    joints = len(stage.robot.joint_names)
    with RecordingWriter(path) as writer:
        for number in range(ticks):
            for command in ask.get(number, ()):
                loop.runtime.ask(command)
            qpos, qvel, t_ns = loop.data.qpos.copy(), loop.data.qvel.copy(), round(loop.data.time * 1e9)
            write_inputs(writer, stage.robot.joint_names, t_ns, qpos, qvel)
            result = loop.step()
            if result.command is not None:
                writer.write(COMMAND_TOPIC, "std_msgs/msg/Float64MultiArray", {"data": result.command}, START_NS + t_ns)
            writer.write(TICK_TOPIC, STRING, {"data": json.dumps(result.to_dict())}, START_NS + t_ns)
            assert len(qpos) == 7 + joints
    return path


def write_inputs(
    writer: RecordingWriter, names: tuple[str, ...], t_ns: int, qpos: np.ndarray, qvel: np.ndarray
) -> None:
    """Write one message of each input from a state of the simulation."""
    header = {"stamp": t_ns, "frame_id": "pelvis"}
    xyzw = dict(zip("xyzw", xyzw_from_wxyz(qpos[3:7]).tolist(), strict=True))
    joints = {"header": header, "name": list(names), "position": qpos[7:], "velocity": qvel[6:]}
    imu = {"header": header, "orientation": xyzw, "angular_velocity": dict(zip("xyz", qvel[3:6].tolist(), strict=True))}
    imu["linear_acceleration_covariance"] = [-1.0] + [0.0] * 8  # the closed loop has no accelerometer
    pose = {"position": dict(zip("xyz", qpos[:3].tolist(), strict=True)), "orientation": xyzw}
    writer.write("/joint_states", "sensor_msgs/msg/JointState", joints, START_NS + t_ns)
    writer.write("/imu", "sensor_msgs/msg/Imu", imu, START_NS + t_ns)
    writer.write("/odom", "nav_msgs/msg/Odometry", {"header": header, "pose": {"pose": pose}}, START_NS + t_ns)


def rewritten(run: Path, out: Path, topic: str, number: int, edit: Callable[[Any], Any]) -> Path:
    """Copy a run; the message with that number of that topic becomes what `edit` returns, None leaves it out."""
    seen = 0
    with RecordingReader(run) as reader, RecordingWriter(out) as writer:
        for message in reader.messages():
            content = message.message
            if message.topic == topic:
                content = edit(content) if seen == number else content
                seen += 1
            if content is not None:
                writer.write(message.topic, message.msgtype, content, message.t_ns)
    assert seen > number, f"{topic} has {seen} messages"
    return out
