"""Electric motors behind gears: reflected inertia, and position gains from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

NATURAL_FREQUENCY_HZ = 10.0
"""Natural frequency that the position gains give an unloaded motor."""
DAMPING_RATIO = 2.0
"""Damping ratio that the position gains give an unloaded motor; above 1 because the link adds inertia."""


@dataclass(frozen=True)
class Motor:
    """A geared motor as its joint sees it."""

    armature: float
    """Rotor inertia reflected through the gears, kg m^2."""
    effort_limit: float
    """Largest torque at the joint, N m (a slide joint: N)."""
    velocity_limit: float
    """Largest joint speed, rad/s (a slide joint: m/s)."""

    def pair(self) -> Motor:
        """Return two of these motors on one joint, as parallel linkages of ankles and waists have them."""
        return Motor(2 * self.armature, 2 * self.effort_limit, self.velocity_limit)


def reflected_inertia(rotor_inertias: tuple[float, ...], ratios: tuple[float, ...]) -> float:
    """Return the inertia that a joint sees of a motor with stages of gears.

    Args:
        rotor_inertias: Inertia of the rotor and of each stage's output that turns before the last gear, kg m^2.
        ratios: Reduction after each of these inertias; 1 for what turns with the joint.

    Returns:
        Sum over the stages of inertia times the square of all reduction that follows it, kg m^2.
    """
    inertia = 0.0
    reduction = 1.0
    for stage_inertia, ratio in zip(reversed(rotor_inertias), reversed(ratios), strict=True):
        reduction *= ratio
        inertia += stage_inertia * reduction**2
    return inertia


def position_gains(
    inertia: np.ndarray, frequency_hz: float = NATURAL_FREQUENCY_HZ, damping_ratio: float = DAMPING_RATIO
) -> tuple[np.ndarray, np.ndarray]:
    """Return gains that make inertias second-order systems of one natural frequency and damping ratio.

    Args:
        inertia: Inertias (J,), kg m^2.
        frequency_hz: Natural frequency, Hz.
        damping_ratio: Damping ratio.

    Returns:
        kp (J,) = inertia w^2 in N m/rad and kd (J,) = 2 ratio inertia w in N m s/rad, w = 2 pi frequency.
    """
    omega = 2.0 * math.pi * frequency_hz
    return inertia * omega**2, 2.0 * damping_ratio * inertia * omega
