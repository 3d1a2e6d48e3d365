"""What the arm tasks share: the policy's observation, and starts near the default pose."""

from __future__ import annotations

from typing import Any

import numpy as np

from bodydouble.observation import ObservationSpec, ObservationTerm
from bodydouble.randomisation import Uniform
from sim.backend.protocol import SimBackend
from sim.env.controlled_robot import ControlledRobot
from sim.robots.spec import HOME_KEY

Array = Any


def arm_observation(robot: ControlledRobot, command_size: int) -> ObservationSpec:
    """Return an arm policy's observation: what the encoders say, the last action, and the command."""
    j = robot.num_joints
    return ObservationSpec((
        ObservationTerm("joint_pos", j, 1.0, 10.0, 1, "joint"),
        ObservationTerm("joint_vel", j, 0.1, 10.0, 1, "joint"),
        ObservationTerm("last_action", j, 1.0, 20.0, 1, "none"),
        ObservationTerm("command", command_size, 1.0, 10.0, 1, "base"),
    ))  # fmt: skip


def action_scales(lower: np.ndarray, upper: np.ndarray, scale: float) -> np.ndarray:
    """Return the joint offsets (J,) of one unit of action: `scale`, or half a joint's range where that is less."""
    return np.minimum(scale, 0.5 * (upper - lower))


class ArmStarts:
    """Draws the positions of all joints at the start of an episode."""

    def __init__(self, backend: SimBackend, robot: ControlledRobot, noise: float) -> None:
        """Put the constants on the device."""
        model = backend.model
        self._backend = backend
        self._home = backend.asarray(model.key(HOME_KEY).qpos)
        adr = [int(model.jnt_qposadr[model.joint(name).id]) for name in robot.joint_names]
        spread = np.zeros(model.nq)
        lower, upper = np.full(model.nq, -np.inf), np.full(model.nq, np.inf)
        lower[adr], upper[adr] = robot.joint_lower, robot.joint_upper
        # A joint of little range, a finger, starts where it is.
        spread[adr] = np.where(np.array(robot.joint_upper) - np.array(robot.joint_lower) > 1.0, noise, 0.0)
        self._spread = backend.asarray(spread)
        self._lower, self._upper = backend.asarray(lower), backend.asarray(upper)

    def draw(self, count: int) -> Array:
        """Return positions (count, nq): the home pose, the joints disturbed."""
        backend, xp = self._backend, self._backend.xp
        drawn = Uniform(-1.0, 1.0).sample(backend, count, self._home.shape[0])
        return xp.minimum(xp.maximum(self._home + self._spread * drawn, self._lower), self._upper)
