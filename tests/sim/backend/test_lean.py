"""Steps that leave work out end in the same bits."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from sim.backend.lean import lean_model, start_clock, stop_clock
from sim.env.humanoid_env import humanoid_model
from sim.stage.stage import Stage


def final_bits(model: mujoco.MjModel, steps: int, start: np.ndarray) -> dict[str, np.ndarray]:
    data = mujoco.MjData(model)
    data.qpos[:] = start
    rng = np.random.default_rng(0)
    for _ in range(steps):
        data.ctrl[:] = rng.uniform(-0.4, 0.4, model.nu)
        mujoco.mj_step(model, data, 4)
    assert data.ncon > 0, "it lies on the floor"
    return {name: getattr(data, name).copy() for name in ("qpos", "qvel", "xpos", "qfrc_constraint")}


@pytest.mark.parametrize("which", ["humanoid", "g1"])
def test_a_lean_model_moves_the_same(which: str, stage: Stage) -> None:
    model = humanoid_model() if which == "humanoid" else stage.compile(visuals=False)
    start = model.qpos0.copy()
    start[2] += 0.0 if which == "humanoid" else 0.8
    lean = lean_model(model)
    skipped = lean.opt.disableflags & ~model.opt.disableflags
    assert skipped & mujoco.mjtDisableBit.mjDSBL_SENSOR and skipped & mujoco.mjtDisableBit.mjDSBL_ISLAND
    before = model.opt.disableflags
    whole, less = final_bits(model, 150, start), final_bits(lean, 150, start)
    for name, values in whole.items():
        np.testing.assert_array_equal(less[name], values, err_msg=name)
    assert model.opt.disableflags == before, "the given model is as it was"


def test_sensors_stay_where_they_are_read() -> None:
    model = humanoid_model()
    assert not lean_model(model, keep_sensors=True).opt.disableflags & mujoco.mjtDisableBit.mjDSBL_SENSOR


def test_several_trees_keep_their_islands() -> None:
    ball = "<body pos='{} 0 1'><freejoint/><geom size='.1' mass='1'/></body>"
    text = f"<mujoco><worldbody>{ball.format(0)}{ball.format(1)}</worldbody></mujoco>"
    lean = lean_model(mujoco.MjModel.from_xml_string(text))
    assert not lean.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_ISLAND


def test_the_engines_clock_stops_and_runs_again() -> None:
    model = humanoid_model()
    timer = int(mujoco.mjtTimer.mjTIMER_STEP)
    try:
        for run, timed in ((start_clock, True), (stop_clock, False), (start_clock, True)):
            run()
            data = mujoco.MjData(model)
            mujoco.mj_step(model, data)
            assert (data.timer[timer].duration > 0) == timed
    finally:
        stop_clock()
