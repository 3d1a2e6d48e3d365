"""Several value functions: their advantages as one, what each of them learns, and training with them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bodydouble.errors import InputError
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.optim.registry import AdamConfig
from policy.rl.gae import gae
from policy.rl.multi_critic import weighted_sum
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.ranks import Ranks
from policy.rl.runner import Runner
from tests.policy.rl.reach_task import ReachTask

CPU = torch.device("cpu")
NET = NetConfig(actor_layers=(32,), critic_layers=(32,), init_std=0.6, critics=2)
standardised = Ranks().standardised


class TwoRewards(ReachTask):
    """Reaching, with a second reward a thousand times as large that punishes large actions."""

    def step(self, action: Any) -> SimpleNamespace:
        result = super().step(action)
        result.rewards = np.stack([result.reward, -1000.0 * action[:, 0] ** 2], axis=1).astype(np.float32)
        result.reward = result.rewards.sum(axis=1)
        return result


def runner(task: ReachTask, **config: Any) -> Runner:
    torch.manual_seed(0)
    settings = {"steps": 16, "optimizer": AdamConfig(lr=1e-3), "max_lr": 5e-3, **config}
    return Runner(task, PPO(ActorCritic(2, 3, 1, NET), PPOConfig(**settings)), CPU)


def test_the_weighted_sum_by_hand() -> None:
    """Advantages 1, 2, 3 become -1, 0, 1 and 30, 10, 20 become 1, -1, 0; with weights 3 and 1: -0.5, -0.25, 0.75."""
    advantages = torch.tensor([[1.0, 30.0], [2.0, 10.0], [3.0, 20.0]])
    found = weighted_sum(advantages, (3.0, 1.0), standardised)
    torch.testing.assert_close(found, torch.tensor([-0.5, -0.25, 0.75]))
    torch.testing.assert_close(weighted_sum(advantages, (), standardised), torch.tensor([0.0, -0.5, 0.5]))
    # A group without weight is not heard.
    torch.testing.assert_close(weighted_sum(advantages, (1.0, 0.0), standardised), torch.tensor([-1.0, 0.0, 1.0]))


@pytest.mark.parametrize("weights", [(1.0,), (1.0, -1.0), (0.0, 0.0)])
def test_weights_that_make_no_sum_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="expected one of 0 or more for each of 2 reward groups"):
        weighted_sum(torch.randn(4, 2), weights, standardised)


def test_the_size_of_a_reward_does_not_matter() -> None:
    torch.manual_seed(0)
    advantages = torch.randn(50, 3)
    scaled = advantages * torch.tensor([1.0, 100.0, 1e-3])
    torch.testing.assert_close(
        weighted_sum(scaled, (), standardised), weighted_sum(advantages, (), standardised), rtol=1e-3, atol=1e-4
    )


def test_groups_are_traced_apart() -> None:
    torch.manual_seed(0)
    rewards, values, following = (torch.randn(7, 4, 3) for _ in range(3))
    terminated, truncated = torch.rand(7, 4) < 0.2, torch.rand(7, 4) < 0.2
    together = gae(rewards, values, following, terminated, truncated, 0.9, 0.8)
    for g in range(3):
        apart = gae(rewards[..., g], values[..., g], following[..., g], terminated, truncated, 0.9, 0.8)
        for a, b in zip(together, apart, strict=True):
            assert torch.equal(a[..., g], b)


def test_the_heads_have_no_gradient_in_common() -> None:
    torch.manual_seed(0)
    net = ActorCritic(2, 3, 1, NetConfig((8,), (8, 8), critics=3))
    values = net.value(torch.randn(5, 3))
    assert values.shape == (5, 3)
    heads = list(net.critic_net.children())
    for g, own in enumerate(heads):
        net.zero_grad(set_to_none=True)
        values[:, g].sum().backward(retain_graph=True)
        for other in heads:
            moved = [parameter.grad is not None and bool(parameter.grad.any()) for parameter in other.parameters()]
            assert all(moved) if other is own else not any(moved)


def test_rollouts_hold_every_groups_reward_and_value() -> None:
    training = runner(TwoRewards(8))
    training.collect()
    rollout = training._rollout
    assert rollout.rewards.shape == rollout.value.shape == rollout.next_value.shape == (16, 8, 2)
    torch.testing.assert_close(rollout.rewards.sum(-1), rollout.reward)
    done = rollout.terminated | rollout.truncated
    assert torch.equal(rollout.next_value[:-1][~done[:-1]], rollout.value[1:][~done[:-1]])
    with torch.no_grad():
        expected = training.ppo.net.value(rollout.reached[done])
    torch.testing.assert_close(rollout.next_value[done], expected, rtol=1e-5, atol=1e-5)


def mean_distance(net: ActorCritic) -> float:
    task = ReachTask(64, seed=99)
    obs, rewards = task.reset(), []
    with torch.no_grad():
        for _ in range(32):
            result = task.step(net.actor(torch.as_tensor(obs["policy"])).numpy())
            obs = result.obs
            rewards.append(result.reward)
    return -float(np.mean(rewards))


def test_learns_beside_a_reward_of_another_size() -> None:
    """With one value function of the sum, the thousandfold cost of moving would be all that is learned."""
    distances = []
    for critics in (2, 1):
        torch.manual_seed(0)
        net = ActorCritic(2, 3, 1, NetConfig((32,), (32,), init_std=0.6, critics=critics))
        config = PPOConfig(
            steps=16, optimizer=AdamConfig(lr=1e-3), max_lr=5e-3, critic_weights=(3.0, 1.0) if critics == 2 else ()
        )
        training = Runner(TwoRewards(64), PPO(net, config), CPU)
        before = mean_distance(net)
        training.train(lambda p: p.update >= 25, lambda p: None)
        distances.append(mean_distance(net) / before)
    assert distances[0] < 0.6 and distances[1] > 0.9


def test_a_task_of_other_groups_is_refused() -> None:
    with pytest.raises(InputError, match=r"net\.critics is 2, the task gives none groups of rewards"):
        runner(ReachTask(4)).collect()
