"""Training of a policy with memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bodydouble.errors import InputError
from policy.checkpoint import CheckpointInfo
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.optim.registry import AdamConfig
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.resume import resume_training, save_training
from policy.rl.runner import Runner
from tests.policy.rl.recall_task import RecallTask

CPU = torch.device("cpu")
NET = NetConfig(actor_layers=(16,), critic_layers=(16,), init_std=0.5, memory=8)
CONFIG = PPOConfig(steps=8, epochs=4, minibatches=2, gamma=0.95, optimizer=AdamConfig(lr=1e-3), max_lr=1e-2)


def recall(envs: int = 64, seed: int = 0, net: NetConfig = NET, config: PPOConfig = CONFIG) -> Runner:
    torch.manual_seed(seed)
    return Runner(RecallTask(envs, seed), PPO(ActorCritic(2, 2, 1, net), config), CPU)


def error(runner: Runner) -> float:
    """Mean squared distance of the mean action to the sign that was shown three steps before."""
    task = RecallTask(64, seed=77)
    obs, net = task.reset(), runner.ppo.net
    memory, rewards = net.empty_memory(64), []
    done = torch.ones(64, dtype=torch.bool)
    with torch.no_grad():
        for step in range(12):
            action, memory = net.mean(torch.as_tensor(obs["policy"]), memory * (~done)[:, None])
            result = task.step(action.numpy())
            done = torch.as_tensor(result.terminated)
            # The first episodes began before the sign could be seen.
            if step >= 4:
                rewards.append(torch.as_tensor(result.reward[result.terminated]))
            obs = result.obs
    return -float(torch.cat(rewards).mean())


def test_learns_what_only_memory_can() -> None:
    """Without memory nothing beats the answer zero, which costs one; with it a third of that is reached."""
    runner, blind = recall(), recall(net=replace(NET, memory=0))
    for one in (runner, blind):
        torch.manual_seed(5)
        one.train(lambda p: p.update >= 60, lambda p: None)
    assert error(blind) > 0.9
    assert error(runner) < 0.33


def test_the_stored_log_probabilities_are_those_of_the_unrolled_policy() -> None:
    """Right after collecting, every ratio is one, though the update sees whole sequences and the actor single steps."""
    runner = recall(envs=6)
    runner.train(lambda p: p.update >= 2, lambda p: None)
    runner.collect()
    rollout, net = runner._rollout, runner.ppo.net
    data = rollout.flat()
    assert rollout.starts[1:].any() and rollout.memory[0].abs().max() > 0
    with torch.no_grad():
        mean = net.means(data["policy"], data["memory"], data["starts"], rollout.steps)
        torch.testing.assert_close(mean, data["mean"])
        torch.testing.assert_close(net.log_prob(data["action"], mean), data["log_prob"])


def test_a_resumed_training_remembers(tmp_path: Path) -> None:
    info = CheckpointInfo("toy", ("x",), 2, 2, NET, 0, 0, {})

    def curve(runner: Runner, until: int) -> list[float]:
        seen: list[float] = []
        runner.train(lambda p: p.update >= until, lambda p: seen.append(p.stats["surrogate"]))
        return seen

    whole = curve(recall(envs=6, config=replace(CONFIG, steps=6)), 4)
    half = recall(envs=6, config=replace(CONFIG, steps=6))
    begun = curve(half, 2)
    save_training(tmp_path / "training.safetensors", half, info)
    resumed = recall(envs=6, config=replace(CONFIG, steps=6))
    assert resume_training(tmp_path / "training.safetensors", resumed)
    assert begun + curve(resumed, 4) == whole


def test_too_few_environments_are_refused() -> None:
    with pytest.raises(InputError, match="a policy with memory takes whole sequences: 1 environments do not fill 2"):
        recall(envs=1).train(lambda p: True, lambda p: None)
