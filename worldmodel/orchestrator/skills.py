"""Skills: policies with preconditions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bodydouble.motion import RobotMotion


@dataclass(frozen=True)
class Situation:
    """What the orchestrator knows now."""

    t_ns: int
    """Time, ns."""
    qpos: np.ndarray
    """Base position (3), orientation wxyz (4), joint positions (J); world, m, rad."""
    qvel: np.ndarray
    """Base linear velocity, world (3), angular velocity, base frame (3), joint speeds (J)."""
    skill: str
    """Skill in force."""
    frame: int
    """Frame of the reference."""
    finished: bool
    """Whether the reference is at its end."""
    stopped: bool
    """Whether the safety layer has latched its stop."""

    @property
    def tilt(self) -> float:
        """Tilt of the base, rad."""
        _, x, y, _ = self.qpos[3:7]
        return float(np.arccos(np.clip(1 - 2 * (x * x + y * y), -1, 1)))


@dataclass(frozen=True)
class Skill:
    """A skill of the policy and when it may begin."""

    name: str
    """stand, track or stop, as the policy's node knows them."""
    purpose: str
    """What it is for."""
    cost: float
    """Cost of choosing it when it succeeds as surely as another; the task's own skill is the cheapest."""

    def precondition(self, situation: Situation, reference: RobotMotion) -> str:
        """Return why the skill may not begin; empty when it may."""
        if situation.stopped:
            return "the safety layer has stopped the robot"
        if situation.tilt > 0.6:
            return f"the base is tilted by {situation.tilt:.2f} rad"
        if self.name == "track":
            if situation.finished:
                return "the reference is at its end"
            gap = float(np.linalg.norm(situation.qpos[:2] - reference.root_pos[situation.frame, :2]))
            if gap > 0.4:
                return f"the base is {gap:.2f} m from the reference"
        return ""


SKILLS = (
    Skill("track", "follow the recorded motion", 0.0),
    Skill("stand", "hold the present frame, both feet planted", 0.5),
    Skill("stop", "go on to the next safe frame and hold it", 1.0),
)
"""The skills, cheapest first."""
