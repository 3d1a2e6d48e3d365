from __future__ import annotations

import dataclasses
import itertools

import pytest

from sim.gate.tiers import TIERS
from sim.tasks.tracking.config import RandomisationConfig

RANGES = ("friction", "gain_scale", "mass_scale", "delay_substeps")
AMPLITUDES = (
    "push_speed", "gyro_noise", "orientation_noise", "joint_pos_noise", "joint_vel_noise", "joint_bias",
    "odometry_noise", "odometry_bias",
)  # fmt: skip


def test_names_and_fields() -> None:
    assert [tier.name for tier in TIERS] == ["T0", "T1", "T2", "T3", "T4"]
    fields = {field.name for field in dataclasses.fields(RandomisationConfig)}
    assert fields == {*RANGES, *AMPLITUDES, "push_interval_s"}, "every distribution is compared below"


@pytest.mark.parametrize("name", RANGES)
def test_every_range_holds_the_gentler_ones(name: str) -> None:
    ranges = [getattr(tier.randomisation, name) for tier in TIERS]
    for (low, high), (harder_low, harder_high) in itertools.pairwise(ranges):
        assert harder_low - 1e-12 <= low <= high <= harder_high + 1e-12, ranges
    assert ranges[0][0] == ranges[0][1]
    assert ranges[4][1] > ranges[2][1] > ranges[1][1]


@pytest.mark.parametrize("name", AMPLITUDES)
def test_every_amplitude_grows(name: str) -> None:
    values = [getattr(tier.randomisation, name) for tier in TIERS]
    assert values == sorted(values) and values[0] == 0 and values[4] > 0


def test_the_tiers_mean_what_they_say() -> None:
    """T0 is nothing, T1 half of training's noise, T2 all of it, T3 with pushes, T4 half as much again."""
    none, half, full, pushed, harsh = (tier.randomisation for tier in TIERS)
    training = RandomisationConfig()
    assert none == RandomisationConfig.none()
    assert full == dataclasses.replace(training, push_speed=0.0)
    assert pushed == dataclasses.replace(training, push_speed=0.3)
    assert half.gyro_noise == training.gyro_noise / 2 and half.push_speed == 0
    assert half.gain_scale == pytest.approx((0.925, 1.075)) and half.mass_scale == pytest.approx((0.95, 1.05))
    assert half.friction == pytest.approx((0.6, 1.0)) and half.delay_substeps == (0, 2)
    assert harsh.gyro_noise == pytest.approx(1.5 * training.gyro_noise) and harsh.push_speed == 0.6
    assert harsh.friction == pytest.approx((0.2, 1.4)) and harsh.gain_scale == pytest.approx((0.775, 1.225))
    assert harsh.friction[0] > 0 and harsh.mass_scale[0] > 0, "nothing turns negative"
