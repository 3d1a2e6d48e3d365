"""VelocityTask: one definition of walking as told, for any robot with feet."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from bodydouble.command import CommandSpec
from bodydouble.errors import InputError
from bodydouble.frames import quat_rotate_inv, yaw_quat
from bodydouble.observation import ObservationSpec, ObservationTerm, RobotState
from bodydouble.randomisation import Randomisation, Uniform
from sim.backend.protocol import SimBackend
from sim.env.controlled_robot import ControlledRobot
from sim.env.task import Memory, Start, World
from sim.robots.spec import RobotSpec
from sim.tasks.scenes import floor_scene
from sim.tasks.velocity.config import VelocityConfig, walking_randomisation
from sim.tasks.velocity.feet import CONTACT_HEIGHT, Feet
from sim.tasks.velocity.rewards import VelocitySample, rewards
from sim.tasks.velocity.terminations import terminations

Array = Any
COMMAND_NAMES = ("velocity_forward", "velocity_left", "yaw_rate")
"""What the robot is told: m/s, m/s and rad/s, in its heading's frame."""
_STEPPING = re.compile(r".*_(hip_pitch|knee|ankle_pitch|thigh|calf)_joint")
"""Joints that a step needs; the others are drawn to the default pose."""
_NEAR_M_S, _NEAR_RAD_S = 0.25, 0.5
"""Mean errors of velocity and yaw rate below which an episode without a fall counts as a success."""


@dataclass(frozen=True)
class VelocityTask:
    """Walking at commanded velocities (a Task)."""

    config: VelocityConfig
    """Settings."""
    robot: ControlledRobot
    """The robot."""
    model: mujoco.MjModel
    """The robot on a floor."""
    name: str = "velocity"
    """Name of the task."""

    @classmethod
    def of(cls, robot: RobotSpec, config: VelocityConfig) -> VelocityTask:
        """Build the task for a robot.

        Raises:
            InputError: The robot has a fixed base or no feet, or standing still lies outside of the commands' ranges.
        """
        if not robot.floating_base or not robot.foot_bodies or not robot.foot_geoms:
            raise InputError(
                f"robot {robot.name}: has no feet or a fixed base; the task 'velocity' is for legged robots"
            )
        ranges = (config.commands.forward, config.commands.left, config.commands.turn)
        if config.commands.stand_share > 0 and not all(low <= 0 <= high for low, high in ranges):
            raise InputError(
                f"commands {ranges} do not hold 0, but a share of {config.commands.stand_share} is to stand still; "
                "widen them, or set stand_share 0"
            )
        model = floor_scene(robot)
        return cls(config, ControlledRobot.of(robot, model), model)

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
        """The velocities that can be asked for."""
        ranges = (self.config.commands.forward, self.config.commands.left, self.config.commands.turn)
        return CommandSpec(COMMAND_NAMES, tuple(r[0] for r in ranges), tuple(r[1] for r in ranges))

    @property
    def observation(self) -> ObservationSpec:
        """The policy's observation: what gyro, IMU and encoders say, the last action, and the command."""
        j = self.robot.num_joints
        spec = ObservationSpec((
            ObservationTerm("base_ang_vel", 3, 0.25, 10.0, 1, "base"),
            ObservationTerm("projected_gravity", 3, 1.0, 1.0, 1, "base"),
            ObservationTerm("joint_pos", j, 1.0, 10.0, 1, "joint"),
            ObservationTerm("joint_vel", j, 0.05, 10.0, 1, "joint"),
            ObservationTerm("last_action", j, 1.0, 20.0, 1, "none"),
            ObservationTerm("command", len(COMMAND_NAMES), 1.0, 10.0, 1, "heading"),
        ))  # fmt: skip
        return spec.with_history(self.config.history)

    @property
    def randomisation(self) -> Randomisation:
        """What varies."""
        return walking_randomisation() if self.config.randomise else Randomisation()

    def bind(self, backend: SimBackend) -> BoundVelocityTask:
        """Return the task with its constants on a backend."""
        return BoundVelocityTask(self, backend)

    def succeeded(self, failed: np.ndarray, mean: dict[str, np.ndarray], last: dict[str, np.ndarray]) -> np.ndarray:
        """Return which episodes (N,) had no fall and kept near the commanded velocity and yaw rate."""
        del last
        return ~failed & (mean["velocity_error"] < _NEAR_M_S) & (mean["turn_error"] < _NEAR_RAD_S)


class BoundVelocityTask:
    """The walking task on one backend (a BoundTask)."""

    def __init__(self, task: VelocityTask, backend: SimBackend) -> None:
        """Put the constants on the device."""
        config, robot = task.config, task.robot
        self._task, self._backend, self._xp = task, backend, backend.xp
        self.rewards = rewards(config.rewards)
        self.terminations = terminations(config.terminations)
        self._feet = Feet(backend, robot)
        self._no_time = backend.asarray(np.zeros(self._feet.count))
        self._no_place = backend.asarray(np.zeros((self._feet.count, 3)))
        self._default = backend.asarray(robot.default_joint_pos)
        lower, upper = np.array(robot.joint_lower), np.array(robot.joint_upper)
        margin = 0.025 * (upper - lower)
        self._lower, self._upper = backend.asarray(lower), backend.asarray(upper)
        self._soft_lower, self._soft_upper = backend.asarray(lower + margin), backend.asarray(upper - margin)
        self._idle = backend.asarray([0.0 if _STEPPING.fullmatch(name) else 1.0 for name in robot.joint_names])
        self._root = backend.asarray([*robot.default_root_pos, 1.0, 0.0, 0.0, 0.0])
        bounds = task.command
        self._low, self._high = backend.asarray(bounds.low), backend.asarray(bounds.high)
        self._step_s = 1.0 / config.control_hz

    def begin(self, count: int) -> Start:
        """Return the default pose, disturbed, with a fresh command."""
        xp, backend, n = self._xp, self._backend, count
        j, starts = self._task.robot.num_joints, self._task.config.starts
        zero = backend.random(n, 1) * 0.0
        joint_pos = self._default + Uniform(-starts.joint_noise, starts.joint_noise).sample(backend, n, j)
        joint_pos = xp.minimum(xp.maximum(joint_pos, self._lower), self._upper)
        kick = Uniform(-starts.velocity_noise, starts.velocity_noise).sample(backend, n, 6)
        memory = {
            "command": self._draw_command(n),
            "command_in": self._draw_interval(n),
            "air_time": zero + self._no_time,
            "foot_pos": zero[..., None] + self._no_place,
            # Body poses are those of before the reset, so that feet have a velocity only from the second step on.
            "stepped": zero,
        }
        return Start(
            qpos=xp.concat([zero + self._root, joint_pos], axis=-1),
            qvel=xp.concat([kick, joint_pos * 0.0], axis=-1),
            memory=memory,
        )

    def _draw_command(self, n: int) -> Array:
        backend = self._backend
        drawn = self._low + (self._high - self._low) * backend.random(n, len(COMMAND_NAMES))
        walk = backend.random(n, 1) >= self._task.config.commands.stand_share
        return self._xp.where(walk, drawn, self._xp.zeros_like(drawn))

    def _draw_interval(self, n: int) -> Array:
        seconds = Uniform(*self._task.config.commands.interval_s).sample(self._backend, n)
        return self._xp.astype(seconds * self._task.config.control_hz, self._xp.int64)

    def sample(self, world: World, memory: Memory) -> VelocitySample:
        """Return what rewards and terminations see."""
        xp, state = self._xp, world.state
        clearance, foot_pos = self._feet.look(world.body_pos, world.body_quat)
        moved = (foot_pos - memory["foot_pos"])[..., :2] * memory["stepped"][..., None]
        contact = clearance < CONTACT_HEIGHT
        air = memory["air_time"]
        zeros = xp.zeros_like(air)
        low, high = self._soft_lower - state.joint_pos, state.joint_pos - self._soft_upper
        w, x, y, z = (state.root_quat[..., i] for i in range(4))
        down = [-2 * (x * z - w * y), -2 * (y * z + w * x), -(1 - 2 * (x * x + y * y))]
        command = memory["command"]
        moving = xp.sqrt(xp.sum(command * command, axis=-1)) > 0.1
        return VelocitySample(
            command=command,
            velocity=quat_rotate_inv(yaw_quat(state.root_quat), state.root_lin_vel),
            ang_vel=state.root_ang_vel,
            gravity=xp.stack(down, axis=-1),
            height=state.root_pos[..., 2],
            joint_offset=state.joint_pos - self._default,
            joint_beyond=xp.maximum(xp.maximum(low, high), xp.zeros_like(low)),
            idle=self._idle,
            clearance=clearance,
            foot_pos=foot_pos,
            foot_speed=xp.sqrt(xp.sum(moved * moved, axis=-1) + 1e-12) / self._step_s,
            contact=xp.astype(contact, xp.float32),
            landed_after=xp.where(contact, air, zeros),
            air_time=xp.where(contact, zeros, air + self._step_s),
            moving=xp.astype(moving, xp.float32),
            action=world.action,
            last_action=world.last_action,
            default_height=self._task.robot.default_root_pos[2],
            step_s=self._step_s,
        )

    def after(self, sample: VelocitySample, memory: Memory) -> Memory:
        """Return the memory with the feet's times and, where it is due, the next command."""
        due = memory["command_in"] <= 0
        left = memory["command_in"] - 1
        command = memory["command"]
        if self._backend.device != "cpu" or bool(self._xp.any(due)):
            n = self._backend.num_envs
            command = self._xp.where(due[:, None], self._draw_command(n), command)
            left = self._xp.where(due, self._draw_interval(n), left)
        return {
            "command": command,
            "command_in": left,
            "air_time": sample.air_time,
            "foot_pos": sample.foot_pos,
            "stepped": memory["stepped"] * 0.0 + 1.0,
        }

    def command(self, qpos: Array, memory: Memory) -> Array:
        """Return the commanded velocities (N, 3)."""
        del qpos
        return memory["command"]

    def critic(self, state: RobotState, memory: Memory) -> Array:
        """Return true velocity, height and the feet's times in the air (N, 4 + C)."""
        velocity = quat_rotate_inv(yaw_quat(state.root_quat), state.root_lin_vel)
        return self._xp.concat([velocity, state.root_pos[:, 2:], memory["air_time"]], axis=-1)

    def measures(self, sample: VelocitySample) -> dict[str, Array]:
        """Return the errors of velocity, m/s, and yaw rate, rad/s."""
        xp = self._xp
        error = sample.command[..., :2] - sample.velocity[..., :2]
        return {
            "velocity_error": xp.sqrt(xp.sum(error * error, axis=-1)),
            "turn_error": xp.abs(sample.command[..., 2] - sample.ang_vel[..., 2]),
        }
