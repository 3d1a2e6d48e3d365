"""SAC (Haarnoja et al. 2018) after FastSAC's recipe (Seo et al. 2025, arXiv 2512.01996), for many environments at once.

What differs from SAC as published: critics that give distributions; each learns from its own target, and the policy
from their mean, not from the smaller one; layer normalisation; bounds from the joints' limits; several gradient steps
after each step of all environments, the policy in some of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from bodydouble.errors import InputError, TrainingError
from policy.nets.soft import SoftActorCritic, SoftNetConfig, projected
from policy.optim.registry import AdamWConfig, AnyOptimizer
from policy.rl.replay import Batch


@dataclass(frozen=True)
class SACConfig:
    """Hyper-parameters of SAC."""

    steps: int = 24
    """Control steps of each environment per update: what one line of the log covers."""
    gradient_steps: int = 4
    """Gradient steps of the critics after each control step."""
    policy_every: int = 2
    """Gradient steps of the critics for each one of the policy."""
    batch: int = 1024
    """Transitions of a gradient step; a GPU takes 8192."""
    buffer: int = 1024
    """Control steps of each environment that are kept to learn from."""
    warmup: int = 10
    """Control steps of each environment before the first gradient step."""
    n_step: int = 1
    """Rewards that are summed before a critic's target is asked."""
    gamma: float = 0.97
    """Discount."""
    target_share: float = 0.125
    """Share of the way that the targets move towards the critics per gradient step."""
    target_entropy: float = 0.0
    """Entropy per action that the temperature steers to, in the action's own units: 0 is a spread of 0.24."""
    save_buffer: bool = True
    """Whether checkpoints hold the replay buffer; without it a resumed training collects anew before it learns, and
    its curve is another one."""
    optimizer: AnyOptimizer = field(default_factory=lambda: AdamWConfig(lr=3e-4, betas=(0.9, 0.95), weight_decay=1e-3))
    """The optimizer of policy, critics and temperature."""
    net: SoftNetConfig = field(default_factory=SoftNetConfig)
    """The networks; only for a training from nothing."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: One of them cannot work.
        """
        for name in ("steps", "gradient_steps", "policy_every", "batch", "buffer", "n_step"):
            if getattr(self, name) < 1:
                raise InputError(f"sac.{name} is {getattr(self, name)}, expected at least 1")
        if not self.n_step <= max(self.warmup, 1) <= self.buffer:
            raise InputError(
                f"sac: n_step {self.n_step}, warmup {self.warmup} and buffer {self.buffer}, expected n_step <= warmup "
                "<= buffer: a return must fit in what is kept"
            )
        if not 0.0 < self.target_share <= 1.0 or not 0.0 <= self.gamma < 1.0:
            raise InputError(
                f"sac: target_share {self.target_share:g} and gamma {self.gamma:g}, expected within (0, 1] and [0, 1)"
            )


class SAC:
    """Updates a SoftActorCritic from transitions that any policy made."""

    def __init__(self, net: SoftActorCritic, config: SACConfig) -> None:
        """Build the optimizer. It is one for all: what has no gradient in a step is not moved by it."""
        self.net, self.config = net, config
        self.optimizer = config.optimizer.build(net.learned())
        self.lr = config.optimizer.lr
        self.version = 0
        """Gradient steps of the critics made."""
        self._policy = list(net.actor.parameters())
        self._valued = [*net.critics.parameters(), net.log_temperature]

    def state(self) -> dict[str, Any]:
        """Return what is neither in the network nor in the optimizer, for JSON."""
        return {"lr": self.lr, "version": self.version}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.lr, self.version = float(state["lr"]), int(state["version"])

    def update(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Make one gradient step of critics and temperature, and one of the policy where it is its turn.

        Returns:
            Losses and what else there is to log, by name, still on the device.
        """
        net = self.net
        with torch.no_grad():
            action, log_prob = net.actor.sample(batch.next_policy)
            target = self.target(batch, action, log_prob)
        predicted = torch.log_softmax(net.logits(batch.critic, batch.action), dim=-1)
        critic_loss = -(target * predicted).sum(dim=-1).mean(dim=1).sum()
        temperature_loss = self.temperature_loss(log_prob)
        self._step(critic_loss + temperature_loss, self._valued)
        stats = {
            "critic_loss": critic_loss.detach(),
            "temperature": net.log_temperature.detach().exp(),
            "value": (target * net.support).sum(dim=-1).mean(),
            "entropy": -log_prob.mean(),
        }
        if self.version % self.config.policy_every == 0:
            action, log_prob = net.actor.sample(batch.policy)
            value = net.value(net.logits(batch.critic, action)).mean(dim=0)
            policy_loss = (net.log_temperature.detach().exp() * log_prob - value).mean()
            self._step(policy_loss, self._policy)
            stats["policy_loss"] = policy_loss.detach()
        net.move_targets(self.config.target_share)
        self.version += 1
        return stats

    def target(self, batch: Batch, action: torch.Tensor, log_prob: torch.Tensor) -> torch.Tensor:
        """Return the distributions (2, B, A) that the critics learn: r + discount (Z(s', a') - alpha log p(a'|s')).

        Args:
            batch: Transitions.
            action: Actions of the present policy where they led to (B, J).
            log_prob: Their log-probabilities (B,).
        """
        net = self.net
        probabilities = torch.softmax(net.logits(batch.next_critic, action, target=True), dim=-1)
        soft = batch.reward - batch.discount * net.log_temperature.exp() * log_prob
        returns = soft[:, None] + batch.discount[:, None] * net.support
        return projected(probabilities, returns, net.support)

    def temperature_loss(self, log_prob: torch.Tensor) -> torch.Tensor:
        """Return E[-alpha (log p + target entropy)]: alpha rises while the entropy -log p is below its target.

        Args:
            log_prob: Log-probabilities (B,) of actions of the present policy; they get no gradient.
        """
        wanted = self.config.target_entropy * len(self.net.actor.bound)
        return -(self.net.log_temperature.exp() * (log_prob.detach() + wanted)).mean()

    def check(self, stats: dict[str, float]) -> None:
        """Raise TrainingError where a figure is not finite."""
        bad = [name for name, value in stats.items() if not math.isfinite(value)]
        if bad:
            raise TrainingError(f"SAC diverged: {', '.join(bad)} not finite; lower optimizer.lr (now {self.lr:g})")

    def _step(self, loss: torch.Tensor, params: list[torch.nn.Parameter]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        for parameter, gradient in zip(params, torch.autograd.grad(loss, params), strict=True):
            parameter.grad = gradient
        self.optimizer.step()
