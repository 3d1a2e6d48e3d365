"""What a task is: its observation, command, rewards, terminations and starts, apart from any environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import mujoco
import numpy as np

from bodydouble.command import CommandSpec
from bodydouble.observation import ObservationSpec, RobotState
from bodydouble.randomisation import Randomisation
from sim.backend.protocol import SimBackend
from sim.env.controlled_robot import ControlledRobot

Array = Any
Memory = dict[str, Array]
"""What a task keeps of each episode: arrays (N, ...) by name."""


@dataclass(frozen=True)
class World:
    """The simulations after a control step. N environments, J joints, B bodies."""

    state: RobotState
    """The robots' true state; a fixed base is at the origin."""
    qpos: Array
    """All positions (N, nq)."""
    qvel: Array
    """All velocities (N, nv)."""
    body_pos: Array
    """Positions of all bodies (N, B, 3), world, m."""
    body_quat: Array
    """Orientations of all bodies (N, B, 4)."""
    action: Array
    """Action of this step (N, J)."""
    last_action: Array
    """Action before it (N, J)."""


@dataclass(frozen=True)
class Start:
    """Fresh episodes of M environments."""

    qpos: Array
    """Positions (M, nq)."""
    qvel: Array
    """Velocities (M, nv)."""
    memory: Memory
    """The task's memory at the start."""


@dataclass(frozen=True)
class Reward:
    """A named reward's function and what it is worth."""

    weight: float
    """Worth of 1 of it held for a second; a cost's weight is positive and its function negative."""
    function: Callable[[Any], Array]
    """Sample to values (N,)."""


class BoundTask(Protocol):
    """A task on the simulations of one backend."""

    @property
    def rewards(self) -> Mapping[str, Reward]:
        """Every reward by name."""
        ...

    @property
    def terminations(self) -> Mapping[str, Callable[[Any], Array]]:
        """Sample to whether an episode failed (N,), bool, by name; the first that holds is the cause."""
        ...

    def begin(self, count: int) -> Start:
        """Return fresh episodes for `count` environments."""
        ...

    def sample(self, world: World, memory: Memory) -> Any:
        """Return what rewards and terminations see of a step."""
        ...

    def after(self, sample: Any, memory: Memory) -> Memory:
        """Return the memory after a step: timers, the next command."""
        ...

    def command(self, qpos: Array, memory: Memory) -> Array:
        """Return the command (N, C) as the robot is told it."""
        ...

    def critic(self, state: RobotState, memory: Memory) -> Array:
        """Return what only the value function sees (N, K)."""
        ...

    def measures(self, sample: Any) -> dict[str, Array]:
        """Return figures (N,) of a step by name, for evaluation and logs."""
        ...


class Task(Protocol):
    """A task for one robot."""

    @property
    def name(self) -> str:
        """Name of the task."""
        ...

    @property
    def robot(self) -> ControlledRobot:
        """The robot."""
        ...

    @property
    def model(self) -> mujoco.MjModel:
        """The robot in its scene."""
        ...

    @property
    def control_hz(self) -> float:
        """Rate of the policy, Hz."""
        ...

    @property
    def episode_s(self) -> float:
        """Length of an episode, s; it then is truncated, not failed."""
        ...

    @property
    def observation(self) -> ObservationSpec:
        """The policy's observation."""
        ...

    @property
    def command(self) -> CommandSpec:
        """What the policy is told."""
        ...

    @property
    def randomisation(self) -> Randomisation:
        """What differs between simulations, episodes and steps."""
        ...

    def bind(self, backend: SimBackend) -> BoundTask:
        """Return the task with its constants on a backend."""
        ...

    def succeeded(self, failed: np.ndarray, mean: dict[str, np.ndarray], last: dict[str, np.ndarray]) -> np.ndarray:
        """Return which episodes (N,) count as a success.

        Args:
            failed: Whether an episode ended in a termination (N,).
            mean: Mean of each measure over the episode (N,).
            last: Each measure at the episode's last step (N,).
        """
        ...
