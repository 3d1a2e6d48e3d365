"""ReachTask: an arm brings its tool to a pose that it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from bodydouble.command import CommandSpec
from bodydouble.frames import quat_angle
from bodydouble.observation import ObservationSpec, RobotState
from bodydouble.randomisation import Randomisation
from sim.backend.protocol import SimBackend
from sim.env.controlled_robot import ControlledRobot
from sim.env.task import Memory, Start, World
from sim.robots.spec import RobotSpec
from sim.tasks.reach.arm import ArmStarts, action_scales, arm_observation
from sim.tasks.reach.config import ReachConfig, arm_randomisation
from sim.tasks.reach.rewards import ReachSample, reach_rewards
from sim.tasks.reach.targets import reachable_poses
from sim.tasks.reach.tool import ToolPose, home_pose, tool_of
from sim.tasks.scenes import floor_scene

Array = Any
COMMAND_NAMES = ("target_x", "target_y", "target_z", "target_qw", "target_qx", "target_qy", "target_qz")
"""What the robot is told: the tool's pose where the arm is mounted at the origin, m and wxyz with w >= 0."""


@dataclass(frozen=True)
class ReachTask:
    """Reaching poses (a Task)."""

    config: ReachConfig
    """Settings."""
    robot: ControlledRobot
    """The arm."""
    model: mujoco.MjModel
    """The arm on a floor."""
    site: str
    """Site of the tool."""
    targets: tuple[np.ndarray, np.ndarray]
    """Reachable positions (T, 3) and orientations (T, 4)."""
    name: str = "reach"
    """Name of the task."""

    @classmethod
    def of(cls, robot: RobotSpec, config: ReachConfig) -> ReachTask:
        """Build the task for an arm.

        Raises:
            InputError: The robot is no arm whose tool is known, or no target can be found.
        """
        site = tool_of(robot, "reach").site
        model = floor_scene(robot)
        scales = action_scales(robot.joint_lower, robot.joint_upper, config.action_scale)
        controlled = ControlledRobot.of(robot, model, scales)
        targets = reachable_poses(model, controlled, site, config.reach_rad, config.least_height)
        return cls(config, controlled, model, site, targets)

    @property
    def control_hz(self) -> float:
        """Rate of the policy, Hz."""
        return self.config.control_hz

    @property
    def episode_s(self) -> float:
        """Length of an episode, s."""
        return self.config.episode_s

    @property
    def command(self) -> CommandSpec:
        """The poses that can be asked for: the box around the reachable ones."""
        pos, _ = self.targets
        low = (*(float(v) for v in pos.min(axis=0)), 0.0, -1.0, -1.0, -1.0)
        return CommandSpec(COMMAND_NAMES, low, (*(float(v) for v in pos.max(axis=0)), 1.0, 1.0, 1.0, 1.0))

    @property
    def observation(self) -> ObservationSpec:
        """The policy's observation."""
        return arm_observation(self.robot, len(COMMAND_NAMES)).with_history(self.config.history)

    @property
    def randomisation(self) -> Randomisation:
        """What varies."""
        return arm_randomisation() if self.config.randomise else Randomisation()

    def bind(self, backend: SimBackend) -> BoundReachTask:
        """Return the task with its constants on a backend."""
        return BoundReachTask(self, backend)

    def succeeded(self, failed: np.ndarray, mean: dict[str, np.ndarray], last: dict[str, np.ndarray]) -> np.ndarray:
        """Return which episodes (N,) ended at the target."""
        del mean
        config = self.config
        return ~failed & (last["distance_m"] < config.success_m) & (last["angle_rad"] < config.success_rad)


class BoundReachTask:
    """The reaching task on one backend (a BoundTask)."""

    def __init__(self, task: ReachTask, backend: SimBackend) -> None:
        """Put the constants on the device."""
        self._backend, self._xp = backend, backend.xp
        self.rewards = reach_rewards(task.config.rewards)
        self.terminations = {}
        self._starts = ArmStarts(backend, task.robot, task.config.joint_noise)
        self._tool = ToolPose(backend, task.site)
        self._targets = backend.asarray(np.concatenate(task.targets, axis=-1))
        self._at_home = backend.asarray(np.concatenate(home_pose(task.model, task.site)))
        self._at_rest = backend.asarray(np.zeros(task.model.nv))

    def begin(self, count: int) -> Start:
        """Return disturbed home poses with a target each."""
        xp = self._xp
        qpos = self._starts.draw(count)
        drawn = self._backend.random(count)
        index = xp.astype(drawn * self._targets.shape[0], xp.int64)
        index = xp.minimum(index, xp.zeros_like(index) + self._targets.shape[0] - 1)
        # Where the tool is becomes known with the first step; until then it counts as at home.
        tool = drawn[:, None] * 0.0 + self._at_home
        qvel = drawn[:, None] * 0.0 + self._at_rest
        return Start(qpos, qvel, {"target": self._targets[index], "tool": tool})

    def sample(self, world: World, memory: Memory) -> ReachSample:
        """Return what the rewards see."""
        pos, quat = self._tool.look(world.body_pos, world.body_quat)
        gap = pos - memory["target"][:, :3]
        return ReachSample(
            joint_vel=world.state.joint_vel,
            action=world.action,
            last_action=world.last_action,
            tool_pos=pos,
            tool_quat=quat,
            distance=self._xp.sqrt(self._xp.sum(gap * gap, axis=-1)),
            angle=quat_angle(quat, memory["target"][:, 3:]),
        )

    def after(self, sample: ReachSample, memory: Memory) -> Memory:
        """Return the memory with the tool's pose."""
        return {**memory, "tool": self._xp.concat([sample.tool_pos, sample.tool_quat], axis=-1)}

    def command(self, qpos: Array, memory: Memory) -> Array:
        """Return the targets (N, 7)."""
        del qpos
        return memory["target"]

    def critic(self, state: RobotState, memory: Memory) -> Array:
        """Return the way from the tool to the target, and the tool's orientation (N, 7)."""
        del state
        tool = memory["tool"]
        return self._xp.concat([memory["target"][:, :3] - tool[:, :3], tool[:, 3:]], axis=-1)

    def measures(self, sample: ReachSample) -> dict[str, Array]:
        """Return distance, m, and angle, rad, to the target."""
        return {"distance_m": sample.distance, "angle_rad": sample.angle}
