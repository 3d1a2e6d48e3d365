"""Situations for the orchestrator's tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from bodydouble.motion import RobotMotion
from worldmodel.orchestrator.skills import Situation


def on_reference(reference: RobotMotion, frame: int = 0, **changes: Any) -> Situation:
    """The robot exactly on a frame of the reference, at rest, standing."""
    joints = reference.joint_pos.shape[1]
    values: dict[str, Any] = {
        "t_ns": 5_000_000_000,
        "qpos": np.concatenate([reference.root_pos[frame], reference.root_quat[frame], reference.joint_pos[frame]]),
        "qvel": np.zeros(6 + joints),
        "skill": "stand",
        "frame": frame,
        "finished": False,
        "stopped": False,
    }
    return Situation(**{**values, **changes})


def moved(situation: Situation, x: float = 0.0, y: float = 0.0, z: float = 0.0, roll: float | None = None) -> Situation:
    """The same, the base displaced, or upright but for a roll."""
    qpos = situation.qpos.copy()
    qpos[:3] += [x, y, z]
    if roll is not None:
        qpos[3:7] = [np.cos(roll / 2), np.sin(roll / 2), 0.0, 0.0]
    return Situation(**{**vars(situation), "qpos": qpos})


def thrown(situation: Situation, speed: float) -> Situation:
    """The same, the base moving sideways at a speed, m/s."""
    qvel = situation.qvel.copy()
    qvel[1] = speed
    return Situation(**{**vars(situation), "qvel": qvel})
