"""A diverged simulation is seen, at once and later, and is not put back silently."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from sim.divergence import diverged
from sim.robots import RobotSpec
from sim.robots.spec import compile_spec


@pytest.fixture
def data(g1: RobotSpec) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = compile_spec(g1.mjspec(), "the G1")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def test_sound_state(data: tuple[mujoco.MjModel, mujoco.MjData]) -> None:
    mujoco.mj_step(*data, 20)
    assert not diverged(data[1])


@pytest.mark.parametrize("array", ["qpos", "qvel"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e12])
def test_bad_state_is_seen_before_and_after_a_step(
    data: tuple[mujoco.MjModel, mujoco.MjData], array: str, value: float
) -> None:
    getattr(data[1], array)[8] = value
    assert diverged(data[1])
    before = data[1].time
    mujoco.mj_step(*data)
    assert diverged(data[1])
    assert data[1].time > before  # no reset
