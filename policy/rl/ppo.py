"""PPO (Schulman et al. 2017): passes over a rollout in minibatches, with any objective and any optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from bodydouble.errors import InputError, TrainingError
from policy.nets.actor_critic import ActorCritic
from policy.optim.registry import AdamConfig, AnyOptimizer
from policy.optim.schedule import ScheduleConfig, set_lr
from policy.rl.gae import gae
from policy.rl.gradients import Gradients
from policy.rl.group import episodes, group_advantages
from policy.rl.multi_critic import weighted_sum
from policy.rl.objectives.clip import PPOClip
from policy.rl.objectives.registry import AnyObjective
from policy.rl.objectives.samples import Samples
from policy.rl.ranks import Ranks
from policy.rl.rollout import Rollout

_LARGEST_WEIGHT = 2.0
"""Bound on the weight of a step that an older policy made."""


@dataclass(frozen=True)
class PPOConfig:
    """Hyper-parameters of PPO."""

    steps: int = 24
    """Control steps of each environment between updates."""
    epochs: int = 5
    """Passes over each rollout."""
    minibatches: int = 4
    """Parts of a rollout, each one gradient step."""
    gamma: float = 0.99
    """Discount."""
    lam: float = 0.95
    """Decay of the advantage trace."""
    objective: AnyObjective = field(default_factory=PPOClip)
    """What the policy maximises."""
    advantage: Literal["gae", "group"] = "gae"
    """"gae", or "group": the episode's return against its group's, without a value function; for whole episodes."""
    recentre: bool = True
    """Where an actor was behind: PPO's clip bounds what the update changes, not what was changed since it acted."""
    critic_weights: tuple[float, ...] = ()
    """Weight of each reward group's advantages, where there are several value functions; none: all alike."""
    value_weight: float = 1.0
    """Weight of the value loss."""
    entropy_weight: float = 0.001
    """Weight of the entropy bonus."""
    max_grad_norm: float = 1.0
    """Bound on the gradient's norm."""
    target_kl: float = 0.01
    """KL divergence that the learning rate is steered to; 0 keeps the rate fixed."""
    max_lr: float = 1e-3
    """Highest learning rate of the steering."""
    min_lr: float = 1e-5
    """Lowest learning rate of the steering."""
    min_std: float = 0.05
    """Lowest standard deviation of the actions."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Course of the learning rate over the updates; only with target_kl 0."""
    optimizer: AnyOptimizer = field(default_factory=AdamConfig)
    """The optimizer."""

    def __post_init__(self) -> None:
        """Check what does not go together.

        Raises:
            InputError: The learning rate is steered from outside its bounds, or both steered and scheduled.
        """
        if self.target_kl == 0:
            return
        if not self.min_lr <= self.optimizer.lr <= self.max_lr:
            raise InputError(
                f"ppo.optimizer.lr {self.optimizer.lr:g} lies outside of what the steering keeps to, ppo.min_lr "
                f"{self.min_lr:g} to ppo.max_lr {self.max_lr:g}; widen these, or set ppo.target_kl 0"
            )
        if self.schedule != ScheduleConfig():
            raise InputError("ppo.schedule and ppo.target_kl both set the learning rate; set ppo.target_kl 0")


class PPO:
    """Updates an ActorCritic from rollouts."""

    def __init__(self, net: ActorCritic, config: PPOConfig, ranks: Ranks | None = None) -> None:
        """Build the optimizer of all the network's parameters.

        Args:
            net: The network; the ranks get the first one's.
            config: The settings.
            ranks: The processes that train it together; this one alone by default.
        """
        self.net, self.config = net, config
        self.ranks = ranks or Ranks()
        self.ranks.start_alike(net)
        self.optimizer = config.optimizer.build(net.parameters())
        self.lr = config.optimizer.lr
        self.version, self.updates = 0, 0
        """Gradient steps and updates made; a rollout remembers the version that acted."""

    @property
    def _takes_columns(self) -> bool:
        return self.config.objective.needs_sequences or self.net.config.memory > 0

    def state(self) -> dict[str, Any]:
        """Return what is neither in the network nor in the optimizer, for JSON."""
        return {"lr": self.lr, "version": self.version, "updates": self.updates}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.lr, self.version, self.updates = float(state["lr"]), int(state["version"]), int(state["updates"])
        set_lr(self.optimizer, self.lr)

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Learn from one rollout.

        Args:
            rollout: A full rollout, with the values of the states reached.

        Returns:
            Mean losses and KL divergence from the policy before (without a target, of the last pass), learning rate,
            entropy and action spread afterwards.

        Raises:
            TrainingError: A loss is NaN or infinite.
        """
        config, first = self.config, self.version
        self._check(rollout)
        data, advantage_stats = self._data(rollout)
        if config.recentre and isinstance(config.objective, PPOClip) and not bool((rollout.version == first).all()):
            self._recentre(data, rollout.steps)
        if config.schedule != ScheduleConfig():
            self.lr = config.optimizer.lr * config.schedule.factor(self.updates)
            set_lr(self.optimizer, self.lr)
        old_std = torch.exp(self.net.log_std).detach().clone()
        # Sums over the minibatches of what is logged; nothing waits for their values before the last one is done.
        kept: dict[str, list[torch.Tensor]] = {}
        params = list(self.net.parameters())
        lowest_log_std = math.log(config.min_std)
        with Gradients(params) as gradients:
            for batch in self._batches(data, rollout.envs):
                surrogate, value_loss, mean, more = self._losses(batch, rollout.steps)
                loss = surrogate + config.value_weight * value_loss
                if config.entropy_weight != 0:
                    loss = loss - config.entropy_weight * self.net.entropy()
                gradients.empty()
                loss.backward()
                self.ranks.average_gradients(params)
                norm = gradients.clip(config.max_grad_norm)
                self.optimizer.step()
                self.version += 1
                with torch.no_grad():
                    self.net.log_std.clamp_(min=lowest_log_std)
                # A gradient that is not finite ruins the network though the loss was finite: the norm tells.
                seen = {"surrogate": surrogate.detach(), "value_loss": value_loss.detach(), "grad_norm": norm, **more}
                if config.target_kl > 0 or self.version - first > (config.epochs - 1) * config.minibatches:
                    with torch.no_grad():
                        seen["kl"] = self.ranks.mean(self._kl(batch["mean"], old_std, mean))
                if config.target_kl > 0:
                    self._steer(float(seen["kl"]))
                for name, value in seen.items():
                    kept.setdefault(name, []).append(value)
        self.updates += 1
        means = torch.stack([torch.stack(values).mean() for values in kept.values()]).tolist()
        stats = {
            **dict(zip(kept, means, strict=True)),
            "entropy": float(self.net.entropy().detach()),
            "lr": self.lr,
            "std": float(torch.exp(self.net.log_std.detach()).mean()),
            "staleness": 0.5 * (first + self.version - 1) - float(rollout.version.double().mean()),
            **advantage_stats,
        }
        bad = [name for name, value in stats.items() if not math.isfinite(value)]
        if bad:
            raise TrainingError(f"PPO diverged: {', '.join(bad)} not finite; lower optimizer.lr (now {self.lr:g})")
        return stats

    def _check(self, rollout: Rollout) -> None:
        """Raise before anything is learned from a rollout that is not finite."""
        named = {**rollout.obs, "reward": rollout.reward, "action": rollout.action, "value": rollout.value}
        finite = torch.stack([torch.isfinite(tensor).all() for tensor in named.values()]).tolist()
        bad = [name for name, good in zip(named, finite, strict=True) if not good]
        if bad:
            raise TrainingError(
                f"the rollout holds values that are not finite: {', '.join(bad)}; nothing was learned from it"
            )
        if self._takes_columns and rollout.envs < self.config.minibatches:
            cause = "a policy with memory" if self.net.config.memory else f"objective {self.config.objective.name}"
            raise InputError(
                f"{cause} takes whole sequences: {rollout.envs} environments do not fill {self.config.minibatches} "
                "minibatches; take more envs or fewer minibatches"
            )

    def _data(self, r: Rollout) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Return the samples with returns and normalised advantages, and what there is to log about them."""
        config = self.config
        several = self.net.config.critics > 1
        advantages, returns = gae(
            r.rewards if several else r.reward, r.value, r.next_value, r.terminated, r.truncated, config.gamma,
            config.lam,
        )  # fmt: skip
        data = r.flat()
        # What no loss reads would be gathered with every minibatch.
        del data["value"], data["version"]
        # The normaliser rests during an update.
        data["policy"], data["critic"] = self.net.normalise(data["policy"], data["critic"])
        data["return"] = returns.flatten(0, 1)
        done = r.terminated | r.truncated
        if config.objective.needs_sequences:
            data["sequence"] = episodes(done).flatten()
        if config.advantage == "group":
            advantages, whole = group_advantages(r.reward, r.starts, done, r.group, config.gamma)
            data["advantage"] = advantages.flatten()
            return data, {"whole_share": float(whole.float().mean())}
        if several:
            data["advantage"] = weighted_sum(advantages.flatten(0, 1), config.critic_weights, self.ranks.standardised)
            return data, {}
        data["advantage"] = self.ranks.standardised(advantages.flatten())
        return data, {}

    @torch.no_grad()
    def _recentre(self, data: dict[str, torch.Tensor], steps: int) -> None:
        """Measure ratios from the present policy on, and weight what older ones did (arXiv 2110.00641).

        The clip then bounds how far this update goes. Left at the policy that acted, it has cut off most of the samples
        before the first step, as the updates since have used up its range.
        """
        mean = self.net.means(data["policy"], data["memory"], data["starts"], steps, normalised=True)
        present = self.net.log_prob(data["action"], mean)
        weight = torch.exp(present - data["log_prob"]).clamp(max=_LARGEST_WEIGHT)
        data["advantage"] = weight * data["advantage"]
        data["log_prob"], data["mean"] = present, mean

    def _losses(
        self, batch: dict[str, torch.Tensor], steps: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Return the policy's and the value function's loss, the mean actions and what the objective logs."""
        mean = self.net.means(batch["policy"], batch["memory"], batch["starts"], steps, normalised=True)
        log_prob = self.net.log_prob(batch["action"], mean)
        sequence = torch.unique(batch["sequence"], return_inverse=True)[1] if "sequence" in batch else None
        samples = Samples(log_prob, batch["log_prob"], batch["advantage"], sequence)
        surrogate, more = self.config.objective.loss(samples)
        value_loss = (self.net.value(batch["critic"], normalised=True) - batch["return"]).square().mean()
        return surrogate, value_loss, mean, more

    def _kl(self, old_mean: torch.Tensor, old_std: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        std = torch.exp(self.net.log_std)
        per_action = torch.log(std / old_std) + (old_std**2 + (old_mean - mean) ** 2) / (2 * std**2) - 0.5
        return per_action.sum(dim=-1).mean()

    def _steer(self, kl: float) -> None:
        if kl > 2 * self.config.target_kl:
            self.lr = max(self.config.min_lr, self.lr / 1.5)
        elif kl < 0.5 * self.config.target_kl:
            self.lr = min(self.config.max_lr, self.lr * 1.5)
        set_lr(self.optimizer, self.lr)

    def _batches(self, data: dict[str, torch.Tensor], envs: int) -> Iterator[dict[str, torch.Tensor]]:
        """Yield minibatches of steps, or of whole environments where their steps must stay together."""
        if not self._takes_columns:
            yield from self._minibatches(data)
            return
        columns = {name: tensor.unflatten(0, (-1, envs)) for name, tensor in data.items()}
        for index in self._parts(envs, data["action"].device):
            yield {name: tensor.index_select(1, index).flatten(0, 1) for name, tensor in columns.items()}

    def _minibatches(self, data: dict[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
        for index in self._parts(data["action"].shape[0], data["action"].device):
            yield {name: tensor.index_select(0, index) for name, tensor in data.items()}

    def _parts(self, size: int, device: torch.device) -> Iterator[torch.Tensor]:
        """Yield the indices of each gradient step, in an order of its own for each pass."""
        batch = size // self.config.minibatches
        for _ in range(self.config.epochs):
            order = torch.randperm(size, device=device)
            yield from order[: batch * self.config.minibatches].split(batch)
