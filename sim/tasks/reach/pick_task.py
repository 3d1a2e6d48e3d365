"""PickTask: an arm grasps a free box and lifts it to a height that it is told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from bodydouble.command import CommandSpec
from bodydouble.frames import yaw_angle
from bodydouble.observation import ObservationSpec, RobotState
from bodydouble.randomisation import Randomisation, Uniform
from sim.backend.protocol import SimBackend
from sim.env.controlled_robot import ControlledRobot
from sim.env.task import Memory, Start, World
from sim.robots.spec import RobotSpec
from sim.tasks.reach.arm import ArmStarts, action_scales, arm_observation
from sim.tasks.reach.config import PickConfig, arm_randomisation
from sim.tasks.reach.rewards import PickSample, pick_rewards
from sim.tasks.reach.tool import ToolPose, home_pose, tool_of
from sim.tasks.scenes import BOX_BODY, box_scene

Array = Any
COMMAND_NAMES = ("box_x", "box_y", "box_z", "box_yaw", "target_height")
"""What the robot is told: the box's centre, m, where the arm is mounted at the origin, its turn, rad, and the height
to lift its centre to, m."""
_LOST = 0.2
"""Horizontal distance from where the box stood beyond which it is lost, m."""


@dataclass(frozen=True)
class PickTask:
    """Picking a box up (a Task)."""

    config: PickConfig
    """Settings."""
    robot: ControlledRobot
    """The arm, its gripper among the joints."""
    model: mujoco.MjModel
    """The arm and the box on a floor."""
    site: str
    """Site of the tool."""
    name: str = "pick"
    """Name of the task."""

    @classmethod
    def of(cls, robot: RobotSpec, config: PickConfig) -> PickTask:
        """Build the task for an arm.

        Raises:
            InputError: The robot is no arm whose tool is known.
        """
        tool = tool_of(robot, "pick")
        model = box_scene(robot, config.box.half_size, config.box.mass)
        names = (*robot.joint_names, *(e.joint for e in tool.extra))
        ranges = np.array([model.joint(name).range for name in names])
        scales = action_scales(ranges[:, 0], ranges[:, 1], config.action_scale)
        return cls(config, ControlledRobot.of(robot, model, scales, tool.extra), model, tool.site)

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
        """Where a box may be, and how high it may be asked to be lifted."""
        box = self.config.box
        (x, y, _), _ = home_pose(self.model, self.site)
        reach = math.hypot(x, y) + box.radius + _LOST
        half_turn = math.pi
        return CommandSpec(
            COMMAND_NAMES,
            (-reach, -reach, 0.0, -half_turn, box.height[0]),
            (reach, reach, box.height[1] + 0.3, half_turn, box.height[1]),
        )

    @property
    def observation(self) -> ObservationSpec:
        """The policy's observation."""
        return arm_observation(self.robot, len(COMMAND_NAMES)).with_history(self.config.history)

    @property
    def randomisation(self) -> Randomisation:
        """What varies."""
        return arm_randomisation() if self.config.randomise else Randomisation()

    def bind(self, backend: SimBackend) -> BoundPickTask:
        """Return the task with its constants on a backend."""
        return BoundPickTask(self, backend)

    def succeeded(self, failed: np.ndarray, mean: dict[str, np.ndarray], last: dict[str, np.ndarray]) -> np.ndarray:
        """Return which episodes (N,) ended with the box at the asked height."""
        del mean
        return ~failed & (last["height_error_m"] < self.config.success_m)


class BoundPickTask:
    """The picking task on one backend (a BoundTask)."""

    def __init__(self, task: PickTask, backend: SimBackend) -> None:
        """Put the constants on the device."""
        self._task, self._backend, self._xp = task, backend, backend.xp
        self.rewards = pick_rewards(task.config.rewards)
        self.terminations = {"box_lost": lambda s: s.strayed > _LOST}
        self._starts = ArmStarts(backend, task.robot, task.config.joint_noise)
        self._tool = ToolPose(backend, task.site)
        model = task.model
        self._box = int(model.jnt_qposadr[model.joint(BOX_BODY).id])
        (x, y, _), _ = home_pose(model, task.site)
        self._radius, self._azimuth = math.hypot(x, y), math.atan2(y, x)
        self._at_home = backend.asarray(home_pose(model, task.site)[0])
        self._at_rest = backend.asarray(np.zeros(model.nv))

    def begin(self, count: int) -> Start:
        """Return disturbed home poses, a box in front, and a height each."""
        xp, backend, n = self._xp, self._backend, count
        box = self._task.config.box
        qpos = self._starts.draw(n)
        radius = self._radius + Uniform(-box.radius, box.radius).sample(backend, n)
        azimuth = self._azimuth + Uniform(-box.angle, box.angle).sample(backend, n)
        half_yaw = 0.5 * Uniform(-box.yaw, box.yaw).sample(backend, n)
        zero = radius * 0.0
        height = zero + box.half_size[2]
        x, y = radius * xp.cos(azimuth), radius * xp.sin(azimuth)
        pose = xp.stack([x, y, height, xp.cos(half_yaw), zero, zero, xp.sin(half_yaw)], axis=-1)
        qpos = xp.concat([qpos[:, : self._box], pose], axis=-1)
        memory = {
            "stood": pose[:, :3],
            "asked": Uniform(*box.height).sample(backend, n),
            "tool": zero[:, None] + self._at_home,
        }
        return Start(qpos, zero[:, None] + self._at_rest, memory)

    def sample(self, world: World, memory: Memory) -> PickSample:
        """Return what rewards and terminations see."""
        xp = self._xp
        pos, quat = self._tool.look(world.body_pos, world.body_quat)
        box = world.qpos[:, self._box : self._box + 3]
        gap, moved = pos - box, (box - memory["stood"])[:, :2]
        return PickSample(
            joint_vel=world.state.joint_vel,
            action=world.action,
            last_action=world.last_action,
            tool_pos=pos,
            tool_quat=quat,
            distance=xp.sqrt(xp.sum(gap * gap, axis=-1)),
            lifted=box[:, 2] - memory["stood"][:, 2],
            asked=memory["asked"] - memory["stood"][:, 2],
            strayed=xp.sqrt(xp.sum(moved * moved, axis=-1)),
        )

    def after(self, sample: PickSample, memory: Memory) -> Memory:
        """Return the memory with the tool's position."""
        return {**memory, "tool": sample.tool_pos}

    def command(self, qpos: Array, memory: Memory) -> Array:
        """Return the box's position and turn, and the height asked for (N, 5)."""
        pos, quat = qpos[:, self._box : self._box + 3], qpos[:, self._box + 3 : self._box + 7]
        return self._xp.concat([pos, yaw_angle(quat)[:, None], memory["asked"][:, None]], axis=-1)

    def critic(self, state: RobotState, memory: Memory) -> Array:
        """Return the tool's position and where the box stood (N, 6)."""
        del state
        return self._xp.concat([memory["tool"], memory["stood"]], axis=-1)

    def measures(self, sample: PickSample) -> dict[str, Array]:
        """Return the tool's distance to the box and the box's height error, m."""
        return {"distance_m": sample.distance, "height_error_m": self._xp.abs(sample.lifted - sample.asked)}
