"""One episode of the gate as a Run: an MCAP that the project's reader opens and `bodydouble replay` repeats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from bodydouble.frames import xyzw_from_wxyz
from bodydouble.observation import RobotState
from bodydouble.recording.writer import RecordingWriter
from robot.policy_file import PolicyFile
from robot.replay import COMMAND_TOPIC, INPUT_TOPICS
from robot.run_figures import TICK_TOPIC
from robot.runtime import TickResult
from sim.gate.episodes import Episode, run_episodes
from sim.gate.tiers import Tier
from sim.stage.stage import Stage
from sim.tasks.tracking.config import TerminationConfig

TRUTH_TOPIC = "/gate/qpos"
"""Topic of the simulation's true positions, which the policy does not see."""
EPISODE_RECORD = "episode"
"""Name of the metadata record that says which episode it is and how it ended."""


def record_episode(
    path: Path, file: PolicyFile, stage: Stage, tier: Tier, seed: int, termination: TerminationConfig
) -> Episode:
    """Run one episode and write it: what the sensors said, what the policy decided and sent, and the true state.

    Args:
        path: The MCAP file to write.
        file: The policy.
        stage: The stage.
        tier: The perturbations.
        seed: The episode's seed.
        termination: What counts as a failure.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with RecordingWriter(path) as writer:
        watcher = _Recorder(writer, stage.robot.joint_names)
        (episode,) = run_episodes(file, stage, tier, [seed], termination, 1, watcher)
        writer.write_metadata(
            EPISODE_RECORD,
            {
                "tier": tier.name,
                "meaning": tier.meaning,
                "policy_sha256": file.sha256,
                "stage_sha256": stage.sha256,
                **{name: str(value) for name, value in vars(episode).items()},
            },
        )
    return episode


class _Recorder:
    """Writes the messages of a control step as the robot's recorder does."""

    def __init__(self, writer: RecordingWriter, joint_names: tuple[str, ...]) -> None:
        self._writer, self._names = writer, list(joint_names)

    def step(self, number: int, t_ns: int, seen: RobotState, result: TickResult, qpos: np.ndarray) -> None:
        """Write one control step; see Watcher."""
        header = {"stamp": t_ns, "frame_id": "base"}
        quat = dict(zip("xyzw", xyzw_from_wxyz(seen.root_quat[number].astype(np.float64)).tolist(), strict=True))
        position = dict(zip("xyz", seen.root_pos[number].astype(np.float64).tolist(), strict=True))
        gyro = dict(zip("xyz", seen.root_ang_vel[number].astype(np.float64).tolist(), strict=True))
        joints = {
            "header": header,
            "name": self._names,
            "position": seen.joint_pos[number].astype(np.float64),
            "velocity": seen.joint_vel[number].astype(np.float64),
        }
        # -1: no accelerometer was read.
        no_acceleration = np.array([-1.0, *[0.0] * 8])
        imu = {"header": header, "orientation": quat, "angular_velocity": gyro}
        imu["linear_acceleration_covariance"] = no_acceleration
        odom = {"header": header, "pose": {"pose": {"position": position, "orientation": quat}}}
        write = self._writer.write
        write(INPUT_TOPICS["joint_states"], "sensor_msgs/msg/JointState", joints, t_ns)
        write(INPUT_TOPICS["imu"], "sensor_msgs/msg/Imu", imu, t_ns)
        write(INPUT_TOPICS["odom"], "nav_msgs/msg/Odometry", odom, t_ns)
        if result.command is not None:
            write(COMMAND_TOPIC, "std_msgs/msg/Float64MultiArray", {"data": result.command}, t_ns)
        write(TRUTH_TOPIC, "std_msgs/msg/Float64MultiArray", {"data": qpos}, t_ns)
        tick = result.to_dict() | {"tick_ms": 0.0, "late_ms": 0.0, "missed": 0}
        write(TICK_TOPIC, "std_msgs/msg/String", {"data": json.dumps(tick)}, t_ns)
