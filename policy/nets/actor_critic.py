"""ActorCritic: a Gaussian policy and a value function, each with its own observation and normaliser."""

from __future__ import annotations

import itertools
import logging
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from policy.nets.normalizer import RunningNorm


@dataclass(frozen=True)
class NetConfig:
    """Sizes of the networks."""

    actor_layers: tuple[int, ...] = (512, 256, 128)
    """Hidden layers of the policy."""
    critic_layers: tuple[int, ...] = (512, 256, 128)
    """Hidden layers of the value function."""
    init_std: float = 0.5
    """Standard deviation of the actions at the start."""


def mlp(sizes: tuple[int, ...], last_gain: float) -> nn.Sequential:
    """Return a multilayer perceptron with ELU, orthogonal weights and zero biases.

    Args:
        sizes: Sizes from input to output.
        last_gain: Gain of the last layer's weights.
    """
    layers: list[nn.Module] = []
    for index, (size_in, size_out) in enumerate(itertools.pairwise(sizes)):
        linear = nn.Linear(size_in, size_out)
        last = index == len(sizes) - 2
        nn.init.orthogonal_(linear.weight, gain=last_gain if last else math.sqrt(2))
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, nn.ELU()]
    return nn.Sequential(*layers)


class Actor(nn.Module):
    """Normalised observation to mean action: what is exported and runs on the robot."""

    def __init__(self, obs_size: int, action_size: int, layers: tuple[int, ...]) -> None:
        """Build normaliser and network; a small last layer starts the policy at the reference."""
        super().__init__()
        self.norm = RunningNorm(obs_size)
        self.net = mlp((obs_size, *layers, action_size), last_gain=0.01)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return mean actions (B, J) of observations (B, P)."""
        return self.net(self.norm(obs))

    def as_onnx(self, path: Path) -> None:
        """Write the network, normaliser included, as ONNX with input "obs" (1, P) and output "action" (1, J)."""
        example = torch.zeros(1, self.norm.mean.shape[0], device=self.norm.mean.device)
        training = self.training
        self.eval()
        # The exporter speaks of torchvision's operators, which no policy has.
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            torch.onnx.export(
                self, (example,), str(path), input_names=["obs"], output_names=["action"], opset_version=18,
                dynamo=True, external_data=False, verbose=False,
            )  # fmt: skip
        self.train(training)


class ActorCritic(nn.Module):
    """The policy and its value function. P policy and C critic values, J actions."""

    def __init__(self, policy_size: int, critic_size: int, action_size: int, config: NetConfig) -> None:
        """Build both networks."""
        super().__init__()
        self.config = config
        self.actor = Actor(policy_size, action_size, config.actor_layers)
        self.log_std = nn.Parameter(torch.full((action_size,), math.log(config.init_std)))
        self.critic_norm = RunningNorm(critic_size)
        self.critic_net = mlp((critic_size, *config.critic_layers, 1), last_gain=1.0)

    def value(self, critic_obs: torch.Tensor) -> torch.Tensor:
        """Return values (B,) of critic observations (B, C)."""
        return self.critic_net(self.critic_norm(critic_obs)).squeeze(-1)

    def act(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return sampled actions (B, J), their log-probabilities (B,) and the mean actions (B, J)."""
        mean = self.actor(obs)
        action = mean + torch.exp(self.log_std) * torch.randn_like(mean)
        return action, self.log_prob(action, mean), mean

    def log_prob(self, action: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """Return the log-probabilities (B,) of actions under Gaussians of these means."""
        z = (action - mean) * torch.exp(-self.log_std)
        return (-0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi)).sum(dim=-1)

    def entropy(self) -> torch.Tensor:
        """Return the entropy of the action distribution."""
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()

    def update_norm(self, obs: torch.Tensor, critic_obs: torch.Tensor) -> None:
        """Take batches of observations (B, P) and (B, C) into the normalisers."""
        self.actor.norm.update(obs)
        self.critic_norm.update(critic_obs)
