"""Rewards of the arm tasks: small named functions of one sample, each (N,)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from sim.env.task import Reward
from sim.tasks.reach.config import PickRewards, ReachRewards

Array = Any


@dataclass(frozen=True)
class ArmSample:
    """What every arm task sees of a step. N environments, J joints."""

    joint_vel: Array
    """Joint velocities (N, J), rad/s."""
    action: Array
    """Action of this step (N, J)."""
    last_action: Array
    """Action before it (N, J)."""
    tool_pos: Array
    """Tool's positions (N, 3), m."""
    tool_quat: Array
    """Tool's orientations (N, 4)."""


@dataclass(frozen=True)
class ReachSample(ArmSample):
    """What the reaching task sees."""

    distance: Array
    """Distance of the tool to the target (N,), m."""
    angle: Array
    """Angle between the tool and the target (N,), rad."""


@dataclass(frozen=True)
class PickSample(ArmSample):
    """What the picking task sees."""

    distance: Array
    """Distance of the tool to the box (N,), m."""
    lifted: Array
    """Height of the box over where it stood (N,), m."""
    asked: Array
    """Height over where it stood to which it is to be lifted (N,), m."""
    strayed: Array
    """Horizontal distance of the box from where it stood (N,), m."""


def _norm2(vec: Array) -> Array:
    return array_namespace(vec).sum(vec * vec, axis=-1)


def _kernel(error: Array, width: float) -> Array:
    return array_namespace(error).exp(-(error * error) / (width * width))


def _closeness(error: Array, width: float) -> Array:
    return 1.0 - array_namespace(error).tanh(error / width)


def action_rate(s: ArmSample) -> Array:
    """Squared change of the action, as a cost."""
    return -_norm2(s.action - s.last_action)


def joint_speed(s: ArmSample) -> Array:
    """Squared joint velocities, as a cost."""
    return -_norm2(s.joint_vel)


def reach_rewards(c: ReachRewards) -> dict[str, Reward]:
    """Return every reward of the reaching task by name."""

    def near(s: ReachSample) -> Array:
        return _closeness(s.distance, c.near_width)

    def at(s: ReachSample) -> Array:
        return _kernel(s.distance, c.at_width)

    def turned(s: ReachSample) -> Array:
        return _closeness(s.angle, c.turned_width)

    def aligned(s: ReachSample) -> Array:
        return _kernel(s.angle, c.aligned_width)

    functions = {
        "near": near, "at": at, "turned": turned, "aligned": aligned, "action_rate": action_rate,
        "joint_speed": joint_speed,
    }  # fmt: skip
    return {name: Reward(getattr(c, name), function) for name, function in functions.items()}


def pick_rewards(c: PickRewards) -> dict[str, Reward]:
    """Return every reward of the picking task by name."""

    def near(s: PickSample) -> Array:
        return _closeness(s.distance, c.near_width)

    def around(s: PickSample) -> Array:
        return _kernel(s.distance, c.around_width)

    def lifted(s: PickSample) -> Array:
        xp = array_namespace(s.lifted)
        return xp.clip(s.lifted / s.asked, 0.0, 1.0) * _kernel(s.distance, 2.0 * c.around_width)

    def at(s: PickSample) -> Array:
        xp = array_namespace(s.lifted)
        up = xp.astype(s.lifted > 0.02, xp.float32)
        return up * _kernel(s.lifted - s.asked, c.at_width) * _kernel(s.distance, 2.0 * c.around_width)

    functions = {
        "near": near, "around": around, "lifted": lifted, "at": at, "action_rate": action_rate,
        "joint_speed": joint_speed,
    }  # fmt: skip
    return {name: Reward(getattr(c, name), function) for name, function in functions.items()}
