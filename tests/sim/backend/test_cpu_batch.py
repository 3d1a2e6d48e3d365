from __future__ import annotations

import itertools

import mujoco
import numpy as np
import pytest

from sim.backend.cpu_batch import CpuBatch
from sim.stage.stage import Stage

SLIDER = """
<mujoco>
  <option timestep="0.01" gravity="0 0 0" integrator="Euler"/>
  <worldbody>
    <body name="cart">
      <joint name="slide" type="slide" axis="1 0 0"/>
      <geom type="sphere" size="0.1" mass="2"/>
    </body>
  </worldbody>
  <actuator><motor joint="slide"/></actuator>
</mujoco>
"""
DT, MASS = 0.01, 2.0


def slider(num_envs: int = 3, seed: int = 0) -> CpuBatch:
    return CpuBatch(mujoco.MjModel.from_xml_string(SLIDER), num_envs, seed, threads=1)


def forces(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


def no_delay(n: int) -> np.ndarray:
    return np.zeros(n, dtype=np.int64)


def push(steps: list[float]) -> tuple[float, float]:
    """Position and speed after a force in each physics step, by semi-implicit Euler."""
    x = v = 0.0
    for force in steps:
        v += force / MASS * DT
        x += v * DT
    return x, v


def test_forces_move_masses_by_hand() -> None:
    # 4 N on 2 kg for 5 steps of 10 ms: 0.1 m/s; 0.02 * 0.01 * (1 + 2 + 3 + 4 + 5) = 0.003 m.
    batch = slider()
    batch.step(forces(4.0, 0.0, -4.0), forces(0.0, 0.0, 0.0), no_delay(3), 5)
    qpos, qvel = batch.get_state()
    np.testing.assert_allclose(qvel[:, 0], [0.1, 0.0, -0.1], rtol=1e-6)
    np.testing.assert_allclose(qpos[:, 0], [0.003, 0.0, -0.003], rtol=1e-6)
    assert qpos.dtype == qvel.dtype == np.float32


@pytest.mark.parametrize("delays", [[0, 0, 0], [2, 2, 2], [0, 1, 3], [4, 2, 4], [4, 4, 4], [9, 4, 0]])
def test_a_delayed_command_takes_over_after_its_delay(delays: list[int]) -> None:
    """Each simulation feels the previous force for its own number of steps; a delay over the step counts as all."""
    batch = slider()
    batch.step(forces(1.0, 2.0, 3.0), forces(10.0, 20.0, 30.0), np.array(delays), 4)
    for n, delay in enumerate(delays):
        old = min(delay, 4)
        expected = push([10.0 * (n + 1)] * old + [1.0 * (n + 1)] * (4 - old))
        found = [float(array[n, 0]) for array in batch.get_state()]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def random_controls(model: mujoco.MjModel, steps: int, envs: int) -> np.ndarray:
    home = model.key_qpos[0][7 : 7 + model.nu] if model.nkey else np.zeros(model.nu)
    return (home + np.random.default_rng(0).normal(0, 0.2, (steps, envs, model.nu))).astype(np.float32)


def roll(batch: CpuBatch, controls: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Positions (T, N, nq), float64, of a batch that starts at `start` (N, nq) and is stepped by 4."""
    batch.set_state(start.astype(np.float32), np.zeros((batch.num_envs, batch.model.nv), np.float32))
    out = []
    for ctrl in controls:
        batch.step(ctrl, ctrl, no_delay(batch.num_envs), 4)
        out.append(batch._qpos.copy())
    return np.array(out)


def starts(stage: Stage, envs: int) -> np.ndarray:
    reference = stage.reference
    frames = np.linspace(0, reference.num_frames - 1, envs).astype(int)
    poses = [reference.root_pos, reference.root_quat, reference.joint_pos]
    return np.concatenate([pose[frames] for pose in poses], axis=1).astype(np.float32)


def test_equals_single_simulations_bit_for_bit(stage: Stage) -> None:
    """Four G1s that stand, stagger and fall in the batch do exactly what four MjData do."""
    model = stage.compile(visuals=False)
    start, controls = starts(stage, 4), random_controls(model, 60, 4)
    batched = roll(CpuBatch(model, 4, 0, threads=2), controls, start)
    for n in range(4):
        data = mujoco.MjData(model)
        data.qpos[:] = start[n]
        for t, ctrl in enumerate(controls):
            data.ctrl[:] = ctrl[n]
            mujoco.mj_step(model, data, 4)
            np.testing.assert_array_equal(data.qpos, batched[t, n])
    assert np.abs(batched[-1, 0] - batched[-1, 1]).max() > 0.05, "they do not all do the same"


def test_threads_change_no_bit(stage: Stage) -> None:
    model = stage.compile(visuals=False)
    start, controls = starts(stage, 5), random_controls(model, 40, 5)
    one, two, five = (roll(CpuBatch(model, 5, 0, threads), controls, start) for threads in (1, 2, 5))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, five)


def test_state_comes_back_as_set(stage: Stage) -> None:
    batch = CpuBatch(stage.compile(visuals=False), 3, 0, threads=1)
    qpos = starts(stage, 3)
    qvel = np.random.default_rng(0).normal(size=(3, batch.model.nv)).astype(np.float32)
    batch.set_state(qpos, qvel)
    for found, expected in zip(batch.get_state(), (qpos, qvel), strict=True):
        np.testing.assert_array_equal(found, expected)
    # What get_state returned is a copy.
    copy, _ = batch.get_state()
    copy[:] = 7.0
    np.testing.assert_array_equal(batch.get_state()[0], qpos)


def test_setting_one_simulation_leaves_the_others_on_their_course(stage: Stage) -> None:
    """Float32 states handed back unchanged do not round the float64 ones, nor drop the solver's warm start."""
    model = stage.compile(visuals=False)
    start, controls = starts(stage, 3), random_controls(model, 30, 3)
    untouched, touched = CpuBatch(model, 3, 0, threads=1), CpuBatch(model, 3, 0, threads=1)
    for t, ctrl in enumerate(controls):
        if t == 0:
            for batch in (untouched, touched):
                batch.set_state(start, np.zeros((3, model.nv), np.float32))
        if t == 10:
            qpos, qvel = touched.get_state()
            qpos[1], qvel[1] = start[0], 0.0
            touched.set_state(qpos, qvel)
        for batch in (untouched, touched):
            batch.step(ctrl, ctrl, no_delay(3), 4)
    np.testing.assert_array_equal(touched._qpos[[0, 2]], untouched._qpos[[0, 2]])
    assert np.abs(touched._qpos[1] - untouched._qpos[1]).max() > 1e-3


def test_a_set_simulation_forgets_its_past(stage: Stage) -> None:
    """Where it was before does not show in what a freshly set simulation does next."""
    model = stage.compile(visuals=False)
    start, controls = starts(stage, 1), random_controls(model, 10, 1)
    fresh, used = CpuBatch(model, 1, 0, threads=1), CpuBatch(model, 1, 0, threads=1)
    roll(used, random_controls(model, 30, 1), starts(stage, 1))
    np.testing.assert_array_equal(roll(fresh, controls, start), roll(used, controls, start))


def test_body_poses_are_those_before_the_last_step() -> None:
    """As MuJoCo's own step leaves them: one physics step behind the state."""
    batch = slider(1)
    batch.step(forces(4.0), forces(0.0), no_delay(1), 5)
    assert batch.body_pos().shape == (1, 2, 3) and batch.body_quat().shape == (1, 2, 4)
    assert batch.body_pos().dtype == batch.body_quat().dtype == np.float32
    # Before the fifth step: 0.0002 * (1 + 2 + 3 + 4) = 0.002 m.
    np.testing.assert_allclose(batch.body_pos()[0, 1], [0.002, 0, 0], atol=1e-8)
    np.testing.assert_array_equal(batch.body_quat()[0, 1], [1, 0, 0, 0])


def test_model_fields_differ_between_simulations() -> None:
    batch = slider(3)
    gain = np.tile(batch.model.actuator_gainprm, (3, 1, 1))
    gain[:, 0, 0] = [1.0, 0.5, 5.0]
    batch.set_model_field("actuator_gainprm", gain)
    batch.step(forces(4.0, 4.0, 4.0), forces(0.0, 0.0, 0.0), no_delay(3), 1)
    # v = gain * F / m * dt = gain * 0.02.
    np.testing.assert_allclose(batch.get_state()[1][:, 0], [0.02, 0.01, 0.1], rtol=1e-5)
    assert batch.model.actuator_gainprm[0, 0] == 1.0, "the shared model is as it was"


def test_random_numbers_follow_the_seed() -> None:
    one, same, other = slider(seed=1), slider(seed=1), slider(seed=2)
    uniform, normal = one.random(20000), one.normal(20000)
    np.testing.assert_array_equal(uniform, same.random(20000))
    np.testing.assert_array_equal(normal, same.normal(20000))
    assert (uniform != other.random(20000)).any()
    assert uniform.dtype == normal.dtype == np.float32
    assert uniform.min() >= 0 and uniform.max() < 1
    # Four standard deviations of the mean of 20000: 4 * 0.289 / 141 = 0.008 and 4 / 141 = 0.028.
    assert abs(uniform.mean() - 0.5) < 0.008 and abs(normal.mean()) < 0.028 and abs(normal.std() - 1) < 0.02
    assert one.random(2, 3).shape == (2, 3) and one.normal(4, 1).shape == (4, 1)


def test_arrays_get_the_types_of_the_protocol() -> None:
    batch = slider(1)
    for values, dtype in (([1.5], np.float32), ([1], np.int64), (np.array([1], np.uint8), np.int64), ([True], bool)):
        assert batch.asarray(values).dtype == dtype


def test_accumulate_by_hand() -> None:
    sums = slider(1).accumulate(np.array([2, 0, 2, 2]), np.array([1.0, 5.0, 0.5, 0.25], np.float32), 4)
    assert sums.tolist() == [5.0, 0.0, 1.75, 0.0] and sums.dtype == np.float32


def test_delays_change_no_bit_against_single_simulations(stage: Stage) -> None:
    """The command that waits and the one that follows act for their own steps, as in a loop over one MjData."""
    model = stage.compile(visuals=False)
    start, controls = starts(stage, 5), random_controls(model, 21, 5)
    delay = np.arange(5)
    batch = CpuBatch(model, 5, 0, threads=2)
    batch.set_state(start, np.zeros((5, model.nv), np.float32))
    for before, ctrl in itertools.pairwise(controls):
        batch.step(ctrl, before, delay, 4)
    for n in range(5):
        data = mujoco.MjData(model)
        data.qpos[:] = start[n]
        for before, ctrl in itertools.pairwise(controls):
            for substep in range(4):
                data.ctrl[:] = before[n] if substep < delay[n] else ctrl[n]
                mujoco.mj_step(model, data)
        np.testing.assert_array_equal(data.qpos, batch._qpos[n])
        np.testing.assert_array_equal(data.xpos.astype(np.float32), batch.body_pos()[n])


def test_a_warned_simulation_makes_all_of_its_steps() -> None:
    """A control that is no number is taken as zero by MuJoCo, with a warning; the step goes on to its end."""
    batch = slider()
    batch.step(forces(1.0, np.nan, 1.0), forces(1.0, 2.0, 1.0), np.array([0, 1, 0]), 4)
    np.testing.assert_allclose(batch._time, 4 * DT)
    np.testing.assert_allclose(batch.get_state()[0][1, 0], push([2.0, 0.0, 0.0, 0.0])[0], rtol=1e-6)


def test_some_simulations_can_be_set() -> None:
    batch = slider()
    batch.step(forces(4.0, 4.0, 4.0), forces(0.0, 0.0, 0.0), no_delay(3), 5)
    before = batch.get_state()[0]
    batch.set_state(np.full((1, 1), 7.0, np.float32), np.full((1, 1), 2.0, np.float32), np.array([2]))
    qpos, qvel = batch.get_state()
    assert qpos[2, 0] == 7.0 and qvel[2, 0] == 2.0
    np.testing.assert_array_equal(qpos[:2], before[:2])
