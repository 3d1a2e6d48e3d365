"""Rewards of the tracking task: small named functions of one TrackingSample, each (N,)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from bodydouble.frames import heading_rotate_inv, quat_angle
from sim.tasks.tracking.config import RewardConfig

Array = Any


@dataclass(frozen=True)
class TrackingSample:
    """What the rewards and terminations see after a control step. N environments, J joints, K bodies, C feet."""

    root_pos: Array
    """Base positions (N, 3)."""
    root_quat: Array
    """Base orientations (N, 4)."""
    root_lin_vel: Array
    """Base linear velocities (N, 3), world."""
    root_ang_vel: Array
    """Base angular velocities (N, 3), base frame."""
    joint_pos: Array
    """Joint positions (N, J)."""
    body_pos: Array
    """Tracked bodies' positions (N, K, 3), world."""
    body_quat: Array
    """Tracked bodies' orientations (N, K, 4)."""
    foot_pos: Array
    """Feet's positions (N, C, 3), world."""
    foot_vel: Array
    """Feet's velocities (N, C, 3), world, m/s."""
    ref_root_pos: Array
    """Reference of `root_pos`."""
    ref_root_quat: Array
    """Reference of `root_quat`."""
    ref_root_lin_vel: Array
    """Reference of `root_lin_vel`."""
    ref_root_ang_vel: Array
    """Reference of `root_ang_vel`."""
    ref_joint_pos: Array
    """Reference of `joint_pos`."""
    ref_body_pos: Array
    """Reference of `body_pos`."""
    ref_body_quat: Array
    """Reference of `body_quat`."""
    ref_foot_pos: Array
    """Reference of `foot_pos`."""
    ref_contact: Array
    """Whether each foot should stand (N, C), 0 or 1."""
    action: Array
    """Action of this step (N, J)."""
    last_action: Array
    """Action before it (N, J)."""
    second_last_action: Array
    """Action before that (N, J)."""
    joint_lower: Array
    """Lower joint limits (J,)."""
    joint_upper: Array
    """Upper joint limits (J,)."""


def _norm2(vec: Array) -> Array:
    return array_namespace(vec).sum(vec * vec, axis=-1)


def _kernel(squared_error: Array, width: float) -> Array:
    return array_namespace(squared_error).exp(-squared_error / (width * width))


def _mean(values: Array) -> Array:
    return array_namespace(values).mean(values, axis=-1)


def root_pos(s: TrackingSample, c: RewardConfig) -> Array:
    """Kernel of the base's position error in the world."""
    return _kernel(_norm2(s.root_pos - s.ref_root_pos), c.root_pos_width)


def root_rot(s: TrackingSample, c: RewardConfig) -> Array:
    """Kernel of the base's rotation error."""
    return _kernel(quat_angle(s.root_quat, s.ref_root_quat) ** 2, c.root_rot_width)


def body_pos(s: TrackingSample, c: RewardConfig) -> Array:
    """Kernel of the bodies' mean squared position error, each seen from its own base's heading."""
    mine = heading_rotate_inv(s.root_quat[:, None], s.body_pos - s.root_pos[:, None])
    theirs = heading_rotate_inv(s.ref_root_quat[:, None], s.ref_body_pos - s.ref_root_pos[:, None])
    return _kernel(_mean(_norm2(mine - theirs)), c.body_pos_width)


def body_rot(s: TrackingSample, c: RewardConfig) -> Array:
    """Kernel of the bodies' mean squared rotation error."""
    return _kernel(_mean(quat_angle(s.body_quat, s.ref_body_quat) ** 2), c.body_rot_width)


def joint_pos(s: TrackingSample, c: RewardConfig) -> Array:
    """Kernel of the joints' mean squared error."""
    return _kernel(_mean((s.joint_pos - s.ref_joint_pos) ** 2), c.joint_pos_width)


def lin_vel(s: TrackingSample, c: RewardConfig) -> Array:
    """Kernel of the base's linear velocity error."""
    return _kernel(_norm2(s.root_lin_vel - s.ref_root_lin_vel), c.lin_vel_width)


def ang_vel(s: TrackingSample, c: RewardConfig) -> Array:
    """Kernel of the base's angular velocity error."""
    return _kernel(_norm2(s.root_ang_vel - s.ref_root_ang_vel), c.ang_vel_width)


def action_rate(s: TrackingSample, c: RewardConfig) -> Array:
    """Squared change of the action, as a cost."""
    return -_norm2(s.action - s.last_action)


def action_jerk(s: TrackingSample, c: RewardConfig) -> Array:
    """Squared second difference of the action, as a cost."""
    return -_norm2(s.action - 2.0 * s.last_action + s.second_last_action)


def joint_limit(s: TrackingSample, c: RewardConfig) -> Array:
    """Angle beyond 95 % of the joints' ranges, as a cost."""
    xp = array_namespace(s.joint_pos)
    margin = 0.025 * (s.joint_upper - s.joint_lower)
    low = (s.joint_lower + margin) - s.joint_pos
    high = s.joint_pos - (s.joint_upper - margin)
    beyond = xp.maximum(xp.maximum(low, high), xp.zeros_like(low))
    return -xp.sum(beyond, axis=-1)


def foot_slip(s: TrackingSample, c: RewardConfig) -> Array:
    """Speed, up to 2 m/s, of the feet that should stand, as a cost."""
    xp = array_namespace(s.foot_vel)
    speed = xp.sqrt(_norm2(s.foot_vel[..., :2]) + 1e-8)
    return -xp.sum(xp.clip(speed, 0.0, 2.0) * s.ref_contact, axis=-1)


def foot_height(s: TrackingSample, c: RewardConfig) -> Array:
    """Feet's height error, up to 0.2 m, as a cost."""
    xp = array_namespace(s.foot_pos)
    return -xp.sum(xp.clip(xp.abs(s.foot_pos[..., 2] - s.ref_foot_pos[..., 2]), 0.0, 0.2), axis=-1)


REWARDS: dict[str, Callable[[TrackingSample, RewardConfig], Array]] = {
    "root_pos": root_pos,
    "root_rot": root_rot,
    "body_pos": body_pos,
    "body_rot": body_rot,
    "joint_pos": joint_pos,
    "lin_vel": lin_vel,
    "ang_vel": ang_vel,
    "action_rate": action_rate,
    "action_jerk": action_jerk,
    "joint_limit": joint_limit,
    "foot_slip": foot_slip,
    "foot_height": foot_height,
}
"""Name, also of its weight in RewardConfig: function."""


def total_reward(sample: TrackingSample, config: RewardConfig, step_s: float) -> Array:
    """Return the weighted sum of all rewards over a control step (N,), so that a second is worth its weights."""
    return sum(getattr(config, name) * function(sample, config) for name, function in REWARDS.items()) * step_s
