"""Recordings and Runs: one MCAP file in the ROS 2 profile, readable by Foxglove, rerun, `ros2 bag` and rosbags."""

from bodydouble.recording.camera import CameraInfo, CameraSummary
from bodydouble.recording.limits import Limits
from bodydouble.recording.reader import RecordingReader, SerializedMessage, TimedMessage
from bodydouble.recording.recover import Recovered, recover
from bodydouble.recording.rgbd import RgbdFrame
from bodydouble.recording.topics import CameraTopics
from bodydouble.recording.writer import RecordingWriter

__all__ = [
    "CameraInfo",
    "CameraSummary",
    "CameraTopics",
    "Limits",
    "RecordingReader",
    "RecordingWriter",
    "Recovered",
    "RgbdFrame",
    "SerializedMessage",
    "TimedMessage",
    "recover",
]
