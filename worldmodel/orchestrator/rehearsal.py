"""Rehearsal: a skill tried in MuJoCo from the present state, with the deployment runtime, before it is chosen."""

from __future__ import annotations

import time
from dataclasses import dataclass

import mujoco
import numpy as np

from bodydouble.errors import PhysicsError
from robot.policy_file import PolicyFile
from sim.closed_loop import ClosedLoop, RobotModel, body_error, fallen
from sim.stage.stage import Stage
from worldmodel.orchestrator.skills import Situation


@dataclass(frozen=True)
class Outcome:
    """What a rehearsal showed."""

    success: bool
    """Whether the robot stayed up and the safety layer did not stop it."""
    body_error_m: float
    """Mean distance of the tracked bodies to the reference, m."""
    seconds: float
    """Simulated time, s."""
    wall_s: float
    """Time it took, s."""
    reason: str
    """Why it failed; empty when it did not."""


class Rehearsal:
    """Rehearses skills on one stage with one policy."""

    def __init__(self, stage: Stage, policy: PolicyFile) -> None:
        """Compile the stage once."""
        self._stage, self._policy = stage, policy
        self._robot = RobotModel.of(stage)

    def run(self, situation: Situation, skill: str, seconds: float, push: np.ndarray | None = None) -> Outcome:
        """Run a skill from a situation in simulated time.

        Args:
            situation: Where it begins.
            skill: The skill.
            seconds: Longest simulated time, s.
            push: Velocity (3,) added to the base at the start, m/s: what is not known of the present state.
        """
        begun = time.perf_counter()
        reference = self._stage.reference
        loop = ClosedLoop(self._robot, self._policy, reference)
        n = len(self._robot.joint_names)
        loop.data.qpos[: 7 + n], loop.data.qvel[: 6 + n] = situation.qpos, situation.qvel
        loop.data.ctrl[:n] = situation.qpos[7 : 7 + n]
        if push is not None:
            loop.data.qvel[:3] += push
        mujoco.mj_forward(self._robot.model, loop.data)
        player = loop.runtime.player
        player.frame = situation.frame
        loop.runtime.ask(skill)
        errors, reason = [], ""
        for _ in range(round(seconds * self._stage.control_hz)):
            try:
                result = loop.step()
            except PhysicsError as error:
                reason = str(error)
                break
            errors.append(body_error(self._robot, loop.data, reference, player.frame))
            if result.mode == "stopped":
                reason = result.events[0] if result.events else "the safety layer stopped it"
            elif fallen(loop.data, reference, player.frame):
                reason = f"it falls at frame {player.frame}"
            if reason or (player.finished and skill == "track"):
                break
        mean = float(np.mean(errors)) if errors else float("inf")
        return Outcome(not reason, mean, float(loop.data.time), time.perf_counter() - begun, reason)
