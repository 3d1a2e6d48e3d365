"""PPO with a clipped objective (Schulman et al. 2017) and a learning rate that follows the KL divergence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from bodydouble.errors import TrainingError
from policy.nets.actor_critic import ActorCritic
from policy.optim.registry import AdamConfig
from policy.rl.gae import gae
from policy.rl.rollout import Rollout


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
    clip: float = 0.2
    """Clipping range of the probability ratio."""
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
    optimizer: AdamConfig = field(default_factory=AdamConfig)
    """The optimizer."""


class PPO:
    """Updates an ActorCritic from rollouts."""

    def __init__(self, net: ActorCritic, config: PPOConfig) -> None:
        """Build the optimizer of all the network's parameters."""
        self.net, self.config = net, config
        self.optimizer = config.optimizer.build(net.parameters())
        self.lr = config.optimizer.lr

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Learn from one rollout.

        Args:
            rollout: A full rollout, with the values of the states reached.

        Returns:
            Mean losses, KL divergence, learning rate and action spread.

        Raises:
            TrainingError: A loss is NaN or infinite.
        """
        config = self.config
        r = rollout
        advantages, returns = gae(
            r.reward, r.value, r.next_value, r.terminated, r.truncated, config.gamma, config.lam
        )  # fmt: skip
        data = rollout.flat()
        data["advantage"], data["return"] = advantages.flatten(), returns.flatten()
        data["advantage"] = (data["advantage"] - data["advantage"].mean()) / (data["advantage"].std() + 1e-8)
        old_std = torch.exp(self.net.log_std).detach().clone()
        sums = torch.zeros(4, device=returns.device)
        count = 0
        for batch in self._minibatches(data):
            surrogate, value_loss, entropy, mean = self._losses(batch)
            loss = surrogate + config.value_weight * value_loss - config.entropy_weight * entropy
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), config.max_grad_norm)
            self.optimizer.step()
            with torch.no_grad():
                self.net.log_std.clamp_(min=float(torch.tensor(config.min_std).log()))
                kl = self._kl(batch["mean"], old_std, mean)
            sums += torch.stack([surrogate.detach(), value_loss.detach(), entropy.detach(), kl])
            count += 1
            if config.target_kl > 0:
                self._steer(float(kl))
        surrogate, value_loss, entropy, kl = (sums / count).tolist()
        std = float(torch.exp(self.net.log_std.detach()).mean())
        stats = {
            "surrogate": surrogate,
            "value_loss": value_loss,
            "entropy": entropy,
            "kl": kl,
            "lr": self.lr,
            "std": std,
        }
        bad = [name for name, value in stats.items() if not torch.isfinite(torch.tensor(value))]
        if bad:
            raise TrainingError(f"PPO diverged: {', '.join(bad)} not finite; lower optimizer.lr (now {self.lr:g})")
        return stats

    def _losses(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        mean = self.net.actor(batch["policy"])
        ratio = torch.exp(self.net.log_prob(batch["action"], mean) - batch["log_prob"])
        clipped = torch.clamp(ratio, 1 - self.config.clip, 1 + self.config.clip)
        surrogate = -torch.minimum(ratio * batch["advantage"], clipped * batch["advantage"]).mean()
        value_loss = (self.net.value(batch["critic"]) - batch["return"]).square().mean()
        return surrogate, value_loss, self.net.entropy(), mean

    def _kl(self, old_mean: torch.Tensor, old_std: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        std = torch.exp(self.net.log_std)
        per_action = torch.log(std / old_std) + (old_std**2 + (old_mean - mean) ** 2) / (2 * std**2) - 0.5
        return per_action.sum(dim=-1).mean()

    def _steer(self, kl: float) -> None:
        if kl > 2 * self.config.target_kl:
            self.lr = max(self.config.min_lr, self.lr / 1.5)
        elif kl < 0.5 * self.config.target_kl:
            self.lr = min(self.config.max_lr, self.lr * 1.5)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr

    def _minibatches(self, data: dict[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
        size = data["action"].shape[0]
        batch = size // self.config.minibatches
        for _ in range(self.config.epochs):
            order = torch.randperm(size, device=data["action"].device)
            for part in range(self.config.minibatches):
                index = order[part * batch : (part + 1) * batch]
                yield {name: tensor[index] for name, tensor in data.items()}
