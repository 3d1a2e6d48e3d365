"""Hand-made samples and motions for the tracking task's tests: one joint pair, two bodies, two feet, no physics."""

from __future__ import annotations

import dataclasses
from typing import Any

import mujoco
import numpy as np

from bodydouble.motion import RobotMotion
from sim.backend.cpu_batch import CpuBatch
from sim.tasks.tracking.rewards import TrackingSample

POINT = '<mujoco><worldbody><body><joint type="slide"/><geom size="0.1"/></body></worldbody></mujoco>'
UPRIGHT = (1.0, 0.0, 0.0, 0.0)


def point_backend(num_envs: int = 1, seed: int = 0) -> CpuBatch:
    """The smallest backend: what the task needs of it here are arrays and random numbers."""
    return CpuBatch(mujoco.MjModel.from_xml_string(POINT), num_envs, seed, threads=1)


def about(axis: str, angle: float) -> np.ndarray:
    """Quaternion of a rotation about x, y or z."""
    quat = np.array([np.cos(angle / 2), 0.0, 0.0, 0.0])
    quat[1 + "xyz".index(axis)] = np.sin(angle / 2)
    return quat


def sample(n: int = 1, **changes: Any) -> TrackingSample:
    """N environments that are exactly where their reference is; J = 2, K = 2, C = 2."""

    def rows(*values: float) -> np.ndarray:
        return np.tile(np.array(values, dtype=np.float64), (n, 1))

    bodies = np.tile(np.array([[0.1, 0.2, 0.9], [-0.1, -0.2, 0.3]]), (n, 1, 1))
    feet = np.tile(np.array([[0.0, 0.1, 0.05], [0.0, -0.1, 0.05]]), (n, 1, 1))
    quats = np.tile(np.array(UPRIGHT), (n, 2, 1))
    values: dict[str, Any] = {
        "root_pos": rows(0.5, 0.0, 0.8),
        "root_quat": rows(*UPRIGHT),
        "root_lin_vel": rows(0.1, 0.0, 0.0),
        "root_ang_vel": rows(0.0, 0.0, 0.2),
        "joint_pos": rows(0.3, -0.3),
        "body_pos": bodies,
        "body_quat": quats,
        "foot_pos": feet,
    }
    values |= {f"ref_{name}": array.copy() for name, array in values.items()}
    values |= {
        "foot_vel": np.zeros((n, 2, 3)),
        "ref_contact": np.ones((n, 2)),
        "action": np.zeros((n, 2)),
        "last_action": np.zeros((n, 2)),
        "second_last_action": np.zeros((n, 2)),
        "joint_lower": np.array([-1.0, -2.0]),
        "joint_upper": np.array([1.0, 2.0]),
    }
    for name, change in changes.items():
        values[name] = np.asarray(change, dtype=np.float64)
    return TrackingSample(**values)


def shifted(part: TrackingSample, name: str, by: Any) -> TrackingSample:
    """The same sample with one array moved."""
    return dataclasses.replace(part, **{name: getattr(part, name) + np.asarray(by)})


def toy_motion(frames: int, mark: float = 0.0, fps: float = 10.0, **changes: Any) -> RobotMotion:
    """A motion whose every number tells its frame: mark + frame, velocities 1 + mark + frame."""
    t = mark + np.arange(frames, dtype=np.float64)

    def wide(values: np.ndarray, size: int) -> np.ndarray:
        return np.repeat(values[:, None], size, axis=1)

    values: dict[str, Any] = {
        "fps": fps,
        "joint_names": ("hip", "knee"),
        "root_pos": wide(t, 3),
        "root_quat": np.tile(UPRIGHT, (frames, 1)),
        "joint_pos": wide(t, 2),
        "root_lin_vel": wide(1 + t, 3),
        "root_ang_vel": wide(1 + t, 3),
        "joint_vel": wide(1 + t, 2),
        "body_names": ("trunk",),
        "body_pos": wide(t, 3)[:, None],
        "body_quat": np.tile(UPRIGHT, (frames, 1, 1)),
        "contact_names": ("left_foot", "right_foot"),
        "contact": np.stack([np.arange(frames) % 2 == 0, np.arange(frames) % 2 == 1], axis=1),
    }
    return RobotMotion(**{**values, **changes})
