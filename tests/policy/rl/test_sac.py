"""SAC: targets and losses by hand, what each gradient step moves, learning, exact resume."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bodydouble.errors import InputError, TrainingError
from policy.checkpoint import CheckpointInfo, load_checkpoint
from policy.nets.soft import SoftActorCritic, SoftNetConfig
from policy.optim.registry import AdamConfig, AnyOptimizer, MuonConfig
from policy.rl.off_policy import OffPolicyRunner, action_bounds
from policy.rl.replay import Batch
from policy.rl.resume import resume_training, save_training
from policy.rl.sac import SAC, SACConfig
from tests.policy.rl.reach_task import ReachTask

CPU = torch.device("cpu")
NET = SoftNetConfig(actor_layers=(32, 32), critic_layers=(32, 32), atoms=41, lowest=-10.0, highest=2.0)
CONFIG = SACConfig(
    steps=8, gradient_steps=2, policy_every=2, batch=128, buffer=200, warmup=4, gamma=0.9, target_entropy=-1.0,
    optimizer=AdamConfig(lr=3e-3), net=NET,
)  # fmt: skip


def learner(config: SACConfig = CONFIG, temperature: float = 0.5) -> SAC:
    torch.manual_seed(0)
    return SAC(SoftActorCritic(2, 3, (1.0, 2.0), replace(config.net, temperature=temperature)), config)


def batch_of(reward: list[float], discount: list[float]) -> Batch:
    rows = len(reward)
    torch.manual_seed(1)
    return Batch(
        policy=torch.randn(rows, 2), critic=torch.randn(rows, 3), action=torch.rand(rows, 2),
        reward=torch.tensor(reward), discount=torch.tensor(discount), next_policy=torch.randn(rows, 2),
        next_critic=torch.randn(rows, 3),
    )  # fmt: skip


def peaked(sac: SAC, first: int, second: int) -> None:
    """Let the targets be certain of one atom each."""
    for target, atom in zip(sac.net.targets, (first, second), strict=True):
        weight, bias = target[-1].weight, target[-1].bias  # type: ignore[index]
        weight.data.zero_()
        bias.data.fill_(-1e4)
        bias.data[atom] = 0.0


def test_bellman_targets_by_hand() -> None:
    """Atoms -10 to 2 in steps of 0.3; one target is sure of -1 (atom 30), the other of -4 (atom 20), alpha is 0.5.

    Reward 1, discount 0.9, log-probability -2: 1 + 0.9 (-1 + 0.5 * 2) = 1 and 1 + 0.9 (-4 + 1) = -1.7. After a failure
    nothing counts but the reward. A return of 1 + 0.9 * (-1 + 0.5 * 8) = 3.7 is beyond the atoms and counts as 2.
    """
    sac = learner()
    peaked(sac, 30, 20)
    batch = batch_of([1.0, 1.0, 1.0], [0.9, 0.0, 0.9])
    found = sac.target(batch, torch.rand(3, 2), torch.tensor([-2.0, -2.0, -8.0]))
    assert found.shape == (2, 3, 41)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 3))
    means = (found * sac.net.support).sum(-1)
    expected = [[1.0, 1.0, 2.0], [-1.7, 1.0, 1.0]]
    torch.testing.assert_close(means.detach(), torch.tensor(expected), atol=2e-4, rtol=0)


def test_the_temperature_loss_by_hand() -> None:
    """alpha 0.5, two actions, wanted entropy -1 each: -0.5 (mean log p - 2). Its slope by log alpha is the same."""
    sac = learner()
    log_prob = torch.tensor([1.0, 4.0], requires_grad=True)
    loss = sac.temperature_loss(log_prob)
    assert loss.item() == pytest.approx(-0.5 * (2.5 - 2.0))
    loss.backward()
    assert sac.net.log_temperature.grad is not None and log_prob.grad is None
    assert sac.net.log_temperature.grad.item() == pytest.approx(-0.25)
    # Entropy -2.5 is below the wanted -2: a step down the slope raises the temperature.


def test_a_step_moves_what_is_its_own() -> None:
    sac = learner(replace(CONFIG, policy_every=2, target_share=0.5))
    batch = batch_of([1.0, 0.5], [0.9, 0.9])

    def state() -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in sac.net.state_dict().items()}

    begun = state()
    first = sac.update(batch)
    after_first = state()
    sac.update(batch)
    after_second = state()
    moved = [{name.split(".")[0] for name in a if not torch.equal(a[name], b[name])} for a, b in
             ((begun, after_first), (after_first, after_second))]  # fmt: skip
    # The policy has its turn in the first of two steps.
    assert moved[0] == {"actor", "critics", "targets", "log_temperature"} and "policy_loss" in first
    assert moved[1] == {"critics", "targets", "log_temperature"}
    for name in (name for name in begun if name.startswith("targets.")):
        critic = after_first[name.replace("targets", "critics")]
        torch.testing.assert_close(after_first[name], 0.5 * (begun[name] + critic))


def test_critics_learn_the_return_of_a_fixed_policy() -> None:
    """A reward of -0.5 for ever is worth -0.5 / (1 - 0.9) = -5, a failing step -0.5."""
    sac = learner(replace(CONFIG, policy_every=10**9, target_share=0.2), temperature=1e-8)
    sac.version = 1
    batch = batch_of([-0.5] * 4, [0.9, 0.9, 0.9, 0.0])
    for _ in range(400):
        sac.update(replace(batch, next_critic=batch.critic[:1].expand(4, -1), critic=batch.critic))
    # What follows is always the state of the first row.
    values = sac.net.value(sac.net.logits(batch.critic, batch.action)).mean(dim=0)
    next_value = sac.net.value(sac.net.logits(batch.critic[:1].expand(4, -1), sac.net.actor(batch.next_policy)))
    assert values[3].item() == pytest.approx(-0.5, abs=0.1)
    torch.testing.assert_close(values[:3], -0.5 + 0.9 * next_value.mean(dim=0)[:3], atol=0.3, rtol=0)


def runner(seed: int = 0, envs: int = 16, **change) -> OffPolicyRunner:
    torch.manual_seed(seed)
    config = replace(CONFIG, **change)
    return OffPolicyRunner(ReachTask(envs, seed), SAC(SoftActorCritic(2, 3, (2.0,), config.net), config), CPU)


def mean_distance(net: SoftActorCritic) -> float:
    """Distance to the target over 64 fresh episodes of the action without noise."""
    task = ReachTask(64, seed=99)
    obs, rewards = task.reset(), []
    with torch.no_grad():
        for _ in range(32):
            result = task.step(net.actor(torch.as_tensor(obs["policy"])).numpy())
            obs = result.obs
            rewards.append(result.reward)
    return -float(np.mean(rewards))


@pytest.mark.parametrize("change", [{}, {"n_step": 3}], ids=["1", "3"])
def test_learns_to_reach(change: dict) -> None:
    """PPO's test takes 40960 environment steps to come to half of what standing still gives; this one takes 3840.

    Seen with four seeds each: 0.11 to 0.13 of it with one-step returns, 0.14 to 0.25 with three.
    """
    training = runner(**change)
    before = mean_distance(training.sac.net)
    last = training.train(lambda p: p.update >= 30, lambda p: None)
    assert last.env_steps == 30 * 8 * 16
    assert 1.2 < before < 1.5
    assert mean_distance(training.sac.net) < 0.5 * before
    assert last.stats["reward"] > -0.7 * before


def test_truncated_and_failed_steps_reach_the_buffer_as_they_were() -> None:
    training = runner(envs=4, steps=16, warmup=200)
    training.train(lambda p: p.update >= 1, lambda p: None)
    kept, task = training._buffer.snapshot(), training._task
    assert isinstance(task, ReachTask)
    for t, result in enumerate(task.seen):
        assert torch.equal(kept["terminated"][t], torch.as_tensor(result.terminated))
        assert torch.equal(kept["truncated"][t], torch.as_tensor(result.truncated))
        for name in ("policy", "critic"):
            assert torch.equal(kept[f"next_{name}"][t], torch.as_tensor(result.final_obs[name]))
            if t + 1 < len(task.seen):
                assert torch.equal(kept[name][t + 1], torch.as_tensor(result.obs[name]))
    assert kept["truncated"].any()
    assert training.sac.version == 0, "nothing is learned before the warm-up is over"


INFO = CheckpointInfo("toy", ("x",), 2, 3, NET, 0, 0, {})


def curve(training: OffPolicyRunner, until: int) -> list[dict[str, float]]:
    seen: list[dict[str, float]] = []
    training.train(lambda p: p.update >= until, lambda p: seen.append(p.stats))
    return [{name: value for name, value in stats.items() if name != "env_steps_per_s"} for stats in seen]


@pytest.mark.parametrize("optimizer", [AdamConfig(lr=3e-3), MuonConfig()], ids=lambda o: o.name)
def test_the_curve_is_that_of_an_uninterrupted_training(optimizer: AnyOptimizer, tmp_path: Path) -> None:
    change = {"optimizer": optimizer, "steps": 6, "buffer": 20, "n_step": 2}
    whole = runner(**change)
    expected = curve(whole, 5)
    half = runner(**change)
    begun = curve(half, 3)
    save_training(tmp_path / "training.safetensors", half, INFO)
    torch.manual_seed(77)
    resumed = runner(**change)
    torch.manual_seed(78)
    assert resume_training(tmp_path / "training.safetensors", resumed)
    assert begun + curve(resumed, 5) == expected
    mine, theirs = ({**r.sac.net.state_dict(), **r.snapshot()} for r in (resumed, whole))
    assert list(mine) == list(theirs) and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_without_the_buffer_it_is_filled_anew(tmp_path: Path) -> None:
    half = runner(save_buffer=False)
    curve(half, 2)
    save_training(tmp_path / "training.safetensors", half, INFO)
    assert not any(name.startswith("buffer.") for name in half.snapshot())
    resumed = runner(save_buffer=False, steps=2)
    assert not resume_training(tmp_path / "training.safetensors", resumed)
    version = resumed.sac.version
    assert version == half.sac.version
    assert "critic_loss" not in curve(resumed, 3)[0] and resumed.sac.version == version
    assert "critic_loss" in curve(resumed, 4)[0]


def test_ppo_does_not_start_from_it(tmp_path: Path) -> None:
    save_training(tmp_path / "training.safetensors", runner(), INFO)
    with pytest.raises(InputError, match=r"holds a network of off-policy training \(sac\)"):
        load_checkpoint(tmp_path / "training.safetensors")


def test_a_rate_that_diverges_is_named_and_dumped(tmp_path: Path) -> None:
    training = runner(optimizer=AdamConfig(lr=1e30))
    with pytest.raises(TrainingError, match=r"SAC diverged: .*lower optimizer\.lr \(now 1e\+30\); replay buffer and"):
        training.train(lambda p: p.update >= 3, lambda p: None, dump=tmp_path / "dump.safetensors")
    assert (tmp_path / "dump.safetensors").is_file()


def test_a_task_without_the_policys_final_observation_is_refused() -> None:
    class Short(ReachTask):
        def step(self, action):
            result = super().step(action)
            result.final_obs = {"critic": result.final_obs["critic"]}
            return result

    training = OffPolicyRunner(Short(4), SAC(SoftActorCritic(2, 3, (2.0,), NET), CONFIG), CPU)
    with pytest.raises(InputError, match="needs the policy's final observation"):
        training.train(lambda p: p.update >= 1, lambda p: None)


def test_a_buffer_that_fits_in_no_checkpoint_is_refused_at_once() -> None:
    # 12 values of 4 bytes and 2 flags per step, 16 environments, 2 million steps.
    with pytest.raises(InputError, match=r"the replay buffer takes 1525 MiB, a checkpoint at most 1024"):
        runner(buffer=2_000_000)


def test_bounds_reach_the_farther_limit() -> None:
    assert action_bounds((0.0, 0.5), (-1.0, 0.0), (0.5, 1.0), (0.5, 0.25)) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 0}, r"sac\.batch is 0"),
        ({"n_step": 20}, "n_step 20, warmup 4"),
        ({"warmup": 300}, "warmup 300 and buffer 200"),
        ({"target_share": 0.0}, "target_share 0"),
        ({"gamma": 1.0}, "gamma 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(CONFIG, **change)


def test_the_defaults_are_the_recipes_but_for_the_temperature() -> None:
    config = SACConfig()
    assert (config.gamma, config.n_step, config.target_entropy) == (0.97, 1, 0.0)
    assert (config.net.atoms, config.net.lowest, config.net.highest) == (101, -20.0, 20.0)
    assert math.isclose(config.net.temperature, 0.1)
