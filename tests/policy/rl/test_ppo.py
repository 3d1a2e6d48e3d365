from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from bodydouble.errors import InputError, TrainingError
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.optim.registry import REGISTRY, AdamConfig, MuonConfig
from policy.optim.schedule import ScheduleConfig
from policy.rl.objectives.clip import GRPO, GSPO, PPOClip
from policy.rl.objectives.registry import OBJECTIVES
from policy.rl.objectives.vespo import VESPO
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.rollout import Rollout

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def constant_net(mean: list[float], value: float = 0.0, std: float = 1.0) -> ActorCritic:
    """A network without hidden layers whose mean action and value are constants (its biases)."""
    net = ActorCritic(1, 1, len(mean), NetConfig(actor_layers=(), critic_layers=(), init_std=std))
    tensors = net.state_dict()
    tensors["actor.net.0.weight"].zero_()
    tensors["actor.net.0.bias"].copy_(torch.tensor(mean))
    tensors["critic_net.0.weight"].zero_()
    tensors["critic_net.0.bias"].fill_(value)
    return net


def mean_of(net: ActorCritic) -> list[float]:
    return net.state_dict()["actor.net.0.bias"].tolist()


def value_of(net: ActorCritic) -> float:
    return net.state_dict()["critic_net.0.bias"].item()


def batch(ratio: list[float], advantage: list[float], returns: list[float], action: float = 1.0) -> dict:
    """Samples of one action at observation 0, whose old log-probability makes the ratio what is asked for."""
    count = len(ratio)
    new = -0.5 * action**2 - HALF_LOG_2PI
    return {
        "policy": torch.zeros(count, 1),
        "critic": torch.zeros(count, 1),
        "action": torch.full((count, 1), action),
        "log_prob": new - torch.tensor(ratio).log(),
        "advantage": torch.tensor(advantage),
        "return": torch.tensor(returns),
        "memory": torch.zeros(count, 0),
        "starts": torch.zeros(count, dtype=torch.bool),
    }


def filled(net: ActorCritic, steps: int, envs: int, reward, seed: int = 0) -> Rollout:
    """A rollout of one-step episodes at observation 0; `reward` maps actions (N, J) to rewards (N,)."""
    torch.manual_seed(seed)
    actions = net.log_std.shape[0]
    rollout = Rollout(steps, envs, {"policy": 1, "critic": 1}, actions, torch.device("cpu"))
    with torch.no_grad():
        for t in range(steps):
            action, log_prob, mean, _ = net.act(rollout.obs["policy"][t], net.empty_memory(envs))
            rollout.action[t], rollout.log_prob[t], rollout.mean[t] = action, log_prob, mean
            rollout.reward[t] = reward(action)
            rollout.value[t] = net.value(rollout.obs["critic"][t])
    rollout.terminated[:] = True
    return rollout


def test_losses_by_hand() -> None:
    # Clip 0.2. Ratio 1.5 and 0.5, advantage +1 and -1:
    #   min(1.5, 1.2) = 1.2; min(-1.5, -1.2) = -1.5; min(0.5, 0.8) = 0.5; min(-0.5, -0.8) = -0.8; mean -0.15.
    # Value 2 against returns 2, 3, 4, 1: (0 + 1 + 4 + 1) / 4 = 1.5.
    # Entropy of a unit Gaussian: 0.5 log(2 pi e) = 1.4189385.
    ppo = PPO(constant_net([0.0], value=2.0), PPOConfig(objective=PPOClip(clip=0.2)))
    surrogate, value_loss, mean, more = ppo._losses(
        batch([1.5, 1.5, 0.5, 0.5], [1.0, -1.0, 1.0, -1.0], [2.0, 3.0, 4.0, 1.0]), steps=1
    )
    assert surrogate.item() == pytest.approx(0.15, abs=1e-6)
    assert value_loss.item() == pytest.approx(1.5)
    assert ppo.net.entropy().item() == pytest.approx(1.4189385)
    assert mean.tolist() == [[0.0]] * 4
    assert more["clipped"].item() == 1.0


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [(1.5, 1.0, False), (1.5, -1.0, True), (0.5, 1.0, True), (0.5, -1.0, False), (1.1, 1.0, True), (0.9, -1.0, True)],
)
def test_a_clipped_sample_pushes_no_further(ratio: float, advantage: float, moves: bool) -> None:
    """Only moves that the clip range still allows, and moves back, have a gradient."""
    net = constant_net([0.0])
    surrogate, *_ = PPO(net, PPOConfig(objective=PPOClip(clip=0.2)))._losses(
        batch([ratio], [advantage], [0.0]), steps=1
    )
    surrogate.backward()
    gradient = net.get_parameter("actor.net.0.bias").grad
    assert gradient is not None
    # d log p / d mean = (action - mean) / std^2 = 1, so d surrogate / d mean = -ratio * advantage.
    assert gradient.item() == pytest.approx(-ratio * advantage if moves else 0.0, abs=1e-6)


def test_kl_by_hand() -> None:
    # Means 1 apart, both unit: 0.5. Same mean, the new one twice as wide: log 2 + 1 / 8 - 1 / 2 = 0.3181472.
    net = constant_net([0.0])
    ppo = PPO(net, PPOConfig())
    one = torch.ones(1)
    assert ppo._kl(torch.zeros(1, 1), one, torch.ones(1, 1)).item() == pytest.approx(0.5)
    with torch.no_grad():
        net.log_std.fill_(math.log(2.0))
    assert ppo._kl(torch.zeros(1, 1), one, torch.zeros(1, 1)).item() == pytest.approx(0.3181472, abs=1e-6)


def test_kl_is_that_of_torch_summed_over_actions() -> None:
    torch.manual_seed(0)
    net = constant_net([0.0, 0.0, 0.0], std=0.7)
    old_mean, new_mean, old_std = torch.randn(5, 3), torch.randn(5, 3), torch.rand(3) + 0.2
    expected = kl_divergence(Normal(old_mean, old_std), Normal(new_mean, torch.exp(net.log_std))).sum(-1).mean()
    torch.testing.assert_close(PPO(net, PPOConfig())._kl(old_mean, old_std, new_mean), expected)


def test_learning_rate_follows_the_kl() -> None:
    ppo = PPO(constant_net([0.0]), PPOConfig(target_kl=0.01, optimizer=AdamConfig(lr=3e-4)))
    rates = []
    for kl in (0.021, 0.015, 0.007, 0.004):
        ppo._steer(kl)
        rates.append(ppo.lr)
        assert ppo.optimizer.param_groups[0]["lr"] == ppo.lr
    # Too far: divided by 1.5; between half and twice the target: kept; too near: multiplied by 1.5.
    assert rates == pytest.approx([2e-4, 2e-4, 2e-4, 3e-4])


def test_learning_rate_stays_in_its_bounds() -> None:
    ppo = PPO(constant_net([0.0]), PPOConfig(min_lr=1e-5, max_lr=1e-3))
    for _ in range(40):
        ppo._steer(1.0)
    assert ppo.lr == 1e-5
    for _ in range(40):
        ppo._steer(0.0)
    assert ppo.lr == 1e-3


def test_without_a_target_the_rate_is_fixed() -> None:
    net = constant_net([0.0])
    ppo = PPO(net, PPOConfig(target_kl=0.0, optimizer=AdamConfig(lr=0.05)))
    stats = ppo.update(filled(net, 4, 16, lambda a: a[:, 0]))
    assert stats["lr"] == ppo.optimizer.param_groups[0]["lr"] == 0.05 and stats["kl"] > 0.02


def test_every_epoch_shows_each_sample_once() -> None:
    torch.manual_seed(0)
    ppo = PPO(constant_net([0.0]), PPOConfig(epochs=2, minibatches=4))
    data = {"action": torch.arange(12.0)[:, None], "advantage": 10 * torch.arange(12.0)}
    parts = list(ppo._minibatches(data))
    assert [len(part["action"]) for part in parts] == [3] * 8
    for epoch in (parts[:4], parts[4:]):
        assert sorted(torch.cat([part["action"][:, 0] for part in epoch]).tolist()) == list(range(12))
    assert all(torch.equal(10 * part["action"][:, 0], part["advantage"]) for part in parts), "rows stay together"
    first, second = (torch.cat([part["advantage"] for part in epoch]) for epoch in (parts[:4], parts[4:]))
    assert not torch.equal(first, second), "each epoch has its own order"


def test_an_update_moves_towards_what_was_rewarded() -> None:
    net = constant_net([0.0, 0.0])
    ppo = PPO(net, PPOConfig(target_kl=0.0, optimizer=AdamConfig(lr=0.01)))
    rollout = filled(net, 8, 64, lambda action: 2.0 + action[:, 0] - 3.0 * action[:, 1])
    stats = ppo.update(rollout)
    mean = mean_of(net)
    assert mean[0] > 0.02 and mean[1] < -0.02
    # The value of the only state is the mean reward, 2; 20 steps of at most 0.01 head for it.
    assert 0.1 < value_of(net) < 0.21
    assert stats["value_loss"] > 1.0 and stats["surrogate"] < 0


def test_advantages_are_normalised() -> None:
    """Rewards a thousand times larger give the same policy step."""
    biases = []
    for factor in (1.0, 1000.0):
        net = constant_net([0.0])
        rollout = filled(net, 8, 16, lambda action, factor=factor: factor * action[:, 0])
        torch.manual_seed(1)
        PPO(net, PPOConfig(target_kl=0.0, max_grad_norm=math.inf)).update(rollout)
        biases.append(mean_of(net)[0])
    assert biases[0] > 0 and biases[1] == pytest.approx(biases[0], rel=1e-3)


def test_the_spread_has_a_floor() -> None:
    net = constant_net([0.0], std=0.3)
    # A negative entropy weight pulls the spread down by 0.1 a step in its logarithm.
    ppo = PPO(net, PPOConfig(entropy_weight=-10.0, min_std=0.2, target_kl=0.0, optimizer=AdamConfig(lr=0.1)))
    stats = ppo.update(filled(net, 4, 16, lambda action: torch.zeros(len(action))))
    assert stats["std"] == pytest.approx(0.2, rel=1e-5)


def test_gradients_are_clipped() -> None:
    """A value error of a million may not move anything by more than the clipped step of plain descent."""
    net = constant_net([0.0])
    ppo = PPO(net, PPOConfig(max_grad_norm=0.5, target_kl=0.0, epochs=1, minibatches=1))
    ppo.optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    ppo.update(filled(net, 2, 8, lambda action: torch.full((len(action),), 1e6)))
    assert value_of(net) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["reward", "value"])
def test_nothing_is_learned_from_a_rollout_that_is_not_finite(bad: float, name: str) -> None:
    net = constant_net([0.0])
    rollout = filled(net, 2, 8, lambda action: action[:, 0])
    getattr(rollout, name)[1, 3] = bad
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    with pytest.raises(TrainingError, match=rf"not finite: {name}; nothing was learned"):
        PPO(net, PPOConfig()).update(rollout)
    assert all(torch.equal(tensor, net.state_dict()[key]) for key, tensor in before.items())


def test_a_learning_rate_that_diverges_is_named() -> None:
    net = constant_net([0.0])
    ppo = PPO(net, PPOConfig(target_kl=0.0, optimizer=AdamConfig(lr=1e30)))
    with pytest.raises(TrainingError, match=r"not finite; lower optimizer\.lr \(now 1e\+30\)"):
        ppo.update(filled(net, 2, 8, lambda action: action[:, 0]))


def test_a_rate_outside_of_the_steering_is_refused() -> None:
    with pytest.raises(InputError, match=r"lr 0\.02 lies outside of what the steering keeps to, ppo\.min_lr 1e-05"):
        PPOConfig(optimizer=MuonConfig(lr=0.02))
    with pytest.raises(InputError, match="both set the learning rate"):
        PPOConfig(schedule=ScheduleConfig("cosine", total=10))


def test_a_schedule_sets_the_rate_of_each_update() -> None:
    net = constant_net([0.0, 0.0])
    schedule = ScheduleConfig("linear", warmup=1, total=5)
    ppo = PPO(net, PPOConfig(target_kl=0.0, schedule=schedule, optimizer=AdamConfig(lr=0.01)))
    rates = [ppo.update(filled(net, 2, 8, lambda action: action[:, 0]))["lr"] for _ in range(5)]
    assert rates == pytest.approx([0.01, 0.01, 0.0075, 0.005, 0.0025])
    assert ppo.optimizer.param_groups[0]["lr"] == pytest.approx(0.0025)


@pytest.mark.parametrize("kind", list(REGISTRY.values()))
def test_every_optimizer_of_the_registry_learns(kind) -> None:
    torch.manual_seed(0)
    net = ActorCritic(1, 1, 2, NetConfig(actor_layers=(8, 8), critic_layers=(8, 8)))
    ppo = PPO(net, PPOConfig(target_kl=0.0, optimizer=kind(lr=0.01)))
    for seed in range(4):
        ppo.update(filled(net, 8, 64, lambda action: action[:, 0] - action[:, 1], seed))
    with torch.no_grad():
        mean = net.actor(torch.zeros(1, 1))[0]
    assert mean[0] > 0.05 and mean[1] < -0.05


@pytest.mark.parametrize("kind", list(OBJECTIVES.values()))
@pytest.mark.parametrize("advantage", ["gae", "group"])
def test_every_objective_learns(kind, advantage) -> None:
    net = constant_net([0.0, 0.0])
    # GSPO's published range is so narrow that nearly every step is clipped after the first.
    objective = GSPO(0.2, 0.2) if kind is GSPO else kind()
    config = PPOConfig(
        target_kl=0.0, objective=objective, advantage=advantage, entropy_weight=0.0, optimizer=AdamConfig(lr=0.01)
    )
    ppo = PPO(net, config)
    rollout = filled(net, 8, 64, lambda action: action[:, 0] - action[:, 1])
    rollout.starts[:] = True
    stats = ppo.update(rollout)
    mean = mean_of(net)
    assert mean[0] > 0.02 and mean[1] < -0.02
    assert ppo.version == 20 and stats["staleness"] == pytest.approx(9.5), "20 gradient steps, 0 to 19 behind"
    assert ("whole_share" in stats) == (advantage == "group")


def test_the_clip_is_centred_where_the_update_begins() -> None:
    """An actor that was behind: without it, a first update has used up the range that a second one finds."""
    clipped, moved = [], []
    for recentre in (True, False):
        net = constant_net([0.0, 0.0])
        config = PPOConfig(target_kl=0.0, recentre=recentre, epochs=1, minibatches=4, optimizer=AdamConfig(lr=0.1))
        ppo = PPO(net, config)
        rollout = filled(net, 8, 64, lambda action: action[:, 0] - action[:, 1])
        torch.manual_seed(1)
        ppo.update(rollout)
        before = mean_of(net)
        clipped.append(ppo.update(rollout)["clipped"])
        moved.append(mean_of(net)[0] - before[0])
    assert clipped[0] < 0.6 * clipped[1] and moved[0] > moved[1]


def test_what_an_older_policy_did_is_weighted() -> None:
    # Action 1 under N(0, 1) and N(0.5, 1): log ratio 0.5 - 0.125; action -1: -0.5 - 0.125.
    net = constant_net([0.5])
    data = batch([1.0, 1.0], [1.0, -2.0], [0.0, 0.0])
    data["action"] = torch.tensor([[1.0], [-1.0]])
    data["log_prob"] = torch.full((2,), -0.5 - HALF_LOG_2PI)
    PPO(net, PPOConfig())._recentre(data, steps=1)
    assert data["advantage"].tolist() == pytest.approx([math.exp(0.375), -2.0 * math.exp(-0.625)])
    assert data["log_prob"].tolist() == pytest.approx([-0.125 - HALF_LOG_2PI, -1.125 - HALF_LOG_2PI])
    assert data["mean"].tolist() == [[0.5], [0.5]]


def test_sequences_stay_whole_in_the_minibatches() -> None:
    torch.manual_seed(0)
    ppo = PPO(constant_net([0.0]), PPOConfig(epochs=2, minibatches=4, objective=GRPO()))
    steps, envs = 3, 8
    env = torch.arange(envs).expand(steps, envs).flatten()
    time = torch.arange(steps)[:, None].expand(steps, envs).flatten()
    parts = list(ppo._batches({"action": env[:, None].float(), "time": time}, envs))
    assert len(parts) == 8
    for part in parts:
        members = part["action"][:, 0].view(steps, 2)
        assert torch.equal(members, members[:1].expand(steps, 2)), "both environments with all of their steps"
        assert torch.equal(part["time"].view(steps, 2), torch.arange(steps)[:, None].expand(steps, 2))
    seen = torch.cat([part["action"][:: 2 * steps, 0] for part in parts[:4]])
    assert len(seen) == 4
    assert sorted({int(x) for part in parts[:4] for x in part["action"][:, 0]}) == list(range(envs))


def test_too_few_environments_for_sequences_are_refused() -> None:
    net = constant_net([0.0])
    ppo = PPO(net, PPOConfig(minibatches=4, objective=VESPO()))
    with pytest.raises(InputError, match="vespo takes whole sequences: 3 environments do not fill 4 minibatches"):
        ppo.update(filled(net, 2, 3, lambda action: action[:, 0]))
