from __future__ import annotations

import dataclasses

import mujoco
import numpy as np
import pytest
import torch
from array_api_compat import torch as torch_xp

from bodydouble.errors import InputError, PhysicsError
from sim.backend.cpu_batch import CpuBatch
from sim.env.guard import DivergenceGuard
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv, substeps_per_control
from sim.stage.stage import Stage
from sim.tasks.tracking.config import RandomisationConfig, ResetConfig, TerminationConfig, TrackingConfig
from sim.tasks.tracking.terminations import TERMINATIONS


def roll(env, steps: int, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    env.reset()
    seen: dict[str, list[np.ndarray]] = {"policy": [], "critic": [], "reward": [], "done": []}
    for _ in range(steps):
        result = env.step(rng.normal(0, 0.3, (env.num_envs, env.num_joints)).astype(np.float32))
        seen["policy"].append(result.obs["policy"])
        seen["critic"].append(result.obs["critic"])
        seen["reward"].append(result.reward)
        seen["done"].append(result.terminated | result.truncated)
    return {name: np.stack(values) for name, values in seen.items()}


def test_starts_on_the_reference(make_env, exact: TrackingConfig, flat: Stage) -> None:
    env = make_env(exact)
    obs = env.reset()
    assert obs["policy"].shape == (4, env.spec.size) and obs["policy"].dtype == np.float32
    qpos, _ = env.backend.get_state()
    np.testing.assert_allclose(qpos[:, :3], np.tile(flat.reference.root_pos[0], (4, 1)), atol=1e-6)
    np.testing.assert_allclose(qpos[:, 7:36], np.tile(flat.reference.joint_pos[0], (4, 1)), atol=1e-6)
    assert env.step(np.zeros((4, 29), np.float32)).body_error.max() < 0.02


def test_without_randomness_all_environments_agree(make_env, exact: TrackingConfig) -> None:
    env = make_env(exact)
    env.reset()
    for _ in range(10):
        result = env.step(np.zeros((4, 29), np.float32))
    assert (result.obs["policy"] == result.obs["policy"][0]).all()


def test_same_seed_same_bits_at_any_thread_count(make_env) -> None:
    one, two, three = (roll(make_env(TrackingConfig(), envs=7, threads=threads), 60) for threads in (1, 2, 3))
    assert one["done"].any(), "resets are among what is compared"
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
        np.testing.assert_array_equal(one[name], three[name])
    other = roll(make_env(TrackingConfig(), envs=7, seed=5), 60)
    assert (one["policy"] != other["policy"]).any()


def test_truncation_at_the_end_is_no_failure_and_final_obs_is_the_last_state(make_env, exact: TrackingConfig) -> None:
    env = make_env(dataclasses.replace(exact, episode_s=0.2, termination=TerminationConfig(9, 9, 3.2, 9)))
    env.reset()
    for step in range(1, 11):
        result = env.step(np.zeros((4, 29), np.float32))
        assert not result.terminated.any()
        assert result.truncated.all() == (step == 10)
    assert (result.final_obs["policy"] != result.obs["policy"]).any(), "the next episode has begun in obs"
    fresh = make_env(exact).reset()
    np.testing.assert_allclose(result.obs["policy"], fresh["policy"], atol=1e-5)


def test_a_fall_terminates_with_its_cause(make_env, exact: TrackingConfig) -> None:
    env = make_env(exact, envs=2)
    env.reset()
    qpos, qvel = env.backend.get_state()
    qpos[0, 2] += 0.4
    env.backend.set_state(qpos, qvel)
    result = env.step(np.zeros((2, 29), np.float32))
    assert result.terminated.tolist() == [True, False]
    assert list(TERMINATIONS)[result.failure[0] - 1] == "wrong_height" and result.failure[1] == 0
    after, _ = env.backend.get_state()
    assert after[0, 2] < qpos[0, 2] - 0.3, "the fallen one was reset"
    assert np.abs(after[1] - qpos[1]).max() < 0.05, "the other one was not"


def test_start_frames_spread_over_the_clip(make_env, exact: TrackingConfig) -> None:
    spread = dataclasses.replace(exact, reset=ResetConfig(start_share=0.0))
    env = make_env(spread, envs=64)
    env.reset()
    assert env.frame.min() >= 0 and len(np.unique(env.frame)) > 10


def test_noise_reaches_the_policy_and_not_the_critic(make_env, exact: TrackingConfig) -> None:
    noisy = dataclasses.replace(
        exact, randomisation=dataclasses.replace(RandomisationConfig.none(), joint_pos_noise=0.1)
    )
    quiet_obs, noisy_obs = make_env(exact).reset(), make_env(noisy).reset()
    assert np.abs(quiet_obs["policy"] - noisy_obs["policy"]).max() > 0.01
    np.testing.assert_array_equal(quiet_obs["critic"], noisy_obs["critic"])


def test_divergence_raises_and_saves_the_state(make_env, exact: TrackingConfig, tmp_path) -> None:
    env = make_env(exact, envs=2)
    env._guard = DivergenceGuard(env.backend, tmp_path / "nan_state.npz")
    env.reset()
    env.backend._qpos[1, 2] = np.nan
    with pytest.raises(PhysicsError, match=r"diverged in 1 of 2 .*nan_state\.npz"):
        env.step(np.zeros((2, 29), np.float32))
    with np.load(tmp_path / "nan_state.npz") as dump:
        assert dump["bad"].tolist() == [False, True]


def test_control_step_must_be_whole_physics_steps() -> None:
    assert substeps_per_control(50.0, 0.005) == 4
    with pytest.raises(InputError, match="multiple"):
        substeps_per_control(60.0, 0.005)


class TorchBatch:
    """The CPU batch behind torch tensors: the path that a GPU takes, every environment worked on under masks."""

    xp, device = torch_xp, torch.device("cpu")

    def __init__(self, batch: CpuBatch) -> None:
        self._batch, self.model, self.num_envs = batch, batch.model, batch.num_envs

    def get_state(self):
        return tuple(map(torch.from_numpy, self._batch.get_state()))

    def set_state(self, qpos, qvel, rows=None):
        assert rows is None, "a GPU is never asked which"
        self._batch.set_state(qpos.numpy(), qvel.numpy())

    def step(self, ctrl, previous_ctrl, delay, num_substeps):
        self._batch.step(ctrl.numpy(), previous_ctrl.numpy(), delay.numpy(), num_substeps)

    def asarray(self, values):
        return torch.from_numpy(np.ascontiguousarray(self._batch.asarray(values)))

    def __getattr__(self, name):
        def call(*args):
            return torch.from_numpy(
                getattr(self._batch, name)(*(a.numpy() if hasattr(a, "numpy") else a for a in args))
            )

        return call


def test_numpy_and_torch_step_alike(make_env, exact: TrackingConfig, flat: Stage) -> None:
    """Listed environments on the CPU and masks on a GPU give the same observations, rewards, ends and new episodes."""
    config = dataclasses.replace(exact, episode_s=0.3)
    mine = make_env(config, envs=3)
    batch = CpuBatch(flat.compile(visuals=False), 3, seed=0, threads=1)
    theirs = TrackingEnv(TorchBatch(batch), TrackedRobot.from_spec(flat.robot), flat.motions, config)  # type: ignore[arg-type]
    first, second = mine.reset(), theirs.reset()
    rng, ended = np.random.default_rng(0), 0
    for _ in range(32):
        for name in first:
            np.testing.assert_allclose(first[name], second[name].numpy(), atol=2e-4)
        action = rng.normal(0, 0.3, (3, 29)).astype(np.float32)
        result, other = mine.step(action), theirs.step(torch.from_numpy(action))
        np.testing.assert_allclose(result.reward, other.reward.numpy(), atol=1e-5)
        np.testing.assert_array_equal(result.failure, other.failure.numpy())
        np.testing.assert_array_equal(result.truncated, other.truncated.numpy())
        for name in result.final_obs:
            np.testing.assert_allclose(result.final_obs[name], other.final_obs[name].numpy(), atol=2e-4)
        ended += int((result.terminated | result.truncated).sum())
        first, second = result.obs, other.obs
    assert ended >= 6


def test_a_model_without_actuators_is_refused(flat: Stage) -> None:
    spec = mujoco.MjSpec.from_file(str(flat.model_path))
    for part in (*spec.actuators, *spec.keys):
        spec.delete(part)
    bare = CpuBatch(spec.compile(), 1, seed=0, threads=1)
    with pytest.raises(InputError, match="the model has 0 actuators for 29 joints"):
        TrackingEnv(bare, TrackedRobot.from_spec(flat.robot), flat.motions, TrackingConfig())


def test_a_task_whose_control_step_is_no_multiple_is_refused(flat: Stage) -> None:
    batch = CpuBatch(flat.compile(visuals=False), 1, seed=0, threads=1)
    with pytest.raises(InputError, match=r"is 3\.33.* physics steps of 0.005 s"):
        TrackingEnv(batch, TrackedRobot.from_spec(flat.robot), flat.motions, TrackingConfig(control_hz=60.0))
