"""Events of the tracking task: randomised models, sensor noise and pushes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from bodydouble.frames import quat_from_rotvec, quat_mul
from bodydouble.observation import RobotState
from sim.backend.protocol import SimBackend
from sim.tasks.tracking.config import RandomisationConfig

Array = Any


def uniform(backend: SimBackend, low: float, high: float, *shape: int) -> Array:
    """Return uniform numbers in [low, high), float32."""
    return low + (high - low) * backend.random(*shape)


def symmetric(backend: SimBackend, amplitude: float, *shape: int) -> Array:
    """Return uniform numbers in [-amplitude, amplitude), float32."""
    return amplitude * (2.0 * backend.random(*shape) - 1.0)


def randomise_models(
    backend: SimBackend, config: RandomisationConfig, foot_geoms: Sequence[int], num_joints: int
) -> None:
    """Give every simulation its own friction, gains and masses, once.

    Args:
        backend: The simulations.
        config: The distributions.
        foot_geoms: Ids of the feet's collision geoms; their friction counts against any floor.
        num_joints: Number of position actuators J, the model's first.
    """
    model, n = backend.model, backend.num_envs
    if config.friction[0] != config.friction[1]:
        friction = backend.asarray(np.tile(model.geom_friction, (n, 1, 1)))
        friction[:, list(foot_geoms), 0] = uniform(backend, *config.friction, n, 1)
        backend.set_model_field("geom_friction", friction)
    if config.gain_scale[0] != config.gain_scale[1]:
        kp = uniform(backend, *config.gain_scale, n, num_joints)
        kd = uniform(backend, *config.gain_scale, n, num_joints)
        gain = backend.asarray(np.tile(model.actuator_gainprm, (n, 1, 1)))
        bias = backend.asarray(np.tile(model.actuator_biasprm, (n, 1, 1)))
        gain[:, :num_joints, 0] *= kp
        bias[:, :num_joints, 1] *= kp
        bias[:, :num_joints, 2] *= kd
        backend.set_model_field("actuator_gainprm", gain)
        backend.set_model_field("actuator_biasprm", bias)
    if config.mass_scale[0] != config.mass_scale[1]:
        scale = uniform(backend, *config.mass_scale, n, model.nbody)
        backend.set_model_field("body_mass", backend.asarray(model.body_mass)[None] * scale)
        backend.set_model_field("body_inertia", backend.asarray(model.body_inertia)[None] * scale[..., None])


def noisy_state(backend: SimBackend, config: RandomisationConfig, state: RobotState, bias: SensorBias) -> RobotState:
    """Return the state as noisy sensors see it."""
    n, j = state.joint_pos.shape
    tilt = quat_from_rotvec(symmetric(backend, config.orientation_noise, n, 3))
    return dataclasses.replace(
        state,
        root_pos=state.root_pos + bias.odometry + symmetric(backend, config.odometry_noise, n, 3),
        root_quat=quat_mul(state.root_quat, tilt),
        root_ang_vel=state.root_ang_vel + symmetric(backend, config.gyro_noise, n, 3),
        joint_pos=state.joint_pos + bias.joint + symmetric(backend, config.joint_pos_noise, n, j),
        joint_vel=state.joint_vel + symmetric(backend, config.joint_vel_noise, n, j),
    )


@dataclasses.dataclass(frozen=True)
class SensorBias:
    """Offsets that last an episode."""

    joint: Array
    """Encoder offsets (N, J), rad."""
    odometry: Array
    """Odometry offsets (N, 3), m."""

    @classmethod
    def draw(cls, backend: SimBackend, config: RandomisationConfig, count: int, num_joints: int) -> SensorBias:
        """Return fresh offsets for a number of environments."""
        return cls(
            joint=symmetric(backend, config.joint_bias, count, num_joints),
            odometry=symmetric(backend, config.odometry_bias, count, 3),
        )
