"""Perturbation tiers of the gate: from nothing (T0) to harsh (T4)."""

from __future__ import annotations

from dataclasses import dataclass

from sim.tasks.tracking.config import RandomisationConfig


@dataclass(frozen=True)
class Tier:
    """One level of perturbation."""

    name: str
    """T0 to T4."""
    meaning: str
    """What is perturbed."""
    randomisation: RandomisationConfig
    """The distributions."""


def _scaled(share: float, push_speed: float) -> RandomisationConfig:
    full = RandomisationConfig()

    def around(pair: tuple[float, float]) -> tuple[float, float]:
        return 1 - share * (1 - pair[0]), 1 + share * (pair[1] - 1)

    middle = 0.5 * sum(full.friction)
    return RandomisationConfig(
        friction=(middle - share * (middle - full.friction[0]), middle + share * (full.friction[1] - middle)),
        gain_scale=around(full.gain_scale),
        mass_scale=around(full.mass_scale),
        delay_substeps=(0, round(share * full.delay_substeps[1])),
        push_speed=push_speed,
        push_interval_s=full.push_interval_s,
        gyro_noise=share * full.gyro_noise,
        orientation_noise=share * full.orientation_noise,
        joint_pos_noise=share * full.joint_pos_noise,
        joint_vel_noise=share * full.joint_vel_noise,
        joint_bias=share * full.joint_bias,
        odometry_noise=share * full.odometry_noise,
        odometry_bias=share * full.odometry_bias,
    )


TIERS = (
    Tier("T0", "nothing", RandomisationConfig.none()),
    Tier("T1", "half the noise, delay and model error of training, no push", _scaled(0.5, 0.0)),
    Tier("T2", "all the noise, delay and model error of training, no push", _scaled(1.0, 0.0)),
    Tier("T3", "as T2, pushed by up to 0.3 m/s every 3 to 6 s", _scaled(1.0, 0.3)),
    Tier("T4", "half as much again as training, pushed by up to 0.6 m/s", _scaled(1.5, 0.6)),
)
"""The tiers, gentle to harsh."""
