from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bodydouble.frames import quat_angle
from bodydouble.observation import RobotState
from sim.backend.cpu_batch import CpuBatch
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.stage.stage import Stage
from sim.tasks.tracking.config import RandomisationConfig, ResetConfig, TrackingConfig
from sim.tasks.tracking.events import SensorBias, noisy_state, randomise_models, symmetric, uniform
from tests.sim.tasks.tracking.samples import point_backend

NONE, FULL = RandomisationConfig.none(), RandomisationConfig()
ENVS, JOINTS = 40, 29


def spread_over(values: np.ndarray, low: float, high: float) -> None:
    """Inside the range, close to both ends, around its middle."""
    width = high - low
    tiny = 1e-6 * max(abs(low), abs(high))
    assert values.min() >= low - tiny and values.max() <= high + tiny
    assert values.min() < low + 0.1 * width and values.max() > high - 0.1 * width
    assert abs(values.mean() - 0.5 * (low + high)) < 0.1 * width


def randomised(stage: Stage, config: RandomisationConfig) -> dict[str, np.ndarray]:
    """The model fields of a randomised batch that differ from the model's."""
    batch = CpuBatch(stage.compile(visuals=False), ENVS, seed=0, threads=1)
    geoms = [batch.model.geom(name).id for name in stage.robot.foot_geoms]
    randomise_models(batch, config, geoms, JOINTS)
    fields = ("geom_friction", "actuator_gainprm", "actuator_biasprm", "body_mass", "body_inertia")
    found = {name: batch._batch.expanded(name) for name in fields}
    return {name: np.array(values) for name, values in found.items() if values is not None}


def test_uniform_and_symmetric_fill_their_ranges() -> None:
    backend = point_backend()
    spread_over(uniform(backend, -3.0, 5.0, 2000), -3.0, 5.0)
    spread_over(symmetric(backend, 0.7, 500, 4), -0.7, 0.7)
    assert symmetric(backend, 0.7, 5, 4).shape == (5, 4)
    assert (symmetric(backend, 0.0, 9) == 0).all()


def test_friction_of_the_feet_only(stage: Stage) -> None:
    fields = randomised(stage, dataclasses.replace(NONE, friction=(0.4, 1.2)))
    assert set(fields) == {"geom_friction"}
    model = stage.compile(visuals=False)
    feet = [model.geom(name).id for name in stage.robot.foot_geoms]
    sliding = fields["geom_friction"][:, feet, 0]
    spread_over(sliding, 0.4, 1.2)
    assert (sliding == sliding[:, :1]).all(), "a robot's soles are of one material"
    fields["geom_friction"][:, feet, 0] = model.geom_friction[feet, 0]
    np.testing.assert_allclose(fields["geom_friction"], np.tile(model.geom_friction, (ENVS, 1, 1)), rtol=1e-6)


def test_gains_of_each_joint(stage: Stage) -> None:
    fields = randomised(stage, dataclasses.replace(NONE, gain_scale=(0.85, 1.15)))
    assert set(fields) == {"actuator_gainprm", "actuator_biasprm"}
    robot = stage.robot
    gain, bias = fields["actuator_gainprm"][:, :JOINTS], fields["actuator_biasprm"][:, :JOINTS]
    kp_scale, kd_scale = gain[..., 0] / robot.kp, -bias[..., 2] / robot.kd
    spread_over(kp_scale, 0.85, 1.15)
    spread_over(kd_scale, 0.85, 1.15)
    np.testing.assert_array_equal(bias[..., 1], -gain[..., 0])
    assert abs(np.corrcoef(kp_scale.ravel(), kd_scale.ravel())[0, 1]) < 0.15, "kp and kd are drawn apart"
    assert len(np.unique(kp_scale)) > 0.9 * kp_scale.size


def test_masses_keep_the_shape_of_each_body(stage: Stage) -> None:
    fields = randomised(stage, dataclasses.replace(NONE, mass_scale=(0.9, 1.1)))
    assert {"body_mass", "body_inertia"} <= set(fields)
    model = stage.compile(visuals=False)
    heavy = model.body_mass > 0
    scale = fields["body_mass"][:, heavy] / model.body_mass[heavy]
    spread_over(scale, 0.9, 1.1)
    inertia = fields["body_inertia"][:, heavy] / model.body_inertia[heavy]
    np.testing.assert_allclose(inertia, np.repeat(scale[..., None], 3, axis=-1), rtol=1e-5)


def test_nothing_random_changes_nothing(stage: Stage) -> None:
    assert randomised(stage, NONE) == {}


def state(n: int) -> RobotState:
    quats = np.tile(np.array([0.6, 0.0, 0.8, 0.0], np.float32), (n, 1))
    zeros = np.zeros((n, 3), np.float32)
    joints = np.full((n, JOINTS), 0.25, np.float32)
    return RobotState(zeros + 1, quats, zeros + 2, zeros + 3, joints, joints + 4)


def no_bias(n: int) -> SensorBias:
    return SensorBias(np.zeros((n, JOINTS), np.float32), np.zeros((n, 3), np.float32))


def test_noise_stays_in_its_amplitudes() -> None:
    n = 400
    clean = state(n)
    seen = noisy_state(point_backend(n), FULL, clean, no_bias(n))
    spread_over(seen.root_pos - clean.root_pos, -0.01, 0.01)
    spread_over(seen.root_ang_vel - clean.root_ang_vel, -0.2, 0.2)
    spread_over(seen.joint_pos - clean.joint_pos, -0.01, 0.01)
    spread_over(seen.joint_vel - clean.joint_vel, -0.5, 0.5)
    angle = quat_angle(seen.root_quat, clean.root_quat)
    # Three components of at most 0.02 rad.
    assert 0.025 < angle.max() <= 0.02 * np.sqrt(3) * 1.001 and (angle > 0).all()
    np.testing.assert_allclose(np.linalg.norm(seen.root_quat, axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(seen.root_lin_vel, clean.root_lin_vel)


def test_biases_are_added_and_stay_in_their_amplitudes() -> None:
    backend = point_backend(400)
    bias = SensorBias.draw(backend, FULL, backend.num_envs, JOINTS)
    spread_over(bias.joint, -0.01, 0.01)
    spread_over(bias.odometry, -0.03, 0.03)
    clean = state(400)
    seen = noisy_state(backend, NONE, clean, bias)
    np.testing.assert_allclose(seen.joint_pos, clean.joint_pos + bias.joint, atol=1e-7)
    np.testing.assert_allclose(seen.root_pos, clean.root_pos + bias.odometry, atol=1e-6)


def test_without_noise_the_sensors_see_the_truth() -> None:
    clean = state(5)
    seen = noisy_state(point_backend(5), NONE, clean, no_bias(5))
    for name, value in vars(clean).items():
        np.testing.assert_array_equal(getattr(seen, name), value, err_msg=name)


def env_of(stage: Stage, randomisation: RandomisationConfig, envs: int, reset: ResetConfig | None = None):
    backend = CpuBatch(stage.compile(visuals=False), envs, seed=0, threads=2)
    config = TrackingConfig(randomisation=randomisation, reset=reset or ResetConfig.exact())
    return TrackingEnv(backend, TrackedRobot.from_spec(stage.robot), stage.motions, config)


def test_pushes_are_horizontal_bounded_and_due_in_their_interval(stage: Stage) -> None:
    """Every robot is pushed once in 0.2 to 0.4 s: a change of speed at the base and nowhere else."""
    config = dataclasses.replace(NONE, push_speed=0.5, push_interval_s=(0.2, 0.4))
    env, n = env_of(stage, config, 30), 30
    env.reset()
    pushed_at = np.full(n, -1)
    for step in range(1, 23):
        _, before = env.backend.get_state()
        env._push()
        change = env.backend.get_state()[1] - before
        assert (change[:, 2:] == 0).all() and np.abs(change[:, :2]).max() <= 0.5
        hit = np.abs(change[:, :2]).max(axis=1) > 0
        pushed_at = np.where((pushed_at < 0) & hit, step, pushed_at)
    assert (pushed_at > 0).all(), "everyone was pushed within 0.44 s"
    # 10 to 20 control steps, counted down before the push.
    assert pushed_at.min() >= 11 and pushed_at.max() <= 21 and len(set(pushed_at)) > 4


def test_delays_cover_their_range(stage: Stage) -> None:
    env = env_of(stage, dataclasses.replace(NONE, delay_substeps=(1, 3)), 200)
    env.reset()
    assert sorted(set(env._delay.tolist())) == [1, 2, 3]
    counts = np.bincount(env._delay)[1:] / 200
    # A third each, within four standard deviations: 4 * 0.033.
    assert (np.abs(counts - 1 / 3) < 0.14).all()


def test_starts_deviate_within_their_amplitudes(stage: Stage) -> None:
    reset = dataclasses.replace(
        ResetConfig.exact(), joint_noise=0.05, root_noise=0.03, rot_noise=0.05, vel_noise=0.2, hold_s=(0.0, 0.5)
    )
    env = env_of(stage, NONE, 300, reset)
    env.reset()
    reference = stage.reference
    qpos, qvel = env.backend.get_state()
    spread_over(qpos[:, :2] - reference.root_pos[0, :2], -0.03, 0.03)
    np.testing.assert_allclose(qpos[:, 2], reference.root_pos[0, 2], atol=1e-6)
    angle = quat_angle(qpos[:, 3:7], np.tile(reference.root_quat[0].astype(np.float32), (300, 1)))
    assert 0.06 < angle.max() <= 0.05 * np.sqrt(3) * 1.001
    joints = qpos[:, 7:] - reference.joint_pos[0]
    assert np.abs(joints).max() <= 0.05 * 1.001 and (np.abs(joints).max(axis=0) > 0.045).mean() > 0.9
    lower, upper = np.array(env.robot.joint_lower), np.array(env.robot.joint_upper)
    assert (qpos[:, 7:] >= lower - 1e-6).all() and (qpos[:, 7:] <= upper + 1e-6).all()
    held = env._hold
    # A held start is at rest, one that plays at once has the reference's speed.
    moving = (held == 0)[:, None]
    spread_over(qvel[:, :3] - moving * reference.root_lin_vel[0], -0.2, 0.2)
    np.testing.assert_allclose(qvel[:, 6:], moving * reference.joint_vel[0], atol=1e-6)
    assert held.min() == 0 and 20 < held.max() <= 25


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_decides_the_randomisation(stage: Stage, seed: int) -> None:
    def masses(seed: int) -> np.ndarray:
        batch = CpuBatch(stage.compile(visuals=False), 3, seed, threads=1)
        randomise_models(batch, FULL, [1], JOINTS)
        return np.array(batch._batch.expanded("body_mass"))

    np.testing.assert_array_equal(masses(seed), masses(seed))
    assert (masses(seed) != masses(seed + 1)).any()
