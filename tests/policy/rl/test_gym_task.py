from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from bodydouble.errors import InputError
from policy.nets.actor_critic import NetConfig
from policy.rl.gym_task import GymTask
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.reward_scale import RewardScale
from policy.rl.runner import Runner, make_net


class Count(gymnasium.Env):
    """Observes how many steps were made and rewards 2; fails after three, or runs out of time after four."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, fails: bool) -> None:
        self._fails, self._steps = fails, 0

    def reset(self, *, seed=None, options=None):
        self._steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self._steps += 1
        obs = np.full(1, self._steps, np.float32)
        return obs, 2.0, self._fails and self._steps == 3, self._steps == 4, {}


def counters(mode: AutoresetMode = AutoresetMode.SAME_STEP) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: Count(True), lambda: Count(False)], autoreset_mode=mode)


def test_a_finished_episode_leaves_its_last_observation_and_its_return() -> None:
    task = GymTask(counters(), seed=0)
    assert task.reset()["policy"].tolist() == [[0.0], [0.0]] and np.isnan(task.mean_return)
    steps = [task.step(np.full((2, 2), 5.0, np.float32)) for _ in range(4)]
    assert steps[2].terminated.tolist() == [True, False] and steps[2].final_obs["critic"].tolist() == [[3.0], [3.0]]
    assert steps[2].obs["policy"].tolist() == [[0.0], [3.0]]
    assert steps[3].truncated.tolist() == [False, True] and steps[3].final_obs["policy"].tolist() == [[1.0], [4.0]]
    assert list(task.finished) == [6.0, 8.0] and task.mean_return == 7.0


def test_rewards_are_scaled_by_the_spread_of_the_discounted_return() -> None:
    scale, rng = RewardScale(64, 0.9), np.random.default_rng(0)
    done = np.zeros(64, bool)
    for _ in range(400):
        scaled = scale(rng.normal(0.0, 3.0, 64), done)
    # The discounted sum of independent rewards has the variance 9 / (1 - 0.81).
    expected = 3.0 / np.sqrt(9.0 / (1.0 - 0.81))
    assert float(np.std(scaled)) == pytest.approx(expected, rel=0.25)
    again = RewardScale(64, 0.9)
    again.restore(scale.snapshot())
    reward = rng.normal(0.0, 3.0, 64)
    np.testing.assert_array_equal(again(reward, done), scale(reward, done))


def test_an_environment_that_loses_a_step_on_a_reset_is_refused() -> None:
    with pytest.raises(InputError, match="SAME_STEP"):
        GymTask(counters(AutoresetMode.NEXT_STEP), seed=0)


def test_discrete_actions_are_refused() -> None:
    make = lambda: gymnasium.make("CartPole-v1")  # noqa: E731
    env = SyncVectorEnv([make, make], autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(InputError, match="action space is Discrete"):
        GymTask(env, seed=0)


def test_the_training_loop_takes_it() -> None:
    torch.manual_seed(0)
    task = GymTask(counters(), seed=0)
    net = make_net(task.reset(), task.action_size, NetConfig((8,), (8,)), torch.device("cpu"))
    runner = Runner(task, PPO(net, PPOConfig(steps=6, minibatches=2)), torch.device("cpu"))
    progress = runner.train(lambda p: p.update == 3, lambda p: None)
    assert progress.env_steps == 36 and task.mean_return > 0
