from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest

from bodydouble.errors import InputError, PhysicsError
from sim.env.humanoid_env import HumanoidVectorEnv


def test_it_is_gymnasiums_humanoid() -> None:
    """From one state and with one action sequence, observation, reward and end agree with Humanoid-v5."""
    pytest.importorskip("imageio", reason="Gymnasium's own MuJoCo environments need it: the extra bench")
    peer = gymnasium.make("Humanoid-v5").unwrapped
    peer.reset(seed=1)
    ours = HumanoidVectorEnv(2, threads=1)
    ours.reset(seed=1)
    ours._qpos[:] = peer.data.qpos
    ours._qvel[:] = peer.data.qvel
    ours._batch.forward()
    ours._warmstart[:] = peer.data.qacc_warmstart
    rng, compared = np.random.default_rng(0), 0
    for _ in range(12):
        action = rng.uniform(-0.4, 0.4, 17)
        obs, reward, ended, _, _ = peer.step(action)
        mine, my_reward, my_end, _, info = ours.step(np.stack([action, action]))
        last = info["final_obs"][0] if my_end[0] else mine[0]
        np.testing.assert_allclose(last[:270], obs[:270], rtol=2e-3, atol=2e-3)
        # Contact forces are those of the Runge-Kutta step's first stage, Gymnasium's those of its last.
        touched, theirs = np.abs(last[270:]) > 1.0, np.abs(obs[270:]) > 1.0
        if touched.any() and theirs.any():
            compared += 1
            assert np.corrcoef(last[270:], obs[270:])[0, 1] > 0.8
        cost = [min(5e-7 * float(np.sum(seen[270:].astype(np.float64) ** 2)), 10.0) for seen in (last, obs)]
        assert my_reward[0] + cost[0] == pytest.approx(reward + cost[1], abs=2e-3) and bool(my_end[0]) == ended
        if ended:
            break
    assert compared > 0


def test_a_fallen_one_starts_anew_and_leaves_its_last_observation() -> None:
    env = HumanoidVectorEnv(4, threads=2)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(200):
        obs, _, ended, timed_out, info = env.step(rng.uniform(-0.4, 0.4, (4, 17)))
        if ended.any():
            assert (info["final_obs"][ended, 0] < 1.0).all() and (obs[ended, 0] > 1.3).all()
            np.testing.assert_array_equal(info["_final_obs"], ended | timed_out)
            return
    pytest.fail("random torques let the humanoid fall within three seconds")


def test_bits_do_not_depend_on_threads() -> None:
    seen = []
    for threads in (1, 2):
        env = HumanoidVectorEnv(6, threads=threads)
        env.reset(seed=5)
        rng = np.random.default_rng(2)
        for _ in range(40):
            obs, *_ = env.step(rng.uniform(-0.4, 0.4, (6, 17)))
        seen.append(obs)
    np.testing.assert_array_equal(*seen)


def test_divergence_raises_and_keeps_the_state(tmp_path: Path) -> None:
    env = HumanoidVectorEnv(3, threads=1, dump=tmp_path / "bad.npz")
    env.reset(seed=0)
    env._qvel[1] = np.nan
    with pytest.raises(PhysicsError, match="diverged in 1 of 3"):
        env.step(np.zeros((3, 17)))
    assert np.load(tmp_path / "bad.npz")["bad"].tolist() == [False, True, False]


def test_no_environment_is_refused() -> None:
    with pytest.raises(InputError, match="num_envs is 0"):
        HumanoidVectorEnv(0)
