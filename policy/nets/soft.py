"""SoftActorCritic: a squashed Gaussian policy with distributional critics, for off-policy training.

The networks of FastSAC (Seo et al. 2025, arXiv 2512.01996): layer normalisation and SiLU, two critics that give the
distribution of the return over fixed atoms (Bellemare et al. 2017), and actions within bounds that come from the
joints' limits.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from bodydouble.errors import InputError
from policy.nets.normalizer import RunningNorm
from policy.nets.policy_net import PolicyActor, PolicyNet
from policy.threads import one_thread


@dataclass(frozen=True)
class SoftNetConfig:
    """Sizes of the networks of off-policy training."""

    actor_layers: tuple[int, ...] = (256, 128)
    """Hidden layers of the policy."""
    critic_layers: tuple[int, ...] = (256, 128)
    """Hidden layers of each critic."""
    atoms: int = 101
    """Returns that a critic gives probabilities to."""
    lowest: float = -20.0
    """Lowest of them, in units of the reward; returns below count as this."""
    highest: float = 20.0
    """Highest of them."""
    min_log_std: float = -5.0
    """Lowest logarithm of the standard deviation, before squashing."""
    max_log_std: float = 0.0
    """Highest logarithm of the standard deviation, before squashing; it starts in the middle."""
    temperature: float = 0.1
    """Worth of the policy's entropy at the start; training adapts it. (The recipe's 0.001 is for millions of
    environment steps: in a short training the policy would follow critics that know nothing yet.)"""
    kind: str = field(default="soft", init=False)
    """Tells these networks from PPO's in a checkpoint."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: One of them cannot work.
        """
        if self.atoms < 2 or not self.lowest < self.highest:
            raise InputError(
                f"net: {self.atoms} atoms from {self.lowest:g} to {self.highest:g}, expected 2 or more, rising"
            )
        if not self.min_log_std < self.max_log_std or not self.temperature > 0:
            raise InputError(
                f"net: log_std {self.min_log_std:g} to {self.max_log_std:g} and temperature {self.temperature:g}, "
                "expected a rising range and a positive number"
            )

    @property
    def memory(self) -> int:
        """Size of the policy's memory: it has none."""
        return 0


class SquashedActor(PolicyActor):
    """Normalised observation to bounded actions: bound * tanh of a Gaussian whose spread depends on the state."""

    bound: torch.Tensor
    """Largest action (J,)."""

    def __init__(self, obs_size: int, bound: Sequence[float], config: SoftNetConfig) -> None:
        """Build normaliser and network; a last layer of zeros starts the policy at action zero.

        Args:
            obs_size: Values P of the observation.
            bound: Largest size of each action (J,).
            config: Sizes.
        """
        super().__init__()
        self.norm = RunningNorm(obs_size)
        self.net = _trunk((obs_size, *config.actor_layers))
        self.head = nn.Linear((obs_size, *config.actor_layers)[-1], 2 * len(bound))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("bound", torch.tensor(bound, dtype=torch.float32))
        self._middle = 0.5 * (config.max_log_std + config.min_log_std)
        self._half = 0.5 * (config.max_log_std - config.min_log_std)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return actions (B, J) without noise for observations (B, P)."""
        return self.bound * torch.tanh(self.distribution(obs)[0])

    def distribution(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and logarithm of the standard deviation (B, J) before squashing."""
        mean, spread = self.head(self.net(self.norm(obs))).chunk(2, dim=-1)
        return mean, self._middle + self._half * torch.tanh(spread)

    def sample(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return actions (B, J) and their log-probability densities (B,), with gradient through both.

        The density is that of the action in its own units: with u the Gaussian's sample,
        log p(a) = log N(u) - sum_j [log bound_j + log(1 - tanh(u_j)^2)] (Haarnoja et al. 2018, appendix C).
        """
        mean, log_std = self.distribution(obs)
        noise = torch.randn_like(mean)
        u = mean + torch.exp(log_std) * noise
        # log(1 - tanh(u)^2), without the cancellation at large u.
        log_slope = 2.0 * (math.log(2.0) - u - nn.functional.softplus(-2.0 * u))
        log_prob = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi) - torch.log(self.bound) - log_slope
        return self.bound * torch.tanh(u), log_prob.sum(dim=-1)


class SoftActorCritic(PolicyNet):
    """The policy, its critics and their targets, and the temperature. P policy and C critic values, J actions."""

    support: torch.Tensor
    """The returns (A,) that the critics give probabilities to."""

    def __init__(self, policy_size: int, critic_size: int, bound: Sequence[float], config: SoftNetConfig) -> None:
        """Build all networks; the targets begin as copies.

        Args:
            policy_size: Values P of the policy's observation.
            critic_size: Values C of the critics', also what no robot can measure.
            bound: Largest size of each action (J,).
            config: Sizes.

        Raises:
            InputError: A bound is not positive.
        """
        super().__init__()
        if not all(math.isfinite(size) and size > 0 for size in bound):
            raise InputError(f"the actions' bounds are {list(bound)[:6]}, expected positive numbers")
        self.config = config
        with one_thread():
            self.actor = SquashedActor(policy_size, bound, config)
            self.critic_norm = RunningNorm(critic_size)
            sizes = (critic_size + len(bound), *config.critic_layers)
            self.critics = nn.ModuleList(
                [nn.Sequential(_trunk(sizes), nn.Linear(sizes[-1], config.atoms)) for _ in range(2)]
            )
            self.targets = copy.deepcopy(self.critics).requires_grad_(False)
            self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))
            self.register_buffer("support", torch.linspace(config.lowest, config.highest, config.atoms))

    def learned(self) -> list[nn.Parameter]:
        """Return every parameter that gradients move: not the targets."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def logits(self, critic_obs: torch.Tensor, action: torch.Tensor, *, target: bool = False) -> torch.Tensor:
        """Return the logits (2, B, A) of both critics, or of their targets.

        Args:
            critic_obs: Critic observations (B, C).
            action: Actions (B, J).
            target: Whether the targets answer.
        """
        x = torch.cat([self.critic_norm(critic_obs), action / self.actor.bound], dim=-1)
        return torch.stack([net(x) for net in (self.targets if target else self.critics)])

    def value(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the mean returns (2, B) of logits (2, B, A)."""
        return (torch.softmax(logits, dim=-1) * self.support).sum(dim=-1)

    @torch.no_grad()
    def move_targets(self, share: float) -> None:
        """Move the targets by a share of the way to the critics."""
        for target, critic in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
            target.lerp_(critic, share)


def projected(probabilities: torch.Tensor, returns: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
    """Return distributions over shifted returns as ones over the support (Bellemare et al. 2017, algorithm 1).

    Each probability is shared between the two atoms beside its return, in inverse proportion to their distances; the
    mean is kept where the return lies within the support.

    Args:
        probabilities: Probabilities (K, B, A).
        returns: The return that each stands for (B, A), of all K alike.
        support: The atoms (A,), evenly spaced.
    """
    atoms = len(support)
    place = (returns - support[0]) / (support[1] - support[0])
    place = place.clamp(0.0, atoms - 1.0)
    below = place.floor().clamp(max=atoms - 2.0)
    share = place - below
    # What is not a number stays one in the share, and with it in the loss, which says so.
    index = torch.nan_to_num(below).long().expand_as(probabilities)
    result = torch.zeros_like(probabilities)
    result.scatter_add_(-1, index, probabilities * (1.0 - share))
    return result.scatter_add_(-1, index + 1, probabilities * share)


def _trunk(sizes: tuple[int, ...]) -> nn.Sequential:
    """Return hidden layers: linear, layer normalisation, SiLU."""
    layers: list[nn.Module] = []
    for size_in, size_out in itertools.pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), nn.LayerNorm(size_out), nn.SiLU()]
    return nn.Sequential(*layers)
