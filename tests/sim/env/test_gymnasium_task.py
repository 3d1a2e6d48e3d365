from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest

from bodydouble.errors import InputError, PhysicsError
from sim.env.ant_env import AntVectorEnv
from sim.env.half_cheetah_env import HalfCheetahVectorEnv
from sim.env.reacher_env import ReacherVectorEnv

TASKS = {
    "HalfCheetah-v5": (HalfCheetahVectorEnv, 17),
    "Ant-v5": (AntVectorEnv, 27),
    "Reacher-v5": (ReacherVectorEnv, 10),
}
"""The task and how many values of its observation do not hang on which Runge-Kutta stage is read."""


@pytest.mark.parametrize("name", TASKS)
def test_it_is_gymnasiums_task(name: str) -> None:
    """From one state and with one action sequence, observation, reward and end agree with Gymnasium's."""
    pytest.importorskip("imageio", reason="Gymnasium's own MuJoCo environments need it: the extra bench")
    make, exact = TASKS[name]
    peer = gymnasium.make(name).unwrapped
    first, _ = peer.reset(seed=1)
    ours = make(2, threads=1)
    ours.reset(seed=1)
    ours._qpos[:], ours._qvel[:] = peer.data.qpos, peer.data.qvel
    ours._batch.forward()
    ours._warmstart[:] = peer.data.qacc_warmstart
    assert ours.single_observation_space.shape == peer.observation_space.shape
    np.testing.assert_allclose(ours._observe(slice(None))[0], first, rtol=1e-5, atol=1e-5)
    rng = np.random.default_rng(0)
    for _ in range(15):
        action = rng.uniform(-1.0, 1.0, ours.single_action_space.shape)
        obs, reward, ended, _, more = peer.step(action)
        mine, my_reward, my_end, _, info = ours.step(np.stack([action, action]))
        last = info["final_obs"][0] if my_end[0] else mine[0]
        np.testing.assert_allclose(last[:exact], obs[:exact], rtol=2e-3, atol=2e-3)
        assert bool(my_end[0]) == ended
        # The contact cost is the reward's only part that reads the forces, and small: at most 78 times 5e-4.
        cost = 5e-4 * float(np.sum(last[exact:].astype(np.float64) ** 2))
        assert my_reward[0] + cost == pytest.approx(reward - more.get("reward_contact", 0.0), abs=2e-3)
        if ended:
            break


def test_an_ant_on_its_back_starts_anew_and_leaves_its_last_observation() -> None:
    env = AntVectorEnv(4, threads=2)
    env.reset(seed=0)
    env._qpos[1, 2] = 3.0
    env._batch.forward()
    obs, _, ended, timed_out, info = env.step(np.zeros((4, 8)))
    assert ended.tolist() == [False, True, False, False] and not timed_out.any()
    assert info["final_obs"][1, 0] > 2.0 and obs[1, 0] < 1.0
    np.testing.assert_array_equal(info["final_obs"][0], obs[0])


def test_time_runs_out_without_failure() -> None:
    env = HalfCheetahVectorEnv(2, threads=1)
    env.reset(seed=0)
    env._age[1] = env.episode_steps - 1
    _, _, ended, timed_out, info = env.step(np.zeros((2, 6)))
    assert not ended.any() and timed_out.tolist() == [False, True] and info["_final_obs"].tolist() == [False, True]


def test_reachers_targets_fill_their_disc() -> None:
    env = ReacherVectorEnv(500, threads=1)
    obs, _ = env.reset(seed=0)
    radius = np.linalg.norm(obs[:, 4:6], axis=1)
    assert radius.max() < 0.2 and float(np.mean(radius < 0.1)) == pytest.approx(0.25, abs=0.06)


@pytest.mark.parametrize("make", [HalfCheetahVectorEnv, AntVectorEnv, ReacherVectorEnv])
def test_bits_do_not_depend_on_threads(make: type[HalfCheetahVectorEnv]) -> None:
    seen = []
    for threads in (1, 2):
        env = make(6, threads=threads)
        env.reset(seed=5)
        rng = np.random.default_rng(1)
        steps = [env.step(rng.uniform(-1, 1, (6, env.model.nu)))[:2] for _ in range(20)]
        seen.append(np.concatenate([np.concatenate([obs, reward[:, None]], axis=1) for obs, reward in steps]))
    np.testing.assert_array_equal(seen[0], seen[1])


def test_diverged_physics_raises_and_keeps_the_state(tmp_path: Path) -> None:
    env = AntVectorEnv(3, threads=1, dump=tmp_path / "nan.npz")
    env.reset(seed=0)
    env._qvel[2, 3] = np.nan
    with pytest.raises(PhysicsError, match="1 of 3 simulations"):
        env.step(np.zeros((3, 8)))
    with np.load(tmp_path / "nan.npz") as saved:
        assert saved["bad"].tolist() == [False, False, True]


def test_no_environment_is_refused() -> None:
    with pytest.raises(InputError, match="num_envs is 0"):
        AntVectorEnv(0)
