"""Rewards of the walking task: small named functions of one VelocitySample, each (N,).

Kernels, air time and slip follow what is usual for legged robots (Rudin et al. 2022, arXiv 2109.11978, table 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from sim.env.task import Reward
from sim.tasks.velocity.config import VelocityRewards

Array = Any


@dataclass(frozen=True)
class VelocitySample:
    """What rewards and terminations see after a control step. N environments, J joints, C feet."""

    command: Array
    """Commanded forward and sideways velocity, m/s, and yaw rate, rad/s (N, 3)."""
    velocity: Array
    """Base velocity in its heading's frame (N, 3), m/s."""
    ang_vel: Array
    """Base angular velocity, base frame (N, 3), rad/s."""
    gravity: Array
    """Direction of gravity in the base (N, 3)."""
    height: Array
    """Base height (N,), m."""
    joint_offset: Array
    """Joint positions less the default pose (N, J), rad."""
    joint_beyond: Array
    """Angle of each joint beyond 95 % of its range (N, J), rad."""
    idle: Array
    """How little a step needs each joint (J,): 0 the legs' pitch joints, 1 the others."""
    clearance: Array
    """Feet's clearance (N, C), m."""
    foot_pos: Array
    """Centres of the soles (N, C, 3), world, m."""
    foot_speed: Array
    """Feet's horizontal speed (N, C), m/s."""
    contact: Array
    """Whether each foot stands (N, C), 0 or 1."""
    landed_after: Array
    """Time in the air of the feet that have just landed, 0 for the others (N, C), s."""
    air_time: Array
    """Time that each foot has been in the air, 0 while it stands (N, C), s."""
    moving: Array
    """Whether the command is to move (N,), 0 or 1."""
    action: Array
    """Action of this step (N, J)."""
    last_action: Array
    """Action before it (N, J)."""
    default_height: float
    """Base height of the default pose, m."""
    step_s: float
    """Control step, s."""


def _norm2(vec: Array) -> Array:
    return array_namespace(vec).sum(vec * vec, axis=-1)


def _kernel(squared_error: Array, width: float) -> Array:
    return array_namespace(squared_error).exp(-squared_error / (width * width))


def upright(s: VelocitySample) -> Array:
    """Squared horizontal part of gravity's direction, as a cost."""
    return -_norm2(s.gravity[..., :2])


def bounce(s: VelocitySample) -> Array:
    """Squared vertical velocity, as a cost."""
    return -(s.velocity[..., 2] ** 2)


def wobble(s: VelocitySample) -> Array:
    """Squared roll and pitch rates, as a cost."""
    return -_norm2(s.ang_vel[..., :2])


def foot_slip(s: VelocitySample) -> Array:
    """Squared speed of standing feet, as a cost."""
    xp = array_namespace(s.contact)
    return -xp.sum(s.contact * xp.clip(s.foot_speed, 0.0, 2.0) ** 2, axis=-1)


def joint_deviation(s: VelocitySample) -> Array:
    """Squared distance of the idle joints from the default pose, as a cost."""
    return -_norm2(s.joint_offset * s.idle)


def stand_still(s: VelocitySample) -> Array:
    """Distance of all joints from the default pose while told to stand, as a cost."""
    xp = array_namespace(s.joint_offset)
    return -xp.sum(xp.abs(s.joint_offset), axis=-1) * (1.0 - s.moving)


def action_rate(s: VelocitySample) -> Array:
    """Squared change of the action, as a cost."""
    return -_norm2(s.action - s.last_action)


def joint_limit(s: VelocitySample) -> Array:
    """Angle beyond 95 % of the joints' ranges, as a cost."""
    return -array_namespace(s.joint_beyond).sum(s.joint_beyond, axis=-1)


def alive(s: VelocitySample) -> Array:
    """One."""
    return s.height * 0.0 + 1.0


def rewards(c: VelocityRewards) -> dict[str, Reward]:
    """Return every reward by name."""

    def track_linear(s: VelocitySample) -> Array:
        return _kernel(_norm2(s.command[..., :2] - s.velocity[..., :2]), c.track_linear_width)

    def track_turn(s: VelocitySample) -> Array:
        return _kernel((s.command[..., 2] - s.ang_vel[..., 2]) ** 2, c.track_turn_width)

    def air_time(s: VelocitySample) -> Array:
        # An event, not a rate: over a control step it is worth the seconds gained.
        xp = array_namespace(s.landed_after)
        # Short hops cost nothing: a price on them teaches to stand before it teaches to walk.
        gain = xp.clip(s.landed_after - c.air_time_least, 0.0, c.air_time_most - c.air_time_least)
        return xp.sum(gain, axis=-1) * s.moving / s.step_s

    def foot_height(s: VelocitySample) -> Array:
        xp = array_namespace(s.clearance)
        off = xp.clip(s.clearance - c.foot_height_m, -0.2, 0.2)
        return -xp.sum(off * off * xp.clip(s.foot_speed, 0.0, 3.0), axis=-1) / 0.01

    functions = {
        "track_linear": track_linear, "track_turn": track_turn, "upright": upright, "bounce": bounce, "wobble": wobble,
        "air_time": air_time, "foot_height": foot_height, "foot_slip": foot_slip, "joint_deviation": joint_deviation,
        "stand_still": stand_still, "action_rate": action_rate, "joint_limit": joint_limit, "alive": alive,
    }  # fmt: skip
    return {name: Reward(getattr(c, name), function) for name, function in functions.items()}
