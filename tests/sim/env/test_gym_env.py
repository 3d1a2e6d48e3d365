from __future__ import annotations

import numpy as np
from gymnasium.utils.env_checker import check_env

from sim.env.gym_env import TrackingGymEnv, TrackingVectorEnv
from sim.stage.stage import Stage


def test_single_environment_passes_gymnasiums_checker(flat: Stage) -> None:
    check_env(TrackingGymEnv(flat), skip_render_check=True)


def test_vector_environment_resets_in_the_same_step(flat: Stage) -> None:
    env = TrackingVectorEnv(flat, 3)
    obs, _ = env.reset(seed=3)
    assert obs in env.observation_space
    ended = 0
    for _ in range(120):
        obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert obs in env.observation_space and reward.shape == (3,)
        if (terminated | truncated).any():
            ended += 1
            np.testing.assert_array_equal(info["_final_obs"], terminated | truncated)
            assert np.isfinite(info["final_obs"]).all()
    assert ended > 0, "random actions make the robot fall within two seconds"


def test_a_seed_repeats_the_episode(flat: Stage) -> None:
    env = TrackingGymEnv(flat)
    runs = []
    for _ in range(2):
        obs, _ = env.reset(seed=11)
        seen = [obs]
        for _ in range(20):
            obs, *_ = env.step(np.zeros(29, np.float32))
            seen.append(obs)
        runs.append(np.stack(seen))
    np.testing.assert_array_equal(runs[0], runs[1])
